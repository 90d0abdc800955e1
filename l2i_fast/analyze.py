"""Spectrum, logarithmic magnitudes and mel spectrogram of samples in one pass."""

from __future__ import annotations

from typing import Generic, NamedTuple

import numpy as np

from l2i_fast import _core
from l2i_fast.arrays import ArrayT, like, on_device, positive_int
from l2i_fast.log_mel import check_floor, limit, native_bands
from l2i_fast.stft import Frames, Window, is_native, public


class Spectra(NamedTuple, Generic[ArrayT]):
    """What `analyze` finds in samples (..., N); frames are contiguous in memory.

    Attributes
    ----------
    X : complex64, shape (..., F, T)
        Spectrum: `stft`.
    V : float32, shape (..., F, T)
        Logarithmic magnitude, ``log(1 + |X|)``.
    log_mel : float32, shape (..., n_mels, T)
        Mel spectrogram in decibels: `log_mel`.
    """

    X: ArrayT
    V: ArrayT
    log_mel: ArrayT


def analyze(
    y: ArrayT,
    sr: float = 44100,
    n_mels: int = 128,
    n_fft: int = 1024,
    hop_length: int | None = 512,
    win_length: int | None = None,
    window: Window = "hann",
    center: bool = True,
    pad_mode: str = "constant",
    fmin: float = 0.0,
    fmax: float | None = None,
    amin: float = 1e-10,
    top_db: float | None = None,
) -> Spectra[ArrayT]:
    """All that the method needs of a recording: `stft`, ``log1p(abs(X))`` and `log_mel` in one pass.

    Parameters
    ----------
    y : array or tensor, shape (..., N)
        Samples; floating, or integer PCM, which is scaled to [-1, 1).
    n_fft, hop_length, win_length, window, center, pad_mode
        As in `stft`.
    sr, n_mels, fmin, fmax, amin, top_db
        As in `log_mel`.

    Returns
    -------
    Spectra
        ``X, V, log_mel``, of the same kind as y.

    Raises
    ------
    ValueError
        As `stft` and `log_mel` do.
    """
    check_floor(amin, top_db)
    if on_device(y):
        from l2i_fast.gpu import operations

        settings = n_fft, hop_length, win_length, window, center, pad_mode
        return Spectra(*operations.analyze(y, sr, n_mels, *settings, fmin, fmax, amin, top_db))
    frames = Frames(y, n_fft, hop_length, win_length, window, center, pad_mode)
    bands = native_bands(float(sr), frames.window.size, positive_int(n_mels, "n_mels"), float(fmin), fmax)
    if is_native(frames.window.size):
        X, V, mel = _core.analyze(frames.clips, frames.window, frames.hop, frames.pad, bands, amin)
    else:
        X = frames.transform()
        V, mel = np.log1p(np.abs(X)), _core.log_mel(X, bands, amin)
    limit(mel, top_db)
    return Spectra(*(like(public(rows, frames.lead), y) for rows in (X, V, mel)))
