"""The growth of times with the sizes of a problem, ours beside the strongest peer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from l2i_fast.bench.case import Case
from l2i_fast.bench.cases_cpu import framed_cases, nmf_cases
from l2i_fast.bench.measurements import Point
from l2i_fast.bench.problem import Problem
from l2i_fast.bench.timing import alternate, threads

#: The number that varies, and its problems; all other numbers are those of one clip.
AXES: dict[str, dict[int, Callable[[], Problem]]] = {
    "T": {T: lambda T=T: Problem(n_samples=(T - 1) * 512) for T in (32, 108, 431, 1724, 6896)},  # type: ignore[misc]
    "K": {K: lambda K=K: Problem(n_components=K) for K in (12, 25, 50, 100, 200)},  # type: ignore[misc]
    "F": {n // 2 + 1: lambda n=n: Problem(n_samples=430 * n // 2, n_fft=n) for n in (256, 512, 1024, 2048, 4096)},  # type: ignore[misc]
    "B": {B: lambda B=B: Problem(n_clips=B) for B in (1, 2, 4, 8, 16)},  # type: ignore[misc]
}


def scaling(with_peers: bool, seconds: float) -> Iterator[Point]:
    """Measure stft, decode and nmf with one thread, about `seconds` for each point."""
    for axis, problems in AXES.items():
        for value, problem in problems.items():
            p = problem()
            if axis != "K":  # stft has no components
                yield _point(framed_cases("stft", p), axis, value, with_peers, seconds)
            yield _point(framed_cases("decode", p), axis, value, with_peers, seconds)
            yield _point(nmf_cases(p, ("kullback-leibler",)), axis, value, with_peers, seconds)


def _point(cases: Iterator[Case], axis: str, value: int, with_peers: bool, seconds: float) -> Point:
    (case,) = cases
    name, prepare = next(iter(case.peers.items()))
    with threads(1):
        ours = case.ours["ours"]()
        try:
            peer = prepare() if with_peers else None
        except ModuleNotFoundError:
            peer = None
        times = alternate(ours, peer or ours, seconds).min(0).tolist()
    return Point(case.name, axis, value, times[0], times[1] if peer else None, name)
