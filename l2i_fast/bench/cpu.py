"""The run of the benchmarks on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from l2i_fast.bench.cases_cpu import OPERATIONS, cases
from l2i_fast.bench.machine import measure_ceilings
from l2i_fast.bench.measurements import Measurements
from l2i_fast.bench.memory import extra_memory
from l2i_fast.bench.names import Operation, Size
from l2i_fast.bench.scaling import scaling
from l2i_fast.bench.timing import measure
from l2i_fast.progress import Report

#: Measured with the first number of threads only: a race is many iterations of nmf, a stream has a single thread.
ONCE = "race", "stream"


def run(
    measurements: Measurements,
    operations: Sequence[Operation],
    sizes: Sequence[Size],
    n_threads: Sequence[int],
    with_peers: bool,
    seconds: float,
    report: Report,
) -> None:
    """Measure, and add each row to `measurements` at once, so that an interrupted run keeps its rows.

    Parameters
    ----------
    operations, sizes
        Each operation is measured at those of the sizes that it has.
    n_threads
        Numbers of threads: with the first all peers are timed, with the others the strongest.
    with_peers : bool
        False times ours only.
    seconds : float
        About how long a comparison takes: at least 20 pairs if they fit, 5 in any case.
    """
    measurements.ceilings += map(measure_ceilings, n_threads)
    steps = [
        (name, size) for name, (_, own) in OPERATIONS.items() for size in own if name in operations and size in sizes
    ]
    total = len(steps) + ("scaling" in operations)
    for done, (name, size) in enumerate(steps):
        report("benchmarks", done, total, f"{name}, {size}")
        first = len(measurements.rows)
        try:
            for case in cases(name, size):
                exact = case.exact()
                for n in n_threads[:1] if name in ONCE else n_threads:
                    peers = dict(islice(case.peers.items(), None if n == n_threads[0] else 1)) if with_peers else {}
                    measurements.rows.append(measure(case, exact, n, peers, seconds))
        except ModuleNotFoundError as missing:
            measurements.left_out.append(f"{name}, {size}: {missing.name} is missing")
        if name != "race":
            rows = [row for row in measurements.rows[first:] if row.threads == n_threads[0]]
            for row, extra in zip(rows, extra_memory(name, size, n_threads[0]) if rows else [], strict=False):
                row.extra_bytes = extra
    if "scaling" in operations:
        report("benchmarks", len(steps), total, "scaling")
        for point in scaling(with_peers, seconds / 10):
            measurements.points.append(point)
    report("benchmarks", total, total, "")
