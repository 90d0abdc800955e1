"""Shared by tests of several parts of the package: expected errors, distances between answers, backends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from l2i_fast.backends import dispatch


@contextmanager
def refused(
    error: type[Exception] | tuple[type[Exception], ...], message: str
) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """Expect an error of this type and with this message, which is one line without a full stop at its end.

    The whole message counts, letter by letter; "..." stands for any text in its place.

        with refused(ValueError, "n_fft is 1, but must be at least 2"):
            l2i.stft(y, n_fft=1)
    """
    pattern = ".*".join(map(re.escape, message.split("...")))
    with pytest.raises(error) as caught:
        yield caught
    said = str(caught.value)
    assert re.fullmatch(pattern, said), f"the message is {said!r}, but {message!r} is expected"
    assert not said.endswith("."), f"a message ends without a full stop: {said!r}"


def relative(x: Any, expected: Any) -> float:
    """L2 error relative to the expected values, of arrays or tensors; NaN if either holds NaN."""
    a, b = (np.asarray(y.detach().cpu() if isinstance(y, torch.Tensor) else y) for y in (x, expected))
    wide = np.complex128 if np.iscomplexobj(b) else np.float64
    a, b = a.astype(wide), b.astype(wide)
    assert a.shape == b.shape
    size = float(np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / (size or 1.0)


def missing(backend: str, device: torch.device, n_fft: int = 0) -> str:
    """Return why a backend cannot run on a device, or with frames of this length; an empty string if it can."""
    reason: str = dispatch.backend(backend).refuses("stft", device, n_fft)
    return reason


def served_after_triton(operation: str, n_fft: int = 0, K: int = 0) -> Any:
    """Return Triton's function, or that of torch for a size that Triton refuses, as a GPU without CUDA C++ would."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    refuses = bool(dispatch.backend("triton").refuses(operation, device, n_fft, K))
    return getattr(dispatch.backend("torch" if refuses else "triton"), operation)


def require(backend: str, *operations: str, n_fft: int = 0) -> None:
    """Skip the test unless the backend has these operations, for frames of this length: none has all."""
    module = dispatch.backend(backend)
    for name in operations:
        if not hasattr(module, name):
            pytest.skip(f"{backend} has no {name}")
        if reason := module.refuses(name, torch.device("cuda" if torch.cuda.is_available() else "cpu"), n_fft):
            pytest.skip(reason)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until a condition holds; fail if it has not happened long after it should have."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


def run_program(code: str, seconds: float = 120.0, **environment: str) -> str:
    """Run Python code in a process of its own, which must end with status 0 and be silent on stderr; return its output.

    The code can import `tests`.
    """
    # At the end of the path, so that the installed package comes before the sources beside the tests.
    code = f"import sys\nsys.path.append({str(Path(__file__).parents[1])!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout.strip()
