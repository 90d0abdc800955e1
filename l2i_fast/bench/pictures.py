"""Pictures of what was measured: the roofline, how times grow with a problem, and how steady those of a stream are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from l2i_fast.bench.hops import PERCENTILES
from l2i_fast.bench.machine import ARRAYS, Ceilings, size_text
from l2i_fast.bench.run import Measurements
from l2i_fast.files import write_whole
from l2i_fast.results.picture import COLOURS, FONT, GREY, INK

if TYPE_CHECKING:
    from l2i_fast.bench.gpu import DeviceMeasurements

MARKS = {"clip": "o", "batch": "s", "archive": "D", "hour": "^"}
AXES = {"T": "T: frames", "K": "K: components", "F": "F: bins", "B": "B: clips"}


def save_pictures(folder: Path, measurements: Measurements) -> list[Path]:
    """Write roofline.png, scaling.png and stream.png into `folder`, those with figures; return what was written."""
    drawn = {}
    if any(not row.percentiles for row in measurements.rows):
        drawn["roofline.png"] = roofline(measurements)
    if measurements.points:
        drawn["scaling.png"] = scaling(measurements)
    if any(row.percentiles for row in measurements.rows):
        drawn["stream.png"] = pushes(measurements)
    for name, figure in drawn.items():
        write_whole(folder / name, lambda path, f=figure: f.savefig(path, metadata={"Software": None}))  # type: ignore[misc]
    return [folder / name for name in drawn]


def roofline(measurements: Measurements) -> Figure:
    """Draw a panel for each number of threads: operations a second over operations a byte, below the ceilings."""
    n = len(measurements.ceilings)
    figure = Figure(figsize=(6.6 * n, 5.4), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    rows = [row for row in measurements.rows if not row.percentiles]
    names = list(dict.fromkeys(row.operation for row in rows))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    hollow = names[len(COLOURS) :]  # the colours are used twice
    for i, ceilings in enumerate(measurements.ceilings):
        axes = figure.add_subplot(1, n, i + 1)
        _ceilings(axes, ceilings)
        seen = set()
        for row in rows:
            if row.threads == ceilings.threads:
                first = row.operation not in seen
                seen.add(row.operation)
                axes.plot(
                    row.flops / row.bytes,
                    row.flops / row.seconds / 1e9,
                    MARKS[row.size],
                    color=colours[row.operation],
                    markersize=7,
                    markerfacecolor="white" if row.operation in hollow else None,
                    label=row.operation if first else None,
                )
        _dress(axes, f"{ceilings.threads} thread{'s' if ceilings.threads > 1 else ''}")
        axes.set_xlabel("operations a byte of input and output", color=INK, family=FONT)
        axes.set_ylabel("GFLOP/s", color=INK, family=FONT)
        if seen:
            axes.legend(loc="lower right", fontsize=9, frameon=False, prop={"family": FONT})
    shapes = "circle: one clip, square: 32 clips, diamond: many clips' frames, triangle: an hour"
    figure.supxlabel(shapes, fontsize=9, color=INK, family=FONT)
    return figure


def device_roofline(measurements: DeviceMeasurements) -> Figure:
    """Draw the operations of a GPU, of each backend, below what its copies and matrix products reach."""
    figure = Figure(figsize=(9, 6), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    intensity = np.geomspace(0.25, 4096, 200)
    ceilings = {
        "float32 products": measurements.products["float32"],
        "TF32 in three": measurements.products["tf32"] / 3,
    }
    for (name, peak), style in zip(ceilings.items(), ("-", "--"), strict=True):
        reach = np.minimum(peak, intensity * measurements.copy) / 1e12
        axes.plot(intensity, reach, style, color=GREY, linewidth=1.2, label=f"{name}, {peak / 1e12:.3g} TFLOP/s")
    names = list(dict.fromkeys(row.name for row in measurements.rows))
    marks = {"cuda": "o", "triton": "s", "torch": "x", "torch.compile": "+"}
    for row in measurements.rows:
        colour = COLOURS[names.index(row.name) % len(COLOURS)]
        for one in row.times:
            if one.missing:
                continue
            x, y = row.flops / row.bytes, row.flops / one.seconds / 1e12
            axes.plot(x, y, marks[one.backend.split(",")[0]], color=colour, markersize=7)
            if not one.backend.startswith("torch"):
                limit = min(max(ceilings.values()), x * measurements.copy) / 1e12
                text = f" {row.name}, {one.backend}: {100 * y / limit:.0f} %"
                axes.annotate(text, (x, y), fontsize=7, color=INK, family=FONT)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    _dress(axes, f"{measurements.device['name']}: copies at {measurements.copy / 1e9:.0f} GB/s")
    axes.set_xlabel("operations a byte of input and output", color=INK, family=FONT)
    axes.set_ylabel("TFLOP/s", color=INK, family=FONT)
    axes.legend(loc="lower right", fontsize=9, frameon=False, prop={"family": FONT})
    shapes = (
        "circle: CUDA C++, square: Triton, x: torch, plus: torch.compile; the share is that of the limit at its place"
    )
    figure.supxlabel(shapes, fontsize=9, color=INK, family=FONT)
    return figure


def _ceilings(axes: Axes, ceilings: Ceilings) -> None:
    intensity = np.geomspace(0.25, 4096, 200)
    peak = ceilings.flops / 1e9
    for size, rate, style in zip(ARRAYS, ceilings.bandwidths, (":", "--", "-"), strict=True):
        slope = rate / 1e9
        axes.plot(intensity, np.minimum(peak, intensity * slope), style, color=GREY, linewidth=1.2)
        start = max(0.27, 5 / slope)
        axes.text(
            start,
            1.3 * start * slope,
            f"reads {size_text(size)}, {slope:.0f} GB/s",
            rotation=np.degrees(np.arctan(slope)),
            rotation_mode="anchor",
            transform_rotates_text=True,
            fontsize=8,
            color=INK,
            family=FONT,
        )
    axes.annotate(
        f"multiply-adds in registers, {peak:.0f} GFLOP/s",
        (4096, peak),
        ha="right",
        xytext=(0, 4),
        textcoords="offset points",
        fontsize=8,
        color=INK,
        family=FONT,
    )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(4, 2 * peak)


def scaling(measurements: Measurements) -> Figure:
    """Draw a panel for each size of the problem: times of ours (lines) and of the strongest peer (dashed)."""
    figure = Figure(figsize=(11, 8), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    names = list(dict.fromkeys(point.operation for point in measurements.points))
    for i, (axis, title) in enumerate(AXES.items()):
        axes = figure.add_subplot(2, 2, i + 1)
        for name, colour in zip(names, COLOURS, strict=False):
            points = [p for p in measurements.points if p.axis == axis and p.operation == name]
            if not points:
                continue
            values = [p.value for p in points]
            axes.loglog(values, [1e3 * p.ours for p in points], "o-", color=colour, label=name, markersize=4)
            theirs = [(p.value, 1e3 * p.peer) for p in points if p.peer is not None]
            label = f"{name}: {points[0].peer_name}"
            if theirs:
                axes.loglog(*zip(*theirs, strict=True), "o--", color=colour, alpha=0.6, markersize=3, label=label)
        values = sorted({p.value for p in measurements.points if p.axis == axis})
        axes.set_xticks(values, [str(value) for value in values], minor=False)
        axes.set_xticks([], minor=True)
        for labels in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            labels(LogFormatter(minor_thresholds=(1.5, 0.5)))
        _dress(axes, title)
        axes.set_ylabel("ms", color=INK, family=FONT)
        if i == 0:
            figure.legend(loc="outside upper center", ncols=3, frameon=False, prop={"family": FONT})
    figure.supxlabel("one thread; what does not vary is T = 431, K = 100, F = 513, B = 1", fontsize=9, color=INK)
    return figure


def pushes(measurements: Measurements) -> Figure:
    """Draw a panel for each stream: the time that so many of the pushes take at most, ours and the peers'."""
    rows = [row for row in measurements.rows if row.percentiles]
    figure = Figure(figsize=(11, 3.6 * -(-len(rows) // 2)), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(-(-len(rows) // 2), 2, sharey=True, squeeze=False)
    for axes, row in zip(panels.flat, rows, strict=False):
        known = {"ours": row.percentiles} | {rival.name: rival.percentiles for rival in row.rivals}
        for (name, seconds), colour in zip(known.items(), COLOURS, strict=False):
            if seconds:
                axes.semilogy([1e6 * s for s in seconds], "o-", color=colour, label=name, markersize=4)
        axes.set_xticks(range(len(PERCENTILES)), ["half", *(f"{p} %" for p in PERCENTILES[1:-1]), "all"])
        _dress(axes, f"{row.variant}, {row.dims}")
    for axes in panels[:, 0]:
        axes.set_ylabel("µs a push", color=INK, family=FONT)
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
        frameon=False,
        prop={"family": FONT},
    )
    figure.supxlabel("share of the pushes that take at most so long", fontsize=9, color=INK, family=FONT)
    return figure


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=INK, family=FONT)
    axes.tick_params(labelsize=9, colors=INK, labelfontfamily=FONT)
    axes.spines[["top", "right"]].set_visible(False)
