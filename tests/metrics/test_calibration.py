"""Calibration, against cases computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from l2i_fast.metrics.calibration import calibration_error


def test_two_bins_by_hand() -> None:
    # (0.2, right) is in the first bin; (0.6, right), (0.8, wrong) and (1.0, right) are in the second.
    found = calibration_error([0.2, 0.6, 0.8, 1.0], [1, 1, 0, 1], n_bins=2)
    assert found == pytest.approx((abs(1 - 0.2) + abs(2 - 2.4)) / 4)


def test_extremes() -> None:
    assert calibration_error([1.0] * 3, [1] * 3) == 0
    assert calibration_error([1.0] * 3, [0] * 3) == 1
    assert math.isnan(calibration_error([], []))


def test_calibrated_probabilities_have_a_small_error() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20000)
    assert calibration_error(p, rng.random(20000) < p) < 0.02
    assert calibration_error(p, rng.random(20000) < p**2) > 0.1
