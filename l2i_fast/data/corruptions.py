"""Corruptions of recordings, as in the paper: another sound at a level, and white noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from l2i_fast.arguments import generator_of, number
from l2i_fast.audio import Audio, as_mono_float32


def mix_at_level(y: Any, other: Any, level_db: float) -> Audio:
    """Mix another sound into y at a level relative to y.

    Parameters
    ----------
    y : array, shape (N,)
        Mono samples; their level does not change.
    other : array, shape (M,)
        The sound to add, repeated or cut to N samples.
    level_db : float
        20 log10(rms(added) / rms(y)), in dB: 0 is as loud as y, negative is softer, positive louder.

    Returns
    -------
    mixed : float32, shape (N,)
        y + added. If y or the N samples of other are silent, no such level exists, and y is returned unchanged.
    """
    signal, added = as_mono_float32(y, "y"), as_mono_float32(other, "other")
    level_db = _decibel(level_db, "level_db")
    added = np.resize(added, signal.shape)
    level = _rms(added)
    if level == 0:
        return signal.copy()
    gain = _rms(signal) / level * 10 ** (level_db / 20)
    return (signal + gain * added.astype(np.float64)).astype(np.float32)


def add_noise(y: Any, snr_db: float, rng: np.random.Generator | int | None = None) -> Audio:
    """Add white Gaussian noise.

    Parameters
    ----------
    y : array, shape (N,)
        Mono samples.
    snr_db : float
        20 log10(rms(y) / rms(noise)) in dB, met exactly by the noise drawn.
    rng : numpy.random.Generator or seed, optional
        Source of the noise.

    Returns
    -------
    noisy : float32, shape (N,)
        Silence stays silence.
    """
    signal = as_mono_float32(y, "y")
    snr_db, noise = _decibel(snr_db, "snr_db"), generator_of(rng, "rng").standard_normal(len(signal))
    return mix_at_level(signal, noise, -snr_db)


def _decibel(value: float, name: str) -> float:
    return number(value, name, -200, 200)


def _rms(y: Audio) -> float:
    return math.sqrt(float(np.mean(np.square(y, dtype=np.float64))))
