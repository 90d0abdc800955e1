"""The ceilings of the CPU, and the floors of the cases that follow from them."""

from __future__ import annotations

import math

from l2i_fast.backends import native
from l2i_fast.bench.machine import ARRAYS, Ceilings

from ..helpers import refused


def test_ceilings_on_every_path(cpu_path):
    assert 0 < native.peak_flops(0) < math.inf
    assert 0 < native.read_bandwidth(4096 + 4, 0) < math.inf
    with refused(ValueError, "n_bytes is 511, but must be at least 512"):
        native.read_bandwidth(511, 0)


def test_the_floor_is_the_longer_time():
    one, two = Ceilings(1, 1e9, [8e9, 4e9, 1e9]), Ceilings(2, 2e9, [16e9, 8e9, 1e9])
    assert one.floor(5e8, 1e3) == 0.5
    assert one.floor(1, ARRAYS[0]) == ARRAYS[0] / 8e9
    assert one.floor(1, ARRAYS[0] + 1) == (ARRAYS[0] + 1) / 4e9
    assert two.floor(1, ARRAYS[0] + 1) == (ARRAYS[0] + 1) / 16e9  # half of it for each
    assert one.floor(1, 10 * ARRAYS[2]) == 10 * ARRAYS[2] / 1e9
