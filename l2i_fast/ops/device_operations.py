"""The public operations on tensors that `l2i_fast.gpu` serves: shapes and dtypes are checked, then a backend is called.

What values the tensors hold is not checked, since that would wait for the device: negative or non-finite numbers give
numbers of the same kind.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from l2i_fast.arrays import Array, detached, needs_gradient, positive_int
from l2i_fast.backends.dispatch import device_of, serving
from l2i_fast.ops.autograd import tracked
from l2i_fast.ops.log_mel import check_bins, check_floor, mel_bands
from l2i_fast.ops.soft_mask import check_mask, common_lead
from l2i_fast.ops.stft import Frame, Synthesis, Window, check_length, check_pad_mode

_PCM_BITS = {torch.int8: 8, torch.int16: 16, torch.int32: 32}


def stft(
    y: Any,
    n_fft: int,
    hop_length: int | None,
    win_length: int | None,
    window: Window,
    center: bool,
    pad_mode: str,
) -> Any:
    """`l2i_fast.stft` of samples (..., N)."""
    clips, lead, framing = _framed(y, n_fft, hop_length, win_length, window, center, pad_mode)
    return _public(serving("stft", y.device)(clips, *framing), lead)


def istft(
    X: Any,
    hop_length: int | None,
    win_length: int | None,
    n_fft: int | None,
    window: Window,
    center: bool,
    length: int | None,
) -> Any:
    """`l2i_fast.istft` of a spectrum (..., F, T)."""
    device = device_of(X=X)
    rows, lead = _frame_major(X)
    synthesis = Synthesis(rows.shape, hop_length, win_length, n_fft, window, center, length)
    y: Tensor = serving("istft", device)(rows, *_inverse(synthesis, device), synthesis.length)
    return y.reshape(*lead, synthesis.length)


def log_mel(
    X_or_y: Any,
    sr: float,
    n_mels: int,
    n_fft: int,
    hop_length: int | None,
    win_length: int | None,
    window: Window,
    center: bool,
    pad_mode: str,
    fmin: float,
    fmax: float | None,
    amin: float,
    top_db: float | None,
) -> Any:
    """`l2i_fast.log_mel` of a spectrum (..., F, T) or of samples (..., N)."""
    if not X_or_y.is_complex():
        framing = n_fft, hop_length, win_length, window, center, pad_mode
        return analyze(X_or_y, sr, n_mels, *framing, fmin, fmax, amin, top_db)[2]
    device = device_of(X_or_y=X_or_y)
    rows, lead = _frame_major(X_or_y)
    bands = _bands(float(sr), check_bins(rows.shape[2], n_fft), n_mels, fmin, fmax, device)
    return _public(_limited(serving("log_mel", device)(rows, bands, amin), top_db), lead)


def analyze(
    y: Any,
    sr: float,
    n_mels: int,
    n_fft: int,
    hop_length: int | None,
    win_length: int | None,
    window: Window,
    center: bool,
    pad_mode: str,
    fmin: float,
    fmax: float | None,
    amin: float,
    top_db: float | None,
) -> tuple[Any, Any, Any]:
    """`l2i_fast.analyze` of samples (..., N): X, V and decibels."""
    check_floor(amin, top_db)
    clips, lead, framing = _framed(y, n_fft, hop_length, win_length, window, center, pad_mode)
    bands = _bands(float(sr), framing[0].numel(), n_mels, fmin, fmax, y.device)
    X, V, mel = serving("analyze", y.device)(clips, *framing, bands, amin)
    return _public(X, lead), _public(V, lead), _public(_limited(mel, top_db), lead)


def soft_mask(X: Any, W: Array, H: Array, weights: Array, domain: str, eps: float) -> Any:
    """`l2i_fast.soft_mask` of a spectrum (..., F, T)."""
    device, lead, operands = _operands(X, W, H, weights, domain, eps)

    def answer() -> Tensor:
        return serving("soft_mask", device)(*operands)  # type: ignore[no-any-return]

    def gradients(dY: Tensor) -> tuple[Tensor, Tensor]:
        return serving("soft_mask_gradient", device)(*operands, dY)  # type: ignore[no-any-return]

    if needs_gradient(H, weights):
        return tracked((X, W, H, weights), lead, answer, gradients).mT
    return _public(answer(), lead)


def decode(
    X: Any,
    W: Array,
    H: Array,
    weights: Array,
    hop_length: int | None,
    domain: str,
    length: int | None,
    eps: float,
    win_length: int | None,
    n_fft: int | None,
    window: Window,
    center: bool,
) -> Any:
    """`l2i_fast.decode` of a spectrum (..., F, T)."""
    device, lead, operands = _operands(X, W, H, weights, domain, eps)
    synthesis = Synthesis(operands[0].shape, hop_length, win_length, n_fft, window, center, length)
    frame = _inverse(synthesis, device)

    def answer() -> Tensor:
        return serving("decode", device)(*operands, *frame, synthesis.length)  # type: ignore[no-any-return]

    def gradients(dy: Tensor) -> tuple[Tensor, Tensor]:
        return serving("decode_gradient", device)(*operands, *frame, dy)  # type: ignore[no-any-return]

    if needs_gradient(H, weights):
        return tracked((X, W, H, weights), lead, answer, gradients)
    return answer().reshape(*lead, synthesis.length)


def to_float32(x: Any, name: str) -> Tensor:
    """Return real numbers as float32, without a copy where they are float32 already."""
    if x.requires_grad:
        raise ValueError(f"{name} requires grad, which is not supported here: pass {name}.detach()")
    if x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"{name} has dtype {x.dtype}, but real numbers are needed")
    tensor: Tensor = x.float().resolve_neg()
    return tensor


def _framed(
    y: Tensor,
    n_fft: int,
    hop_length: int | None,
    win_length: int | None,
    window: Window,
    center: bool,
    pad_mode: str,
) -> tuple[Tensor, tuple[int, ...], tuple[Tensor, int, int]]:
    # Clips (B, N), their leading dimensions, and window, hop and padding.
    device = device_of(y=y)
    audio = _audio(y)
    frame = Frame(n_fft, hop_length, win_length, window)
    pad = frame.n_fft // 2 if center else 0
    check_pad_mode(pad_mode)
    if center and pad_mode != "constant":
        audio, pad = _padded(audio, pad, pad_mode), 0
    check_length(audio.shape[-1], frame.n_fft, pad)
    lead = audio.shape[:-1]
    clips = audio.reshape(math.prod(lead), audio.shape[-1]).contiguous()
    return clips, lead, (_on(frame.window.tobytes(), device), frame.hop, pad)


def _audio(y: Tensor) -> Tensor:
    if y.ndim == 0 or y.shape[-1] == 0:
        raise ValueError(f"y has shape {tuple(y.shape)}, but at least one sample is needed")
    if y.is_floating_point():
        return to_float32(y, "y")
    if y.dtype == torch.uint8:
        return (y.float() - 128) / 128
    if y.dtype not in _PCM_BITS:
        raise TypeError(f"y has dtype {y.dtype}, but floating samples or int8, int16, int32, uint8 PCM are needed")
    return y.float() * 2.0 ** (1 - _PCM_BITS[y.dtype])


def _padded(audio: Tensor, pad: int, mode: str) -> Tensor:
    # As numpy.pad has it, at both ends, with the samples' own indices.
    n = audio.shape[-1]
    if mode == "linear_ramp":
        rise = torch.arange(pad, device=audio.device) / max(pad, 1)
        return torch.cat((audio[..., :1] * rise, audio, audio[..., -1:] * rise.flip(0)), -1)
    i = torch.arange(-pad, n + pad, device=audio.device)
    if mode == "edge":
        i = i.clamp(0, n - 1)
    else:
        period = 2 * n if mode == "symmetric" else max(2 * (n - 1), 1)
        i = i % period
        i = torch.minimum(i, (period - 1 if mode == "symmetric" else period) - i).clamp(min=0)
    return audio[..., i]


def _frame_major(X: Tensor, name: str = "X") -> tuple[Tensor, tuple[int, ...]]:
    # Rows (B, T, F) of a spectrum (..., F, T), without a copy where they are frame-major, and its leading dimensions.
    if X.requires_grad:
        raise ValueError(f"{name} requires grad, which is not supported here: pass {name}.detach()")
    if not X.is_complex():
        raise TypeError(f"{name} has dtype {X.dtype}, but a complex spectrum is needed")
    if X.ndim < 2:
        raise ValueError(f"{name} has shape {tuple(X.shape)}, but (..., bins, frames) is needed")
    rows, lead = X.resolve_conj().resolve_neg().to(torch.complex64).mT, tuple(X.shape[:-2])
    return rows.reshape(math.prod(lead), *rows.shape[-2:]).contiguous(), lead


def _public(rows: Tensor, lead: tuple[int, ...]) -> Tensor:
    return rows.reshape(*lead, *rows.shape[1:]).mT


def _operands(
    X: Any, W: Any, H: Any, weights: Any, domain: str, eps: float
) -> tuple[torch.device, tuple[int, ...], tuple[Tensor, Tensor, Tensor, Tensor, bool, float]]:
    # The device, the common leading dimensions, and operands whose leading dimension is one, of stride 0 where shared.
    device = device_of(X=X, W=W, H=H, weights=weights)
    check_mask(domain, eps)
    rows, lead = _frame_major(X)
    W, H, weights = to_float32(W, "W"), to_float32(detached(H), "H"), to_float32(detached(weights), "weights")
    shared = common_lead(tuple(X.shape), tuple(W.shape), tuple(H.shape), tuple(weights.shape))
    rows = rows.reshape(*lead, *rows.shape[1:])
    operands = _spread(rows, 2, shared), W.contiguous(), _spread(H.mT, 2, shared), _spread(weights, 1, shared)
    return device, shared, (*operands, domain == "log", float(eps))


def _spread(x: Tensor, n_inner: int, lead: tuple[int, ...]) -> Tensor:
    outer, inner = x.shape[: x.ndim - n_inner], x.shape[x.ndim - n_inner :]
    if math.prod(outer) == 1:
        return x.reshape(inner).contiguous().expand(math.prod(lead), *inner)
    return x.expand(*lead, *inner).reshape(math.prod(lead), *inner).contiguous()


def _inverse(synthesis: Synthesis, device: torch.device) -> tuple[Tensor, int, int]:
    return _on(synthesis.window.tobytes(), device), synthesis.hop, synthesis.start


def _limited(mel: Tensor, top_db: float | None) -> Tensor:
    if top_db is None or not mel.numel():
        return mel
    return torch.maximum(mel, mel.amax((1, 2), keepdim=True) - top_db)


@lru_cache(maxsize=8)
def _bands(sr: float, n_fft: int, n_mels: int, fmin: float, fmax: float | None, device: torch.device) -> Tensor:
    # Mel bands (F, M) on a device.
    bands = mel_bands(sr, n_fft, positive_int(n_mels, "n_mels"), float(fmin), fmax)
    return torch.tensor(bands, device=device)


@lru_cache(maxsize=64)
def _on(values: bytes, device: torch.device) -> Tensor:
    # A window on a device, brought there once.
    return torch.frombuffer(bytearray(values), dtype=torch.float32).to(device)
