"""Shared by tests of several parts of the package: expected errors, distances between answers, backends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
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


def require(backend: str, *operations: str) -> None:
    """Skip the test unless the backend has these operations: none needs to have all."""
    for name in operations:
        if not hasattr(dispatch.module(backend), name):  # type: ignore[arg-type]
            pytest.skip(f"{backend} has no {name}")
