"""Similarity of masks, against slow references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import rankdata

from l2i_fast.metrics.similarity import similarity, ssim


def test_equal_opposite_and_unrelated_masks(rng: np.random.Generator) -> None:
    one, other = rng.random((2, 40, 50))
    assert similarity(one, one) == pytest.approx((1, 1))
    assert similarity(one, 1 - one).spearman == pytest.approx(-1)
    found = similarity(one, other)
    assert abs(found.spearman) < 0.15
    assert found.ssim < 0.2


def test_spearman_is_the_correlation_of_ranks_with_ties(rng: np.random.Generator) -> None:
    one, other = rng.integers(0, 4, (2, 9, 8)) / 3
    expected = np.corrcoef(rankdata(one), rankdata(other))[0, 1]
    assert similarity(one, other).spearman == pytest.approx(expected)


def test_ranks_do_not_change_with_the_scale_of_a_mask(rng: np.random.Generator) -> None:
    one, other = rng.random((2, 9, 8))
    assert similarity(one**3, 0.1 * other).spearman == pytest.approx(similarity(one, other).spearman)


def test_constant_masks(rng: np.random.Generator) -> None:
    flat, other = np.full((9, 9), 0.3), rng.random((9, 9))
    assert similarity(flat, flat).spearman == 1
    assert math.isnan(similarity(flat, other).spearman)
    assert similarity(0 * flat, other).ssim < 0.1


def test_ssim_against_loops(rng: np.random.Generator) -> None:
    a, b = rng.random((2, 9, 8))
    pad_a, pad_b = (np.pad(x, 3, mode="symmetric") for x in (a, b))
    values = []
    for i in range(9):
        for j in range(8):
            x, y = pad_a[i : i + 7, j : j + 7], pad_b[i : i + 7, j : j + 7]
            c = ((x - x.mean()) * (y - y.mean())).mean()
            luminance = (2 * x.mean() * y.mean() + 1e-4) / (x.mean() ** 2 + y.mean() ** 2 + 1e-4)
            values.append(luminance * (2 * c + 9e-4) / (x.var() + y.var() + 9e-4))
    assert ssim(a, b) == pytest.approx(np.mean(values), rel=1e-9)
