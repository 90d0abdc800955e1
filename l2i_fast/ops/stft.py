"""Short-time Fourier transform and its inverse, as librosa defines them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l2i_fast import _core
from l2i_fast.arrays import (
    ON_DEVICE,
    TINY,
    ArrayT,
    Complex64,
    Float32,
    like,
    on_device,
    positive_int,
    target,
    to_audio,
    to_complex64,
    to_numpy,
    without_out,
)

Window = str | float | tuple[Any, ...] | Callable[[int], ArrayLike] | ArrayLike

_PAD_MODES = ("constant", "edge", "linear_ramp", "reflect", "symmetric")


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
        What `scipy.signal.get_window` understands (periodic form), or the window itself.
    center : bool
        Pad by ``n_fft // 2`` on both sides, so that frame t is centred at sample ``t hop_length``.
    pad_mode : {"constant", "edge", "linear_ramp", "reflect", "symmetric"}
        What to pad with, as in `numpy.pad`; "constant" is zeros.
    out : same kind as y, complex64, shape (..., n_fft // 2 + 1, T), optional
        Array that is filled and returned, which spares fresh memory: an earlier answer, or the transposed view of a
        contiguous (..., T, F) array. Where recordings of several lengths share a long one, librosa takes it whole;
        here it is cut to the exact shape, ``long[:, :T]``, which is still such a view. CPU only.

    Returns
    -------
    X : same kind as y, complex64, shape (..., n_fft // 2 + 1, T)
        ``T = 1 + N // hop_length`` for an even, centred frame. Frames are contiguous in memory: X is the
        transposed view of (..., T, F). `out` itself where it is given.

    Raises
    ------
    ValueError
        For empty or non-finite audio, or, without `center`, fewer than `n_fft` samples; for an `out` of another shape
        or layout, read-only, that shares memory with y or requires grad.
    TypeError
        For samples or an `out` of another dtype, or an `out` of another kind. It is left as it was.
    """
    if on_device(y):
        without_out(out, ON_DEVICE)
        from l2i_fast.ops import device_operations as operations

        return operations.stft(y, n_fft, hop_length, win_length, window, center, pad_mode)  # type: ignore[no-any-return]
    frames = Frames(y, n_fft, hop_length, win_length, window, center, pad_mode)
    rows = frames.transform(target(out, y, frames.lead, frames.inner, np.complex64, {"y": y}))
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
    """Inverse of `stft`: windowed overlap-add over the sum of the squared windows, where that is not zero.

    Parameters
    ----------
    X : array or tensor, complex, shape (..., n_fft // 2 + 1, T)
        Spectrum. No copy is made of complex64 numbers whose frames are contiguous.
    hop_length, win_length, window, center
        As given to `stft`.
    n_fft : int, optional
        ``2 (F - 1)`` if not given; needed for an odd frame length.
    length : int, optional
        Samples wanted: the answer is cut or filled with zeros.
    out : same kind as X, float32, contiguous, shape (..., length), optional
        Array that is filled and returned, with memory of its own. CPU only.

    Returns
    -------
    y : same kind as X, float32, shape (..., length)
        By default ``n_fft + hop_length (T - 1)`` samples, less the padding of ``n_fft // 2`` at both ends
        where `center` is set.
    """
    if on_device(X):
        without_out(out, ON_DEVICE)
        from l2i_fast.ops import device_operations as operations

        return operations.istft(X, hop_length, win_length, n_fft, window, center, length)  # type: ignore[no-any-return]
    rows, lead = frame_major(X)
    synthesis = Synthesis(rows.shape, hop_length, win_length, n_fft, window, center, length)
    samples = synthesis(rows, target(out, X, lead, (synthesis.length,), np.float32, {"X": X}))
    return like(samples.reshape(*lead, synthesis.length), X) if out is None else out


