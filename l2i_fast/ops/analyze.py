"""Spectrum, logarithmic magnitudes and mel spectrogram of samples in one pass."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple

import numpy as np
from numpy.typing import NDArray

from l2i_fast import _core
from l2i_fast.arrays import ON_DEVICE, ArrayT, like, on_device, positive_int, target, without_out
from l2i_fast.ops.log_mel import check_floor, limit, native_bands
from l2i_fast.ops.stft import Frames, Window, is_native, public


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
    *,
    out: tuple[ArrayT, ArrayT, ArrayT] | None = None,
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
    out : tuple of three, optional
        Arrays that are filled and returned, each as an earlier answer's: that answer itself, or arrays as `stft` takes
        them. CPU only.

    Returns
    -------
    Spectra
        ``X, V, log_mel``, of the same kind as y.

    Raises
    ------
    ValueError, TypeError
        As `stft` and `log_mel` do, and where parts of `out` share memory.
    """
    check_floor(amin, top_db)
    if on_device(y):
        without_out(out, ON_DEVICE)
        from l2i_fast.ops import device_operations as operations

        settings = n_fft, hop_length, win_length, window, center, pad_mode
        return Spectra(*operations.analyze(y, sr, n_mels, *settings, fmin, fmax, amin, top_db))
    frames = Frames(y, n_fft, hop_length, win_length, window, center, pad_mode)
    n_mels = positive_int(n_mels, "n_mels")
    bands = native_bands(float(sr), frames.window.size, n_mels, float(fmin), fmax)
    into = _targets(out, y, frames, n_mels)
    if is_native(frames.window.size):
        X, V, mel = _core.analyze(frames.clips, frames.window, frames.hop, frames.pad, bands, amin, into)
    else:
        X = frames.transform(into[0])
        V, mel = np.log1p(np.abs(X), out=into[1]), _core.log_mel(X, bands, amin, into[2])
    limit(mel, top_db)
    if out is not None:
        return Spectra(*out)
    return Spectra(*(like(public(rows, frames.lead), y) for rows in (X, V, mel)))


def _targets(out: Any, y: Any, frames: Frames, n_mels: int) -> list[NDArray[Any] | None]:
    # The memory of each part of `out`; None where there is no `out`.
    if out is None:
        return [None] * 3
    if not isinstance(out, tuple) or len(out) != 3 or any(part is None for part in out):
        raise TypeError("out must be a tuple of three arrays, X, V and log_mel, such as an earlier answer")
    X, V, mel = out
    return [
        target(X, y, frames.lead, frames.inner, np.complex64, {"y": y}, name="X of out"),
        target(V, y, frames.lead, frames.inner, np.float32, {"y": y, "X": X}, name="V of out"),
        target(
            mel, y, frames.lead, (n_mels, frames.inner[1]), np.float32, {"y": y, "X": X, "V": V}, name="log_mel of out"
        ),
    ]
