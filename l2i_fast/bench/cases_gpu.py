"""The benchmarks of `l2i bench --device cuda`: each backend, and torch.compile as their peer.

The exact answers are those of the torch backend in float64 on the same device; for streams, those of the reference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from l2i_fast import reference
from l2i_fast.arrays import Float32
from l2i_fast.backends import dispatch
from l2i_fast.backends import torch as with_torch
from l2i_fast.bench import work
from l2i_fast.bench.case import LOSSES, N_UPDATES, Answer, Case, Prepare
from l2i_fast.bench.problem import CLIP, SAMPLE_RATE, Problem
from l2i_fast.bench.work import N_MELS, Work
from l2i_fast.stream.device import DeviceStreams

COMPILED = "torch.compile"
#: Hops of a stream before the one that is timed, updates in each, and streams whose answers are compared.
_HOPS, _STREAM_UPDATES, _COMPARED = 7, 10, 4


class Refused(Exception):
    """The reason why a backend does not take a call."""


@dataclass(frozen=True)
class Sizes:
    """Clips of a batch and samples of each, frames of the factorisations, and number of streams."""

    n_clips: int = 64
    n_samples: int = CLIP
    n_frames: int = 275_840
    n_streams: int = 1024


def refusal(name: str, operation: str, device: torch.device, n_fft: int = 0, K: int = 0) -> str:
    """Return why a backend does not take a call, "" if it does."""
    module = dispatch.backend(name)
    reason: str = module.refuses(operation, device, n_fft, K)
    return reason or ("" if hasattr(module, operation) else f"it has no {operation}")


def function(name: str, operation: str, device: torch.device, n_fft: int = 0, K: int = 0) -> Callable[..., Any]:
    """Return an operation of one backend.

    Raises
    ------
    Refused
        If the backend does not take such a call.
    """
    if reason := refusal(name, operation, device, n_fft, K):
        raise Refused(reason)
    return getattr(dispatch.backend(name), operation)  # type: ignore[no-any-return]


@contextmanager
def forced(name: str) -> Iterator[None]:
    """Set L2I_BACKEND."""
    before = os.environ.get("L2I_BACKEND")
    os.environ["L2I_BACKEND"] = name
    try:
        yield
    finally:
        os.environ.pop("L2I_BACKEND") if before is None else os.environ.update(L2I_BACKEND=before)


def cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """Yield all cases."""
    p = Problem(n_clips=sizes.n_clips, n_samples=sizes.n_samples)
    n_clips, (_, F, K, selected) = sizes.n_clips, p.dims
    y, window, W, V = (torch.tensor(x, device=device) for x in (np.atleast_2d(p.y), p.window, p.W, p.V.T))
    X = torch.tensor(p.X, device=device).reshape(n_clips, F, -1).mT.contiguous()
    H = torch.tensor(p.H, device=device).reshape(n_clips, K, -1).mT.contiguous()
    weights = torch.tensor(p.weights, device=device).expand(n_clips, K)
    frame, pad, length = (window, p.hop), p.n_fft // 2, y.shape[1]
    mask = (X, W, H, weights, True, 1e-6)
    dY = torch.randn(X.shape, dtype=X.dtype, device=device)
    bands = _triangles(F)
    n_weights = int(np.count_nonzero(bands))
    filters = torch.tensor(bands, device=device)

    dims = f"{n_clips} x {X.shape[1]} frames, F {F}"
    masked = f"{dims}, K {K}, {selected} selected"
    n_fft = p.n_fft
    yield _call("stft", dims, work.stft(p), (n_fft, 0), y, *frame, pad)
    yield _call("istft", dims, work.istft(p), (n_fft, 0), X, *frame, pad, length)
    with_bands = f"{dims}, {N_MELS} bands"
    yield _call("analyze", with_bands, work.analyze(p, n_weights), (n_fft, 0), y, *frame, pad, filters, 1e-6)
    yield _call("soft_mask", masked, work.soft_mask(p), (0, K), *mask)
    yield _call("soft_mask_gradient", masked, work.soft_mask_gradient(p), (0, K), *mask, dY)
    yield _call("decode", masked, work.decode(p), (n_fft, K), *mask, *frame, pad, length)
    many = V.repeat(-(-sizes.n_frames // len(V)), 1)[: sizes.n_frames]
    yield from (_nmf(many, W + 0.01, loss) for loss in LOSSES)
    yield _activations(many[: len(V)], W + 0.01)
    yield _hop(p, sizes.n_streams, device)


def _call(operation: str, dims: str, amount: Work, size: tuple[int, int], *arguments: Any) -> Case:
    """Make the case of a function with these arguments; `size` is frame length and components, 0 where it has none."""
    plain, device = getattr(with_torch, operation), arguments[0].device
    return Case(
        operation,
        "batch",
        dims,
        *amount,
        exact=lambda: plain(*map(_double, arguments)),
        ours=_each(lambda name: partial(function(name, operation, device, *size), *arguments)),
        peers={COMPILED: lambda: partial(torch.compile(plain), *arguments)},
    )


def _each(prepare: Callable[[str], Answer]) -> dict[str, Prepare]:
    return {name: partial(prepare, name) for name in dispatch.DEVICE}


def _nmf(V: Tensor, W: Tensor, loss: str) -> Case:
    """One multiplicative update of H, then of W, in place."""
    (T, F), K, beta = V.shape, W.shape[1], LOSSES[loss]
    H = torch.rand((T, K), device=V.device) + 0.1

    def prepare(nmf_pass: Callable[..., Any], dtype: torch.dtype = torch.float32) -> Answer:
        v, w, h = (x.to(dtype, copy=True) for x in (V, W, H))

        def call() -> tuple[Tensor, Tensor]:
            numerator, denominator, _ = nmf_pass(v, None, w, h, beta, 0.0, 0.0, 1, False)
            with_torch.nmf_update_W(w, numerator, denominator, False, beta, 0.0, 0.0, 1)
            return w, h

        return call

    return Case(
        "nmf",
        "archive",
        f"{T} frames, F {F}, K {K}",
        *work.nmf(T, F, K, beta),
        variant=loss,
        exact=lambda: prepare(with_torch.nmf_pass, torch.float64)(),
        ours=_each(lambda name: prepare(function(name, "nmf_pass", V.device, K=K))),
        peers={COMPILED: lambda: prepare(torch.compile(with_torch.nmf_pass))},
        in_place=True,
    )


def _activations(V: Tensor, W: Tensor) -> Case:
    """Kullback-Leibler updates of the activations of a fixed dictionary."""
    (T, F), K = V.shape, W.shape[1]

    def prepare(update: Callable[..., None], dtype: torch.dtype = torch.float32) -> Answer:
        v, w = V.to(dtype), W.to(dtype)

        def call() -> Tensor:
            h = torch.ones((T, K), device=V.device, dtype=dtype)
            update(v, None, w, h, 1.0, 0.0, 0.0, N_UPDATES)
            return h

        return call

    return Case(
        "activations",
        "batch",
        f"{T} frames, F {F}, K {K}, {N_UPDATES} updates",
        *work.activations(T, F, K, 1.0, N_UPDATES),
        variant="kullback-leibler",
        exact=lambda: prepare(with_torch.nmf_update_H, torch.float64)(),
        ours=_each(lambda name: prepare(function(name, "nmf_update_H", V.device, K=K))),
        peers={COMPILED: lambda: prepare(torch.compile(with_torch.nmf_update_H))},
    )


def _hop(p: Problem, n: int, device: torch.device) -> Case:
    """A hop of many streams, with updates of their activations."""
    W = p.W / np.linalg.norm(p.W, axis=0)
    F, K = W.shape
    signals = np.random.default_rng(0).standard_normal((n, (_HOPS + 1) * p.hop)).astype(np.float32) / 10
    hops = torch.tensor(signals, device=device).reshape(n, -1, p.hop).transpose(0, 1).contiguous()

    def prepare(name: str, replayed: bool = False) -> Answer:
        if reason := refusal(name, "ticker", device, p.n_fft, K):
            raise Refused(reason)
        with forced(name):
            streams = DeviceStreams(W, n, p.hop, _STREAM_UPDATES, device=device)
        streams.weights = p.weights
        out = torch.empty_like(hops[0])
        for block in hops[:-1]:
            streams.push(block, out=out)
        if not replayed:
            return lambda: streams.push(hops[-1], out=out)[:_COMPARED]
        graph = streams.capture()
        graph.blocks.copy_(hops[-1])
        return lambda: graph.replay()[:_COMPARED]

    def exact() -> Tensor:
        audio = (reference.stream(y, W, p.window, p.hop, p.weights) for y in signals[:_COMPARED])
        return torch.tensor(np.stack([one[_HOPS * p.hop :][: p.hop] for one in audio]), device=device)

    state = 4 * n * (2 * p.n_fft + 2 * p.n_fft + 2 * p.hop + 3 * K)  # a frame in, a frame of sums in and out
    return Case(
        "stream",
        "batch",
        f"{n} streams, {p.n_fft} / {p.hop}, F {F}, K {K}",
        flops=n * work.hop_flops(p, _STREAM_UPDATES),
        bytes=state + 4 * F * K,
        variant=f"{_STREAM_UPDATES} updates",
        exact=exact,
        ours=_each(prepare) | {"cuda, replayed": lambda: prepare("cuda", replayed=True)},
    )


def _triangles(n_bins: int) -> Float32:
    """Return bands of even widths in mel, close to librosa's, which a machine with a GPU may lack."""
    edges = 700 * (10 ** np.linspace(0, np.log10(1 + SAMPLE_RATE / 1400), N_MELS + 2) - 1)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    f = np.linspace(0, SAMPLE_RATE / 2, n_bins)[:, None]
    bands: Float32 = np.minimum((f - low) / (middle - low), (high - f) / (high - middle)).clip(0).astype(np.float32)
    return bands


def _double(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    return x.to(torch.complex128) if x.is_complex() else x.double()
