"""What the machine tells of a process."""

from __future__ import annotations

import numpy as np
import pytest

from l2i_fast.system import peak_memory, reset_peak_memory, resident_memory


@pytest.mark.skipif(not reset_peak_memory(), reason="this system does not forget peaks")
def test_a_peak_is_that_since_the_last_reset() -> None:
    size = 64 << 20  # malloc keeps less
    before = resident_memory()
    reset_peak_memory()
    np.ones(size, np.uint8).sum()
    assert 0.9 * size < peak_memory() - before < 1.2 * size
    assert resident_memory() - before < 0.2 * size
    reset_peak_memory()
    assert peak_memory() - before < 0.2 * size
