"""Fixtures for tests of all parts: recordings, a small model with random weights, devices, backends, CPU paths."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Generator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # before libraries of threads are loaded: the other cores have workers, too
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():  # before Triton is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

from l2i_fast.backends.native import _core  # says what to do if the native module is not built
from l2i_fast.data import Dataset, load_dataset
from l2i_fast.model import L2I, LogMel, TorchNetwork
from l2i_fast.networks.classifier import Classifier
from l2i_fast.networks.interpreter import Interpreter
from l2i_fast.settings import Analysis

from .helpers import missing

# Programs that tests end by a signal inherit it as ignored where this process was started in the background.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

#: The recordings: in the folder L2I_DATA, or in shared/data beside the checkout.
ESC10 = Path(os.environ.get("L2I_DATA") or Path(__file__).parents[2] / "shared" / "data" / "esc10")


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    """The networks of the tests are small: more threads of torch cost time, above all beside other processes."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def esc10() -> Dataset:
    """The real recordings; without them the test is skipped, but fails in CI."""
    if not ESC10.is_dir():
        reason = "no recordings: set L2I_DATA to a folder in ESC-50's layout"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return load_dataset(ESC10)


#: Needed for audio files and comparisons with librosa only. A machine made for GPUs may lack these; other tests run.
MISSING = [name for name in ("librosa", "soundfile", "soxr") if not find_spec(name)]


def pytest_report_header() -> list[str]:
    """Name the missing libraries."""
    return [f"tests that need {', '.join(MISSING)} are left out"] if MISSING else []


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out files that import a missing library."""
    if not MISSING or collection_path.suffix != ".py":
        return None
    needs = rf"^(import|from) ({'|'.join(MISSING)})\b"
    return True if re.search(needs, collection_path.read_text(), re.MULTILINE) else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Skip a test that fails because a library is missing."""
    report = yield
    for name in MISSING if report.failed else ():
        if f"No module named '{name}'" in report.longreprtext or f"{name} is needed" in report.longreprtext:
            path, line, _ = item.location
            report.outcome, report.longrepr = "skipped", (path, line, f"{name} is missing")
    return report


def make_model(
    theta: str = "attention",
    multilabel: bool = False,
    n_components: int = 12,
    n_classes: int = 4,
    seed: int = 0,
    streamable: bool = False,
    updates: int = 0,
    analysis: Analysis = Analysis(),  # noqa: B008 - frozen
) -> L2I:
    """A model of random weights whose answers differ from clip to clip."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(n_classes, width=0.0625, embedding=32)
        classifier.mean.fill_(-30.0)
        classifier.std.fill_(10.0)
        dictionary = torch.rand(analysis.n_fft // 2 + 1, n_components) ** 4
        dictionary /= dictionary.norm(dim=0)
        interpreter = Interpreter(
            dictionary,
            n_classes,
            classifier.hidden_channels,
            theta,
            width=0.0625,
            streamable=streamable,
            updates=updates,
        )
        # Alive everywhere, so that nothing is compared with silence by accident.
        torch.nn.init.constant_(interpreter.psi.second.bias, 0.1)
    classes = ("dog", "rain", "clock tick", "helicopter", "rooster", "saw")[:n_classes]
    network = TorchNetwork(classifier, LogMel(analysis), classes, multilabel=multilabel)
    return L2I(network, interpreter, name="tiny")


@pytest.fixture(scope="session")
def tiny_model() -> L2I:
    """`make_model` with one label."""
    return make_model()


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Fresh random numbers; the captured output of a failing test states the seed."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"rng seed: {seed}")
    return np.random.default_rng(seed)


@pytest.fixture(scope="session")
def device() -> torch.device:
    """A GPU, or the CPU, on which Triton then interprets its kernels."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(params=["cuda", "triton", "torch"] if torch.cuda.is_available() else ["triton", "torch"])
def backend(request: pytest.FixtureRequest, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each backend that can run on `device`, in use for one test: CUDA C++ on a GPU only."""
    name: str = request.param
    if reason := missing(name, device):
        pytest.skip(reason)
    monkeypatch.setenv("L2I_BACKEND", name)
    return name


@pytest.fixture
def tensor(device: torch.device) -> Callable[[Any], torch.Tensor]:
    """Copies an array to `device`."""
    return lambda x: torch.as_tensor(np.asarray(x), device=device)


def _paths(*names: str) -> list[str]:
    return [name for name in names if name in _core.cpu_features()["supported"]]


@pytest.fixture(params=_paths("scalar", "avx2", "avx512"))
def cpu_path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each supported instruction set that has its own float32 kernels, in use for one test."""
    yield from _use(request.param)


@pytest.fixture(params=_core.cpu_features()["supported"])
def bf16_path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each supported instruction set: all have their own bfloat16 products."""
    yield from _use(request.param)


def _use(name: str) -> Iterator[str]:
    before = _core.cpu_features()["path"]
    _core.use_cpu_path(name)
    yield name
    _core.use_cpu_path(before)
