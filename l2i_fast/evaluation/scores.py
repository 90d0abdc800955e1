"""Scores over many records, each with its confidence interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from l2i_fast.evaluation.records import SHARES, Record
from l2i_fast.metrics.bootstrap import Interval, interval
from l2i_fast.metrics.calibration import calibration_error
from l2i_fast.metrics.faithfulness import average_drop, average_increase
from l2i_fast.metrics.fidelity import multilabel

#: Scores by experiment, method and figure.
Scores = dict[str, dict[str, dict[str, Interval]]]


@dataclass(frozen=True)
class Figure:
    """A figure of a table.

    Attributes
    ----------
    name : str
        Its key in scores.json.
    head : str
        Its heading.
    value : callable
        From a record to the value, or None where it is not defined.
    statistic : callable
        Over the values of all recordings.
    digits : int
        Decimals in tables.
    """

    name: str
    head: str
    value: Callable[[Record], float | None]
    statistic: Callable[..., Any] = np.mean
    digits: int = 2


def _column(name: str, factor: float = 1.0) -> Callable[[Record], float | None]:
    return lambda row: None if row.get(name) is None else factor * float(row[name])


def _top(k: int) -> Callable[[Record], float | None]:
    return lambda row: None if row.get("rank") is None else float(row["rank"] < k)


#: What is scored, in the order of tables. Separation and localisation count recordings whose class is heard.
FIGURES: tuple[Figure, ...] = (
    Figure("accuracy", "accuracy", _column("correct")),
    Figure("confidence", "confidence", _column("confidence")),
    *(Figure(f"fidelity_top{k}", f"fidelity top-{k}", _top(k)) for k in (1, 3, 5)),
    Figure("AI", "AI", _column("AI", 100), digits=0),
    Figure("AD", "AD", _column("AD", 100), digits=1),
    Figure("AG", "AG", _column("AG", 100), digits=1),
    Figure("FF", "FF", _column("FF")),
    Figure("Fid-In", "Fid-In", _column("Fid-In")),
    Figure("kept", "kept", _column("kept")),
    Figure("sparseness", "sparseness", _column("sparseness")),
    Figure("complexity", "complexity", _column("complexity")),
    Figure("target_kept", "target kept (dB)", _column("target_kept"), np.median, 1),
    Figure("disturbance_kept", "disturbance kept (dB)", _column("disturbance_kept"), np.median, 1),
    Figure("ratio_gain", "ratio gain (dB)", _column("ratio_gain"), np.median, 1),
    Figure("si_sdr_gain", "SI-SDR gain (dB)", _column("si_sdr_gain"), np.median, 1),
    *(
        Figure(name, head, _column(name))
        for name, head in (
            ("iou", "IoU"),
            ("f1", "F1"),
            ("event_f1", "event F1"),
            ("pointing", "pointing"),
        )
    ),
    Figure("opening", "opening (ms)", _column("opening", 1000), np.median, 0),
)


def score(records: Sequence[Record], seed: int = 0) -> Scores:
    """Return all figures of all methods and experiments, with intervals of 95 % over the clips behind the recordings.

    Figures without a value in any record are left out.
    """
    scores: Scores = {}
    for experiment in dict.fromkeys(row["experiment"] for row in records):
        of_experiment = [row for row in records if row["experiment"] == experiment]
        scores[experiment] = {}
        for method in dict.fromkeys(row["method"] for row in of_experiment):
            rows = [row for row in of_experiment if row["method"] == method]
            found = _sanity(rows, seed) if experiment == "sanity" else _figures(rows, seed)
            scores[experiment][method] = found
    return scores


def _figures(rows: Sequence[Record], seed: int) -> dict[str, Interval]:
    sources = [row["source"] for row in rows]
    found = {}
    for figure in FIGURES:
        values = [figure.value(row) for row in rows]
        x = np.array([np.nan if v is None else v for v in values], np.float64)
        if not np.isnan(x).all():
            found[figure.name] = interval(x, figure.statistic, seed=seed, groups=sources)
    confidence, correct = ([row[name] for row in rows] for name in ("confidence", "correct"))
    error = calibration_error(confidence, correct)
    found["calibration_error"] = Interval(error, np.nan, np.nan, len(rows))
    found |= _several_labels(rows) | _curves(rows, seed) | _spread(rows)
    return found


def _several_labels(rows: Sequence[Record]) -> dict[str, Interval]:
    """Return AUPRC and F1 of the method's own classifier, where the network decides on any number of classes."""
    if not all("own_probabilities" in row for row in rows) or all(len(row["predicted"]) == 1 for row in rows):
        return {}
    agreement = multilabel([row["own_probabilities"] for row in rows], [row["decided"] for row in rows])
    n = len(rows)
    return {
        "AUPRC_macro": Interval(agreement.macro, np.nan, np.nan, n),
        "AUPRC_micro": Interval(agreement.micro, np.nan, np.nan, n),
        "max_F1": Interval(agreement.max_f1, np.nan, np.nan, n),
    }


def _curves(rows: Sequence[Record], seed: int) -> dict[str, Interval]:
    """Return AI, AD and FF at equal shares of what is kept."""
    curved = [row for row in rows if "curve_kept" in row]
    if not curved:
        return {}
    p = np.array([row["confidence"] for row in curved])
    kept, removed = (np.array([row[name] for row in curved]) for name in ("curve_kept", "curve_removed"))
    sources = [row["source"] for row in curved]
    found = {}
    for i, share in enumerate(SHARES):
        values = {
            "AI": 100 * average_increase(p, kept[:, i]),
            "AD": 100 * average_drop(p, kept[:, i]),
            "FF": p - removed[:, i],
        }
        for name, x in values.items():
            found[f"{name}_at_{share:g}"] = interval(x, seed=seed, groups=sources)
    return found


def _spread(rows: Sequence[Record]) -> dict[str, Interval]:
    """Return the standard deviation of figures over several runs, such as those of several seeds."""
    runs = list(dict.fromkeys(row["run"] for row in rows))
    if len(runs) < 2:
        return {}
    found = {}
    for figure in FIGURES:
        values = [[figure.value(row) for row in rows if row["run"] == run] for run in runs]
        defined = [[v for v in one if v is not None and not np.isnan(v)] for one in values]
        if all(defined):
            deviation = float(np.std([figure.statistic(x) for x in defined], ddof=1))
            found[f"{figure.name}_between_runs"] = Interval(deviation, np.nan, np.nan, len(runs))
    return found


def _sanity(rows: Sequence[Record], seed: int) -> dict[str, Interval]:
    """Return, for each share of layers with random weights, how alike explanations are, what they keep and gain."""
    found = {}
    for share in sorted({row["randomized"] for row in rows}):
        chosen = [row for row in rows if row["randomized"] == share]
        groups = [row["source"] for row in chosen]
        for name in ("spearman", "ssim", "kept", "ratio_gain"):
            x = np.array([row.get(name, np.nan) for row in chosen], np.float64)
            if not np.isnan(x).all():
                statistic = np.median if name == "ratio_gain" else np.mean
                found[f"{name}_at_{share:.2f}"] = interval(x, statistic, seed=seed, groups=groups)
    return found


def to_json(scores: Scores) -> dict[str, Any]:
    """Return scores as plain values for JSON; what is not defined becomes None."""
    return {
        experiment: {
            method: {name: _plain(value) for name, value in figures.items()} for method, figures in methods.items()
        }
        for experiment, methods in scores.items()
    }


def _plain(value: Interval) -> dict[str, Any]:
    return {name: None if isinstance(x, float) and np.isnan(x) else x for name, x in value._asdict().items()}
