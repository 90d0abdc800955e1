"""Many live signals on one device, advanced together by a hop each: `StreamDecoder` for GPUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from l2i_fast.arrays import LARGEST, TINY, Array, detached, host, in_range, is_tensor, positive_int
from l2i_fast.backends import cuda as with_cuda
from l2i_fast.backends import dispatch as backend
from l2i_fast.backends.torch import LARGEST_MAGNITUDE
from l2i_fast.ops.soft_mask import Domain
from l2i_fast.ops.stft import Window
from l2i_fast.stream.decoder import stream_settings

#: Hops from an old mask to a new one.
FADE = 4
#: No component begins lower than this share of W' v.
LEAST = 1e-3

#: One hop of all streams: samples in (n, hop), activations (n, K) or None, samples out (n, hop).
Tick = Callable[[Tensor, Tensor | None, Tensor], None]


@dataclass(frozen=True)
class Plan:
    """What all streams share; tensors are float32."""

    W: Tensor  # (F, K)
    gram: Tensor  # W' W (K, K)
    window: Tensor  # (n_fft,)
    norms: Tensor  # sums of squares of the windows that began 0 to c hops before (ceil(n_fft / hop), hop)
    hop: int
    n_iter: int
    log: bool
    eps: float

    @property
    def n_fft(self) -> int:
        """Samples of a frame."""
        return self.window.numel()

    @property
    def lead(self) -> int:
        """Hops that come in before the one that completes the first frame."""
        return -(-(self.n_fft // 2) // self.hop) - 1


@dataclass(frozen=True)
class State:
    """What each stream has of its own; tensors are changed in place, since a captured graph knows where they lie."""

    hops: Tensor  # pushed since the signal began (n,), int64
    input: Tensor  # sample i at i modulo 2 n_fft (n, 2 n_fft)
    sums: Tensor  # overlap-add of the frames, likewise
    h: Tensor  # activations of the newest frame (n, K)
    # The mask in force.
    weights: Tensor  # (n, K)
    start: Tensor  # (n, K)
    scale: Tensor  # (n,)
    has_start: Tensor  # 0 or 1 (n,), int32
    fading: Tensor  # hops to go (n,), int32
    # The mask that was published last, and 1 where no frame has seen it.
    next_weights: Tensor
    next_start: Tensor
    next_scale: Tensor
    next_has_start: Tensor
    fresh: Tensor


class DeviceStreams:
    """Independent signals on a device, of which each push takes a hop and gives a hop of the decoded audio.

    Row i of what comes out is what a `StreamDecoder` with the same settings gives for row i of what goes in (its sums
    are added up in another order, so they differ by rounding). All state lies on the device; a push launches work on
    the caller's current stream and neither waits nor allocates anything but its answer. With the CUDA library it is a
    single launch; otherwise plain torch computes the same on any device (L2I_BACKEND=torch or cuda names one).

    Values of tensors on a device are not looked at, since that would wait: a sample, weight or activation that is NaN,
    infinite or out of range spoils its own stream until `reset`.

    Parameters
    ----------
    W : array, shape (F, K)
        Dictionary, non-negative; frames have ``n_fft = 2 (F - 1)`` samples, a power of two from 32 to 65536 (the CUDA
        library: to 8192).
    n_streams : int
        Signals, at least 1.
    hop_length, n_iter, domain, eps, win_length, window
        As in `StreamDecoder`.
    device : str or torch.device
        Where the streams live.

    Raises
    ------
    ValueError
        For a setting out of range, or a device that is not here.
    RuntimeError
        The backend that L2I_BACKEND names cannot serve here; the message says why.
    """

    def __init__(
        self,
        W: Array,
        n_streams: int,
        hop_length: int | None = 512,
        n_iter: int = 10,
        domain: Domain = "log",
        eps: float = 1e-6,
        win_length: int | None = None,
        window: Window = "hann",
        device: str | torch.device = "cuda",
    ) -> None:
        values, frame = stream_settings(
            host(W) if is_tensor(W) else W, hop_length, n_iter, domain, eps, win_length, window
        )
        n, K = positive_int(n_streams, "n_streams"), values.shape[1]
        self.device = torch.zeros((), device=backend.find_device(device)).device  # with its index
        wide = torch.from_numpy(values.astype(np.float64))
        self._plan = Plan(
            W=torch.tensor(values, device=self.device),
            gram=(wide.T @ wide).float().to(self.device),
            window=torch.tensor(frame.window, device=self.device),
            norms=torch.from_numpy(_norms(frame.window, frame.hop)).to(self.device),
            hop=frame.hop,
            n_iter=n_iter,
            log=domain == "log",
            eps=float(eps),
        )

        def make(*shape: int, dtype: torch.dtype = torch.float32, value: float = 0) -> Tensor:
            return torch.full(shape, value, dtype=dtype, device=self.device)

        flag = torch.int32
        self._state = State(
            hops=make(n, dtype=torch.int64),
            input=make(n, 2 * self._plan.n_fft),
            sums=make(n, 2 * self._plan.n_fft),
            h=make(n, K),
            weights=make(n, K, value=1),
            start=make(n, K),
            scale=make(n, value=1),
            has_start=make(n, dtype=flag),
            fading=make(n, dtype=flag),
            next_weights=make(n, K, value=1),
            next_start=make(n, K),
            next_scale=make(n, value=1),
            next_has_start=make(n, dtype=flag),
            fresh=make(n, dtype=flag),
        )
        self._has_start = False
        self._tick = _tick(self._plan, self._state, self.device)

    @property
    def latency(self) -> int:
        """Samples by which the output lags behind the input: n_fft."""
        return self._plan.n_fft

    @property
    def hops(self) -> Tensor:
        """Frames analysed since each signal began: int64 (n,)."""
        return (self._state.hops - self._plan.lead).clamp(min=0)

    @property
    def activations(self) -> Tensor:
        """Activations (n, K) of the newest frames."""
        return self._state.h.clone()

    @property
    def weights(self) -> Tensor:
        """How much of each component to keep (n, K), in [0, 1]; all ones at first. Set (n, K) or (K,).

        A row that changes fades in over four hops; before the first frame of its signal is analysed it holds at once.
        """
        return self._state.next_weights.clone()

    @weights.setter
    def weights(self, weights: Array) -> None:
        self._publish(self._state.next_weights, self._values(weights, "weights", 0.0, 1.0))

    @property
    def scale(self) -> Tensor:
        """What magnitudes are divided by before their logarithm (n,), 1 at first; it fades. Set (n,) or a number."""
        return self._state.next_scale.clone()

    @scale.setter
    def scale(self, scale: Array | float) -> None:
        values = np.float32(scale) if isinstance(scale, int | float) else scale
        self._publish(self._state.next_scale, self._values(values, "scale", TINY, LARGEST))

    @property
    def start(self) -> Tensor | None:
        """Activations (n, K) that the updates of each frame begin with; None, as at first: those of the frame before.

        Set (n, K), (K,) or None; it fades as the weights do.
        """
        return self._state.next_start.clone() if self._has_start else None

    @start.setter
    def start(self, start: Array | None) -> None:
        state = self._state
        if start is not None:
            self._publish(state.next_start, self._values(start, "start", 0.0, LARGEST))
        if self._has_start != (start is not None):
            self._has_start = start is not None
            state.next_has_start.fill_(int(self._has_start))
            state.fresh.fill_(1)

    def push(self, blocks: Tensor, H: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Take a hop of each signal and give a hop of each answer.

        Parameters
        ----------
        blocks : Tensor, shape (n, hop)
            Samples, float32, contiguous, on the streams' device.
        H : Tensor, shape (n, K), optional
            Activations of the frames that the hop completes, instead of updates.
        out : Tensor, shape (n, hop), optional
            Where the answer goes; it must not overlap `blocks`.

        Returns
        -------
        Tensor, shape (n, hop)
            The first `latency` samples of a signal are zeros.

        Raises
        ------
        TypeError, ValueError
            For a tensor of another kind, dtype, shape or device. Nothing is taken then.
        """
        n, K = self._state.h.shape
        shape = (n, self._plan.hop)
        self._check(blocks, "blocks", shape)
        if H is not None:
            self._check(H, "H", (n, K))
        if out is None:
            out = torch.empty(shape, device=self.device)
        else:
            self._check(out, "out", shape)
        self._tick(blocks, H, out)
        return out

    def reset(self, which: Any = None) -> None:
        """Begin new signals: of all streams, or of those named by numbers or by a mask (n,); weights and scale stay."""
        state, n = self._state, self._state.fresh.numel()
        if is_tensor(which) and which.dtype == torch.bool:
            rows = which.to(self.device)
        else:
            named = torch.full((n,), which is None)
            if which is not None:
                named[which] = True
            rows = named.to(self.device, non_blocking=True)
        if tuple(rows.shape) != (n,):
            raise ValueError(f"which has shape {tuple(rows.shape)}, but a mask of shape {(n,)} is needed")
        state.hops.masked_fill_(rows, 0)
        state.h.masked_fill_(rows[:, None], 0)
        state.fresh.masked_fill_(rows, 1)  # what was published last holds from the first frame on

    def capture(self, H: bool = False) -> Replay:
        """Record a push as a CUDA graph, whose replay costs the least that a hop can cost.

        Parameters
        ----------
        H : bool
            Whether activations are given. Replays and pushes may be mixed; setters and `reset` act on both.

        Raises
        ------
        RuntimeError
            The streams are not on a CUDA device.
        """
        if self.device.type != "cuda":
            raise RuntimeError(f"the streams are on {self.device}, but a graph can be captured on a CUDA device only")
        n, K = self._state.h.shape
        blocks, out = (torch.zeros((n, self._plan.hop), device=self.device) for _ in range(2))
        given = torch.zeros((n, K), device=self.device) if H else None
        # The first run may allocate and load what a capture must not; what it changes is put back.
        tensors = [getattr(self._state, field.name) for field in fields(self._state)]
        before = [x.clone() for x in tensors]
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            self._tick(blocks, given, out)
            for x, kept in zip(tensors, before, strict=True):
                x.copy_(kept)
        torch.cuda.current_stream(self.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # On a stream of this device: torch's own for captures is on the device that captured first.
        with torch.cuda.device(self.device), torch.cuda.graph(graph, stream=side):
            self._tick(blocks, given, out)
        return Replay(graph, blocks, given, out, self)

    def _publish(self, to: Tensor, values: Tensor) -> None:
        changed = values.expand_as(to) != to
        self._state.fresh.logical_or_(changed.any(-1) if changed.ndim == 2 else changed)
        to.copy_(values)

    def _values(self, x: Array | np.float32, name: str, low: float, high: float) -> Tensor:
        shape = tuple(self._state.next_scale.shape if name == "scale" else self._state.next_weights.shape)
        values = torch.as_tensor(detached(x))
        if values.is_complex() or values.dtype == torch.bool:
            raise TypeError(f"{name} has dtype {values.dtype}, but real numbers are needed")
        if tuple(values.shape) not in (shape, shape[1:]):
            raise ValueError(f"{name} has shape {tuple(values.shape)}, but {shape} or {shape[1:]} is needed")
        values = values.to(torch.float32).contiguous()
        if values.device.type == "cpu" and not in_range(np.atleast_1d(values.numpy()), low, high):
            raise ValueError(f"{name} holds numbers outside [{low:g}, {high:g}] or NaN")
        # Numbers in pinned memory would be read later, when they may have changed.
        return values.to(self.device, non_blocking=not values.is_pinned())

    def _check(self, x: Tensor, name: str, shape: tuple[int, ...]) -> None:
        if not is_tensor(x):
            raise TypeError(f"{name} is {type(x).__name__}, but a tensor is needed")
        if x.dtype != torch.float32 or x.device != self.device:
            raise TypeError(f"{name} is {x.dtype} on {x.device}, but torch.float32 on {self.device} is needed")
        if tuple(x.shape) != shape or not x.is_contiguous():
            raise ValueError(f"{name} has shape {tuple(x.shape)}, but {shape}, contiguous, is needed")


@dataclass(frozen=True)
class Replay:
    """A push as a CUDA graph: fill `blocks` (and `H`), call `replay`, read `out`."""

    graph: torch.cuda.CUDAGraph
    blocks: Tensor
    H: Tensor | None
    out: Tensor
    streams: DeviceStreams  # whose state the graph works on

    def replay(self) -> Tensor:
        """Launch the recorded push on the current stream, and return `out`."""
        self.graph.replay()
        return self.out


def _norms(window: np.ndarray[Any, np.dtype[np.float32]], hop: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    squares = np.zeros(-(-window.size // hop) * hop)
    squares[: window.size] = window.astype(np.float64) ** 2
    return np.cumsum(squares.reshape(-1, hop), axis=0).astype(np.float32)


def _tick(plan: Plan, state: State, device: torch.device) -> Tick:
    # The CUDA library where it can serve; torch otherwise, or where L2I_BACKEND names another one.
    wanted = backend.forced()
    if wanted in ("cuda", None):
        K = plan.W.shape[1]
        reason = backend.missing("cuda", device)
        if not reason and not with_cuda.fits(plan.n_fft, K, device, streams=True):
            reason = f"it does not take frames of {plan.n_fft} samples with {K} components on {device}"
        if not reason:
            return with_cuda.ticker(plan, state)
        if wanted == "cuda":
            raise RuntimeError(f"L2I_BACKEND is cuda, but {reason}")
    return lambda blocks, H, out: tick(plan, state, blocks, H, out)


def tick(plan: Plan, state: State, blocks: Tensor, H: Tensor | None, out: Tensor) -> None:
    """One hop of all streams in plain torch: kernels/cuda/stream.h states the formulas."""
    n_fft, hop = plan.n_fft, plan.hop
    ring = 2 * n_fft
    along = torch.arange(n_fft, device=blocks.device)
    hops = state.hops[:, None]
    first = hops * hop  # sample of each block
    state.input.scatter_(1, (first + along[:hop]) % ring, blocks)
    frame = hops - plan.lead
    heard = frame >= 0

    positions = frame * hop - n_fft // 2 + along
    samples = torch.where(positions >= 0, state.input.gather(1, positions % ring), 0)
    X = torch.fft.rfft(samples * plan.window)
    _fade(state, heard[:, 0], frame[:, 0])
    scale = state.scale[:, None]
    a = (X.abs().clamp(max=LARGEST_MAGNITUDE) / scale).clamp(max=LARGEST_MAGNITUDE)
    v = torch.log1p(a)
    if H is None:
        b = v @ plan.W
        h = torch.where(state.has_start[:, None] != 0, state.start, torch.maximum(state.h, LEAST * b))
        for _ in range(plan.n_iter):
            h = h * b / (h @ plan.gram).clamp(min=TINY)
    else:
        h = H
    mask = ((h * state.weights) @ plan.W.T) / (h @ plan.W.T + plan.eps)
    gain = torch.where(a > 0, torch.expm1(mask * v) / a, mask) if plan.log else mask
    y = torch.fft.irfft(X * gain, n=n_fft) * plan.window

    at = positions % ring
    before = state.sums.gather(1, at)
    begins = (frame == 0) | (along >= n_fft - hop)  # the first frame that reaches a sample
    state.sums.scatter_(1, at, torch.where(heard, torch.where(begins, y, before + y), before))
    state.h.copy_(torch.where(heard, h, state.h))

    positions = first - n_fft + along[:hop]
    newest = torch.div(positions + n_fft // 2, hop, rounding_mode="floor")
    norm = plan.norms[newest.clamp(0, len(plan.norms) - 1), (positions + n_fft // 2) % hop]
    sums = state.sums.gather(1, positions % ring)
    out.copy_(torch.where(positions >= 0, sums / torch.where(norm > TINY, norm, 1), 0))
    state.hops.add_(1)


def _fade(state: State, heard: Tensor, frame: Tensor) -> None:
    # The mask in force goes its way to the published one: a quarter, a third, half of what is left, and all.
    fresh = heard & (state.fresh != 0)
    audible = (state.weights != 0).any(1)
    fading = torch.where(fresh, torch.where(frame == 0, 1, FADE), state.fading)
    # Nothing is heard yet: nothing can jump.
    scale = torch.where(fresh & ~audible, state.next_scale, state.scale)
    start = torch.where((fresh & (state.has_start == 0))[:, None], state.next_start, state.start)
    has_start = torch.where(fresh, state.next_has_start, state.has_start)
    share = torch.where(heard & (fading > 0), 1 / fading.clamp(min=1), 0)
    ends = share == 1
    scale = torch.where(ends, state.next_scale, scale * (state.next_scale / scale) ** share)

    def faded(now: Tensor, then: Tensor) -> Tensor:
        return torch.where(ends[:, None], then, now + share[:, None] * (then - now))

    state.weights.copy_(faded(state.weights, state.next_weights))
    state.start.copy_(faded(start, state.next_start))
    state.scale.copy_(scale)
    state.has_start.copy_(has_start)
    state.fading.copy_(torch.where(heard, (fading - 1).clamp(min=0), state.fading))
    state.fresh.copy_(torch.where(heard, 0, state.fresh))
