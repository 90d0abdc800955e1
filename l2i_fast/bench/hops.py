"""Times of the pushes of a stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from l2i_fast.arrays import Float32
from l2i_fast.bench.problem import Problem

#: Pushes in a chunk; ours and a peer alternate by chunks.
CHUNK = 250
#: Percentiles of the times of all pushes: the median first, the longest last.
PERCENTILES = 50, 90, 99, 99.9, 100


def split(p: Problem) -> tuple[Float32, Float32]:
    """Return the samples before the first push, and blocks (CHUNK, hop), of which the first completes frame 0."""
    first, blocks, _ = np.split(p.y, np.cumsum([p.n_fft // 2 - p.hop, CHUNK * p.hop]))
    return first, blocks.reshape(CHUNK, p.hop)


class Hops:
    """Pushes `CHUNK` blocks of one hop in each call, always the same blocks, and returns their output.

    Parameters
    ----------
    push : called with a block and activations
    blocks, given : of length `CHUNK`
    mode : makes the context of all pushes of a chunk
    """

    def __init__(
        self,
        push: Callable[[Any, Any], Any],
        blocks: Iterable[Any],
        given: Iterable[Any],
        mode: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.push, self.arguments, self.mode = push, list(zip(blocks, given, strict=True)), mode
        self.times: list[float] = []

    def __call__(self) -> Float32:
        """Return the samples of one chunk."""
        with self.mode():
            return np.concatenate([np.asarray(self.push(*one)).copy() for one in self.arguments])

    def seconds(self) -> float:
        """Return the median time of a push in a chunk; `times` collects all times."""
        clock, push, times = time.perf_counter, self.push, []
        with self.mode():
            for block, given in self.arguments:
                start = clock()
                push(block, given)
                times.append(clock() - start)
        self.times += times
        return float(np.median(times))

    def percentiles(self) -> list[float]:
        """Return the `PERCENTILES` of the times in s."""
        return [float(seconds) for seconds in np.percentile(self.times, PERCENTILES)]
