"""log_mel beside torch and librosa."""

from __future__ import annotations

from typing import Any

from l2i_fast.bench.cases_cpu import cases


def test_log_mel(compare: Any) -> None:
    compare(*cases("log_mel", "clip"))
