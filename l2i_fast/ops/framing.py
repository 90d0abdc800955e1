"""Checked settings and operands of the transforms, forward and inverse."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from l2i_fast.arguments import flag, integer, one_of, shown
from l2i_fast.arrays import (
    LONGEST,
    Device,
    Float32,
    Float64,
    constant,
    contiguous,
    from_pcm,
    is_tensor,
    namespace,
    taken,
    to_float32,
    to_numpy,
)
from l2i_fast.backends.native import LOUDEST, in_range
from l2i_fast.defaults import default_settings
from l2i_fast.forks import importing

Window = str | float | tuple[Any, ...] | Callable[[int], ArrayLike] | ArrayLike

#: Sum of a window's magnitudes with which spectra of the loudest samples are float32.
_LARGEST_WINDOW = 8e7

_PAD_MODES = ("constant", "edge", "linear_ramp", "reflect", "symmetric")


class Frame:
    """Checked frame length and hop, and the window padded to the frame length (float32)."""

    def __init__(self, n_fft: int, hop_length: int | None, win_length: int | None, window: Window) -> None:
        self.n_fft = integer(n_fft, "n_fft", 2)
        width = self.n_fft if win_length is None else integer(win_length, "win_length", most=LONGEST)
        if width > self.n_fft:
            raise ValueError(f"win_length is {width}, but must not exceed n_fft={self.n_fft}")
        self.hop = max(1, width // 4) if hop_length is None else integer(hop_length, "hop_length", most=LONGEST)
        if isinstance(window, str | float | int | tuple):
            try:
                self.window = _named_window(window, width, self.n_fft)
            except TypeError:  # a parameter is a list, which no cache can look up
                self.window = _named_window.__wrapped__(window, width, self.n_fft)
        elif callable(window):
            self.window = _padded_window(to_numpy(window(width), "window"), width, self.n_fft)
        else:
            self.window = _padded_window(to_numpy(window, "window"), width, self.n_fft)


class Frames:
    """Checked samples and settings of a forward transform, as the backends take them."""

    def __init__(
        self,
        y: Any,
        n_fft: int,
        hop_length: int | None,
        win_length: int | None,
        window: Window,
        center: bool,
        pad_mode: str,
        device: Device,
    ) -> None:
        audio = to_audio(y, "y", device)
        frame = Frame(n_fft, hop_length, win_length, window)
        pad = frame.n_fft // 2 if flag(center, "center") else 0
        one_of(pad_mode, "pad_mode", _PAD_MODES)
        if center and pad_mode != "constant":
            audio, pad = _padded(audio, pad, pad_mode), 0
        *lead, n_samples = audio.shape
        if n_samples + 2 * pad < frame.n_fft:
            raise ValueError(f"y has {n_samples} samples, but n_fft={frame.n_fft} are needed if center is False")
        if device is not None or audio.strides[-1] != audio.itemsize:
            audio = contiguous(audio)
        self.lead = tuple(lead)
        self.n_fft = frame.n_fft
        #: Bins and frames.
        self.inner = frame.n_fft // 2 + 1, 1 + (n_samples + 2 * pad - frame.n_fft) // frame.hop
        #: Clips (B, N), window, hop, and zeros to pad with at both ends.
        self.operands = audio.reshape(math.prod(lead), n_samples), constant(frame.window, device), frame.hop, pad


class Synthesis:
    """Checked settings of an inverse transform of rows (B, T, F)."""

    def __init__(
        self,
        shape: tuple[int, ...],
        hop_length: int | None,
        win_length: int | None,
        n_fft: int | None,
        window: Window,
        center: bool,
        length: int | None,
        device: Device,
    ) -> None:
        _, n_frames, n_bins = shape
        if n_frames == 0 or n_bins < 2:
            raise ValueError(f"X has {n_bins} bins and {n_frames} frames, but at least 2 and 1 are needed")
        frame = Frame(2 * (n_bins - 1) if n_fft is None else n_fft, hop_length, win_length, window)
        if frame.n_fft // 2 + 1 != n_bins:
            raise ValueError(f"X has {n_bins} bins, but n_fft={frame.n_fft} has {frame.n_fft // 2 + 1}")
        start = frame.n_fft // 2 if flag(center, "center") else 0
        self.n_fft = frame.n_fft
        #: Samples of the answer, from position `start` of the overlap-add on.
        self.length = frame.n_fft + frame.hop * (n_frames - 1) - 2 * start
        if length is not None:
            self.length = integer(length, "length", most=LONGEST)
        if self.length > LONGEST:
            raise ValueError(f"the answer has {self.length} samples, but can have at most {LONGEST}")
        #: Window, hop and start.
        self.operands = constant(frame.window, device), frame.hop, start


def to_audio(y: Any, name: str = "y", device: Device = None) -> Any:
    """Return samples as float32 (..., N); integer PCM is scaled to [-1, 1), uint8 centred at 128.

    Raises
    ------
    TypeError
        For samples that are neither floating nor int8, int16, int32 or uint8.
    ValueError
        For no samples and, unless they are on a device, NaN or infinity, or samples beyond 1e30.
    """
    array = from_pcm(taken(y, name, device), name)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"{name} has shape {tuple(array.shape)}, but at least one sample is needed")
    audio = to_float32(array, name, device)
    if device is None and not in_range(audio, -LOUDEST, LOUDEST):
        if in_range(audio):
            allowed = f"samples from {-LOUDEST:g} to {LOUDEST:g}"
            raise ValueError(f"{name} holds samples beyond {LOUDEST:g}, but {allowed} are needed")
        raise ValueError(f"{name} holds NaN or infinity, but finite samples are needed")
    return audio


def _padded(audio: Any, pad: int, mode: str) -> Any:
    # As numpy.pad does, at both ends.
    if not is_tensor(audio):
        return np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(pad, pad)], mode=mode)  # type: ignore[call-overload]
    torch, n = namespace(audio), audio.shape[-1]
    if mode == "linear_ramp":
        rise = torch.arange(pad, dtype=torch.float32, device=audio.device) / max(pad, 1)
        return torch.cat((audio[..., :1] * rise, audio, audio[..., -1:] * rise.flip(0)), -1)
    i = torch.arange(-pad, n + pad, device=audio.device)
    if mode == "edge":
        i = i.clamp(0, n - 1)
    else:
        period = 2 * n if mode == "symmetric" else max(2 * (n - 1), 1)
        i = i % period
        i = torch.minimum(i, (period - 1 if mode == "symmetric" else period) - i).clamp(min=0)
    return audio[..., i]


@lru_cache(maxsize=32)
@default_settings()
def _named_window(window: str | float | tuple[Any, ...], width: int, n_fft: int) -> Float32:
    try:
        if isinstance(window, bool):
            raise TypeError
        with np.errstate(all="ignore"):  # values that are not finite are refused
            values = _hann(width) if window == "hann" else _scipys_window(window, width)
    except (TypeError, ValueError, LookupError, ArithmeticError):
        raise ValueError(f"window is {shown(window)}, but must be one that scipy.signal.get_window makes") from None
    padded = _padded_window(values, width, n_fft)
    padded.flags.writeable = False
    return padded


def _hann(width: int) -> Float64:
    """Return SciPy's periodic Hann window without SciPy, whose signal processing takes seconds to import."""
    values: Float64 = 0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, width + 1)[:-1]) if width > 1 else np.ones(1)
    return values


def _scipys_window(window: str | float | tuple[Any, ...], width: int) -> Float64:
    with importing:
        from scipy.signal import get_window

    values: Float64 = get_window(window, width, fftbins=True)
    return values


@default_settings()
def _padded_window(window: ArrayLike, width: int, n_fft: int) -> Float32:
    values = np.asarray(window)
    if values.dtype.kind not in "fiu":
        raise TypeError(f"window has dtype {values.dtype}, but real numbers are needed")
    if values.shape != (width,):
        raise ValueError(f"window has shape {values.shape}, but win_length={width} values are needed")
    with np.errstate(over="ignore"):
        total = float(np.abs(values).sum())
    if not total <= _LARGEST_WINDOW:
        if not np.isfinite(values).all():
            raise ValueError("window holds NaN or infinity, but finite values are needed")
        raise ValueError(f"window has magnitudes that sum to {total:g}, but at most {_LARGEST_WINDOW:g} is possible")
    padded = np.zeros(n_fft, np.float32)
    left = (n_fft - width) // 2
    padded[left : left + width] = values
    return padded
