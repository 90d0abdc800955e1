"""Many live signals on one device, advanced together by a hop each: `StreamDecoder` for GPUs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from l2i_fast.arguments import integer, positive_float32, shown
from l2i_fast.arrays import LARGEST, TINY, Array, detached, is_tensor, on_host, to_float32
from l2i_fast.backends.dispatch import find_device, serving
from l2i_fast.backends.live_streams import Plan, State
from l2i_fast.backends.native import in_range
from l2i_fast.defaults import default_settings
from l2i_fast.ops.framing import Window
from l2i_fast.settings import Domain
from l2i_fast.stream.decoder import stream_settings
from l2i_fast.stream.unique import Unique


class DeviceStreams(Unique):
    """Independent signals on a device; each push takes a hop of every signal and returns a hop of decoded audio.

    Row i of the output is that of a `StreamDecoder` with the same settings for row i of the input (sums are added in
    another order, so the two differ by rounding). All state is on the device; a push launches work on the caller's
    current CUDA stream, and neither waits nor allocates anything but its answer. With the CUDA library it is a single
    launch; otherwise plain torch computes the same on any device (L2I_BACKEND=torch or cuda names one).

    Values of tensors on a device are not checked, since that would wait for it: a sample, weight or activation that is
    NaN, infinite or out of range spoils its own stream until `reset`.

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
        Device of the streams.

    Raises
    ------
    ValueError
        For a setting out of range, or a device that is not present.
    RuntimeError
        If the backend that L2I_BACKEND names does not take these streams; the message says why.
    """

    @default_settings()
    @torch.inference_mode(False)  # later pushes may be in another mode
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
        values, frame = stream_settings(on_host(W), hop_length, n_iter, domain, eps, win_length, window)
        n, K = integer(n_streams, "n_streams"), values.shape[1]
        self.device = torch.zeros((), device=find_device(device)).device  # with its index
        wide = torch.from_numpy(values.astype(np.float64))
        self._plan = Plan(
            W=torch.tensor(values, device=self.device),
            gram=(wide.T @ wide).float().to(self.device),
            window=torch.tensor(frame.window, device=self.device),
            norms=torch.from_numpy(_norms(frame.window, frame.hop)).to(self.device),
            hop=frame.hop,
            n_iter=n_iter,
            domain=domain,
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
        self._tick = serving("ticker", self.device, self._plan.n_fft, K)(self._plan, self._state)

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
        """Weights of the components (n, K), in [0, 1]; initially all ones. Set (n, K) or (K,).

        A row that changes fades in over four hops; before the first frame of its signal it takes effect at once.
        """
        return self._state.next_weights.clone()

    @weights.setter
    def weights(self, weights: Array) -> None:
        self._publish(self._state.next_weights, self._values(weights, "weights", 0.0, 1.0))

    @property
    def scale(self) -> Tensor:
        """Divisors of magnitudes before the logarithm (n,), initially 1; they fade. Set (n,) or a number."""
        return self._state.next_scale.clone()

    @scale.setter
    def scale(self, scale: Array | float) -> None:
        values = np.float32(positive_float32(scale, "scale")) if isinstance(scale, int | float) else scale
        self._publish(self._state.next_scale, self._values(values, "scale", TINY, LARGEST))

    @property
    def start(self) -> Tensor | None:
        """Activations (n, K) from which the updates of each frame start; None, the default: those of the frame before.

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
        """Take a hop of each signal and return a hop of each answer.

        Parameters
        ----------
        blocks : Tensor, shape (n, hop)
            Samples, float32, contiguous, on the streams' device.
        H : Tensor, shape (n, K), optional
            Activations of the frames that the hop completes, instead of updates.
        out : Tensor, shape (n, hop), optional
            Memory for the answer, which must not overlap `blocks`.

        Returns
        -------
        Tensor, shape (n, hop)
            The first `latency` samples of a signal are zeros.

        Raises
        ------
        TypeError, ValueError
            For a tensor of another kind, dtype, shape or device; the push is then ignored.
        """
        n, K = self._state.h.shape
        shape = (n, self._plan.hop)
        self._check(blocks, "blocks", shape)
        if H is not None:
            self._check(H, "H", (n, K))
        if out is None:
            out = torch.empty(shape, dtype=torch.float32, device=self.device)
        else:
            self._check(out, "out", shape)
        self._tick(blocks, H, out)
        return out

    @default_settings()
    def reset(self, which: Any = None) -> None:
        """Begin new signals in all streams, or in those given by indices or a mask (n,); weights and scale stay."""
        state, n = self._state, self._state.fresh.numel()
        if is_tensor(which) and which.dtype == torch.bool:
            rows = which.to(self.device)
        else:
            named = torch.full((n,), which is None)
            if which is not None:
                try:
                    named[which] = True
                except (IndexError, TypeError, ValueError, RuntimeError):
                    allowed = f"indices from 0 to {n - 1} or a mask of shape {(n,)}"
                    raise ValueError(f"which is {shown(which)}, but must be {allowed}") from None
            rows = named.to(self.device, non_blocking=True)
        if tuple(rows.shape) != (n,):
            raise ValueError(f"which has shape {tuple(rows.shape)}, but a mask of shape {(n,)} is needed")
        state.hops.masked_fill_(rows, 0)
        state.h.masked_fill_(rows[:, None], 0)
        state.fresh.masked_fill_(rows, 1)  # the mask published last applies from the first frame on

    def capture(self, H: bool = False) -> Replay:
        """Record a push as a CUDA graph, whose replay is the cheapest way to run a hop.

        Parameters
        ----------
        H : bool
            Whether activations are given. Replays and pushes may be mixed; setters and `reset` affect both.

        Raises
        ------
        RuntimeError
            If the streams are not on a CUDA device.
        """
        if self.device.type != "cuda":
            raise RuntimeError(f"the streams are on {self.device}, but a graph can be captured on a CUDA device only")
        n, K = self._state.h.shape
        blocks, out = (torch.zeros((n, self._plan.hop), dtype=torch.float32, device=self.device) for _ in range(2))
        given = torch.zeros((n, K), dtype=torch.float32, device=self.device) if H else None
        # The first run may allocate and load, which a capture must not; its changes are undone.
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
        values = detached(x) if is_tensor(x) else torch.from_numpy(np.array(to_float32(x, name)))
        if values.is_complex() or values.dtype == torch.bool:
            raise TypeError(f"{name} has dtype {values.dtype}, but real numbers are needed")
        if tuple(values.shape) not in (shape, shape[1:]):
            raise ValueError(f"{name} has shape {tuple(values.shape)}, but {shape} or {shape[1:]} is needed")
        values = values.to(torch.float32).contiguous()
        if values.device.type == "cpu" and not in_range(np.atleast_1d(values.numpy()), low, high):
            raise ValueError(f"{name} holds numbers outside [{low:g}, {high:g}] or NaN, but all must lie in it")
        # Pinned memory would be read later, when it may have changed.
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
