"""Pictures of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from l2i_fast.evaluation.overview import Overview
from l2i_fast.evaluation.records import SHARES
from l2i_fast.evaluation.scores import Scores
from l2i_fast.files import write_whole
from l2i_fast.metrics.bootstrap import Interval
from l2i_fast.results.picture import COLOURS, GREY, INK, default_style

Curve: TypeAlias = tuple[Sequence[float], Sequence[float]]

#: Line styles tell methods apart that share a colour.
_STYLES = ("-", "--", ":", "-.")


@default_style()
def write_plots(folder: Path, scores: Scores, titles: Mapping[str, str], views: Mapping[str, Overview]) -> None:
    """Draw scores at equal shares, separation, likeness under random weights, and the global view of each part."""
    if any(f"AI_at_{SHARES[0]:g}" in figures for figures in scores.get("clean", {}).values()):
        _save(folder / "kept.png", _kept(scores["clean"], titles))
    for experiment in ("noise", "mixture", "labels"):
        if any("ratio_gain" in figures for figures in scores.get(experiment, {}).values()):
            _save(folder / f"separation-{experiment}.png", _separation(experiment, scores, titles))
    if "sanity" in scores:
        _save(folder / "sanity.png", _sanity(scores, titles))
    for part, view in views.items():
        _save(folder / f"relevance-{part.replace('/', '-')}.png", _relevance(view))


def _save(file: Path, figure: Figure) -> None:
    write_whole(file, lambda p: figure.savefig(p, format="png", metadata={"Software": None}))


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _lines(axes: Axes, methods: Sequence[str], titles: Mapping[str, str], values: Callable[[str], Curve]) -> None:
    for i, method in enumerate(methods):
        x, y = values(method)
        (line,) = axes.plot(x, y, label=titles[method], marker="o", markersize=3, linewidth=1.4)
        line.set(color=COLOURS[i % len(COLOURS)], linestyle=_STYLES[i // len(COLOURS) % len(_STYLES)])
    axes.spines[["top", "right"]].set_visible(False)


def _kept(methods: Mapping[str, Mapping[str, Interval]], titles: Mapping[str, str]) -> Figure:
    figure = _figure(12, 4)
    panels = figure.subplots(1, 3)
    curved = [name for name, figures in methods.items() if f"AI_at_{SHARES[0]:g}" in figures]
    heads = {"AI": "AI: the kept part raises the probability (%)", "AD": "AD: drop in the kept part (%)"}
    heads["FF"] = "FF: drop without the kept part"
    for axes, (name, head) in zip(panels, heads.items(), strict=True):

        def values(method: str, name: str = name) -> Curve:
            return SHARES, [methods[method][f"{name}_at_{share:g}"].estimate for share in SHARES]

        _lines(axes, curved, titles, values)
        axes.set_title(head, loc="left", fontsize=10, color=INK)
        axes.set_xlabel("share of the log magnitude that is kept", color=INK)
    panels[-1].legend(fontsize=7, frameon=False)
    return figure


def _separation(experiment: str, scores: Scores, titles: Mapping[str, str]) -> Figure:
    methods = {name: f for name, f in scores[experiment].items() if "ratio_gain" in f}
    figure = _figure(8, 1 + 0.35 * len(methods))
    axes = figure.subplots()
    for row, figures in enumerate(methods.values()):
        value = figures["ratio_gain"]
        axes.plot([value.low, value.high], [row, row], color=GREY, linewidth=3, solid_capstyle="round")
        axes.plot(value.estimate, row, "o", color=COLOURS[0])
    axes.set_yticks(range(len(methods)), [titles[name] for name in methods])
    axes.invert_yaxis()
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("gain in the ratio of target to disturbance (dB, median)", color=INK)
    axes.set_title(experiment, loc="left", fontsize=11, color=INK)
    return figure


def _sanity(scores: Scores, titles: Mapping[str, str]) -> Figure:
    figure = _figure(8, 4.5)
    axes = figure.subplots()
    methods = scores["sanity"]
    names = {m: [name for name in figures if name.startswith("spearman")] for m, figures in methods.items()}

    def values(method: str) -> Curve:
        shares = [float(name.rpartition("_")[2]) for name in names[method]]
        return shares, [methods[method][name].estimate for name in names[method]]

    _lines(axes, list(methods), titles, values)
    axes.set_xlabel("share of the layers with random weights, from the output on", color=INK)
    axes.set_title("Rank correlation with the explanation by trained weights", loc="left", fontsize=11, color=INK)
    axes.legend(fontsize=7, frameon=False)
    return figure


def _relevance(view: Overview) -> Figure:
    figure = _figure(13, 8)
    top, below = figure.subplots(2, 1)
    image = top.imshow(np.maximum(view.relevance, 0), aspect="auto", cmap="magma", vmin=0, interpolation="nearest")
    top.set_yticks(range(len(view.classes)), view.classes)
    top.set_xlabel("component", color=INK)
    top.set_title("Mean relevance of each component for each class", loc="left", fontsize=11, color=INK)
    figure.colorbar(image, ax=top)
    for i, label in enumerate(view.classes):
        chosen = np.array([(one.x, one.y) for one in view.recordings if one.label == label])
        marker = "osD^"[i // len(COLOURS) % 4]
        below.scatter(*chosen.T, s=18, color=COLOURS[i % len(COLOURS)], marker=marker, label=label)
    below.set_title("Recordings by the relevance of their components", loc="left", fontsize=11, color=INK)
    below.legend(fontsize=8, frameon=False, bbox_to_anchor=(1, 1))
    below.spines[["top", "right"]].set_visible(False)
    return figure
