"""Global views on pages: what the page is told of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from l2i_fast.evaluation.overview import Overview, Recording
from l2i_fast.explainers import EqualEnergy, ListenToInterpret
from l2i_fast.model import L2I
from l2i_fast.page import PageSample
from l2i_fast.page.builder import write_page
from l2i_fast.page.contents import Section
from l2i_fast.page.views import heard_track, view_block

VIEW = Overview(
    "run",
    ["dog", "rain"],
    np.array([[0.5, 0, -0.25, 0], [0, 1, 0, 0]]),
    [
        Recording("a", "rain", ("rain",), True, 0.5, 1.0),
        Recording("b", "rain", ("dog",), False, 0.0, 1.0),
        Recording("c", "dog", ("dog",), True, 0.0, -1.0),
    ],
    np.ones((5, 4), np.float32),
    {"sample_rate": 8000, "n_fft": 8, "hop_length": 4},
)


def track(relevance: list[float], dictionary: str = "W", threshold: float = 0.2) -> dict[str, Any]:
    selection = {"relevance": relevance, "threshold": threshold}
    return {"id": f"track-of-{dictionary}", "selection": selection, "live": {"dictionary": dictionary}}


def test_components_are_heard_where_they_are_most_relevant() -> None:
    heard = {"a": track([0.9, 0.3, 0.2, -1]), "c": track([0.5, 0.6, 0.1, -1])}
    block = view_block(VIEW, "W", {"a": "1-1-a", "c": "1-2-c"}, heard)
    assert block["heard"] == [
        {"recording": 0, "track": "track-of-W"},
        {"recording": 2, "track": "track-of-W"},
        None,  # not above the threshold
        None,
    ]
    assert block["counts"] == [1, 2]
    assert [one["sample"] for one in block["recordings"]] == ["1-1-a", None, "1-2-c"]
    assert block["recordings"][1] == {
        "name": "b",
        "label": "rain",
        "true": ("dog",),
        "correct": False,
        "x": 0.0,
        "y": 1.0,
        "sample": None,
    }
    assert (block["rate"], block["analysis"]) == (8000, {"nFft": 8, "hop": 4})
    json.dumps(block, allow_nan=False)


def test_components_of_another_dictionary_are_not_heard() -> None:
    heard = {"a": track([0.9, 0.3, 0, 0], "other"), "c": track([0.5, 0.1, 0, 0])}
    block = view_block(VIEW, "W", {}, heard)
    assert block["heard"] == [{"recording": 2, "track": "track-of-W"}, None, None, None]
    assert view_block(VIEW, "W", {}, {})["heard"] == [None] * 4


@pytest.mark.parametrize("found", [["equal-energy", "l2i"], ["l2i", "equal-energy"], ["equal-energy"]])
def test_the_track_of_l2i(tiny_model: L2I, rng: np.random.Generator, found: list[str]) -> None:
    recording = [(rng.uniform(-1, 1, 2000).astype(np.float32), 44100)]
    methods = {"l2i": ListenToInterpret(tiny_model), "equal-energy": EqualEnergy(tiny_model)}
    sample = PageSample("a", "A", (), [methods[name].explain(recording, ["rain"])[0] for name in found])
    tracks: list[dict[str, Any]] = [{"id": "input"}, *({"id": f"result-{i}-1", "live": {}} for i in (1, 2))]
    wanted = tracks[1 + found.index("l2i")] if "l2i" in found else None
    assert heard_track(sample, tracks) is wanted


def test_pages_without_views_have_no_global_view(tiny_model: L2I, rng: np.random.Generator, tmp_path: Any) -> None:
    result = ListenToInterpret(tiny_model).explain([(rng.uniform(-1, 1, 2000).astype(np.float32), 44100)])[0]
    section = Section("One", "", [PageSample("a", "A", (), [result])])
    assert "Global view" not in write_page([section], tmp_path / "a").read_text()
    with_view = Section("One", "", section.samples, None, {"model": VIEW})
    text = write_page([with_view], tmp_path / "b").read_text()
    assert text.count(">Global view</a>") == text.count(">Global view</h2>") == 1
    assert {path.name for path in (tmp_path / "b").glob("data-*")} >= {"data-view-1-1.js"}
    assert len(list((tmp_path / "b").glob("data-dictionary-*"))) == 2
