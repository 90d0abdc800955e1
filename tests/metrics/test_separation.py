"""Separation of known parts, against cases computed by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import l2i_fast as l2i
from l2i_fast.metrics.separation import separation, si_sdr
from l2i_fast.settings import DOMAINS

from ..helpers import refused
from .support import result_of


def tone(hertz: float, n: int = 8000) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(n) / 8000).astype(np.float32)


def test_a_constant_mask_keeps_equal_parts() -> None:
    a, b = 0.5 * tone(500), 0.25 * tone(3000)
    found = separation(result_of(a + b, np.float32(0.5)), a, b)
    expected = 20 * math.log10(0.5)
    assert found.target_kept == pytest.approx(expected, abs=1e-4)
    assert found.disturbance_kept == pytest.approx(expected, abs=1e-4)
    assert found.ratio_gain == pytest.approx(0, abs=1e-4)
    assert found.si_sdr_gain == pytest.approx(0, abs=0.01)


def test_a_mask_of_the_targets_band_keeps_it_alone() -> None:
    a, b = tone(500), tone(3000)
    low = (np.arange(129) < 60)[:, None]
    found = separation(result_of(a + b, low), a, b)
    assert found.target_kept == pytest.approx(0, abs=0.05)
    assert found.disturbance_kept < -40
    assert found.ratio_gain == pytest.approx(found.target_kept - found.disturbance_kept)
    assert found.si_sdr_gain > 30


def test_masks_of_the_log_magnitude_act_by_their_gain() -> None:
    a, b = tone(500), tone(3000)
    found = separation(result_of(a + b, np.float32(0.5), "log"), a, b)
    assert found.target_kept < 20 * math.log10(0.5) - 3  # strong bins lose more than half


def test_nothing_kept_and_silent_parts() -> None:
    a, silence = tone(500), np.zeros(8000, np.float32)
    found = separation(result_of(a, np.float32(0)), a, silence)
    assert found.target_kept == -120
    assert math.isnan(found.disturbance_kept)
    assert math.isnan(found.ratio_gain)
    assert found.si_sdr_gain == -240  # from a perfect 120 dB down to the floor
    nothing = separation(result_of(silence, np.float32(1)), silence, silence)
    assert all(map(math.isnan, nothing))


def test_parts_of_another_length() -> None:
    y = tone(500)
    with refused(ValueError, "target has shape (7999,), but (8000,) is needed"):
        separation(result_of(y, np.float32(1)), y[1:], y)
    with refused(ValueError, "disturbance has shape (1,), but (8000,) is needed"):
        separation(result_of(y, np.float32(1)), y, np.zeros(1, np.float32))


def test_si_sdr_by_hand() -> None:
    target, error = np.array([3.0, 0, 0], np.float32), np.array([0, 1.0, 1.0], np.float32)
    assert si_sdr(target + error, target) == pytest.approx(10 * math.log10(9 / 2), rel=1e-6)
    assert si_sdr(target, target) == 120
    assert si_sdr(error, target) == -120
    assert math.isnan(si_sdr(target, 0 * target))


@given(st.floats(1e-3, 1e3), st.integers(0, 2**31))
def test_si_sdr_does_not_depend_on_the_scale(scale: float, seed: int) -> None:
    y, s = np.random.default_rng(seed).standard_normal((2, 50))
    assert si_sdr(scale * y, s) == pytest.approx(si_sdr(y, s), abs=1e-6)


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_gain_is_that_of_the_mixture_at_its_peak(domain: str, rng: np.random.Generator) -> None:
    a, b = 0.01 * rng.standard_normal((2, 3000)).astype(np.float32)
    mask = rng.random((129, 47)).astype(np.float32)
    result = result_of(a + b, mask, domain)
    found = separation(result, a, b)
    power_a, power_b, A = (
        np.abs(l2i.stft(y, n_fft=256, hop_length=64).astype(np.complex128))
        for y in (a, b, (a + b) / np.abs(a + b).max())
    )
    powers = mask**4, (1 - mask) ** 4
    gain = {"log": ((1 + A) ** mask - 1) / A, "magnitude": mask, "wiener": powers[0] / sum(powers)}[domain]
    for power, kept in ((power_a, found.target_kept), (power_b, found.disturbance_kept)):
        assert kept == pytest.approx(20 * math.log10(np.linalg.norm(gain * power) / np.linalg.norm(power)), abs=1e-3)
    louder = dataclasses.replace(result, input=2 * result.input)
    louder.explanations[0] = dataclasses.replace(louder.explanations[0], audio=2 * result.audio)
    assert separation(louder, 2 * a, 2 * b) == pytest.approx(found, abs=1e-3)
