"""How well a mask separates parts that are known: the sound that counts from what disturbs it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from l2i_fast.audio import scale_to_peak
from l2i_fast.ops.stft import stft
from l2i_fast.results import Result
from l2i_fast.results.masking import gain_of

Float32 = NDArray[np.float32]
#: The least level that is stated, in dB.
FLOOR_DB = -120.0


class Separation(NamedTuple):
    """Levels in dB; NaN where the part is silent.

    Attributes
    ----------
    target_kept, disturbance_kept : float
        Energy of each part under the gain of the mask, relative to its energy; at least -120.
    ratio_gain : float
        ``target_kept - disturbance_kept``: what the ratio of target to disturbance gains.
    si_sdr_gain : float
        SI-SDR of the interpretation against the target, minus that of the recording.
    """

    target_kept: float
    disturbance_kept: float
    ratio_gain: float
    si_sdr_gain: float


def separation(result: Result, target: Float32, disturbance: Float32) -> Separation:
    """Return how much of each known part the first explanation of a result keeps.

    The gain that the mask stands for in the mixture multiplies the spectrum of each part.

    Parameters
    ----------
    result : Result
        Of the mixture ``target + disturbance``.
    target, disturbance : ndarray (N,), float32
        At the rate and the level of ``result.input``.

    Raises
    ------
    ValueError
        A part of another length than the mixture.
    """
    for name, part in (("target", target), ("disturbance", disturbance)):
        if np.shape(part) != result.input.shape:
            raise ValueError(f"{name} has shape {np.shape(part)}, but {result.input.shape} is needed")
    settings = result.settings
    frame = {"n_fft": settings["n_fft"], "hop_length": settings["hop_length"]}
    scaled, _ = scale_to_peak(result.input, settings["peak"])
    gain = gain_of(result.mask(), np.abs(stft(scaled, **frame)), settings["domain"])
    kept = [_kept_db(gain, stft(part, **frame)) for part in (target, disturbance)]
    before, after = (si_sdr(y, target) for y in (result.input, result.explanations[0].audio))
    return Separation(kept[0], kept[1], kept[0] - kept[1], after - before)


def _kept_db(gain: Float32, X: NDArray[np.complex64]) -> float:
    power = np.square(np.abs(X), dtype=np.float64)
    whole = float(power.sum())
    if not whole:
        return float("nan")
    return _decibel(float((np.square(gain, dtype=np.float64) * power).sum()), whole)


def si_sdr(estimate: Float32, target: Float32) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB (Le Roux, Wisdom, Erdogan and Hershey, ICASSP 2019).

    ``10 log10(|a s|^2 / |a s - y|^2)`` with ``a = <y, s> / <s, s>``; from -120 to 120, and NaN for a silent target.
    """
    y, s = np.asarray(estimate, np.float64), np.asarray(target, np.float64)
    energy = float(s @ s)
    if not energy:
        return float("nan")
    along = (y @ s) / energy * s
    return _decibel(float(along @ along), float((along - y) @ (along - y)))


def _decibel(numerator: float, denominator: float) -> float:
    if not denominator:
        return -FLOOR_DB if numerator else FLOOR_DB
    return float(np.clip(10 * np.log10(max(numerator / denominator, 1e-30)), FLOOR_DB, -FLOOR_DB))
