"""The figures that `l2i bench` measures, on the CPU or on a GPU, and their file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from l2i_fast.bench.case import Case
from l2i_fast.bench.machine import Ceilings, describe
from l2i_fast.files import write_whole


@dataclass
class Timing:
    """The time in s of one contestant, and its relative L2 error against float64.

    On the CPU `seconds` is the least time of all pairs (the median where it is a difference), and `ratio` the median
    over the pairs of a peer's time to ours. On a GPU `seconds` is the median.
    """

    name: str
    seconds: float = 0.0
    ratio: float = 0.0
    pairs: int = 0
    error: float = 0.0
    missing: str = ""  # the reason why it was not timed
    percentiles: list[float] = field(default_factory=list)  # of the pushes of a stream, in s


@dataclass
class Row:
    """A case as measured."""

    operation: str
    variant: str
    size: str
    dims: str
    threads: int  # of the CPU; 0 on a GPU
    flops: float
    bytes: float
    ours: list[Timing] = field(default_factory=list)
    peers: list[Timing] = field(default_factory=list)
    extra_bytes: float | None = None  # memory beyond inputs and outputs

    @classmethod
    def of(cls, case: Case, threads: int = 0) -> Row:
        """Return the row of a case, without timings."""
        return cls(case.operation, case.variant, case.size, case.dims, threads, case.flops, case.bytes)

    @property
    def name(self) -> str:
        """Operation and variant."""
        return f"{self.operation} {self.variant}".rstrip()

    @property
    def is_stream(self) -> bool:
        """Whether every push was timed."""
        return any(one.percentiles for one in self.ours)

    @property
    def timings(self) -> list[Timing]:
        """All contestants, ours first."""
        return self.ours + self.peers


@dataclass
class Point:
    """Least times in s at one size of a problem; None for a peer that is not installed."""

    operation: str
    axis: str
    value: int
    ours: float
    peer: float | None
    peer_name: str


@dataclass
class Measurements:
    """All figures, and the machine: a CPU, unless `machine` names a GPU."""

    machine: dict[str, Any] = field(default_factory=describe)
    ceilings: list[Ceilings] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU was measured."""
        return "GPU" in self.machine

    def save(self, path: Path) -> None:
        """Write all figures as JSON."""
        write_whole(path, lambda file: file.write_text(json.dumps(asdict(self), indent=1) + "\n"))

    @classmethod
    def load(cls, path: Path) -> Measurements:
        """Read a file that `save` wrote."""
        read = json.loads(path.read_text())
        for row in read["rows"]:
            row |= {side: [Timing(**one) for one in row[side]] for side in ("ours", "peers")}
        return cls(
            read["machine"],
            [Ceilings(**one) for one in read["ceilings"]],
            [Row(**row) for row in read["rows"]],
            [Point(**one) for one in read["points"]],
            read["left_out"],
        )

    def floor(self, row: Row) -> float:
        """Return the least time in s of a row of the CPU that the ceilings allow."""
        ceilings = next(one for one in self.ceilings if one.threads == row.threads)
        return ceilings.floor(row.flops, row.bytes)
