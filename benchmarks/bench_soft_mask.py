"""soft_mask and decode of 6 components out of 100 beside torch; of 5 and of all beside the published loop."""

from __future__ import annotations

from typing import Any

import pytest

from l2i_fast.bench.cases_cpu import cases


@pytest.mark.parametrize("operation", ["soft_mask", "decode"])
def test_soft_mask(operation: str, compare: Any) -> None:
    compare(*cases(operation, "clip"))
