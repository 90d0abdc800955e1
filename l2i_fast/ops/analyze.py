"""Spectrum, logarithmic magnitudes and mel spectrogram of samples in one pass."""

from __future__ import annotations

from functools import partial
from typing import Any, Generic, NamedTuple

import numpy as np
from numpy.typing import NDArray

from l2i_fast.arrays import ArrayT, Device, like
from l2i_fast.backends.dispatch import device_of, serving
from l2i_fast.ops.framing import Frames, Window
from l2i_fast.ops.log_mel import Mel
from l2i_fast.ops.operands import public, target


class Spectra(NamedTuple, Generic[ArrayT]):
    """The answer of `analyze` to samples (..., N); frames are contiguous in memory.

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
    """Compute `stft`, ``log1p(abs(X))`` and `log_mel` of samples in one pass.

    Parameters
    ----------
    y : array or tensor, shape (..., N)
        Samples; floating, or integer PCM, which is scaled to [-1, 1).
    n_fft, hop_length, win_length, window, center, pad_mode
        As in `stft`.
    sr, n_mels, fmin, fmax, amin, top_db
        As in `log_mel`.
    out : tuple of three, optional
        Arrays to fill and return: an earlier answer, or arrays laid out as in `stft`. CPU only.

    Returns
    -------
    Spectra
        ``X, V, log_mel``, of the same kind as y.

    Raises
    ------
    ValueError, TypeError
        As in `stft` and `log_mel`, and if parts of `out` share memory.
    """
    mel = Mel(sr, n_mels, fmin, fmax, amin, top_db)
    device = device_of(y=y)
    frames = Frames(y, n_fft, hop_length, win_length, window, center, pad_mode, device)
    bands = mel.bands(frames.n_fft, device)
    into = _targets(out, y, frames, mel.n_mels, device)
    run = partial(serving("analyze", device, frames.n_fft), *frames.operands, bands, mel.amin)
    rows = run() if into is None else run(into)
    mel.limit(rows[2])
    return Spectra(*(like(public(part, frames.lead), y) for part in rows)) if out is None else Spectra(*out)


def _targets(out: Any, y: Any, frames: Frames, n_mels: int, device: Device) -> list[NDArray[Any] | None] | None:
    # The memory of each part of `out`.
    if out is None:
        return None
    if not isinstance(out, tuple) or len(out) != 3 or any(part is None for part in out):
        raise TypeError(f"out is {type(out).__name__}, but a tuple of three arrays, X, V and log_mel, is needed")
    parts = zip(
        ("X", "V", "log_mel"),
        out,
        (np.complex64, np.float32, np.float32),
        (frames.inner, frames.inner, (n_mels, frames.inner[1])),
        strict=True,
    )
    inputs, found = {"y": y}, []
    for name, part, dtype, inner in parts:
        # On a device no part can be filled: `out` itself is at fault.
        title = "out" if device is not None else f"{name} of out"
        found.append(target(part, y, frames.lead, inner, dtype, inputs, device, name=title))
        inputs = inputs | {name: part}
    return found
