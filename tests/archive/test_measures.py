"""Measures of sounds whose answers are known, and of librosa and SciPy."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

import l2i_fast as l2i
from l2i_fast.archive.measures import measure

RATE, N, HOP = 44100, 1024, 512


def power(y: np.ndarray) -> np.ndarray:
    return np.abs(l2i.stft(np.asarray(y, np.float32), n_fft=N, hop_length=HOP)) ** 2


def test_a_tone_that_sounds_for_a_part_of_the_time() -> None:
    time = np.arange(5 * RATE) / RATE
    y = 0.1 * np.sin(2 * np.pi * 3000 * time) * ((time >= 1) & (time < 3))
    found = measure(power(y), RATE, N, HOP)
    width = RATE / N
    assert found.level == pytest.approx(20 * np.log10(np.sqrt(np.mean(y**2))), abs=0.1)
    assert found.peak_frequency == pytest.approx(3000, abs=width / 2)
    assert found.centroid == pytest.approx(3000, abs=5)
    assert found.bandwidth < 3 * width
    assert found.low_frequency < 3000 < found.high_frequency
    assert found.entropy < 0.25
    assert found.duration == pytest.approx(0.9 * 2, abs=2 * HOP / RATE)


def test_white_noise(rng: np.random.Generator) -> None:
    y = 0.1 * rng.standard_normal(5 * RATE)
    found = measure(power(y), RATE, N, HOP)
    assert found.level == pytest.approx(-20, abs=0.1)
    assert found.centroid == pytest.approx(RATE / 4, rel=0.01)
    assert found.low_frequency == pytest.approx(0.05 * RATE / 2, rel=0.05)
    assert found.high_frequency == pytest.approx(0.95 * RATE / 2, rel=0.01)
    assert found.entropy > 0.99
    assert found.duration == pytest.approx(0.9 * 5, rel=0.01)


@pytest.mark.parametrize("shape", [(1025, 7), (33, 1), (2, 3), (512, 40)])
def test_means_equal_librosa_and_scipy(shape: tuple[int, int], rng: np.random.Generator) -> None:
    n_fft = 2 * (shape[0] - 1)
    P = rng.gamma(0.3, 1.0, shape)
    found = measure(P, RATE, n_fft, n_fft // 2)
    mean = P.mean(axis=1)
    mean[1:-1] *= 2
    frequencies = np.arange(shape[0]) * RATE / n_fft
    wanted = librosa.feature.spectral_centroid(S=mean[:, None], sr=RATE, freq=frequencies)
    assert found.centroid == pytest.approx(wanted.item())
    assert found.entropy == pytest.approx(entropy(mean) / np.log(shape[0]))
    assert found.peak_frequency == pytest.approx(frequencies[np.argmax(mean)])


@given(st.floats(1e-4, 1e4), st.integers(0, 2**32 - 1))
def test_only_the_level_depends_on_the_gain(gain: float, seed: int) -> None:
    P = np.random.default_rng(seed).gamma(0.3, 1.0, (65, 9))
    one, two, three = measure(P, RATE, 128, 64), measure(gain**2 * P, RATE, 128, 64), measure(P, RATE, 128, 64, gain)
    assert two.level - one.level == pytest.approx(20 * np.log10(gain), abs=1e-6)
    assert two == pytest.approx(three)
    assert two[1:] == pytest.approx(one[1:])
    assert 0 <= one.low_frequency <= one.centroid <= RATE / 2
    assert one.low_frequency <= one.high_frequency <= RATE / 2
    assert 0 <= one.entropy <= 1


def test_silence_has_a_level_only() -> None:
    assert measure(np.zeros((513, 4), np.float32), RATE, N, HOP) == (-200, *[None] * 7)
