"""Pictures of a summary: classes over the hour of day, over dates, and over both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from l2i_fast.archive.summary import Days, Summary, date_of
from l2i_fast.files import write_whole
from l2i_fast.results.picture import COLOURS, FONT, GREY, INK, default_style, drawable

#: Most columns of dates; with more days, a column stands for several.
_COLUMNS = 400
#: Most dates that an axis names.
_NAMED = 6
#: Most characters of the name of a class.
_LONGEST = 40
_MARKERS = "osD^vP"


class Plot(NamedTuple):
    """A picture that was written.

    Attributes
    ----------
    file : Path
    title : str
        What it shows.
    """

    file: Path
    title: str


class _Dates(NamedTuple):
    """Columns of dates: the first day, days of a column, number of columns."""

    first: int
    step: int
    n: int


@default_style()
def write_plots(summary: Summary, target: Path) -> list[Plot]:
    """Draw the most frequent classes over time as PNG, each file whole or not at all; nothing without clock times.

    Parameters
    ----------
    summary : Summary
    target : Path
        Folder of the files ``hours.png``, ``dates.png`` and ``heat.png``.

    Returns
    -------
    list of Plot
    """
    labels = [one.label for one in summary.classes if summary.hours[one.label]][: len(COLOURS)]
    if not labels:
        return []
    days = summary.days
    step = -(-(days[-1] - days[0] + 1) // _COLUMNS)
    dates = _Dates(days[0], step, (days[-1] - days[0]) // step + 1)
    cells = {label: _cells(summary.hours[label], dates) for label in labels}
    recorded = _cells(summary.recorded, dates) / 3600
    several = f", {step} days in a column" if step > 1 else ""
    plots = {
        "hours": (
            f"Windows by hour of day ({summary.zone})",
            _lines({label: cells[label].sum(axis=1) for label in labels}, recorded.sum(axis=1), None),
        ),
        "dates": (
            f"Windows by date ({summary.zone}{several})",
            _lines({label: cells[label].sum(axis=0) for label in labels}, recorded.sum(axis=0), dates),
        ),
        "heat": (
            f"Windows by hour of day and date ({summary.zone}{several}); grey: nothing was recorded",
            _heat(cells, recorded, dates),
        ),
    }
    for name, (_, figure) in plots.items():
        write_whole(target / f"{name}.png", lambda p, figure=figure: _save(p, figure))  # type: ignore[misc]
    return [Plot(target / f"{name}.png", title) for name, (title, _) in plots.items()]


def _save(file: Path, figure: Figure) -> None:
    figure.savefig(file, format="png", metadata={"Software": None})


def _cells(days: Days, dates: _Dates) -> NDArray[np.float64]:
    """Return figures by hour of day and column of dates (24, n)."""
    cells = np.zeros((24, dates.n))
    for day, hours in days.items():
        cells[:, (day - dates.first) // dates.step] += hours
    return cells


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _lines(curves: dict[str, NDArray[np.float64]], recorded: NDArray[np.float64], dates: _Dates | None) -> Figure:
    """Draw classes over dates, or over the hour of day, and below them how much was recorded."""
    figure = _figure(10, 4.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    x = np.arange(len(recorded))
    marker = 4 if len(x) <= 60 else 0
    lines = [
        above.plot(x, y, color=colour, marker=shape, markersize=marker, linewidth=1.4)[0]
        for y, colour, shape in zip(curves.values(), COLOURS, _MARKERS, strict=False)
    ]
    _name(above, lines, list(curves))
    above.set_ylabel("windows", color=INK, family=FONT)
    above.set_ylim(bottom=0)
    above.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    below.bar(x, recorded, width=1.0 if len(x) > 60 else 0.8, color=GREY)
    below.set_ylabel("hours recorded", color=INK, family=FONT)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    if dates is None:
        below.set_xticks(range(0, 24, 2))
        below.set_xlabel("hour of day", color=INK, family=FONT)
    else:
        _date_axis(below, dates)
    return figure


def _heat(cells: dict[str, NDArray[np.float64]], recorded: NDArray[np.float64], dates: _Dates) -> Figure:
    """Draw a panel for each class: hours of day from the top down, dates from the left."""
    n_columns = min(2, len(cells))
    n_rows = -(-len(cells) // n_columns)
    figure = _figure(5 * n_columns + 1, 2.7 * n_rows + 0.4)
    panels = figure.subplots(n_rows, n_columns, squeeze=False).flat
    colours = colormaps["magma"].with_extremes(bad="#d5d5d5")
    for axes, (label, counts) in zip(panels, cells.items(), strict=False):
        known = np.where((recorded > 0) | (counts > 0), counts, np.nan)
        image = axes.imshow(known, aspect="auto", cmap=colours, vmin=0, interpolation="nearest")
        axes.set_title(_drawn(label), loc="left", fontsize=11, color=INK, family=FONT, parse_math=False)
        axes.set_yticks([0, 6, 12, 18, 23])
        axes.set_ylabel("hour of day", color=INK, family=FONT)
        _date_axis(axes, dates, _NAMED // 2)
        figure.colorbar(image, ax=axes, ticks=MaxNLocator(5, integer=True))
    for axes in panels:  # what is left of the last row
        axes.set_axis_off()
    return figure


def _date_axis(axes: Axes, dates: _Dates, most: int = _NAMED) -> None:
    places = np.unique(np.linspace(0, dates.n - 1, min(most, dates.n)).round().astype(int))
    axes.set_xticks(places, [date_of(dates.first + int(place) * dates.step) for place in places])


def _name(axes: Axes, lines: Sequence[Line2D], labels: Sequence[str]) -> None:
    """Add a legend, also with names that matplotlib takes as hidden ones or as formulas."""
    legend = axes.legend(lines, ["-"] * len(lines), fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set(text=_drawn(label), parse_math=False, fontfamily=FONT)


def _drawn(label: str) -> str:
    """Return the name of a class as pictures show it."""
    name = label.replace("_", " ")
    return drawable(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…")
