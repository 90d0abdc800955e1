"""The mel spectrogram in decibels, with librosa's mel bands."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2i_fast import _core
from l2i_fast.arrays import (
    LARGEST,
    ON_DEVICE,
    TINY,
    ArrayT,
    Float32,
    like,
    on_device,
    positive_int,
    target,
    to_numpy,
    without_out,
)
from l2i_fast.ops.stft import Window, frame_major, public, stft


def log_mel(
    X_or_y: ArrayT,
    sr: float = 44100,
    n_mels: int = 128,
    n_fft: int = 1024,
    hop_length: int = 512,
    win_length: int | None = None,
    window: Window = "hann",
    center: bool = True,
    pad_mode: str = "constant",
    fmin: float = 0.0,
    fmax: float | None = None,
    amin: float = 1e-10,
    top_db: float | None = None,
    *,
    out: ArrayT | None = None,
) -> ArrayT:
    """Mel spectrogram in decibels: ``10 log10(max(amin, mel @ |X|))``.

    The mel bands are those of `librosa.filters.mel` and sum the magnitude, not the power, as the classifier's
    recipe has it; the logarithm is that of `librosa.power_to_db` with a reference of 1.

    Parameters
    ----------
    X_or_y : array or tensor
        Complex spectrum (..., n_fft // 2 + 1, T), or real samples (..., N) that go through `stft` first.
    sr : float
        Sampling rate in Hz.
    n_mels : int
        Number of bands between `fmin` and `fmax` (Hz; half of `sr` if not given).
    n_fft, hop_length, win_length, window, center, pad_mode
        As in `stft`; all but `n_fft` only matter for samples.
    amin : float
        Smallest value whose logarithm is taken.
    top_db : float, optional
        Raise everything to at least the clip's maximum less this.
    out : same kind, float32, shape (..., n_mels, T), optional
        Array that is filled and returned, with memory of its own, laid out as in `stft`. The spectrum of samples is
        made anew in any case. CPU only.

    Returns
    -------
    M : same kind, float32, shape (..., n_mels, T)
        Decibels; frames are contiguous in memory.
    """
    check_floor(amin, top_db)
    if on_device(X_or_y):
        without_out(out, ON_DEVICE)
        from l2i_fast.ops import device_operations as operations

        settings = n_fft, hop_length, win_length, window, center, pad_mode
        return operations.log_mel(X_or_y, sr, n_mels, *settings, fmin, fmax, amin, top_db)  # type: ignore[no-any-return]
    X: NDArray[Any] = to_numpy(X_or_y, "X_or_y")
    if X.dtype.kind != "c":
        X = stft(X, n_fft, hop_length, win_length, window, center, pad_mode)
    rows, lead = frame_major(X)
    n_fft = check_bins(rows.shape[2], n_fft)
    n_mels = positive_int(n_mels, "n_mels")
    bands = native_bands(float(sr), n_fft, n_mels, float(fmin), fmax)
    mel = target(out, X_or_y, lead, (n_mels, rows.shape[1]), np.float32, {"X_or_y": X_or_y})
    mel = _core.log_mel(rows, bands, amin, mel)
    limit(mel, top_db)
    return like(public(mel, lead), X_or_y) if out is None else out


def check_bins(n_bins: int, n_fft: int) -> int:
    """Return `n_fft`, or refuse a spectrum whose number of bins is not that of such frames."""
    n_fft = positive_int(n_fft, "n_fft")
    if n_bins != n_fft // 2 + 1:
        raise ValueError(f"X has {n_bins} bins, but n_fft={n_fft} has {n_fft // 2 + 1}")
    return n_fft


def check_floor(amin: float, top_db: float | None) -> None:
    """Refuse an `amin` or a `top_db` out of range."""
    if not TINY <= amin <= LARGEST:
        raise ValueError(f"amin is {amin}, but must be positive, and a normal number as float32")
    if top_db is not None and not top_db >= 0:
        raise ValueError(f"top_db is {top_db}, but must not be negative")


def limit(mel: Float32, top_db: float | None) -> None:
    """Raise the decibels (B, T, M) in place to at least each clip's maximum less `top_db`."""
    if top_db is not None and mel.size:
        np.maximum(mel, mel.max((1, 2), keepdims=True) - np.float32(top_db), out=mel)


@lru_cache(maxsize=8)
def mel_bands(sr: float, n_fft: int, n_mels: int, fmin: float, fmax: float | None) -> Float32:
    """Return librosa's mel filters as (n_fft // 2 + 1, n_mels)."""
    from librosa.filters import mel

    bands: Float32 = np.ascontiguousarray(mel(sr=sr, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax).T)
    bands.flags.writeable = False
    return bands


@lru_cache(maxsize=8)
def native_bands(sr: float, n_fft: int, n_mels: int, fmin: float, fmax: float | None) -> _core.MelBands:
    """Return `mel_bands` as the native operations take them."""
    return _core.MelBands(mel_bands(sr, n_fft, n_mels, fmin, fmax).T)
