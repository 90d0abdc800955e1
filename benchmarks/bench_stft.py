"""stft and istft beside torch and librosa."""

from __future__ import annotations

from typing import Any

import pytest

from l2i_fast.bench.cases_cpu import cases


@pytest.mark.parametrize("operation", ["stft", "istft"])
def test_stft(operation: str, compare: Any) -> None:
    compare(*cases(operation, "clip"))
