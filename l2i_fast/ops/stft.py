"""Short-time Fourier transform and its inverse, as librosa defines them."""

from __future__ import annotations

from functools import partial

import numpy as np

from l2i_fast.arrays import ArrayT, like
from l2i_fast.backends.dispatch import device_of, serving
from l2i_fast.ops.framing import Frames, Synthesis, Window
from l2i_fast.ops.operands import frame_major, public, target


def stft(
    y: ArrayT,
    n_fft: int = 1024,
    hop_length: int | None = 512,
    win_length: int | None = None,
    window: Window = "hann",
    center: bool = True,
    pad_mode: str = "constant",
    *,
    out: ArrayT | None = None,
) -> ArrayT:
    """Short-time Fourier transform: ``X[f, t] = sum_n window[n] y[t hop + n] exp(-2 pi i f n / n_fft)``.

    Parameters
    ----------
    y : array or tensor, shape (..., N)
        Samples; floating, or integer PCM, which is scaled to [-1, 1).
    n_fft : int
        Frame length in samples. Powers of two from 32 to 65536 take the native path.
    hop_length : int or None
        Samples between frames; None is ``win_length // 4``, as in librosa.
    win_length : int, optional
        Length of the window, centred in the frame; `n_fft` if not given.
    window : str, tuple, float, callable or array of `win_length`
        An argument of `scipy.signal.get_window` (periodic form), or the window itself.
    center : bool
        Pad by ``n_fft // 2`` on both sides, so that frame t is centred at sample ``t hop_length``.
    pad_mode : {"constant", "edge", "linear_ramp", "reflect", "symmetric"}
        Padding, as in `numpy.pad`; "constant" is zeros.
    out : same kind as y, complex64, shape (..., n_fft // 2 + 1, T), optional
        Array to fill and return, which saves allocating memory: an earlier answer, or the transposed view of a
        contiguous (..., T, F) array. librosa takes a longer array whole; here it is cut to the exact shape,
        ``long[:, :T]``, which is still such a view. CPU only.

    Returns
    -------
    X : same kind as y, complex64, shape (..., n_fft // 2 + 1, T)
        ``T = 1 + N // hop_length`` for an even, centred frame. Frames are contiguous in memory: X is the
        transposed view of (..., T, F). `out` itself if it is given.

    Raises
    ------
    ValueError
        For empty or non-finite audio, or, without `center`, fewer than `n_fft` samples; for an `out` of another shape
        or layout, or one that is read-only, shares memory with y or requires grad.
    TypeError
        For samples or an `out` of another dtype, or an `out` of another kind, which stays unchanged.
    """
    device = device_of(y=y)
    frames = Frames(y, n_fft, hop_length, win_length, window, center, pad_mode, device)
    into = target(out, y, frames.lead, frames.inner, np.complex64, {"y": y}, device)
    run = partial(serving("stft", device, frames.n_fft), *frames.operands)
    rows = run() if into is None else run(into)
    return like(public(rows, frames.lead), y) if out is None else out


def istft(
    X: ArrayT,
    hop_length: int | None = 512,
    win_length: int | None = None,
    n_fft: int | None = None,
    window: Window = "hann",
    center: bool = True,
    length: int | None = None,
    *,
    out: ArrayT | None = None,
) -> ArrayT:
    """Inverse of `stft`: windowed overlap-add over the sum of the squared windows, wherever that is not zero.

    Parameters
    ----------
    X : array or tensor, complex, shape (..., n_fft // 2 + 1, T)
        Spectrum. Complex64 numbers whose frames are contiguous are not copied. Values are not checked: NaN gives NaN in
        the samples of its frame.
    hop_length, win_length, window, center
        As given to `stft`.
    n_fft : int, optional
        ``2 (F - 1)`` if not given; needed for an odd frame length.
    length : int, optional
        Length of the answer, which is cut or filled with zeros.
    out : same kind as X, float32, contiguous, shape (..., length), optional
        Array to fill and return, with memory of its own. CPU only.

    Returns
    -------
    y : same kind as X, float32, shape (..., length)
        By default ``n_fft + hop_length (T - 1)`` samples, less the padding of ``n_fft // 2`` at both ends
        if `center` is set.
    """
    device = device_of(X=X)
    rows, lead = frame_major(X, "X", device)
    synthesis = Synthesis(rows.shape, hop_length, win_length, n_fft, window, center, length, device)
    into = target(out, X, lead, (synthesis.length,), np.float32, {"X": X}, device)
    run = partial(serving("istft", device, synthesis.n_fft), rows, *synthesis.operands, synthesis.length)
    samples = run() if into is None else run(into)
    return like(samples.reshape(*lead, synthesis.length), X) if out is None else out
