"""Intervals by the bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest

from l2i_fast.metrics.bootstrap import interval

from ..helpers import refused


def test_the_interval_is_that_of_the_normal_approximation(rng: np.random.Generator) -> None:
    x = rng.standard_normal(4000)
    found = interval(x)
    half = 1.96 * x.std() / math.sqrt(len(x))
    assert found.estimate == pytest.approx(x.mean())
    assert found.low == pytest.approx(x.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(x.mean() + half, abs=0.15 * half)


def test_means_of_groups_equal_the_general_way() -> None:
    rng = np.random.default_rng(3)
    x, groups = rng.random(30), rng.integers(0, 7, 30).tolist()
    fast, slow = interval(x, groups=groups), interval(x, lambda v: float(v.mean()), groups=groups)
    assert fast == pytest.approx(slow, rel=1e-12)


def test_values_of_one_group_are_drawn_together() -> None:
    x, groups = [0, 0, 0, 1, 1, 1], "aaabbb"
    wide, narrow = interval(x, groups=list(groups)), interval(x * 50)
    assert (wide.low, wide.high) == (0, 1)
    assert narrow.high - narrow.low < 0.2


def test_undefined_values_are_left_out() -> None:
    found = interval([1.0, math.nan, 1.0], groups=["a", "b", "c"])
    assert found == (1, 1, 1, 2)
    assert interval([math.nan]).n == 0
    assert math.isnan(interval([]).estimate)


def test_the_same_seed_gives_the_same_interval(rng: np.random.Generator) -> None:
    x = rng.random(20)
    assert interval(x, seed=4) == interval(x, seed=4)
    assert interval(x, seed=4) != interval(x, seed=5)


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(7)
    found = [interval(x, level=0.9, n_resamples=400) for x in rng.exponential(size=(300, 60))]
    covered = np.mean([i.low <= 1 <= i.high for i in found])
    assert 0.84 < covered < 0.93  # a little too narrow for skewed values, as the percentile interval is known to be


def test_medians_equal_the_general_way() -> None:
    x = np.random.default_rng(3).random(25)
    fast, slow = interval(x, np.median), interval(x, lambda v: float(np.median(v)))
    assert fast == pytest.approx(slow, rel=1e-12)
    groups = [*range(12), *range(13)]
    fast, slow = interval(x, np.median, groups=groups), interval(x, lambda v: float(np.median(v)), groups=groups)
    assert fast == pytest.approx(slow, rel=1e-12)


def test_one_value_and_one_group_have_no_spread() -> None:
    assert interval([0.3]) == (0.3, 0.3, 0.3, 1)
    assert interval([0.0, 1.0], groups=["a", "a"]) == (0.5, 0.5, 0.5, 2)


def test_wrong_arguments() -> None:
    with refused(ValueError, "groups has length 1, but one for each of 2 values is needed"):
        interval([1, 2], groups=["a"])
    with refused(ValueError, "level is 95.0, but must be at most 1"):
        interval([1, 2], level=95.0)
