"""The native module: choice of the CPU path, threads, the floating-point mode, argument checks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l2i_fast as l2i
from l2i_fast import _core

from ..helpers import refused


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_cpu_features_match_the_system() -> None:
    features = _core.cpu_features()
    assert features["compiled"][0] == "scalar"
    assert set(features["supported"]) <= set(features["compiled"])
    assert features["path"] in features["supported"]
    assert ("avx512" in features["supported"]) == (features["avx512"] and "avx512" in features["compiled"])
    if sys.platform == "linux":
        with open("/proc/cpuinfo") as cpuinfo:
            flags = cpuinfo.read().split()
        assert features["avx2"] == ("avx2" in flags and "fma" in flags)
        assert features["avx512"] == ("avx512vl" in flags)
        assert features["avx512_bf16"] == ("avx512_bf16" in flags)
        assert features["amx"] == ("amx_bf16" in flags)


#: Prints the message of each error, twice, and the number of lines of its traceback.
ASK = """
import traceback
import l2i_fast
for name in ("stft", "NMF", "load") * 2:
    try:
        getattr(l2i_fast, name)
    except ImportError as error:
        print(len(traceback.format_exception(error)), error)
"""


def test_sources_without_a_native_module_say_what_to_do(tmp_path: Path) -> None:
    """As in a clone of the repository."""
    sources, copy = Path(l2i.__file__).parent, tmp_path / "l2i_fast"
    shutil.copytree(sources, copy, ignore=shutil.ignore_patterns("*.so", "shipped", "__pycache__"))
    done = run(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{ASK}")
    message = (
        f"the native module of l2i_fast is not in {copy}, but is needed: run Python outside of this folder if the "
        "package is installed, otherwise install it with pip"
    )
    lines = done.stdout.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [message] * 6, done.stderr
    assert lines[:3] == lines[3:]


def test_a_native_module_that_does_not_load_says_why() -> None:
    done = run(f"import sys; sys.modules['l2i_fast._core'] = None\n{ASK}")
    start = "the native module of l2i_fast does not load, but is needed: "
    assert [line.split(" ", 1)[1].startswith(start) for line in done.stdout.splitlines()] == [True] * 6, done.stderr


@pytest.mark.parametrize("name", _core.cpu_features()["supported"])
def test_environment_chooses_the_path(name: str) -> None:
    done = run("from l2i_fast import _core; print(_core.cpu_features()['path'])", L2I_CPU=name)
    assert done.stdout.strip() == name


def test_widest_path_is_the_default() -> None:
    done = run("from l2i_fast import _core; print(_core.cpu_features()['path'])", L2I_CPU="")
    assert done.stdout.strip() == _core.cpu_features()["supported"][-1]


def test_unknown_path_is_refused() -> None:
    done = run("import l2i_fast, numpy; l2i_fast.stft(numpy.ones(9))", L2I_CPU="mmx")
    assert done.returncode == 1
    assert "ValueError: L2I_CPU is 'mmx', but must be one of scalar" in done.stderr
    with refused(ValueError, "the CPU path is 'mmx', but must be one of scalar..."):
        _core.use_cpu_path("mmx")


def test_denormal_mode_is_restored() -> None:
    def denormals_live() -> bool:
        return bool((np.full(8, 1e-40, np.float32) * np.float32(0.5)).all())

    assert denormals_live()
    X = l2i.stft(np.ones(3000, np.float32), hop_length=512)
    l2i.decode(X, np.ones((513, 2)), np.ones((2, X.shape[1])), np.ones(2))
    assert denormals_live()
    with refused(ValueError, "hop_length is 0, but must be at least 1"):
        l2i.istft(X, 0)
    assert denormals_live()


OPERATIONS = ("stft", "istft", "log_mel", "soft_mask", "decode")


def long_call(operation: str, seed: int) -> Callable[[], Any]:
    """A call of some milliseconds, whose operands are made beforehand."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(1_000_000 + 1000 * seed).astype(np.float32)
    X = l2i.stft(y, 1024, 512)
    W = rng.random((513, 8)).astype(np.float32)
    H = rng.random((8, X.shape[1])).astype(np.float32)
    weights = np.ones(8, np.float32)
    arguments: dict[str, tuple[Any, ...]] = {"stft": (y,), "istft": (X,), "log_mel": (X,)}
    given = arguments.get(operation, (X, W, H, weights))
    return lambda: getattr(l2i, operation)(*given)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_threads_do_not_disturb_each_other(operation: str) -> None:
    calls = [long_call(operation, seed) for seed in range(2)]
    expected = [call() for call in calls]
    together = threading.Barrier(2)
    wrong: list[int] = []

    def repeat(seed: int) -> None:
        for _ in range(10):
            together.wait()
            if not np.array_equal(calls[seed](), expected[seed]):
                wrong.append(seed)

    threads = [threading.Thread(target=repeat, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_other_threads_run_meanwhile() -> None:
    samples = np.ones((1, 10_000_000), np.float32)
    window = np.ones(1024, np.float32)
    ticks = 0
    seen: list[int] = []

    def work() -> None:
        before = ticks
        _core.stft(samples, window, 256, 0)
        seen.append(ticks - before)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # no thread gives the lock up unless it releases it
    try:
        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            ticks += 1
            time.sleep(0)
    finally:
        sys.setswitchinterval(interval)
    assert seen[0] > 0


def test_bindings_refuse_unsuitable_arrays() -> None:
    y, window = np.ones((1, 100), np.float32), np.ones(64, np.float32)
    with refused(TypeError, "y must be an aligned array of 2 dimensions and dtype float32"):
        _core.stft(y.astype(np.float64), window, 16, 0)
    with refused(TypeError, "y must be an aligned array of 2 dimensions and dtype float32"):
        _core.stft(y[0], window, 16, 0)
    with refused(ValueError, "y must be contiguous in its last dimension"):
        _core.stft(y[:, ::-1], window, 16, 0)
    with refused(ValueError, "the window's length must be a power of two from 32 to 65536"):
        _core.stft(y, window[:60], 16, 0)
    with refused(ValueError, "y with its padding is shorter than the window, but must be at least as long"):
        _core.stft(y[:, :63], window, 16, 0)
    with refused(ValueError, "hop must be at least 1 and pad at least 0"):
        _core.stft(y, window, 0, 0)
    X = np.ones((1, 4, 33), np.complex64)
    with refused(ValueError, "X must have one bin more than half the window's length"):
        _core.istft(X[:, :, :32].copy(), window, 16, 0, 10)
    W, H, weights = np.ones((33, 2), np.float32), np.ones((1, 4, 2), np.float32), np.ones((1, 2), np.float32)
    for bad, message in (
        ((X, W[:32], H, weights), "W must have as many rows as X has bins"),
        ((X, W, H[:, :3], weights), "H must have as many clips and frames as X"),
        ((X, W, H, weights[:, :1]), "H and weights must have as many components as W"),
        ((X, W, H, weights[:0]), "weights must have as many clips as X"),
    ):
        with refused(ValueError, message):
            _core.soft_mask(*bad, "log", 1e-6)
        with refused(ValueError, message):
            _core.decode(*bad, "log", 1e-6, window, 16, 0, 10)
    with refused(ValueError, "bands must have as many bins as X"):
        _core.log_mel(X, _core.MelBands(np.ones((4, 32), np.float32)), 1e-10)
    with refused(ValueError, "pad must be at most 2^40"):
        _core.stft(y, window, 16, 2**62)
    with refused(ValueError, "start and length must be at most 2^40"):
        _core.istft(X, window, 2**62, 0, 2**62)
    plan = _core.StreamPlan(W, window, 16, 1, "log", 1e-6)
    with refused(ValueError, "history must be at least 0 and at most 2^40"):
        _core.Stream(plan, 2**62)
    assert _core.Stream(plan, 9).columns(2**62, 2) is None
    with refused(ValueError, "amin must be a positive, normal number"):
        _core.log_mel(X, _core.MelBands(np.ones((4, 33), np.float32)), 0)


def test_in_range(cpu_path: str) -> None:
    for size in (0, 1, 15, 16, 17, 63, 64, 65, 300):
        x = np.linspace(0, 1, size, dtype=np.float32)
        assert _core.in_range(x, 0, 1)
        for i in range(size):
            for bad in (np.nan, np.inf, -np.inf, -1e-3, 1.1):
                y = x.copy()
                y[i] = bad
                assert not _core.in_range(y, 0, 1)
