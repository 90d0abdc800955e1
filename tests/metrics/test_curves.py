"""Masks at equal shares."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2i_fast.metrics.curves import masks_at

from ..helpers import refused


def test_the_highest_bins_come_first() -> None:
    mask, V = np.array([[0.9, 0.1], [0.5, 0.0]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    found = masks_at(mask, V, [0, 0.1, 0.25, 0.4, 0.6, 1])
    expected = [
        [[0, 0], [0, 0]],
        [[1, 0], [0, 0]],
        [[1, 0], [0.5, 0]],
        [[1, 0], [1, 0]],
        [[1, 1], [1, 0]],
        [[1, 1], [1, 1]],
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_equal_values_are_kept_by_equal_fractions() -> None:
    V = np.arange(12.0).reshape(3, 4)
    np.testing.assert_allclose(masks_at(np.full((3, 4), 0.7), V, [0.3])[0], 0.3, rtol=1e-6)


@given(st.integers(0, 2**31), st.floats(0, 1), st.integers(1, 12), st.integers(1, 9))
def test_the_share_is_met(seed: int, share: float, n_bins: int, n_frames: int) -> None:
    rng = np.random.default_rng(seed)
    mask, V = rng.integers(0, 4, (n_bins, n_frames)) / 3, rng.random((n_bins, n_frames))
    (found,) = masks_at(mask, V, [share])
    assert (found * V).sum() == pytest.approx(share * V.sum(), rel=1e-6, abs=1e-12)
    assert found.min() >= 0
    assert found.max() <= 1


@given(st.integers(0, 2**31), st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_masks_grow_with_the_share(seed: int, shares: list[float]) -> None:
    rng = np.random.default_rng(seed)
    mask, V = rng.integers(0, 4, (6, 5)) / 3, rng.random((6, 5)) * (rng.random((6, 5)) > 0.5)
    found = masks_at(mask, V, sorted(shares))
    assert all((more >= less).all() for less, more in itertools.pairwise(found))
    for low, high in itertools.pairwise(np.unique(mask)):  # nothing is kept before all bins with a higher mask
        assert all(m[mask == low].max() == 0 or m[mask == high].min() == 1 for m in found)


def test_silence_keeps_a_mask() -> None:
    (found,) = masks_at(np.ones((2, 2)), np.zeros((2, 2)), [0.5])
    assert found.shape == (2, 2)
    assert np.isfinite(found).all()


def test_a_share_out_of_range() -> None:
    with refused(ValueError, "shares is 1.5, but must be at most 1"):
        masks_at(np.ones((1, 1)), np.ones((1, 1)), [1.5])
