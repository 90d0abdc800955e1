"""A stream, timed push by push."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from l2i_fast.arrays import Float32
from l2i_fast.bench.problem import Problem

#: Pushes that ours and a peer do in turns.
CHUNK = 250
#: Of the times of all pushes: the median first, the longest last.
PERCENTILES = 50, 90, 99, 99.9, 100


def split(p: Problem) -> tuple[Float32, Float32]:
    """Return the samples before the first push, and the blocks (CHUNK, hop), the first of which makes frame 0 whole."""
    first, blocks, _ = np.split(p.y, np.cumsum([p.n_fft // 2 - p.hop, CHUNK * p.hop]))
    return first, blocks.reshape(CHUNK, p.hop)


class Hops:
    """Push `CHUNK` blocks of one hop at each call, the same blocks again and again, and return what came out.

    Parameters
    ----------
    push : called with a block and activations
    blocks, given : of length `CHUNK`
    mode : what all calls of a chunk are made in
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
        """Return the median time of a push in a chunk; `times` keeps them all."""
        clock, push, times = time.perf_counter, self.push, []
        with self.mode():
            for block, given in self.arguments:
                start = clock()
                push(block, given)
                times.append(clock() - start)
        self.times += times
        return float(np.median(times))

    def percentiles(self) -> list[float]:
        """Return the times in s that `PERCENTILES` of the pushes do not exceed."""
        return [float(seconds) for seconds in np.percentile(self.times, PERCENTILES)]
