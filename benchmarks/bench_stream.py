"""A push of one hop through a stream, with given activations and with 10 updates, beside NumPy and torch."""

from __future__ import annotations

from typing import Any

import pytest

from l2i_fast.bench.cases_cpu import FRAMES, cases


@pytest.mark.parametrize("n_fft", [n_fft for n_fft, _ in FRAMES])
def test_stream(n_fft: int, compare: Any) -> None:
    compare(*(case for case in cases("stream", "clip") if case.dims.startswith(f"{n_fft} /")))