class Frames:
    """Checked samples and settings of a forward transform, and the transform itself."""

    def __init__(
        self,
        y: Any,
        n_fft: int,
        hop_length: int | None,
        win_length: int | None,
        window: Window,
        center: bool,
        pad_mode: str,
    ) -> None:
        audio = to_audio(y)
        frame = Frame(n_fft, hop_length, win_length, window)
        pad = frame.n_fft // 2 if center else 0
        check_pad_mode(pad_mode)
        if center and pad_mode != "constant":
            audio = np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(pad, pad)], mode=pad_mode)  # type: ignore[call-overload]
            pad = 0
        check_length(audio.shape[-1], frame.n_fft, pad)
        if audio.strides[-1] != audio.itemsize:
            audio = np.ascontiguousarray(audio)
        self.lead = audio.shape[:-1]
        self.clips = audio.reshape(-1, audio.shape[-1])
        self.window = frame.window
        self.hop = frame.hop
        self.pad = pad
        #: Bins and frames.
        self.inner = frame.n_fft // 2 + 1, 1 + (audio.shape[-1] + 2 * pad - frame.n_fft) // frame.hop

    def transform(self, out: Complex64 | None = None) -> Complex64:
        """Return frame-major rows (B, T, F), new ones or in `out`."""
        return _forward(self.clips, self.window, self.hop, self.pad, out)


def check_pad_mode(pad_mode: str) -> None:
    """Refuse a way of padding that there is not."""
    if pad_mode not in _PAD_MODES:
        raise ValueError(f"pad_mode is {pad_mode!r}, but must be one of {', '.join(_PAD_MODES)}")


def check_length(n_samples: int, n_fft: int, pad: int) -> None:
    """Refuse a signal that is shorter than its first frame."""
    if n_samples + 2 * pad < n_fft:
        raise ValueError(f"y has {n_samples} samples, but n_fft={n_fft} are needed where center is False")


def frame_major(X: Any, name: str = "X") -> tuple[Complex64, tuple[int, ...]]:
    """Return a spectrum (..., F, T) as its frame-major rows (B, T, F) and the leading shape."""
    spectrum = to_complex64(X, name)
    if spectrum.ndim < 2:
        raise ValueError(f"{name} has shape {spectrum.shape}, but (..., bins, frames) is needed")
    lead, (n_bins, n_frames) = spectrum.shape[:-2], spectrum.shape[-2:]
    rows = np.ascontiguousarray(spectrum.swapaxes(-1, -2)).reshape(math.prod(lead), n_frames, n_bins)
    return rows, lead


