"""Measurements as tables for the terminal and in Markdown, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from l2i_fast.bench.hops import PERCENTILES
from l2i_fast.bench.machine import ARRAYS, Ceilings, size_text
from l2i_fast.bench.measurements import Measurements, Row, Timing

if TYPE_CHECKING:
    from rich.table import Table

#: Columns that name the problem; a table for the terminal leaves them empty where they repeat the row above.
PROBLEM = "operation", "problem", "threads", "ours ms"
OURS = "floor ms", "floor / ours", "GFLOP/s", "GB/s", "extra MB", "error"
PEERS = "peer", "its ms", "its / ours", "pairs", "its error"
SPREAD = "peer", "median µs", "99 % µs", "longest µs", "99 % / median"
BACKENDS = "backend", "ms", "best torch / its", "GB/s", "of copies", "TFLOP/s", "error"
#: Columns of text, which stand on the left.
TEXTS = "operation", "problem", "peer", "backend"

Cells = tuple[str, ...]


def save(measurements: Measurements, folder: Path) -> list[Path]:
    """Write bench.json or, for a GPU, gpu.json, and the pictures; return the paths of the files."""
    from l2i_fast.bench.pictures import save_pictures

    data = folder / ("gpu.json" if measurements.on_gpu else "bench.json")
    measurements.save(data)
    return [data, *save_pictures(folder, measurements)]


def render(measurements: Measurements) -> list[Table]:
    """Return the tables for the terminal."""
    from rich.table import Table

    tables = []
    for title, columns, rows in _tables(measurements):
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column, justify="left" if column in TEXTS else "right")
        n = sum(column in PROBLEM for column in columns)
        above: Cells = ()
        for row in rows:
            table.add_row(*(("",) * n if row[:n] == above else row[:n]), *row[n:])
            above = row[:n]
        tables.append(table)
    return tables


def markdown(measurements: Measurements) -> str:
    """Return the same tables in Markdown, below the machine."""
    parts = ["\n".join(f"- {line}" for line in summary(measurements))]
    for title, columns, rows in _tables(measurements):
        rule = tuple("---" if column in TEXTS else "--:" for column in columns)
        lines = (f"| {' | '.join(cells)} |" for cells in [columns, rule, *rows])
        parts += [f"### {title}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def summary(measurements: Measurements) -> list[str]:
    """Describe the machine and its ceilings in a few lines."""
    machine = measurements.machine
    versions = ", ".join(f"{name} {version or '(missing)'}" for name, version in machine["versions"].items())
    if measurements.on_gpu:
        keys = [key for key in machine if key not in ("GPU", "versions", "date")]
        about = [f"{machine['GPU']}; {''.join(f'{key} {machine[key]}; ' for key in keys)}{machine['date']}", versions]
    else:
        about = [
            f"{machine['processor']}; CPU path {machine['path']}; {machine['date']}",
            versions,
            f"BLAS of NumPy and SciPy: {machine['blas']}",
        ]
    return about + measurements.left_out + [_reached(one) for one in measurements.ceilings]


def _reached(one: Ceilings) -> str:
    if one.products:
        return f"copies {one.bandwidths[0] / 1e9:.0f} GB/s, products {one.flops / 1e12:.3g} TFLOP/s {one.products}"
    rates = (f"{rate / 1e9:.0f} GB/s of {size_text(n)}" for n, rate in zip(ARRAYS, one.bandwidths, strict=True))
    threads = f"{one.threads} thread{'s' if one.threads > 1 else ''}"
    return f"{threads}: {one.flops / 1e9:.0f} GFLOP/s in registers, reads {', '.join(rates)} (a thread)"


def blas_hint(measurements: Measurements) -> str | None:
    """Return how peers may become faster, if OpenBLAS has not chosen its AVX-512 kernels."""
    machine = measurements.machine
    wide = not measurements.on_gpu and machine["path"] not in ("scalar", "avx2")
    if wide and "openblas" in machine["blas"] and "SkylakeX" not in machine["blas"]:
        return "OPENBLAS_CORETYPE=SkylakeX in the environment may make NumPy and scikit-learn faster"
    return None


def _tables(measurements: Measurements) -> list[tuple[str, Cells, list[Cells]]]:
    """Return titles, columns and rows."""
    rows = measurements.rows
    if measurements.on_gpu:
        backends = [(*_problem(row)[:2], *cells) for row in rows for cells in _backends(row, measurements)]
        return [("Backends beside torch", PROBLEM[:2] + BACKENDS, backends)]
    ours = [(*_problem(row), *_ours(row, measurements.floor(row))) for row in rows]
    peers = [(*_problem(row), *_peer(peer)) for row in rows for peer in row.peers]
    tables = [("Ours beside the floors", PROBLEM + OURS, ours), ("Ours beside the peers", PROBLEM + PEERS, peers)]
    pushes = [(*_problem(row), *_spread(one)) for row in rows for one in row.timings if one.percentiles]
    return [*tables, ("Every push of a stream", PROBLEM + SPREAD, pushes)] if pushes else tables


def _problem(row: Row) -> Cells:
    return row.name, f"{row.size}: {row.dims}", str(row.threads), _ms(row.ours[0].seconds) if row.ours else ""


def _ours(row: Row, floor: float) -> Cells:
    (ours,) = row.ours
    return (
        _ms(floor),
        f"{100 * floor / ours.seconds:.0f} %",
        f"{row.flops / ours.seconds / 1e9:.0f}",
        f"{row.bytes / ours.seconds / 1e9:.1f}",
        "" if row.extra_bytes is None else f"{row.extra_bytes / 1e6:.1f}",
        f"{ours.error:.1e}",
    )


def _peer(peer: Timing) -> Cells:
    if peer.missing:
        return f"{peer.name}: {peer.missing}", "", "", "", ""
    return peer.name, _ms(peer.seconds), f"{peer.ratio:.2f}", str(peer.pairs), f"{peer.error:.1e}"


def _spread(timing: Timing) -> Cells:
    median, rare, longest = (timing.percentiles[PERCENTILES.index(one)] for one in (50, 99, 100))
    times = (f"{1e6 * seconds:,.1f}" for seconds in (median, rare, longest))
    return timing.name, *times, f"{rare / median:.2f}"


def _backends(row: Row, measurements: Measurements) -> list[Cells]:
    copies = measurements.ceilings[0].bandwidths[0]
    torch = [one.seconds for one in row.timings if one.name.startswith("torch") and not one.missing]
    return [
        (f"{one.name}: {one.missing}", "", "", "", "", "", "")
        if one.missing
        else (
            one.name,
            f"{1e3 * one.seconds:.3g}",
            f"{min(torch) / one.seconds:.2f}" if torch else "",
            f"{row.bytes / one.seconds / 1e9:.0f}",
            f"{100 * row.bytes / one.seconds / copies:.0f} %",
            f"{row.flops / one.seconds / 1e12:.2f}",
            f"{one.error:.1e}",
        )
        for one in row.timings
    ]


def _ms(seconds: float) -> str:
    """Write milliseconds with three digits, or with all those before the point."""
    ms = 1e3 * seconds
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}"
