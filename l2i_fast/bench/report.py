"""What was measured, as tables for the terminal and in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from l2i_fast.bench.hops import PERCENTILES
from l2i_fast.bench.machine import ARRAYS, size_text
from l2i_fast.bench.run import Measurements
from l2i_fast.bench.timing import Rival, Row

if TYPE_CHECKING:
    from rich.table import Table

PROBLEM = "operation", "problem", "threads", "ours ms"
OURS = "floor ms", "floor / ours", "GFLOP/s", "GB/s", "extra MB", "error"
RIVALS = "peer", "its ms", "its / ours", "pairs", "its error"
SPREAD = "peer", "median µs", "99 % µs", "longest µs", "99 % / median"
TEXTS = "operation", "problem", "peer"


def render(measurements: Measurements) -> list[Table]:
    """Lay out what was measured for the terminal: ours beside the floors, ours beside the peers."""
    from rich.table import Table

    tables = []
    for title, columns, rows in _tables(measurements):
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column, justify="left" if column in TEXTS else "right")
        before: tuple[str, ...] = ()
        for row in rows:
            same = row[: len(PROBLEM)] == before
            before = row[: len(PROBLEM)]
            table.add_row(*(("",) * len(PROBLEM) if same else before), *row[len(PROBLEM) :])
        tables.append(table)
    return tables


def summary(measurements: Measurements) -> list[str]:
    """Say in a few lines what was measured on, and the ceilings."""
    machine = measurements.machine
    versions = ", ".join(f"{name} {version or '(missing)'}" for name, version in machine["versions"].items())
    lines = [
        f"{machine['processor']}; CPU path {machine['path']}; {machine['date']}",
        versions,
        f"BLAS of NumPy and SciPy: {machine['blas']}",
    ]
    lines += measurements.left_out
    for one in measurements.ceilings:
        rates = ", ".join(
            f"{rate / 1e9:.0f} GB/s of {size_text(size)}" for size, rate in zip(ARRAYS, one.bandwidths, strict=True)
        )
        lines.append(
            f"{one.threads} thread{'s' if one.threads > 1 else ''}: {one.flops / 1e9:.0f} GFLOP/s in registers, "
            f"reads {rates} (a thread)"
        )
    return lines


def blas_hint(measurements: Measurements) -> str | None:
    """Say how the peers on BLAS may become faster, where OpenBLAS has not chosen its AVX-512 kernels."""
    machine = measurements.machine
    wide = machine["path"] not in ("scalar", "avx2")
    if wide and "openblas" in machine["blas"] and "SkylakeX" not in machine["blas"]:
        return "OPENBLAS_CORETYPE=SkylakeX in the environment may make NumPy and scikit-learn faster"
    return None


def markdown(measurements: Measurements) -> str:
    """Lay the same out in Markdown, under the machine it was measured on."""
    parts = ["\n".join(f"- {line}" for line in summary(measurements))]
    for title, columns, rows in _tables(measurements):
        rule = tuple("---" if column in TEXTS else "--:" for column in columns)
        lines = (f"| {' | '.join(cells)} |" for cells in [columns, rule, *rows])
        parts += [f"### {title}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _tables(measurements: Measurements) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Titles, columns and rows."""
    ours, theirs, pushes = [], [], []
    for row in measurements.rows:
        ours.append(_ours(row, measurements.floor(row)))
        theirs += [(*_problem(row), *_theirs(rival)) for rival in row.rivals]
        known = {"ours": row.percentiles} | {rival.name: rival.percentiles for rival in row.rivals}
        pushes += [(*_problem(row), name, *_spread(p)) for name, p in known.items() if p]
    tables = [("Ours beside the floors", PROBLEM + OURS, ours), ("Ours beside the peers", PROBLEM + RIVALS, theirs)]
    return [*tables, ("Every push of a stream", PROBLEM + SPREAD, pushes)] if pushes else tables


def _problem(row: Row) -> tuple[str, ...]:
    return f"{row.operation} {row.variant}".rstrip(), f"{row.size}: {row.dims}", str(row.threads), _ms(row.seconds)


def _ours(row: Row, floor: float) -> tuple[str, ...]:
    return (
        *_problem(row),
        _ms(floor),
        f"{100 * floor / row.seconds:.0f} %",
        f"{row.flops / row.seconds / 1e9:.0f}",
        f"{row.bytes / row.seconds / 1e9:.1f}",
        "" if row.extra_bytes is None else f"{row.extra_bytes / 1e6:.1f}",
        f"{row.error:.1e}",
    )


def _theirs(rival: Rival) -> tuple[str, ...]:
    if rival.missing:
        return f"{rival.name}: {rival.missing} is missing", "", "", "", ""
    return rival.name, _ms(rival.seconds), f"{rival.ratio:.2f}", str(rival.pairs), f"{rival.error:.1e}"


def _spread(percentiles: list[float]) -> tuple[str, ...]:
    median, rare, longest = (percentiles[PERCENTILES.index(one)] for one in (50, 99, 100))
    return *(f"{1e6 * seconds:,.1f}" for seconds in (median, rare, longest)), f"{rare / median:.2f}"


def _ms(seconds: float) -> str:
    """Three digits of milliseconds, but all before the point."""
    ms = 1e3 * seconds
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}"
