"""Pictures of measurements: the roofline, the growth of times with a problem, and the spread of a stream's pushes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from l2i_fast.bench.hops import PERCENTILES
from l2i_fast.bench.machine import ARRAYS, Ceilings, size_text
from l2i_fast.bench.measurements import Measurements
from l2i_fast.files import write_whole
from l2i_fast.results.picture import COLOURS, FONT, GREY, INK, default_style

MARKS = {"clip": "o", "batch": "s", "archive": "D", "hour": "^"}
DEVICE_MARKS = {"cuda": "o", "triton": "s", "torch": "x", "torch.compile": "+"}
AXES = {"T": "T: frames", "K": "K: components", "F": "F: bins", "B": "B: clips"}
SHAPES = "circle: one clip, square: 32 clips, diamond: many clips' frames, triangle: an hour"
DEVICE_SHAPES = "circle: CUDA C++, square: Triton, x: torch, plus: torch.compile; shares are those of the limit above"
TEXT: dict[str, Any] = {"color": INK, "family": FONT}
LEGEND: dict[str, Any] = {"frameon": False, "prop": {"family": FONT}}
#: Operations a byte over which ceilings are drawn.
INTENSITY = np.geomspace(0.25, 4096, 200)


@default_style()
def save_pictures(folder: Path, measurements: Measurements) -> list[Path]:
    """Write into `folder` the pictures for which figures exist, and return their paths.

    They are roofline.png, scaling.png and stream.png for a CPU, gpu.png for a GPU.
    """
    drawn = {}
    if measurements.on_gpu:
        if measurements.ceilings:
            drawn["gpu.png"] = device_roofline(measurements)
    else:
        if any(not row.is_stream for row in measurements.rows):
            drawn["roofline.png"] = roofline(measurements)
        if measurements.points:
            drawn["scaling.png"] = scaling(measurements)
        if any(row.is_stream for row in measurements.rows):
            drawn["stream.png"] = pushes(measurements)
    for name, figure in drawn.items():
        write_whole(folder / name, lambda path, f=figure: f.savefig(path, metadata={"Software": None}))  # type: ignore[misc]
    return [folder / name for name in drawn]


def roofline(measurements: Measurements) -> Figure:
    """Draw a panel for each number of threads: operations a second over operations a byte, below the ceilings."""
    n = len(measurements.ceilings)
    figure = _figure(6.6 * n, 5.4)
    rows = [row for row in measurements.rows if not row.is_stream]
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
                    row.flops / row.ours[0].seconds / 1e9,
                    MARKS[row.size],
                    color=colours[row.operation],
                    markersize=7,
                    markerfacecolor="white" if row.operation in hollow else None,
                    label=row.operation if first else None,
                )
        _dress(axes, f"{ceilings.threads} thread{'s' if ceilings.threads > 1 else ''}")
        _roofline_labels(axes, "GFLOP/s")
    figure.supxlabel(SHAPES, fontsize=9, **TEXT)
    return figure


def device_roofline(measurements: Measurements) -> Figure:
    """Draw the operations of a GPU, of each backend, below the limits of its copies and matrix products."""
    figure = _figure(9, 6)
    axes = figure.add_subplot()
    products = {one.products: one.flops for one in measurements.ceilings}
    copies = measurements.ceilings[0].bandwidths[0]
    ceilings = {"float32 products": products["float32"], "TF32 in three": products["tf32"] / 3}
    for (name, peak), style in zip(ceilings.items(), ("-", "--"), strict=True):
        limit = np.minimum(peak, INTENSITY * copies) / 1e12
        axes.plot(INTENSITY, limit, style, color=GREY, linewidth=1.2, label=f"{name}, {peak / 1e12:.3g} TFLOP/s")
    names = list(dict.fromkeys(row.name for row in measurements.rows))
    for row in measurements.rows:
        colour = COLOURS[names.index(row.name) % len(COLOURS)]
        for one in row.timings:
            if one.missing:
                continue
            x, y = row.flops / row.bytes, row.flops / one.seconds / 1e12
            axes.plot(x, y, DEVICE_MARKS[one.name.split(",")[0]], color=colour, markersize=7)
            if not one.name.startswith("torch"):
                share = y / (min(max(ceilings.values()), x * copies) / 1e12)
                axes.annotate(f" {row.name}, {one.name}: {100 * share:.0f} %", (x, y), fontsize=7, **TEXT)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    _dress(axes, f"{measurements.machine['GPU']}: copies at {copies / 1e9:.0f} GB/s")
    _roofline_labels(axes, "TFLOP/s")
    figure.supxlabel(DEVICE_SHAPES, fontsize=9, **TEXT)
    return figure


def _roofline_labels(axes: Axes, rate: str) -> None:
    axes.set_xlabel("operations a byte of input and output", **TEXT)
    axes.set_ylabel(rate, **TEXT)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=9, **LEGEND)


def _ceilings(axes: Axes, ceilings: Ceilings) -> None:
    peak = ceilings.flops / 1e9
    for size, rate, style in zip(ARRAYS, ceilings.bandwidths, (":", "--", "-"), strict=True):
        slope = rate / 1e9
        axes.plot(INTENSITY, np.minimum(peak, INTENSITY * slope), style, color=GREY, linewidth=1.2)
        start = max(0.27, 5 / slope)
        axes.text(
            start,
            1.3 * start * slope,
            f"reads {size_text(size)}, {slope:.0f} GB/s",
            rotation=np.degrees(np.arctan(slope)),
            rotation_mode="anchor",
            transform_rotates_text=True,
            fontsize=8,
            **TEXT,
        )
    axes.annotate(
        f"multiply-adds in registers, {peak:.0f} GFLOP/s",
        (4096, peak),
        ha="right",
        xytext=(0, 4),
        textcoords="offset points",
        fontsize=8,
        **TEXT,
    )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(4, 2 * peak)


def scaling(measurements: Measurements) -> Figure:
    """Draw a panel for each axis: times of ours (lines) and of the strongest peer (dashed)."""
    figure = _figure(11, 8)
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
        axes.set_ylabel("ms", **TEXT)
        if i == 0:
            figure.legend(loc="outside upper center", ncols=3, **LEGEND)
    figure.supxlabel("one thread; unless they vary, T = 431, K = 100, F = 513, B = 1", fontsize=9, color=INK)
    return figure


def pushes(measurements: Measurements) -> Figure:
    """Draw a panel for each stream: percentiles of the times of its pushes, ours and the peers'."""
    rows = [row for row in measurements.rows if row.is_stream]
    n = -(-len(rows) // 2)
    figure = _figure(11, 3.6 * n)
    panels = figure.subplots(n, 2, sharey=True, squeeze=False)
    for axes, row in zip(panels.flat, rows, strict=False):
        for one, colour in zip(row.timings, COLOURS, strict=False):
            if one.percentiles:
                axes.semilogy([1e6 * s for s in one.percentiles], "o-", color=colour, label=one.name, markersize=4)
        axes.set_xticks(range(len(PERCENTILES)), ["half", *(f"{p} %" for p in PERCENTILES[1:-1]), "all"])
        _dress(axes, f"{row.variant}, {row.dims}")
    for axes in panels[:, 0]:
        axes.set_ylabel("µs a push", **TEXT)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, **LEGEND)
    figure.supxlabel("share of the pushes that take at most this time", fontsize=9, **TEXT)
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, **TEXT)
    axes.tick_params(labelsize=9, colors=INK, labelfontfamily=FONT)
    axes.spines[["top", "right"]].set_visible(False)
