"""What CUDA C++ serves, through the library l2i_fast._cuda: functions named and shaped as those of every backend.

Kernels are launched on the caller's current stream. They take frames of a power of two from 32 to 8192 samples, with
as many components as the device's shared memory holds (thousands); plain torch serves the others.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from l2i_fast.backends import torch as with_torch

if TYPE_CHECKING:
    from l2i_fast.stream.device import Plan, State, Tick


@lru_cache(maxsize=64)
def fits(n_fft: int, K: int, device: torch.device, streams: bool = False) -> bool:
    """Whether kernels take such frames and so many components: those of streams, or all others."""
    from l2i_fast import _cuda

    with torch.cuda.device(device):
        return _cuda.fits(n_fft, K, streams)


def stft(clips: Tensor, window: Tensor, hop: int, pad: int) -> Tensor:
    """Spectra (B, T, F) of clips (B, N), padded by `pad` zeros at both ends."""
    from l2i_fast import _cuda

    n_fft, (n, n_samples) = window.numel(), clips.shape
    if not n or not fits(n_fft, 0, clips.device):
        return with_torch.stft(clips, window, hop, pad)
    n_frames = 1 + (n_samples + 2 * pad - n_fft) // hop
    X = torch.empty((n, n_frames, n_fft // 2 + 1), dtype=torch.complex64, device=clips.device)
    with torch.cuda.device(clips.device):
        _cuda.stft(
            **_pointers(y=clips, window=window, twiddles=twiddles(n_fft, clips.device), X=X),
            n_clips=n,
            n_samples=n_samples,
            n_frames=n_frames,
            n_fft=n_fft,
            hop=hop,
            pad=pad,
            stream=_stream(clips.device),
        )
    return X


def istft(rows: Tensor, window: Tensor, hop: int, start: int, length: int) -> Tensor:
    """Samples (B, length), from position `start` on, of the overlap-add of spectra (B, T, F)."""
    if not rows.numel() or not fits(window.numel(), 0, rows.device):
        return with_torch.istft(rows, window, hop, start, length)
    none = {"W": 0, "H": 0, "weights": 0, "K": 0, "H_stride": 0, "weights_stride": 0, "log": False, "eps": 0.0}
    return _decoded(rows, none, window, hop, start, length)


def decode(
    X: Tensor,
    W: Tensor,
    H: Tensor,
    weights: Tensor,
    log: bool,
    eps: float,
    window: Tensor,
    hop: int,
    start: int,
    length: int,
) -> Tensor:
    """Samples (B, length) of the masked spectra."""
    K = W.shape[1]
    if not X.numel() or not fits(window.numel(), K, X.device):
        return with_torch.decode(X, W, H, weights, log, eps, window, hop, start, length)
    columns = W.T.contiguous()
    mask = {"K": K, "H_stride": H.stride(0), "weights_stride": weights.stride(0), "log": log, "eps": eps}
    return _decoded(X, _pointers(W=columns, H=H, weights=weights) | mask, window, hop, start, length)


def ticker(plan: Plan, state: State) -> Tick:
    """One hop of all streams, as a launch: see `streams.Tick`."""
    from l2i_fast import _cuda

    tensors, numbers = tick_members(plan, state)
    device = plan.W.device
    with torch.cuda.device(device):
        launch = _cuda.Tick(**_pointers(**tensors), **numbers)

    def tick(blocks: Tensor, H: Tensor | None, out: Tensor, kept: dict[str, Tensor] = tensors) -> None:
        with torch.cuda.device(device):
            launch(blocks.data_ptr(), 0 if H is None else H.data_ptr(), out.data_ptr(), _stream(device))

    return tick


def tick_members(plan: Plan, state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The members of Streams in kernels/cuda/stream.h: tensors, and numbers."""
    K = plan.W.shape[1]
    tensors = {
        "by_bins": F.pad(plan.W, (0, -K % 4)).contiguous(),
        "by_components": plan.W.T.contiguous(),
        "gram": plan.gram,
        "window": plan.window,
        "norms": plan.norms,
        "twiddles": twiddles(plan.n_fft, plan.W.device),
        **{field.name: getattr(state, field.name) for field in fields(state)},
    }
    numbers = {"n": len(state.hops), "hop": plan.hop, "K": K, "n_fft": plan.n_fft}
    return tensors, numbers | {"n_updates": plan.n_iter, "log": plan.log, "eps": plan.eps}


@cache  # captured graphs know where they lie
def twiddles(n_fft: int, device: torch.device) -> Tensor:
    """Twiddle factors of an FFT, in the order that kernels/cuda/fft.h states: complex64."""
    parts, points, done = [torch.arange(n_fft // 4 + 1) / n_fft], n_fft // 2, 1
    while done < points:
        radix = 4 if points // done in (4, 16) else 8
        if done > 1:
            parts.append(torch.outer(torch.arange(1, radix), torch.arange(done)).flatten() / (radix * done))
        done *= radix
    angles = torch.cat(parts).double() * (-2 * torch.pi)
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64).to(device)


def _decoded(rows: Tensor, mask: dict[str, Any], window: Tensor, hop: int, start: int, length: int) -> Tensor:
    from l2i_fast import _cuda

    n_fft, (n, n_frames, _) = window.numel(), rows.shape
    y = torch.empty((n, length), device=rows.device)
    with torch.cuda.device(rows.device):
        _cuda.decode(
            **_pointers(X=rows, window=window, twiddles=twiddles(n_fft, rows.device), y=y),
            **mask,
            n_clips=n,
            n_frames=n_frames,
            X_stride=rows.stride(0),
            n_fft=n_fft,
            hop=hop,
            start=start,
            length=length,
            stream=_stream(rows.device),
        )
    return y


def _pointers(**tensors: Tensor) -> dict[str, Any]:
    return {name: x.data_ptr() for name, x in tensors.items()}


def _stream(device: torch.device) -> int:
    return torch.cuda.current_stream(device).cuda_stream
