"""How the time of an operation grows with the sizes of its problem, beside its strongest peer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from l2i_fast.bench.cases import Case, decode_cases, nmf_cases, stft_cases
from l2i_fast.bench.problem import Problem
from l2i_fast.bench.timing import in_turns, threads

#: What varies, and how the problem of each value is made; all else is that of one clip.
AXES: dict[str, dict[int, Callable[[], Problem]]] = {
    "T": {T: lambda T=T: Problem(n_samples=(T - 1) * 512) for T in (32, 108, 431, 1724, 6896)},  # type: ignore[misc]
    "K": {K: lambda K=K: Problem(n_components=K) for K in (12, 25, 50, 100, 200)},  # type: ignore[misc]
    "F": {n // 2 + 1: lambda n=n: Problem(n_samples=430 * n // 2, n_fft=n) for n in (256, 512, 1024, 2048, 4096)},  # type: ignore[misc]
    "B": {B: lambda B=B: Problem(n_clips=B) for B in (1, 2, 4, 8, 16)},  # type: ignore[misc]
}
MAKERS: dict[str, Callable[[Problem], Iterator[Case]]] = {
    "stft": stft_cases,
    "decode": decode_cases,
    "nmf": lambda p: nmf_cases(p, ("kullback-leibler",)),
}


@dataclass
class Point:
    """Times in seconds, the least of the pairs; none for a peer that is not installed."""

    operation: str
    axis: str
    value: int
    ours: float
    peer: float | None
    peer_name: str


def scaling(operations: list[str], with_peers: bool, seconds: float) -> Iterator[Point]:
    """Measure these of the operations with one thread, about `seconds` for each point."""
    for axis, problems in AXES.items():
        for value, problem in problems.items():
            p = problem()
            for operation in operations:
                if axis == "K" and operation == "stft":
                    continue  # it knows no components
                (case,) = MAKERS[operation](p)
                with threads(1):
                    yield _point(case, axis, value, with_peers, seconds)


def _point(case: Case, axis: str, value: int, with_peers: bool, seconds: float) -> Point:
    name, prepare = next(iter(case.peers.items()))
    ours = case.ours()
    try:
        peer = prepare() if with_peers else None
    except ModuleNotFoundError:
        peer = None
    times = in_turns(ours, peer or ours, seconds).min(0).tolist()
    return Point(case.name, axis, value, times[0], times[1] if peer else None, name)
