"""Operations by kernels in CUDA C++, through the library l2i_fast._cuda, on tensors of a GPU.

Operands are those of `l2i_fast.backends.torch`. Kernels are launched on the caller's current CUDA stream. They take
frames of a power of two from 32 to 8192 samples, and as many components as the device's shared memory holds
(thousands).
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from l2i_fast.arrays import Device
from l2i_fast.backends.live_streams import Plan, State, Tick
from l2i_fast.defaults import default_settings
from l2i_fast.settings import DOMAINS


def refuses(operation: str, device: Device, n_fft: int = 0, K: int = 0) -> str:
    """Say why the CUDA library does not take a call, or return an empty string."""
    if reason := missing_library():
        return reason
    if device is None or device.type != "cuda":
        return f"the CUDA library runs on a GPU, not on {device or 'NumPy arrays'}"
    if n_fft and not fits(n_fft, K, device, operation == "ticker"):
        return f"the CUDA library does not take frames of {n_fft} samples with {K} components on {device}"
    return ""


@cache
def missing_library() -> str:
    """Say why the library cannot run here, or return an empty string."""
    try:
        runs, reason = import_module("l2i_fast._cuda").available()
    except ImportError as error:
        return f"the CUDA library was not built with this installation ({error})"
    return "" if runs else f"the CUDA library cannot run here ({reason})"


@lru_cache(maxsize=64)
def fits(n_fft: int, K: int, device: torch.device, streams: bool = False) -> bool:
    """Tell whether the kernels of streams, or all others, take this frame length and number of components."""
    from l2i_fast import _cuda

    with torch.cuda.device(device):
        return _cuda.fits(n_fft, K, streams)


def stft(clips: Tensor, window: Tensor, hop: int, pad: int) -> Tensor:
    """Spectra (B, T, F) of clips (B, N), padded by `pad` zeros at both ends."""
    from l2i_fast import _cuda

    n_fft, (n, n_samples) = window.numel(), clips.shape
    n_frames = 1 + (n_samples + 2 * pad - n_fft) // hop
    X = torch.empty((n, n_frames, n_fft // 2 + 1), dtype=torch.complex64, device=clips.device)
    if not n:
        return X
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
    none = {"W": 0, "H": 0, "weights": 0, "K": 0, "H_stride": 0, "weights_stride": 0, "domain": 0, "eps": 0.0}
    return _decoded(rows, none, window, hop, start, length)


def decode(
    X: Tensor,
    W: Tensor,
    H: Tensor,
    weights: Tensor,
    domain: str,
    eps: float,
    window: Tensor,
    hop: int,
    start: int,
    length: int,
) -> Tensor:
    """Samples (B, length) of the masked spectra."""
    columns = W.T.contiguous()
    mask = {
        "K": W.shape[1],
        "H_stride": H.stride(0),
        "weights_stride": weights.stride(0),
        "domain": DOMAINS.index(domain),
        "eps": eps,
    }
    return _decoded(X, _pointers(W=columns, H=H, weights=weights) | mask, window, hop, start, length)


def ticker(plan: Plan, state: State) -> Tick:
    """Return one hop of all streams, a single launch, as a function of samples, given activations and output."""
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
    return tensors, numbers | {"n_updates": plan.n_iter, "domain": DOMAINS.index(plan.domain), "eps": plan.eps}


@cache  # captured graphs know where they lie
@default_settings()
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
    if not rows.numel():
        return torch.zeros((n, length), dtype=torch.float32, device=rows.device)
    y = torch.empty((n, length), dtype=torch.float32, device=rows.device)
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
