"""Times of ours and of the peers on the CPU, which alternate in one process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from l2i_fast.arrays import is_tensor
from l2i_fast.backends.threads import get_num_threads, set_num_threads
from l2i_fast.bench.case import Answer, Case, Prepare
from l2i_fast.bench.hops import Hops
from l2i_fast.bench.measurements import Row, Timing
from l2i_fast.bench.peers_nmf import ByDifference

#: Pairs of a comparison: the least number, and the range of the number where time allows.
LEAST_PAIRS, PAIRS, MOST_PAIRS = 5, 20, 500
#: Seconds after which the threads of OpenBLAS (2^28 cycles) and OpenMP no longer spin, as they do after a call.
REST = 0.2


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Give ours, torch and BLAS `n` threads each, and let torch flush denormals, as ours does."""
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


def measure(case: Case, exact: Any, n_threads: int, peers: dict[str, Prepare], seconds: float) -> Row:
    """Time a case beside some of its peers with `n_threads` threads, about `seconds` for each peer.

    With several threads, ours with a single one is a peer, too.

    Raises
    ------
    RuntimeError
        If an answer differs from the exact one.
    """
    row, prepare_ours = Row.of(case, n_threads), case.ours["ours"]
    if n_threads > 1:
        peers = peers | {"ours, 1 thread": lambda: partial(_alone, prepare_ours(), n_threads)}
    with threads(n_threads):
        ours = prepare_ours()
        own_error = checked(case, ours(), exact, "ours")
        times = [time_of(ours) for _ in range(3)]
        for name, prepare in peers.items():
            try:
                peer = prepare()
                error = checked(case, peer(), exact, name)
            except ModuleNotFoundError as missing:
                row.peers.append(Timing(name, missing=f"{missing.name or missing} is missing"))
                continue
            pairs = alternate(ours, peer, seconds, REST if n_threads > 1 else 0.0)
            times += pairs[:, 0].tolist()
            typical = np.median if isinstance(peer, ByDifference) else np.min
            ratio = float(np.median(pairs[:, 1] / pairs[:, 0]))
            their_time = float(typical(pairs[:, 1]))
            row.peers.append(Timing(name, their_time, ratio, len(pairs), error, percentiles=_percentiles(peer)))
    row.ours.append(Timing("ours", min(times), error=own_error, percentiles=_percentiles(ours)))
    return row


def alternate(
    ours: Answer, peer: Answer, seconds: float, rest: float = 0.0
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Time both alternately, (pairs, 2), for about `seconds`, or less if many pairs fit into a second.

    With a `rest` in s each has the processor to itself: before it is timed comes a pause, then an untimed call.
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
    """Return the seconds of one call, or of the part of it that counts."""
    if isinstance(call, ByDifference | Hops):
        return call.seconds()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def error_of(case: Case, answer: Any, exact: Any) -> float:
    """Return the relative L2 error of an answer; of several arrays the largest."""
    piece = case.piece(answer)
    pairs = zip(piece, exact, strict=True) if isinstance(exact, tuple) else [(piece, exact)]
    return max(_norm(one - other) / _norm(other) for one, other in pairs)


def _norm(x: Any) -> float:
    return float(x.norm() if is_tensor(x) else np.linalg.norm(x))


def checked(case: Case, answer: Any, exact: Any, name: str) -> float:
    """Return the error of an answer of `name`.

    Raises
    ------
    RuntimeError
        If it is above the tolerance of the case.
    """
    error = error_of(case, answer, exact)
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
