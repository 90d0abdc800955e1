"""Memory beyond inputs and outputs."""

from __future__ import annotations

import numpy as np
import pytest

from l2i_fast.bench import memory
from l2i_fast.system import reset_peak_memory

from .helpers import case_of


@pytest.mark.skipif(not reset_peak_memory(), reason="this system does not report memory")
def test_memory_beyond_inputs_and_outputs():
    size = 64 << 20  # malloc keeps less

    def call():
        scratch = np.ones(3 * size, np.uint8)
        return scratch[:size] + np.uint8(1)

    extra = memory._first_call(case_of(lambda: call))
    assert 2.9 * size < extra < 3.2 * size
    assert memory._first_call(case_of(lambda: call, in_place=True)) > 3.9 * size


def test_memory_is_measured_in_a_process_of_its_own():
    every = memory.extra_memory("soft_mask", "clip")
    assert len(every) == reset_peak_memory()
    assert all(0 <= extra < 8e6 for extra in every)
