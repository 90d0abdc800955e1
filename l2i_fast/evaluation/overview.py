"""The global view: which components speak for which class, and a map of the recordings by relevance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from l2i_fast.files import write_whole
from l2i_fast.settings import read_json

if TYPE_CHECKING:  # a page reads views without the libraries of the evaluation
    from l2i_fast.evaluation.models import Part
    from l2i_fast.evaluation.records import Record

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class Recording(NamedTuple):
    """A recording on the map.

    Attributes
    ----------
    name : str
    label : str
        The class that is explained, the most probable one.
    true : tuple of str
    correct : bool
        Whether the prediction is right.
    x, y : float
        Its place on the two main axes of the relevances.
    """

    name: str
    label: str
    true: tuple[str, ...]
    correct: bool
    x: float
    y: float


class Overview(NamedTuple):
    """Relevance over the recordings that one model explains.

    Attributes
    ----------
    run : str
        The model or cross-validation that the model belongs to.
    classes : list of str
        The classes that are explained in at least one recording.
    relevance : ndarray (C, K)
        Mean relevance of each component over the recordings in which each of `classes` is explained.
    recordings : list of Recording
    dictionary : ndarray (F, K), float32
        W, of the model's own components: no other model's relevance belongs to them.
    analysis : dict
        ``sample_rate`` in Hz, ``n_fft`` and ``hop_length`` in samples.
    """

    run: str
    classes: list[str]
    relevance: Float64
    recordings: list[Recording]
    dictionary: Float32
    analysis: dict[str, int]


def overview(records: Sequence[Record], parts: Sequence[Part]) -> dict[str, Overview]:
    """Return the global view of each part, since each has a dictionary of its own, by L2I on clean recordings."""
    views = {}
    for part in parts:
        rows = [row for row in records if (row["experiment"], row["method"]) == ("clean", "l2i")]
        rows = [row for row in rows if row["part"] == part.name]
        if not rows:
            continue
        r = np.array([row["relevance"] for row in rows], np.float64)
        classes = sorted({row["target"] for row in rows})
        mean = np.array([r[[row["target"] == c for row in rows]].mean(axis=0) for c in classes])
        recordings = [
            Recording(row["sample"], row["target"], tuple(row["true"]), row["correct"], float(x), float(y))
            for row, (x, y) in zip(rows, places(np.maximum(r, 0)), strict=True)
        ]
        settings = part.model.settings
        analysis = {name: settings[name] for name in ("sample_rate", "n_fft", "hop_length")}
        views[part.name] = Overview(part.run, classes, mean, recordings, part.model.dictionary, analysis)
    return views


def places(x: Float64) -> Float64:
    """Return rows of `x` (N, K) on their two principal axes, as (N, 2); axes that they lack are 0.

    An axis and its opposite explain the same, so each points to where its coordinate of largest magnitude is positive.
    """
    centred = x - x.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    axes *= np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1))
    found = np.zeros((len(x), 2))
    found[:, : len(axes)] = centred @ axes.T
    return found


def write_overviews(output: Path, views: Mapping[str, Overview]) -> None:
    """Write the views of the parts as global.json, and their dictionaries as global.safetensors."""
    dictionaries = save({name: np.ascontiguousarray(view.dictionary) for name, view in views.items()})
    text = json.dumps({name: _to_dict(view) for name, view in views.items()}, indent=1, allow_nan=False)
    write_whole(output / "global.safetensors", lambda p: p.write_bytes(dictionaries))
    write_whole(output / "global.json", lambda p: p.write_text(text + "\n"))


def read_overviews(output: Path) -> dict[str, Overview]:
    """Return the views that `write_overviews` wrote; none where an evaluation has not been finished.

    Raises
    ------
    ValueError
        Files that are damaged, or not of the same evaluation.
    """
    if not (output / "global.safetensors").is_file():
        return {}
    try:
        dictionaries = load((output / "global.safetensors").read_bytes())
        contents = read_json(output / "global.json")
        return {name: _from_dict(values, dictionaries[name]) for name, values in contents.items()}
    except (AttributeError, KeyError, TypeError, ValueError, SafetensorError) as error:
        what = f"there is no entry {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"the global view in {output} is damaged ({what}): run l2i evaluate again") from error


def _to_dict(view: Overview) -> dict[str, Any]:
    """Return plain values for JSON, numbers with three digits."""
    return {
        "run": view.run,
        "analysis": view.analysis,
        "classes": view.classes,
        "relevance": [[_rounded(r) for r in row] for row in view.relevance],
        "map": [
            {
                "name": one.name,
                "class": one.label,
                "true": list(one.true),
                "correct": one.correct,
                "x": _rounded(one.x),
                "y": _rounded(one.y),
            }
            for one in view.recordings
        ],
    }


def _from_dict(values: Mapping[str, Any], dictionary: Float32) -> Overview:
    relevance = np.array(values["relevance"], np.float64)
    needed = len(values["classes"]), dictionary.shape[1]
    if relevance.shape != needed:
        raise ValueError(f"relevance has shape {relevance.shape}, but must have {needed}")
    recordings = [
        Recording(one["name"], one["class"], tuple(one["true"]), one["correct"], one["x"], one["y"])
        for one in values["map"]
    ]
    return Overview(values["run"], values["classes"], relevance, recordings, dictionary, values["analysis"])


def _rounded(x: float) -> float:
    return round(float(x), 3) + 0.0  # no -0.0
