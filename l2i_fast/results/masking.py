"""Masks on the spectrum of a recording, made audible with its own phase."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2i_fast.audio import scale_to_peak
from l2i_fast.ops.stft import istft, stft

Float32 = NDArray[np.float32]

#: Sum of squared windows below which the end of a masked signal fades instead of being divided by it.
_LEAST_COVER = 0.01


def gain_of(mask: Float32, A: Float32, domain: str) -> Float32:
    """Return the factor on magnitudes `A` that a mask of the same shape stands for.

    In the domain "log" it is ``expm1(m log1p(A)) / A``, in the limit m where A is 0; in "magnitude" it is m; in
    "wiener" it is ``m^4 / (m^4 + (1 - m)^4)``.
    """
    if domain == "magnitude":
        return mask
    if domain == "wiener":
        wanted, rest = mask**4, (1 - mask) ** 4
        filtered: Float32 = wanted / (wanted + rest)
        return filtered
    silent = np.finfo(np.float32).tiny > A
    gain: Float32 = np.where(silent, mask, np.expm1(mask * np.log1p(A)) / np.where(silent, np.float32(1), A))
    return gain


def apply_mask(y: Float32, mask: Float32, settings: Mapping[str, Any]) -> Float32:
    """Return the part of samples (N,) that a mask (F, T) keeps, with the phase of the input.

    Parameters
    ----------
    y : ndarray (N,), float32
    mask : ndarray, broadcast to (F, T)
        Between 0 and 1.
    settings : mapping
        ``n_fft``, ``hop_length``, ``peak`` and ``domain``, as those of a `Result`.

    Returns
    -------
    ndarray (N,), float32
    """
    (kept,) = apply_masks(y, [mask], settings)
    return kept


def apply_masks(y: Float32, masks: Iterable[Float32], settings: Mapping[str, Any]) -> list[Float32]:
    """Return the part of samples (N,) that each of several masks keeps: see `apply_mask`."""
    frame = {"n_fft": settings["n_fft"], "hop_length": settings["hop_length"]}
    scaled, scale = scale_to_peak(y, settings["peak"])
    X = stft(scaled, **frame)
    A = np.abs(X)
    parts = []
    for mask in masks:
        Y = gain_of(np.broadcast_to(mask, X.shape), A, settings["domain"]) * X
        parts.append(fade_end(istft(Y, **frame, length=len(y)) * np.float32(scale), **frame))
    return parts


def fade_end(y: Float32, n_fft: int, hop_length: int) -> Float32:
    """Fade the last samples (N,) of an inverse STFT of masked spectra where hardly a window covers them.

    The inverse divides by the sum of the squared Hann windows, which at the end may be as small as 1e-10. Masked frames
    do not fit that window exactly, and what does not fit would become a click above full scale. Where the sum is
    at least 0.01, nothing changes.
    """
    n_frames = 1 + len(y) // hop_length
    beyond = len(y) - (n_frames - 1) * hop_length  # samples from the middle of the last frame on
    reaching = min(n_frames, n_fft // (2 * hop_length) + 1)  # the last frames, whose windows cover them
    places = n_fft // 2 + np.arange(beyond)[:, None] + hop_length * np.arange(reaching)
    window = np.where(places < n_fft, np.sin(np.pi * places / n_fft) ** 2, 0)
    gain = np.minimum(1, np.sum(window**2, axis=1) / _LEAST_COVER).astype(np.float32)
    faded: Float32 = np.array(y, np.float32)
    faded[len(y) - beyond :] *= gain
    return faded


def log_magnitude(y: Float32, settings: Mapping[str, Any]) -> Float32:
    """Return V (F, T), ``log(1 + |X|)`` of samples (N,) scaled to their peak; `settings` as for `apply_mask`."""
    scaled, _ = scale_to_peak(y, settings["peak"])
    V: Float32 = np.log1p(np.abs(stft(scaled, n_fft=settings["n_fft"], hop_length=settings["hop_length"])))
    return V


def kept_magnitude(mask: Float32, V: Float32, domain: str) -> Float32:
    """Return the log magnitude (F, T) that a mask keeps of the log magnitude V.

    In the domain "log" it is ``m V``; in the others ``log(1 + g A)`` with ``A = exp(V) - 1`` and g of `gain_of`.
    """
    if domain == "log":
        return mask * V
    A = np.expm1(V)
    kept: Float32 = np.log1p(gain_of(mask, A, domain) * A)
    return kept


def kept_share(mask: Float32, V: Float32, domain: str) -> float:
    """Return the share of the log magnitude V (F, T) that a mask keeps; 0 for silence.

    In the domain "log" this is ``sum(m V) / sum(V)``; see `kept_magnitude`.
    """
    total = float(V.sum(dtype=np.float64))
    return float(kept_magnitude(mask, V, domain).sum(dtype=np.float64)) / total if total else 0.0
