"""What the hop of many live signals on a device works on: shared by the backends that have a `ticker`.

A backend's ``ticker(plan, state)`` returns a `Tick`, which advances all signals by one hop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

#: Hops from an old mask to a new one.
FADE = 4
#: Lowest initial activation of a component, as a share of W' v.
LEAST = 1e-3

#: One hop of all streams: samples in (n, hop), activations (n, K) or None, samples out (n, hop).
Tick = Callable[[Tensor, Tensor | None, Tensor], None]


@dataclass(frozen=True)
class Plan:
    """The settings that all streams share; tensors are float32."""

    W: Tensor  # (F, K)
    gram: Tensor  # W' W (K, K)
    window: Tensor  # (n_fft,)
    norms: Tensor  # sums of squares of the windows that began 0 to c hops before (ceil(n_fft / hop), hop)
    hop: int
    n_iter: int
    domain: str
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
    """The state of each stream; tensors are changed in place, since a captured graph refers to their memory."""

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
    # The mask that was published last, and 1 until a frame uses it.
    next_weights: Tensor
    next_start: Tensor
    next_scale: Tensor
    next_has_start: Tensor
    fresh: Tensor
