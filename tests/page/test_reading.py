"""Sections from folders of evaluations and interpretations, and what is wrong with other folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2i_fast.audio import write_audio
from l2i_fast.evaluation.overview import Overview, Recording, write_overviews
from l2i_fast.evaluation.tables import Table as ScoreTable
from l2i_fast.evaluation.tables import to_csv, to_markdown
from l2i_fast.explainers import Constant, Loudest
from l2i_fast.model import L2I
from l2i_fast.page import Section, Table, read_sections, write_page
from l2i_fast.results import Result

from ..helpers import refused

Keep = Callable[..., Path]


@pytest.fixture(scope="module")
def results(tiny_model: L2I) -> dict[str, Result]:
    """Results of three methods for one recording."""
    recording = [(np.random.default_rng(3).uniform(-0.5, 0.5, 2000).astype(np.float32), 44100)]
    found = [method.for_model(tiny_model).explain(recording, ["rain"])[0] for method in (Constant, Loudest)]
    return {result.method: result for result in (tiny_model.interpret(recording[0], targets=["rain"]), *found)}


@pytest.fixture
def keep(results: dict[str, Result], tmp_path: Path) -> Keep:
    """Writes a sample as `l2i evaluate` does; returns its folder."""

    def write(place: str, methods: Sequence[str] = ("loudest", "l2i", "constant"), **changes: Any) -> Path:
        home = tmp_path / "out" / "samples" / place
        for method in methods:
            results[method].save(home / method)
        write_audio(home / "target.wav", results["l2i"].input / 2, 44100)
        description = {
            "experiment": home.parent.name,
            "name": home.name,
            "true": ["rain", "dog"],
            "note": "a note",
            "sample_rate": 44100,
            "parts": {"target": "target.wav"},
            "methods": list(methods),
        }
        (home / "sample.json").write_text(json.dumps(description | changes))
        return home

    return write


def test_an_evaluation_gives_a_section_for_each_experiment(
    keep: Keep, results: dict[str, Result], tmp_path: Path
) -> None:
    for place in ("unheard-of", "noise", "clean"):
        keep(f"{place}/run/second")
    keep("clean/run/first", ["constant"])
    sections = read_sections([tmp_path / "out"])
    assert [section.title for section in sections] == ["Recordings as they are", "In white noise", "Unheard of"]
    assert [[sample.title for sample in section.samples] for section in sections] == [
        ["first", "second"],
        ["second"],
        ["second"],
    ]
    sample = sections[0].samples[1]
    assert sample.true == ("rain", "dog")
    assert sample.note == "a note"
    assert [result.method for result in sample.results] == ["loudest", "l2i", "constant"]
    for result in sample.results:
        assert np.array_equal(result.audio, results[result.method].audio)
    assert list(sample.parts) == ["Target"]
    assert np.array_equal(sample.parts["Target"], results["l2i"].input / 2)


def test_tables_of_scores_stand_above_the_samples(keep: Keep, tmp_path: Path) -> None:
    home = keep("clean/run/one", ["constant"])
    tables = home.parents[3] / "tables"
    tables.mkdir()
    made = ScoreTable("clean", "clean: 3 recordings", ["method", "AI"], [["A & <b>B</b>, c", "56 [50, 61]"]])
    for name in ("clean", "cost", "equal-shares"):
        (tables / f"{name}.csv").write_text(to_csv(made))
        (tables / f"{name}.md").write_text(to_markdown(made))
    clean, equal, cost = read_sections([tmp_path / "out"])
    assert clean.table == Table("clean: 3 recordings", ["method", "AI"], [["A & <b>B</b>, c", "56 [50, 61]"]])
    assert (equal.title, cost.title, len(cost.samples)) == ("At equal shares", "Cost", 0)
    page = write_page([clean, cost], tmp_path / "page").read_text()
    assert page.count('<th scope="row">A &amp; &lt;b&gt;B&lt;/b&gt;, c</th>') == 2
    assert "<td>56 <small>[50, 61]</small></td>" in page
    assert '<th scope="col">AI</th>' in page


def test_runs_of_one_experiment_are_told_apart(keep: Keep, tmp_path: Path) -> None:
    keep("clean/seed-0/clip", ["l2i"])
    keep("clean/seed-1/clip", ["l2i"])
    keep("noise/clip", ["l2i"])
    clean, noise = read_sections([tmp_path / "out"])
    assert [sample.title for sample in clean.samples] == ["clip (seed-0)", "clip (seed-1)"]
    assert len({sample.name for sample in clean.samples}) == 2
    assert [sample.title for sample in noise.samples] == ["clip"]


def test_global_views_belong_to_the_clean_recordings(keep: Keep, tmp_path: Path) -> None:
    for place in ("clean/seed-0/clip", "noise/seed-0/clip"):
        keep(place, ["l2i", "constant"])
    recording = Recording("clip", "rain", ("rain",), True, 0.0, 0.0)
    dictionary = np.ones((5, 2), np.float32)
    views = {
        f"seed-{i}/fold1": Overview(f"seed-{i}", ["rain"], np.ones((1, 2)), [recording], dictionary, {})
        for i in range(2)
    }
    write_overviews(tmp_path / "out", views)

    def names(section: Section) -> dict[str, list[str]]:
        return {part: [one.name for one in view.recordings] for part, view in section.views.items()}

    clean, noise = read_sections([tmp_path / "out"])
    assert names(clean) == {"seed-0/fold1": ["clip"], "seed-1/fold1": ["clip"]}
    assert [sample.name for sample in clean.samples] == ["clip"]
    assert noise.views == {}
    keep("clean/seed-1/clip", ["l2i"])
    clean, _ = read_sections([tmp_path / "out"])
    assert names(clean) == {"seed-0/fold1": ["seed-0-clip"], "seed-1/fold1": ["seed-1-clip"]}
    assert [sample.name for sample in clean.samples] == ["seed-0-clip", "seed-1-clip"]
    clean, _ = read_sections([tmp_path / "out"], ["constant"])
    assert clean.views == {}


def test_only_the_methods_that_are_asked_for(keep: Keep, tmp_path: Path) -> None:
    keep("clean/run/one")
    keep("noise/run/two", ["l2i"])
    (section,) = read_sections([tmp_path / "out"], ["constant", "loudest"])
    (sample,) = section.samples
    assert [result.method for result in sample.results] == ["loudest", "constant"]
    with refused(ValueError, "method is 'lime', but must be one of constant, l2i, loudest"):
        read_sections([tmp_path / "out"], ["l2i", "lime"])


def test_interpretations_and_their_parents_give_one_section(results: dict[str, Result], tmp_path: Path) -> None:
    for name in ("b", "a"):
        results["l2i"].save(tmp_path / "parent" / name)
    (tmp_path / "parent" / "other").mkdir()
    results["loudest"].save(tmp_path / "alone")
    (section,) = read_sections([tmp_path / "alone", str(tmp_path / "parent")])
    assert [sample.name for sample in section.samples] == ["alone", "a", "b"]
    assert [sample.results[0].method for sample in section.samples] == ["loudest", "l2i", "l2i"]
    assert [sample.name for sample in section.samples[1:]] == ["a", "b"]
    assert section.samples[0].true == ()


def test_methods_of_interpretations(results: dict[str, Result], tmp_path: Path) -> None:
    results["l2i"].save(tmp_path / "a")
    results["constant"].save(tmp_path / "b")
    (section,) = read_sections([tmp_path], ["constant"])
    assert [sample.name for sample in section.samples] == ["b"]
    with refused(ValueError, "method is 'lime', but must be one of constant, l2i"):
        read_sections([tmp_path], ["lime"])


def test_folders_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        wanted = "must be a folder that l2i evaluate or l2i interpret wrote"
        with refused(ValueError, f"OUT is {str(folder)!r}, but {wanted}"):
            read_sections([folder])
    with refused(ValueError, "OUT is empty, but must name at least one folder"):
        read_sections([])
    with refused(TypeError, "folders is 'text', but must be a list of folders"):
        read_sections("text")
    (tmp_path / "run.json").write_text("{}")
    with refused(ValueError, f"{tmp_path} holds no samples: run l2i evaluate to its end, and with --samples above 0"):
        read_sections([tmp_path])
    (tmp_path / "samples").mkdir()
    with refused(ValueError, f"{tmp_path}/samples holds no samples: run l2i evaluate to its end, ..."):
        read_sections([tmp_path])


def test_unfinished_samples_are_named(keep: Keep, tmp_path: Path) -> None:
    keep("clean/run/whole")
    home = keep("clean/run/half")
    described = json.loads((home / "sample.json").read_text())
    (home / "sample.json").unlink()
    again = "run l2i evaluate to its end"
    with refused(ValueError, f"the sample {home} is unfinished: it has no sample.json; {again}"):
        read_sections([tmp_path / "out"])
    for name in ("name", "true", "note", "parts", "methods"):
        without = {key: value for key, value in described.items() if key != name}
        for contents in (without, {**described, name: 5}):
            (home / "sample.json").write_text(json.dumps(contents))
            with refused(ValueError, f"the sample {home} is unfinished: sample.json has no entry {name!r}; {again}"):
                read_sections([tmp_path / "out"])


def test_damaged_samples_are_named(keep: Keep, tmp_path: Path) -> None:
    home = keep("clean/run/half")
    (home / "loudest" / "input.wav").unlink()
    broken = f"the sample {home} is unfinished or damaged: "
    with refused(
        ValueError, f"{broken}{home}/loudest does not hold a whole result: input.wav is missing; make it again"
    ):
        list(read_sections([tmp_path / "out"])[0].samples)
    shutil.rmtree(home / "loudest")
    with refused(ValueError, f"{broken}folder is '{home}/loudest', but must be one that Result.save wrote: ..."):
        list(read_sections([tmp_path / "out"])[0].samples)
    (home / "target.wav").unlink()
    with refused(ValueError, f"{broken}there is no file {home}/target.wav"):
        list(read_sections([tmp_path / "out"], ["l2i"])[0].samples)