class Synthesis:
    """The checked settings of one inverse transform of rows (B, T, F), and the transform itself."""

    def __init__(
        self,
        shape: tuple[int, ...],
        hop_length: int | None,
        win_length: int | None,
        n_fft: int | None,
        window: Window,
        center: bool,
        length: int | None,
    ) -> None:
        _, n_frames, n_bins = shape
        if n_frames == 0 or n_bins < 2:
            raise ValueError(f"X has {n_bins} bins and {n_frames} frames, but at least 2 and 1 are needed")
        frame = Frame(2 * (n_bins - 1) if n_fft is None else n_fft, hop_length, win_length, window)
        if frame.n_fft // 2 + 1 != n_bins:
            raise ValueError(f"X has {n_bins} bins, but n_fft={frame.n_fft} has {frame.n_fft // 2 + 1}")
        self.n_frames = n_frames
        self.window = frame.window
        self.hop = frame.hop
        self.start = frame.n_fft // 2 if center else 0
        if length is None:
            self.length = frame.n_fft + frame.hop * (n_frames - 1) - 2 * self.start
        else:
            self.length = positive_int(length, "length")

    def __call__(self, rows: Complex64, out: Float32 | None = None) -> Float32:
        """Return the samples (B, length) of frame-major rows (B, T, F), new ones or in `out`."""
        return _inverse(rows, self.window, self.hop, self.start, self.length, out)

    def adjoint(self, dy: Float32) -> Complex64:
        """Return the gradients of the rows (B, T, F), by real and imaginary part, from that of the samples."""
        import scipy.fft

        n_fft, wanted = self.window.size, slice(self.start, self.start + self.length)
        squares = _window_squares(self.window, self.hop, self.n_frames, wanted.stop)
        samples = np.zeros((len(dy), squares.size), np.float32)
        samples[:, wanted] = dy / squares[wanted]
        frames = np.lib.stride_tricks.sliding_window_view(samples, n_fft, axis=1)[:, :: self.hop][:, : self.n_frames]
        rows = np.empty((len(dy), self.n_frames, n_fft // 2 + 1), np.complex64)
        for b, t in _slices(frames.shape):
            rows[b, t] = scipy.fft.rfft(frames[b, t] * self.window) * (2 / n_fft)
        ends = [0] if n_fft % 2 else [0, -1]  # counted once, and without their imaginary parts
        rows[..., ends] = rows[..., ends].real / 2
        return rows


class Frame:
    """Checked frame length, hop, and the window padded to the frame length (float32)."""

    def __init__(self, n_fft: int, hop_length: int | None, win_length: int | None, window: Window) -> None:
        self.n_fft = positive_int(n_fft, "n_fft")
        if self.n_fft < 2:
            raise ValueError("n_fft is 1, but must be at least 2")
        width = self.n_fft if win_length is None else positive_int(win_length, "win_length")
        if width > self.n_fft:
            raise ValueError(f"win_length is {width}, but must not exceed n_fft={self.n_fft}")
        self.hop = max(1, width // 4) if hop_length is None else positive_int(hop_length, "hop_length")
        if isinstance(window, str | float | int | tuple):
            self.window = _named_window(window, width, self.n_fft)
        elif callable(window):
            self.window = _padded_window(window(width), width, self.n_fft)
        else:
            self.window = _padded_window(to_numpy(window, "window"), width, self.n_fft)


@lru_cache(maxsize=32)
def _named_window(window: str | float | tuple[Any, ...], width: int, n_fft: int) -> Float32:
    from scipy.signal import get_window

    padded = _padded_window(get_window(window, width, fftbins=True), width, n_fft)
    padded.flags.writeable = False
    return padded


def _padded_window(window: ArrayLike, width: int, n_fft: int) -> Float32:
    values = np.asarray(window, dtype=np.float64)
    if values.shape != (width,):
        raise ValueError(f"window has shape {values.shape}, but win_length={width} values are needed")
    if not np.isfinite(values).all():
        raise ValueError("window holds NaN or infinity, but finite values are needed")
    padded = np.zeros(n_fft, np.float32)
    left = (n_fft - width) // 2
    padded[left : left + width] = values
    return padded


def public(rows: NDArray[Any], lead: tuple[int, ...]) -> NDArray[Any]:
    """Return frame-major rows (B, T, F) as the public view (..., F, T)."""
    return rows.reshape(*lead, *rows.shape[1:]).swapaxes(-1, -2)


def is_native(n_fft: int) -> bool:
    """Whether frames of this length have a native transform; others go through scipy.fft."""
    smallest, largest = _core.FFT_SIZES
    return smallest <= n_fft <= largest and n_fft & (n_fft - 1) == 0


def _forward(clips: Float32, window: Float32, hop: int, pad: int, out: Complex64 | None) -> Complex64:
    if is_native(window.size):
        return _core.stft(clips, window, hop, pad, out)

    import scipy.fft

    padded = np.pad(clips, ((0, 0), (pad, pad)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window.size, axis=1)[:, ::hop]
    rows = np.empty((*frames.shape[:2], window.size // 2 + 1), np.complex64) if out is None else out
    for b, t in _slices(frames.shape):
        rows[b, t] = scipy.fft.rfft(frames[b, t] * window)
    return rows


def _inverse(rows: Complex64, window: Float32, hop: int, start: int, length: int, out: Float32 | None) -> Float32:
    if is_native(window.size):
        return _core.istft(rows, window, hop, start, length, out)

    import scipy.fft

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
