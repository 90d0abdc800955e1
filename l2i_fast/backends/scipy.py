"""Transforms of any frame length on the CPU by scipy.fft: they serve where the native engine has no FFT.

Functions and operands are those of `l2i_fast.backends.native`, which does everything but the transforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from l2i_fast.arrays import TINY, Complex64, Device, Float32
from l2i_fast.backends import native
from l2i_fast.defaults import default_settings


def refuses(operation: str, device: Device, n_fft: int = 0, K: int = 0) -> str:
    """Say why SciPy does not take a call, or return an empty string."""
    return "" if device is None else f"SciPy takes NumPy arrays, not tensors on {device}"


@default_settings()
def stft(clips: Float32, window: Float32, hop: int, pad: int, out: Complex64 | None = None) -> Complex64:
    """Spectra (B, T, F) of clips (B, N), padded by `pad` zeros at both ends."""
    padded = np.pad(clips, ((0, 0), (pad, pad)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window.size, axis=1)[:, ::hop]
    rows = np.empty((*frames.shape[:2], window.size // 2 + 1), np.complex64) if out is None else out
    for b, t in _slices(frames.shape):
        rows[b, t] = scipy.fft.rfft(frames[b, t] * window)
    return rows


@default_settings()
def istft(rows: Complex64, window: Float32, hop: int, start: int, length: int, out: Float32 | None = None) -> Float32:
    """Samples (B, length), from position `start` on, of the overlap-add of spectra (B, T, F)."""
    n_clips, n_frames, _ = rows.shape
    n_frames = min(n_frames, -(-(start + length) // hop))
    squares = _window_squares(window, hop, n_frames, start + length)
    sums = np.zeros((n_clips, squares.size), np.float32)
    for b, frames in _slices((n_clips, n_frames)):
        block = scipy.fft.irfft(rows[b, frames], n=window.size) * window
        for t, values in enumerate(block, frames.start):
            sums[b, t * hop : t * hop + window.size] += values
    wanted = slice(start, start + length)
    out = np.empty((n_clips, length), np.float32) if out is None else out
    return np.divide(sums[:, wanted], squares[wanted], out=out, casting="same_kind")


@default_settings()
def istft_adjoint(dy: Float32, window: Float32, hop: int, start: int, n_frames: int) -> Complex64:
    """Gradients of the spectra (B, T, F), by real and imaginary part, from that of the samples (B, length)."""
    n_fft, wanted = window.size, slice(start, start + dy.shape[1])
    rows = np.zeros((len(dy), n_frames, n_fft // 2 + 1), np.complex64)
    n_frames = min(n_frames, -(-wanted.stop // hop))
    squares = _window_squares(window, hop, n_frames, wanted.stop)
    samples = np.zeros((len(dy), squares.size), np.float32)
    samples[:, wanted] = dy / squares[wanted]
    frames = np.lib.stride_tricks.sliding_window_view(samples, n_fft, axis=1)[:, ::hop][:, :n_frames]
    for b, t in _slices(frames.shape):
        rows[b, t] = scipy.fft.rfft(frames[b, t] * window) * (2 / n_fft)
    ends = [0] if n_fft % 2 else [0, -1]  # counted once, and without their imaginary parts
    rows[..., ends] = rows[..., ends].real / 2
    return rows


@default_settings()
def analyze(
    clips: Float32,
    window: Float32,
    hop: int,
    pad: int,
    bands: native.MelBands,
    amin: float,
    out: Sequence[NDArray[Any] | None] = (None, None, None),
) -> tuple[Complex64, Float32, Float32]:
    """Spectra X (B, T, F), log1p(abs(X)), and decibels (B, T, M)."""
    X = stft(clips, window, hop, pad, out[0])
    V: Float32 = np.log1p(np.abs(X), out=out[1])
    return X, V, native.log_mel(X, bands, amin, out[2])


def decode(
    X: Complex64,
    W: Float32,
    H: Float32,
    weights: Float32,
    domain: str,
    eps: float,
    window: Float32,
    hop: int,
    start: int,
    length: int,
    out: Float32 | None = None,
) -> Float32:
    """Samples (B, length) of the masked spectra."""
    return istft(native.soft_mask(X, W, H, weights, domain, eps), window, hop, start, length, out)


def decode_gradient(
    X: Complex64,
    W: Float32,
    H: Float32,
    weights: Float32,
    domain: str,
    eps: float,
    window: Float32,
    hop: int,
    start: int,
    dy: Float32,
) -> tuple[Float32, Float32]:
    """Gradients of H (B, T, K) and weights (B, K) from that of the samples (B, length)."""
    dY = istft_adjoint(dy, window, hop, start, X.shape[1])
    return native.soft_mask_gradient(X, W, H, weights, domain, eps, dY)


def _window_squares(window: Float32, hop: int, n_frames: int, size: int) -> NDArray[np.float64]:
    # The sum of squared windows at each of at least `size` padded positions; 1 where that is zero.
    squares = np.zeros(max(window.size + hop * (n_frames - 1), size))
    for t in range(n_frames):
        squares[t * hop : t * hop + window.size] += window.astype(np.float64) ** 2
    squares[squares <= TINY] = 1
    return squares


def _slices(shape: tuple[int, ...]) -> list[tuple[int, slice]]:
    # Pairs (clip, some frames) that cover the shape (B, T, ...) in pieces that fit the cache.
    return [(b, slice(t, min(t + 64, shape[1]))) for b in range(shape[0]) for t in range(0, shape[1], 64)]
