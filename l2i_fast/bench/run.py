"""Runs the benchmarks that were asked for, and keeps what came out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from l2i_fast.bench.cases import OPERATIONS, cases
from l2i_fast.bench.machine import Ceilings, describe, measure_ceilings
from l2i_fast.bench.memory import extra_memory
from l2i_fast.bench.scaling import MAKERS, Point, scaling
from l2i_fast.bench.timing import Rival, Row, measure
from l2i_fast.files import write_whole
from l2i_fast.progress import Report

#: What is measured with one number of threads only: a race is many iterations of nmf, a stream has a single thread.
ONCE = "race", "stream"


@dataclass
class Measurements:
    """All that `l2i bench` measured, on what machine."""

    machine: dict[str, Any] = field(default_factory=describe)
    ceilings: list[Ceilings] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write all as JSON, whole or not at all."""
        write_whole(path, lambda file: file.write_text(json.dumps(asdict(self), indent=1) + "\n"))

    @classmethod
    def load(cls, path: Path) -> Measurements:
        """Read what `save` wrote."""
        found = json.loads(path.read_text())
        rows = [Row(**row | {"rivals": [Rival(**rival) for rival in row["rivals"]]}) for row in found["rows"]]
        return cls(
            found["machine"],
            [Ceilings(**one) for one in found["ceilings"]],
            rows,
            [Point(**one) for one in found["points"]],
            found["left_out"],
        )

    def floor(self, row: Row) -> float:
        """The least time in seconds that the ceilings leave a case."""
        ceilings = next(one for one in self.ceilings if one.threads == row.threads)
        return ceilings.floor(row.flops, row.bytes)


def run(
    measurements: Measurements,
    operations: list[str],
    sizes: list[str],
    n_threads: list[int],
    with_peers: bool,
    seconds: float,
    report: Report,
) -> None:
    """Measure, and add each figure to `measurements` as it is known: an interrupted run keeps what it has.

    Parameters
    ----------
    operations : of `OPERATIONS`, and "scaling"
    sizes : of `SIZES`
        Those that an operation has are measured.
    n_threads
        With the first of these numbers beside all peers, with the others beside the strongest.
    with_peers : bool
        False times ours only.
    seconds : float
        About how long a comparison takes: at least 20 pairs if they fit, 5 in any case.
    """
    for n in n_threads:
        measurements.ceilings.append(measure_ceilings(n))
    steps = [(name, size) for name, (_, of_name) in OPERATIONS.items() for size in of_name]
    steps = [(name, size) for name, size in steps if name in operations and size in sizes]
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
        for point in scaling(list(MAKERS), with_peers, seconds / 10):
            measurements.points.append(point)
    report("benchmarks", total, total, "")
