"""Global views on a page: the components of each model, and the recordings in which they can be heard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from l2i_fast.evaluation.overview import Overview
from l2i_fast.page.contents import PageSample


def heard_track(sample: PageSample, tracks: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the track of a sample in which the page can decode L2I's components; None without one."""
    numbers = [i for i, result in enumerate(sample.results, 1) if result.method == "l2i"]
    wanted = {f"result-{i}-1" for i in numbers}
    return next((track for track in tracks if track["id"] in wanted and "live" in track), None)


def view_block(
    view: Overview, dictionary: str, samples: Mapping[str, str], heard: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return what the page needs to show a view.

    A component is heard in the recording of the page in which it is most relevant, by the model's own components, and
    at more than the threshold from which an explanation takes components.

    Parameters
    ----------
    view : Overview
    dictionary : str
        Block of the view's dictionary.
    samples : mapping of str to str
        Blocks of the section's samples, by the names of these.
    heard : mapping of str to dict
        Their tracks with components of L2I, by the same names.

    Returns
    -------
    dict
        ``heard`` holds a place for each component: index of the recording and the track, or None.
    """
    # A recording of the same name may be explained by another model: its components are others.
    tracks = {
        i: heard[one.name]
        for i, one in enumerate(view.recordings)
        if one.name in heard and heard[one.name]["live"]["dictionary"] == dictionary
    }
    places: list[dict[str, Any] | None] = []
    for k in range(view.relevance.shape[1]):
        relevance = {i: track["selection"]["relevance"][k] for i, track in tracks.items()}
        best = max(relevance, key=lambda i: relevance[i], default=None)
        relevant = best is not None and relevance[best] > tracks[best]["selection"]["threshold"]
        places.append({"recording": best, "track": tracks[best]["id"]} if best is not None and relevant else None)
    return {
        "classes": view.classes,
        "counts": [sum(one.label == label for one in view.recordings) for label in view.classes],
        "relevance": view.relevance.tolist(),
        "dictionary": dictionary,
        "rate": view.analysis["sample_rate"],
        "analysis": {"nFft": view.analysis["n_fft"], "hop": view.analysis["hop_length"]},
        "recordings": [{**one._asdict(), "sample": samples.get(one.name)} for one in view.recordings],
        "heard": places,
    }
