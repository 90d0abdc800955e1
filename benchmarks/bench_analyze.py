"""analyze beside frame-major torch and librosa."""

from __future__ import annotations

from typing import Any

from l2i_fast.bench.cases_cpu import cases


def test_analyze(compare: Any) -> None:
    compare(*cases("analyze", "clip"))
