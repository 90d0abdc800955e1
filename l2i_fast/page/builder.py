"""The listening page: recordings beside their interpretations, which it decodes anew as its reader asks."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2i_fast.arguments import is_several, shown
from l2i_fast.audio import as_mono_float32
from l2i_fast.defaults import default_settings
from l2i_fast.explainers import EXPLAINERS
from l2i_fast.page.contents import PageSample, Section
from l2i_fast.page.document import write_document
from l2i_fast.page.packing import pack_floats, pack_samples
from l2i_fast.page.views import heard_track, view_block
from l2i_fast.results import Explanation, Result

Float32 = NDArray[np.float32]

LEGEND = (
    "Above: relevance of every component to the class, and the threshold. Below: the most relevant ones, each with its "
    "spectrum from low to high (left) and its activations over time (right)."
)


@default_settings()
def write_page(
    sections: Sequence[Section],
    output: str | os.PathLike[str],
    title: str = "Listen to Interpret",
    one_file: bool = False,
) -> Path:
    """Write a page to listen to, as a folder or one file that works from disk and asks nothing of the network.

    Interpretations by components are not stored: the page holds input, dictionary and activations, and decodes them
    itself. Other sounds have 16 bits. The same input gives the same bytes, as long as zlib is the same.

    Parameters
    ----------
    sections : sequence of Section
    output : path-like
        A folder, which is made if missing, or with `one_file` a file whose name ends in .html.
    title : str
        Heading of the page.
    one_file : bool
        Write one HTML file instead of a folder.

    Returns
    -------
    Path
        The HTML file to open.

    Raises
    ------
    ValueError
        A sample without results, results of different inputs, parts that are not as long as the input, or one file with
        another ending.
    TypeError
        Anything but sections.
    OSError
        If the page cannot be written.
    """
    if not is_several(sections) or not all(isinstance(section, Section) for section in sections):
        raise TypeError(f"sections is {shown(sections)}, but must be a list of Section")
    blocks: dict[str, Any] = {}
    shown_sections = [_section(section, str(i), blocks) for i, section in enumerate(sections, 1)]
    return write_document(
        "page.html",
        {"title": title, "sections": shown_sections},
        output,
        styles=["style.css"],
        scripts=["data.js", "engine.js", "player.js", "drawing.js", "overview.js", "app.js"],
        blocks=blocks,
        one_file=one_file,
    )


def _section(section: Section, place: str, blocks: dict[str, Any]) -> dict[str, Any]:
    """Add the data of a section to `blocks`, and return what the template shows."""
    samples, names, heard = [], {}, {}
    for j, sample in enumerate(section.samples, 1):
        samples.append(_sample(sample, f"{place}-{j}", blocks))
        names[sample.name] = samples[-1]["name"]
        if track := heard_track(sample, blocks[names[sample.name]]["tracks"]):
            heard[sample.name] = track
    views = []
    for j, (title, view) in enumerate(section.views.items(), 1):
        views.append({"name": f"view-{place}-{j}", "title": title})
        blocks[views[-1]["name"]] = view_block(view, _dictionary(view.dictionary, blocks), names, heard)
    return {
        "title": section.title,
        "paragraphs": [paragraph for paragraph in re.split(r"\n\s*\n", section.text.strip()) if paragraph],
        "table": section.table,
        "samples": samples,
        "views": views,
    }


def _sample(sample: PageSample, place: str, blocks: dict[str, Any]) -> dict[str, Any]:
    """Add the data of a sample to `blocks`, and return what the template shows."""
    first = _check(sample)
    tracks: list[dict[str, Any]] = [{"id": "input", "title": "Input", "audio": pack_samples(first.input, exact=True)}]
    for i, (title, samples) in enumerate(sample.parts.items(), 1):
        tracks.append({"id": f"part-{i}", "title": title, "audio": pack_samples(_part(samples, title, sample))})
    arrays: dict[str, Any] = {}
    for i, result in enumerate(sample.results, 1):
        for j, explanation in enumerate(result.explanations, 1):
            track = {"id": f"result-{i}-{j}", "title": _title(result, explanation), "kept": _kept(result, explanation)}
            tracks.append(track | _interpretation(result, explanation, arrays, blocks))
    name = f"{place}-{re.sub(r'[^a-z0-9]+', '-', sample.name.lower()).strip('-')[:60] or 'sample'}"
    blocks[name] = {"rate": first.sample_rate, "tracks": tracks, "arrays": arrays, "analysis": _analysis(first)}
    return {
        "name": name,
        "title": sample.title,
        "note": sample.note,
        "seconds": len(first.input) / first.sample_rate,
        "predicted": [_with_probability(label, first) for label in first.prediction],
        "true": [_with_probability(label, first) for label in sample.true],
        "right": set(sample.true) == set(first.prediction),
        "tracks": [
            {"id": track["id"], "title": track["title"], "kept": track.get("kept")}
            | dict(zip(("panel", "legend"), _panel(track), strict=True))
            for track in tracks
        ],
    }


def _check(sample: PageSample) -> Result:
    """Return the first result of a sample whose results are all of one input."""
    if not isinstance(sample, PageSample):
        raise TypeError(f"samples holds {shown(sample)}, but must hold PageSample only")
    if not sample.results:
        raise ValueError(f"results of {sample.name!r} is empty, but must hold at least one Result")
    first = sample.results[0]
    for result in sample.results[1:]:
        if result.sample_rate != first.sample_rate or not np.array_equal(result.input, first.input):
            raise ValueError(f"results of {sample.name!r} holds different inputs, but all must have the same input")
    return first


def _part(samples: Any, title: str, sample: PageSample) -> Float32:
    y, needed = as_mono_float32(samples, title), len(sample.results[0].input)
    if len(y) != needed:
        raise ValueError(f"the part {title!r} of {sample.name!r} has length {len(y)}, but must have {needed} samples")
    return y


def _interpretation(
    result: Result, explanation: Explanation, arrays: dict[str, Any], blocks: dict[str, Any]
) -> dict[str, Any]:
    """Return the sound of an explanation, or the selection of components that the page decodes it from."""
    selection = {
        "relevance": [float(r) for r in explanation.relevance],
        "components": list(explanation.components),
        "threshold": result.settings.get("threshold"),
        "topK": result.settings.get("top_k"),
    }
    if not len(result.activations) or explanation.mask is not None:
        return {"audio": pack_samples(explanation.audio), "selection": selection}
    activations = _key(result.activations)
    arrays.setdefault(activations, pack_floats(result.activations))
    live = {"dictionary": _dictionary(result.dictionary, blocks), "activations": activations}
    return {"selection": selection, "live": live | {"domain": result.settings["domain"]} | _analysis(result)}


def _dictionary(W: Float32, blocks: dict[str, Any]) -> str:
    """Add a dictionary (F, K) to `blocks` once, and return the name of its block."""
    name = f"dictionary-{_key(W.T)}"
    blocks.setdefault(name, pack_floats(W.T))
    return name


def _analysis(result: Result) -> dict[str, Any]:
    settings = result.settings
    return {"nFft": settings["n_fft"], "hop": settings["hop_length"], "peak": settings["peak"]}


def _key(x: Float32) -> str:
    """Return a name for an array that depends on its contents only."""
    return hashlib.sha256(repr(x.shape).encode() + np.ascontiguousarray(x).tobytes()).hexdigest()[:12]


def _title(result: Result, explanation: Explanation) -> str:
    explainer = EXPLAINERS.get(result.method)
    title = explainer.title if explainer else result.method
    return f"{title}: {explanation.label}" if len(result.explanations) > 1 else title


def _kept(result: Result, explanation: Explanation) -> float | None:
    """Return the share of the log magnitude that an explanation keeps, None where its mask is not known."""
    if explanation.mask is None and not len(result.activations):
        return None
    return result.kept(explanation)


def _panel(track: dict[str, Any]) -> tuple[str, str]:
    """Return heading and legend of the panel with what a track is made of; they are empty where it has none."""
    title = track["title"]
    if "live" in track:
        return f"{title} – components", LEGEND
    return (f"{title} – relevance", "") if track.get("selection", {}).get("relevance") else ("", "")


def _with_probability(label: str, result: Result) -> tuple[str, float | None]:
    known = label in result.labels
    return label, float(result.probabilities[result.labels.index(label)]) if known else None
