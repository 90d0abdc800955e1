"""Ours and the peers, timed in turns in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from l2i_fast.backends.threads import get_num_threads, set_num_threads
from l2i_fast.bench.cases import Answer, Case
from l2i_fast.bench.hops import Hops
from l2i_fast.bench.peers_nmf import ByDifference

#: Pairs of a comparison: the first number even if time runs out; from the second to the third where there is time.
LEAST_PAIRS, PAIRS, MOST_PAIRS = 5, 20, 500
#: Seconds after which the threads of OpenBLAS (2^28 cycles) and OpenMP no longer spin, as they do after a call.
REST = 0.2


@dataclass
class Rival:
    """A peer beside ours.

    Its least time in s (the median where it is a difference), the median of its time to ours over the pairs, and its
    relative L2 error against float64.
    """

    name: str
    seconds: float = 0.0
    ratio: float = 0.0
    pairs: int = 0
    error: float = 0.0
    missing: str = ""  # the package that is not installed; then nothing was measured
    percentiles: list[float] = field(default_factory=list)  # of a stream's pushes, in s


@dataclass
class Row:
    """A case as measured: operations, bytes, our least time in s, relative L2 errors against float64."""

    operation: str
    variant: str
    size: str
    dims: str
    threads: int
    flops: float
    bytes: float
    seconds: float = 0.0
    error: float = 0.0
    extra_bytes: float | None = None  # memory beyond inputs and outputs
    rivals: list[Rival] = field(default_factory=list)
    percentiles: list[float] = field(default_factory=list)


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Give ours, torch and BLAS `n` threads each for a while, and let torch flush denormals, as ours does."""
    try:
        import torch
    except ModuleNotFoundError:
        torch = None  # type: ignore[assignment]
    before = get_num_threads()
    torch_before = torch.get_num_threads() if torch else 0
    set_num_threads(n)
    if torch:
        torch.set_num_threads(n)
        torch.set_flush_denormal(True)
    try:
        with threadpool_limits(n):
            yield
    finally:
        set_num_threads(before)
        if torch:
            torch.set_num_threads(torch_before)
            torch.set_flush_denormal(False)


def measure(case: Case, exact: Any, n_threads: int, peers: dict[str, Callable[[], Answer]], seconds: float) -> Row:
    """Time a case with `n_threads` threads beside these of its peers, about `seconds` for each.

    Where there is more than one thread, ours with a single one is a peer, too.

    Raises
    ------
    RuntimeError
        If an answer is not the exact one.
    """
    row = Row(case.operation, case.variant, case.size, case.dims, n_threads, case.flops, case.bytes)
    if n_threads > 1:
        peers = peers | {"ours, 1 thread": lambda: partial(_alone, case.ours(), n_threads)}
    with threads(n_threads):
        ours = case.ours()
        row.error = error_of(case, ours(), exact, "ours")
        times = [time_of(ours) for _ in range(3)]
        for name, prepare in peers.items():
            try:
                peer = prepare()
                error = error_of(case, peer(), exact, name)
            except ModuleNotFoundError as missing:
                row.rivals.append(Rival(name, missing=missing.name or str(missing)))
                continue
            pairs = in_turns(ours, peer, seconds, REST if n_threads > 1 else 0.0)
            times += pairs[:, 0].tolist()
            typical = np.median if isinstance(peer, ByDifference) else np.min
            ratio = float(np.median(pairs[:, 1] / pairs[:, 0]))
            row.rivals.append(
                Rival(name, float(typical(pairs[:, 1])), ratio, len(pairs), error, percentiles=_percentiles(peer))
            )
    row.seconds = min(times)
    row.percentiles = _percentiles(ours)
    return row


def in_turns(
    ours: Answer, peer: Answer, seconds: float, rest: float = 0.0
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Time both in turns, (pairs, 2), for about `seconds`, or less if there are many pairs in a second.

    With a `rest` in seconds each has the processor to itself: it is waited for so long, then called once untimed.
    """

    def once(call: Answer) -> float:
        if rest:
            time.sleep(rest)
            time_of(call)
        return time_of(call)

    start = time.perf_counter()
    once(ours), once(peer)
    pair = time.perf_counter() - start  # all of it, also where only a part counts
    n = min(int(np.clip(1 / pair, PAIRS, MOST_PAIRS)), int(seconds / pair))
    return np.array([(once(ours), once(peer)) for _ in range(max(n, LEAST_PAIRS))])


def time_of(call: Answer) -> float:
    """Seconds of one call, or of what of it counts."""
    if isinstance(call, ByDifference | Hops):
        return call.seconds()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def error_of(case: Case, answer: Any, exact: Any, name: str) -> float:
    """Return how far an answer is from the exact one, relative in L2; of several arrays the largest."""
    found = case.piece(answer)
    pairs = zip(found, exact, strict=True) if isinstance(exact, tuple) else [(found, exact)]
    error = max(float(np.linalg.norm(one - other) / np.linalg.norm(other)) for one, other in pairs)
    if not error <= case.tolerance:
        raise RuntimeError(f"{case.name}: {name}: differs from the exact answer by {error:.1e}")
    return error


def _percentiles(call: Answer) -> list[float]:
    return call.percentiles() if isinstance(call, Hops) else []


def _alone(ours: Answer, n_threads: int) -> Any:
    set_num_threads(1)
    try:
        return ours()
    finally:
        set_num_threads(n_threads)
