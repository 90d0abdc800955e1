"""Corruptions of recordings, against slow or analytic answers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2i_fast.data.corruptions import add_noise, mix_at_level

from ..helpers import refused

QUICK = settings(max_examples=40, deadline=None)


def rms(x):
    return math.sqrt(math.fsum(float(v) ** 2 for v in x) / len(x))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-0.9, 0.9, shape).astype(np.float32)


@QUICK
@given(n=st.integers(1, 400), m=st.integers(1, 400), level=st.floats(-40, 40), seed=st.integers(0, 99))
def test_mixing_meets_its_level(n, m, level, seed):
    y, other = noise(n, seed=seed), noise(m, seed=seed + 1)
    mixed = mix_at_level(y, other, level)
    assert (mixed.dtype, mixed.shape) == (np.float32, (n,))
    looped = np.array([other[i % m] for i in range(n)], np.float64)
    expected = y + looped * (rms(y) / rms(looped) * 10 ** (level / 20))
    np.testing.assert_allclose(mixed, expected, rtol=1e-5, atol=1e-6)


def test_mixing_with_silence_changes_nothing():
    y = noise(50)
    np.testing.assert_array_equal(mix_at_level(y, np.zeros(7), 0), y)
    np.testing.assert_array_equal(mix_at_level(y, np.r_[np.zeros(50), 1], 0), y)
    assert not mix_at_level(np.zeros(5), noise(9), 10).any()
    assert not np.shares_memory(mix_at_level(y, np.zeros(7), 0), y)


@QUICK
@given(n=st.integers(1, 2000), snr=st.floats(-20, 60), seed=st.integers(0, 99))
def test_noise_meets_its_ratio(n, snr, seed):
    y = noise(n, seed=seed) + np.float32(1)
    noisy = add_noise(y, snr, seed)
    assert (noisy.dtype, noisy.shape) == (np.float32, (n,))
    measured = 20 * math.log10(rms(y) / rms(noisy.astype(np.float64) - y))
    assert measured == pytest.approx(snr, abs=0.05)
    np.testing.assert_array_equal(noisy, add_noise(y, snr, np.random.default_rng(seed)))


def test_noise_is_white_and_gaussian():
    y = np.ones(100_000, np.float32)
    added = add_noise(y, 0, 3).astype(np.float64) - y
    assert np.mean(added**4) == pytest.approx(3, rel=0.05)
    assert abs(np.mean(added[1:] * added[:-1])) < 0.02
    assert not add_noise(np.zeros(10), 0, 3).any()


@pytest.mark.parametrize(
    ("level", "allowed"), [(math.nan, "finite"), (-math.inf, "finite"), (201, "at most 200"), (-201, "at least -200")]
)
def test_levels_are_bounded(level, allowed):
    with refused(ValueError, f"level_db is {level}, but must be {allowed}"):
        mix_at_level(noise(5), noise(5), level)
    with refused(ValueError, f"snr_db is {level}, but must be {allowed}"):
        add_noise(noise(5), level)
