"""Overlapping windows over a long recording, and sounds of windows joined without a seam."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """Windows of one length, each beginning `hop` samples after the one before; the last one ends with the recording.

    Attributes
    ----------
    length, hop : int
        Samples; `hop` is smaller than `length`.
    """

    length: int
    hop: int

    def count(self, n: int) -> int:
        """Return the number of windows of a recording of n samples; one that is shorter than a window has one."""
        return 1 + max(0, -(-(n - self.length) // self.hop))

    def start(self, i: int, n: int) -> int:
        """Return the first sample of window i of a recording of n samples."""
        return max(0, min(i * self.hop, n - self.length))

    @cached_property
    def ramp(self) -> Audio:
        """Weights (length - hop,) from 0 to 1 with which a window takes over from the one before."""
        n = self.length - self.hop
        ramp: Audio = (np.sin(np.pi / 2 * (np.arange(n) + 0.5) / n) ** 2).astype(np.float32)
        return ramp


class Window(NamedTuple):
    """A window of a recording.

    Attributes
    ----------
    number : int
        Its place in the grid.
    start : int
        First sample.
    samples : ndarray (N,), float32
        Shorter than the grid's length only if the recording is.
    """

    number: int
    start: int
    samples: Audio


def cut(blocks: Iterable[Audio], grid: Grid, first: int = 0, last: int | None = None) -> Iterator[Window]:
    """Cut the samples of a recording, from the start of window `first` on, into windows as they arrive.

    Parameters
    ----------
    blocks : iterable of ndarray (n,), float32
        Samples from ``first * grid.hop`` on, to the end of the recording or beyond window `last`.
    grid : Grid
    first, last : int
        Windows to cut; all from `first` on by default. A last window that ends with the recording begins earlier than
        the grid says, and is cut only if samples from the start of the window before it on are known.

    Yields
    ------
    Window
    """
    held = np.empty(0, np.float32)  # samples from `begin` on
    begin, index = first * grid.hop, first
    blocks = iter(blocks)
    while last is None or index <= last:
        start = index * grid.hop
        end = start + grid.length
        parts = [held]
        known = begin + len(held)
        ended = False
        while known < end and not ended:
            block = next(blocks, None)
            if block is None:
                ended = True
            else:
                parts.append(block)
                known += len(block)
        held = np.concatenate(parts) if len(parts) > 1 else held
        if known < end:
            # What is left is more than the window before has covered.
            covered = start - grid.hop + grid.length if index else 0
            if known > covered and known > begin:
                tail = max(begin, known - grid.length)
                yield Window(index, tail, held[tail - begin :])
            return
        yield Window(index, start, held[start - begin : end - begin])
        index += 1
        drop = max(0, start - begin)  # one window is kept, for the last one
        held, begin = held[drop:], begin + drop


class Joined:
    """Sounds of successive windows, cross-faded into one: each takes over by the grid's ramp.

    The weights of all windows add up to 1 at every sample, so that where windows agree, nothing changes.
    """

    def __init__(self, grid: Grid) -> None:
        self._ramp = grid.ramp
        self._held = np.empty(0, np.float32)
        self._begin: int | None = None

    def add(self, start: int, sound: Audio) -> Audio:
        """Add the sound of the next window, from sample `start` on; return the samples before it that are final."""
        if self._begin is None:
            self._begin, self._held = start, sound
            return sound[:0]
        final, tail = np.split(self._held, [start - self._begin])
        n = min(len(self._ramp), len(tail), len(sound))
        joined = sound.copy()
        joined[:n] = self._ramp[:n] * sound[:n] + (1 - self._ramp[:n]) * tail[:n]
        self._begin, self._held = start, joined
        return final

    def finish(self) -> Audio:
        """Return the rest."""
        rest, self._held = self._held, np.empty(0, np.float32)
        return rest
