"""Probes: how the outputs of a network's layers follow what changes at known places in its input."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from l2i_fast.arguments import integer

#: Number of bursts in time, and of tones.
N_BURSTS, N_TONES = 12, 8
#: Root mean square of the probes.
LEVEL = 0.1


@dataclass(frozen=True)
class Probes:
    """Signals of N samples.

    Those that differ from the base for a time only have its level, so that a network that normalises its input does not
    change the rest of it.

    Attributes
    ----------
    base : Tensor (N,), float32
        White noise.
    moved : Tensor (P, N)
        The same with one sweep of N / P samples in the place of the noise, at P places one after another.
    tuned : Tensor (Q, N)
        The noise and, over its whole length, tones of Q frequencies, low to high: narrow bands of other noise.
    short : Tensor (N,)
        The noise with other noise of `short_length` samples in its middle.
    short_length : int
    """

    base: Tensor
    moved: Tensor
    tuned: Tensor
    short: Tensor
    short_length: int


def make_probes(n_samples: int) -> Probes:
    """Return probes of a length, the same ones at each call.

    Raises
    ------
    ValueError
        Fewer samples than 64.
    """
    n = integer(n_samples, "n_samples", 64)
    noise = torch.randn(2, n, generator=torch.Generator().manual_seed(0)) * LEVEL
    base, other = noise.unbind()
    t = torch.arange(n, dtype=torch.float64)
    length = n // N_BURSTS
    sweep = torch.sin(math.pi * t[:length] * (0.02 + 0.4 * t[:length] / length))  # the frequency rises to 0.82
    burst = (sweep * (LEVEL / sweep.square().mean().sqrt())).float()
    moved = base.repeat(N_BURSTS, 1)
    for p in range(N_BURSTS):
        start = p * n // N_BURSTS
        moved[p, start : start + length] = burst
    # Narrow at low frequencies, as mel bands are. Frames would sample pure tones in a pattern of their own.
    spectrum = torch.fft.rfft(other)
    edges = [round(0.9 * (q / N_TONES) ** 2 * len(spectrum)) for q in range(N_TONES + 1)]
    tones = torch.zeros(N_TONES, n)
    for q, (low, high) in enumerate(itertools.pairwise(edges)):
        band = torch.zeros_like(spectrum)
        band[low + 1 : max(high, low + 1) + 1] = spectrum[low + 1 : max(high, low + 1) + 1]
        tones[q] = torch.fft.irfft(band, n)
    tones *= LEVEL / tones.square().mean(1, keepdim=True).sqrt()
    short, short_length = base.clone(), max(1, n // 100)
    middle = slice((n - short_length) // 2, (n - short_length) // 2 + short_length)
    short[middle] = other[middle]
    return Probes(base, moved, base + tones, short, short_length)


@dataclass
class Responses:
    """How far the output of a layer for each probe differs from that for the base, along each of its axes.

    Attributes
    ----------
    base : Tensor
        Its output for one signal.
    batch : int
        The axis of signals.
    moved, tuned : lists of lists
        For each burst and each tone, and for each axis of the output, the root mean square of the difference at each
        index.
    short : list
        The same for the short change.
    """

    base: Tensor
    batch: int = 0
    moved: list[list[Tensor]] = field(default_factory=list)
    tuned: list[list[Tensor]] = field(default_factory=list)
    short: list[Tensor] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output for one signal."""
        return tuple(self.base.shape)

    @property
    def complete(self) -> bool:
        """Whether the layer has answered all probes of time with this shape."""
        return len(self.moved) == N_BURSTS and all(self.moved)

    def differ(self, output: Tensor) -> list[Tensor]:
        """Return the difference of an output from the base along each axis; an empty list for another shape."""
        if output.shape != self.base.shape:
            return []
        squares = (output.to(torch.float32) - self.base.to(torch.float32)).square_()
        return [
            (squares.mean([other for other in range(squares.ndim) if other != axis]) if squares.ndim > 1 else squares)
            .sqrt()
            .cpu()
            for axis in range(squares.ndim)
        ]

    def along(self, axis: int, tones: bool = False) -> Tensor:
        """Return the responses to the bursts, or to the tones, along an axis: (P, n)."""
        return torch.stack([one[axis] for one in (self.tuned if tones else self.moved)]).double()


def respond(
    run: Callable[[Any], Mapping[str, Tensor]], probes: Probes, front_end: Callable[[Tensor], Any] | None = None
) -> dict[str, Responses]:
    """Run the probes through a network.

    Parameters
    ----------
    run : callable
        From what the front end returns to the outputs of layers by name. Scores may stand beside them as "": they, too,
        must be the same for the same signal.
    probes : Probes
    front_end : callable, optional
        From samples (B, N) to the network's input; by default that is the samples themselves.

    Returns
    -------
    dict
        The responses of each layer, in the order of the first answer. Their `batch` is -1 where no axis counts the
        signals.

    Raises
    ------
    ValueError
        The network gives different answers to the same signal.
    """

    def outputs(*signals: Tensor) -> Mapping[str, Tensor]:
        x = torch.stack(signals)
        with torch.no_grad():
            return run(x if front_end is None else front_end(x))

    found = {name: Responses(x) for name, x in outputs(probes.base).items()}
    again = outputs(probes.base)
    for name, one in found.items():
        if name not in again or not _same(one.base, again[name]):
            place = f"at layer {name!r}" if name else "in its scores"
            raise ValueError(
                f"the network gives different answers to the same input {place}, but must not draw random numbers in "
                "evaluation mode or keep state from call to call"
            )
    found.pop("", None)
    both = outputs(probes.base, probes.moved[0])
    for name, one in found.items():
        one.batch = _batch_axis(one.base, both.get(name))

    def changes(y: Tensor) -> dict[str, list[Tensor]]:
        answers = outputs(y)
        return {name: one.differ(answers[name]) if name in answers else [] for name, one in found.items()}

    for y in probes.moved:
        for name, change in changes(y).items():
            found[name].moved.append(change)
    for y in probes.tuned:
        for name, change in changes(y).items():
            found[name].tuned.append(change)
    for name, change in changes(probes.short).items():
        found[name].short = change
    return found


def _same(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    a, b = (x.to(torch.float32) for x in (a, b))
    return bool((a - b).norm() <= 1e-4 * a.norm()) or torch.equal(a.nan_to_num(), b.nan_to_num())


def _batch_axis(one: Tensor, two: Tensor | None) -> int:
    if two is None or two.ndim != one.ndim:
        return -1
    axes = [axis for axis, (n, m) in enumerate(zip(one.shape, two.shape, strict=True)) if n != m]
    return axes[0] if len(axes) == 1 and (one.shape[axes[0]], two.shape[axes[0]]) == (1, 2) else -1
