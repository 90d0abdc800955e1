"""Tables, plots, the global view, and the command that writes them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from l2i_fast.cli import app
from l2i_fast.data import Dataset
from l2i_fast.evaluation.models import Part
from l2i_fast.evaluation.overview import overview, places, read_overviews, write_overviews
from l2i_fast.evaluation.plots import write_plots
from l2i_fast.evaluation.records import Record
from l2i_fast.evaluation.tables import Table, tables, to_csv, to_latex, to_markdown, to_rich
from l2i_fast.metrics.bootstrap import Interval

from ..conftest import make_model
from ..helpers import refused
from .conftest import a_model

TABLE = Table(
    "noise", "noise: 3 recordings", ["method", "AI", "kept (%)"], [["A & B | c", "5 [4, 6]", "70"], ["d_e", "", "3"]]
)


def test_formats_of_tables() -> None:
    assert list(csv.reader(io.StringIO(to_csv(TABLE)))) == [TABLE.head, *TABLE.rows]
    markdown = to_markdown(TABLE).splitlines()
    assert markdown[0] == "noise: 3 recordings"
    assert markdown[2:] == [
        "| method | AI | kept (%) |",
        "| --- | --- | --- |",
        "| A & B \\| c | 5 [4, 6] | 70 |",
        "| d_e |  | 3 |",
    ]
    latex = to_latex(TABLE)
    assert "A \\& B | c & 5 [4, 6] & 70 \\\\" in latex
    assert "d\\_e &  & 3 \\\\" in latex
    assert "kept (\\%)" in latex
    assert "\\begin{tabular}{lrr}" in latex


def row(sample: str, target: str, relevance: list[float], **other: Any) -> Record:
    return {
        "experiment": "clean",
        "method": "l2i",
        "part": "run/one",
        "sample": sample,
        "target": target,
        "true": ["rain"],
        "correct": target == "rain",
        "relevance": relevance,
        **other,
    }


def part(name: str, n_components: int = 3, seed: int = 0) -> Part:
    nothing = Dataset("nothing", (), (), False, 1.0)
    return Part(name, name.partition("/")[0], make_model(n_components=n_components, seed=seed), nothing, nothing)


RECORDS = [
    row("a", "rain", [1.0, 0.0, -1.0]),
    row("b", "rain", [0.0, 1.0, 0.5]),
    row("c", "dog", [0.2, 0.4, 1.0]),
    row("d", "dog", [9.0, 9.0, 9.0], experiment="noise"),
    row("e", "dog", [9.0, 9.0, 9.0], method="constant"),
]


def test_the_global_view_by_hand() -> None:
    one = part("run/one")
    (view,) = overview(RECORDS, [one]).values()
    assert view.run == "run"
    assert view.classes == ["dog", "rain"]
    np.testing.assert_allclose(view.relevance, [[0.2, 0.4, 1.0], [0.5, 0.5, -0.25]])
    assert [(r.name, r.label, r.true, r.correct) for r in view.recordings] == [
        ("a", "rain", ("rain",), True),
        ("b", "rain", ("rain",), True),
        ("c", "dog", ("rain",), False),
    ]
    found = np.array([(r.x, r.y) for r in view.recordings])
    r = np.maximum([[1.0, 0.0, -1.0], [0.0, 1.0, 0.5], [0.2, 0.4, 1.0]], 0)
    between = np.linalg.norm(r[:, None] - r[None], axis=2)
    np.testing.assert_allclose(np.linalg.norm(found[:, None] - found[None], axis=2), between, atol=1e-9)
    assert np.array_equal(view.dictionary, one.model.dictionary)
    assert view.analysis == {"sample_rate": 44100, "n_fft": 1024, "hop_length": 512}
    (alone,) = overview([row("a", "rain", [1.0])], [part("run/one", 1)]).values()
    assert alone.recordings[0][-2:] == (0, 0)
    assert overview(RECORDS[3:], [one]) == {}


def test_the_global_views_of_models_are_kept_apart() -> None:
    parts = [part("run/one"), part("run/two", 2, seed=1)]
    other = [row("f", "rain", [0.3, 0.6], part="run/two")]
    one, two = overview([*RECORDS, *other], parts).values()
    assert [len(view.recordings) for view in (one, two)] == [3, 1]
    np.testing.assert_allclose(two.relevance, [[0.3, 0.6]])
    for view, given in zip((one, two), parts, strict=True):
        assert np.array_equal(view.dictionary, given.model.dictionary)


@pytest.mark.parametrize("turn", [1, -1])
def test_places_on_principal_axes_by_hand(turn: int) -> None:
    x = turn * np.array([[0.0, 5, 1], [8, 5, 1], [4, 6, 1], [4, 4, 1]])
    np.testing.assert_allclose(places(x), turn * np.array([[-4.0, 0], [4, 0], [0, 1], [0, -1]]), atol=1e-12)
    # The axis is (3, -4) / 5 or its opposite, whose entry of largest magnitude is positive.
    line = np.array([[0.0, 0], [3, -4]])
    np.testing.assert_allclose(places(line), [[2.5, 0], [-2.5, 0]], atol=1e-12)


def test_global_views_come_back_from_their_files(tmp_path: Path) -> None:
    assert read_overviews(tmp_path) == {}
    views = overview([*RECORDS, row("f", "rain", [-1e-4, 1 / 3], part="two")], [part("run/one"), part("two", 2)])
    write_overviews(tmp_path, views)
    back = read_overviews(tmp_path)
    assert list(back) == ["run/one", "two"]
    for name, view in views.items():
        assert (back[name].run, back[name].classes, back[name].analysis) == (view.run, view.classes, view.analysis)
        assert np.array_equal(back[name].dictionary, view.dictionary)
        np.testing.assert_allclose(back[name].relevance, view.relevance, atol=5.1e-4)
        for one, other in zip(back[name].recordings, view.recordings, strict=True):
            assert one[:4] == other[:4]
            assert one[4:] == pytest.approx(other[4:], abs=5.1e-4)
    assert "-0.0," not in (tmp_path / "global.json").read_text()
    assert json.loads((tmp_path / "global.json").read_text())["run/one"]["map"][2]["class"] == "dog"


def test_damaged_global_views_are_named(tmp_path: Path) -> None:
    views = overview(RECORDS, [part("run/one")])

    def damaged(message: str) -> Any:
        return refused(ValueError, f"the global view in {tmp_path} is damaged ({message}): run l2i evaluate again")

    write_overviews(tmp_path, views)
    (tmp_path / "global.safetensors").write_bytes(b"")
    with damaged("..."):
        read_overviews(tmp_path)
    write_overviews(tmp_path, {"run/one": views["run/one"]._replace(dictionary=np.zeros((5, 2), np.float32))})
    with damaged("relevance has shape (2, 3), but must have (2, 2)"):
        read_overviews(tmp_path)
    write_overviews(tmp_path, views)
    contents = json.loads((tmp_path / "global.json").read_text())
    del contents["run/one"]["map"]
    (tmp_path / "global.json").write_text(json.dumps(contents))
    with damaged("there is no entry 'map'"):
        read_overviews(tmp_path)


def test_tables_by_hand() -> None:
    figures = {
        "kept": Interval(0.5, 0.4, 0.6, 9),
        "AI": Interval(48.0, 43.2, 53.1, 9),
        "AI_between_runs": Interval(1.23, np.nan, np.nan, 3),
    }
    likeness = {
        "spearman_at_0.00": Interval(1.0, 1.0, 1.0, 4),
        "kept_at_0.00": Interval(0.5, 0.4, 0.6, 4),
        "spearman_at_1.00": Interval(0.25, 0.2, 0.3, 4),
        "kept_at_1.00": Interval(0.1, 0.0, 0.2, 4),
        "ratio_gain_at_0.00": Interval(5.0, 4.0, 6.0, 4),
        "ratio_gain_at_1.00": Interval(0.0, -1.0, 1.0, 4),
    }
    row = {"method": "l2i", "title": "L2I", "seconds": 1.0, "peak_memory_mb": 2.0, "experiment": "noise"}
    noise, sanity, in_noise, _ = tables({"noise": {"l2i": figures}, "sanity": {"l2i": likeness}}, [row], {})
    assert noise.title == "noise: 9 recordings; intervals of 95 %; ± standard deviation between 3 runs"
    assert dict(zip(noise.head, noise.rows[0], strict=True)) == {
        "method": "L2I",
        "AI": "48 [43, 53] ± 1.2",
        "kept": "0.50 [0.40, 0.60]",
    }
    assert sanity.head == ["method", "0% random", "0% random: kept", "100% random", "100% random: kept"]
    assert in_noise.head == ["method", "0% random", "100% random"]
    assert in_noise.rows == [["L2I", "5.0 [4.0, 6.0]", "0.0 [-1.0, 1.0]"]]
    assert sanity.rows == [["L2I", "1.00 [1.00, 1.00]", "0.50 [0.40, 0.60]", "0.25 [0.20, 0.30]", "0.10 [0.00, 0.20]"]]


def test_a_plot_of_separation(tmp_path: Path) -> None:
    methods = {"one": {"ratio_gain": Interval(3.0, 2.0, 5.0, 9)}, "two": {"kept": Interval(0.5, 0.4, 0.6, 9)}}
    write_plots(tmp_path, {"noise": methods}, {"one": "First", "two": "Second"}, {})
    (file,) = tmp_path.iterdir()
    assert file.name == "separation-noise.png"
    write_plots(tmp_path / "none", {"noise": {"two": methods["two"]}}, {"two": "Second"}, {})
    assert not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight short recordings in ESC-50's layout."""
    from l2i_fast.audio import write_audio

    from .conftest import coloured

    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(5)
    lines = ["filename,fold,target,category"]
    for i in range(8):
        write_audio(folder / "audio" / f"{i}.wav", coloured(i, rng), 44100)
        lines.append(f"{i}.wav,{1 + i // 4},{i % 4},{('dog', 'rain', 'clock tick', 'helicopter')[i % 4]}")
    (folder / "meta").mkdir()
    (folder / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_command_and_its_files(data: Path, tmp_path: Path) -> None:
    model = str(a_model().save(tmp_path / "tiny"))
    arguments = ["evaluate", "--model", model, "--data", str(data), "--fold", "2", "--output", str(tmp_path / "out")]
    arguments += ["--method", "l2i", "--method", "constant", "--samples", "1"]
    arguments += [item for name in ("clean", "noise", "sanity") for item in ("--experiment", name)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "Constant mask" in done.output
    out = tmp_path / "out"
    names = {str(file.relative_to(out)) for folder in ("tables", "plots") for file in (out / folder).iterdir()}
    wanted = {
        f"tables/{name}.{ending}"
        for name in ("clean", "equal-shares", "noise", "sanity", "sanity-in-noise", "cost")
        for ending in ("csv", "md", "tex")
    }
    plots = {"plots/kept.png", "plots/sanity.png", "plots/relevance-tiny.png"}
    assert names == wanted | plots
    assert all((out / name).stat().st_size > 5000 for name in plots)
    scores = json.loads((out / "scores.json").read_text())
    assert scores["clean"]["l2i"]["kept"]["n"] == 4
    rows = list(csv.DictReader((out / "tables" / "clean.csv").read_text().splitlines()))
    assert [line["method"] for line in rows] == ["L2I", "Constant mask"]
    kept = scores["clean"]["l2i"]["kept"]
    assert rows[0]["kept"] == f"{kept['estimate']:.2f} [{kept['low']:.2f}, {kept['high']:.2f}]"
    rows = list(csv.DictReader((out / "tables" / "equal-shares.csv").read_text().splitlines()))
    figure = scores["clean"]["constant"]["FF_at_0.7"]
    assert rows[1]["FF, kept 0.7"] == f"{figure['estimate']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"
    assert (out / "records.parquet").stat().st_size > 0
    assert set(read_overviews(out)) == {"tiny"}
    (out / "global.safetensors").unlink()  # as in the output of an older version
    again = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(again.stdout) == scores
    page = CliRunner().invoke(app, ["page", str(out), "--output", str(tmp_path / "page")], catch_exceptions=False)
    assert page.exit_code == 0, page.output
    text = (tmp_path / "page" / "index.html").read_text()
    assert "Constant mask" in text
    assert text.count(">Global view</h2>") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--experiment", "other"], "experiment is 'other', but must be one of clean, mixture"),
        (["--method", "other"], "method is 'other', but must be one of l2i"),
        (["--protocol", "other"], "protocol is 'other', but must be one of right, published"),
        (["--fold", "9"], "folds names 9, but the data set has: 1, 2"),
        (["--method", "lmac"], "name the folds to score with --fold"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], message: str, data: Path, tmp_path: Path) -> None:
    model = str(a_model().save(tmp_path / "tiny"))
    common = ["evaluate", "--model", model, "--data", str(data), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*common, *arguments])
    assert done.exit_code in (1, 2)
    said = " ".join(done.stderr.split())
    assert message in said
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_wide_table_is_divided_for_the_terminal() -> None:
    from rich.console import Console

    table = Table("x", "a title", ["method", "one", "two", "three"], [["L2I", "0.5 [0.25, 0.75]", "", "12"]] * 2)
    whole = to_rich(table, 60)
    assert [[column.header for column in part.columns] for part in whole] == [table.head]
    for width in (36, 30, 25, 1):
        parts = to_rich(table, width)
        assert all(part.columns[0].header == "method" for part in parts)
        assert [column.header for part in parts for column in part.columns[1:]] == table.head[1:]
        assert all(part.row_count == 2 for part in parts)
        console = Console(width=max(width, 27), record=True, file=io.StringIO())
        console.print(*parts)
        text = console.export_text()
        assert "…" not in text
        assert text.count("a title") == 1
        assert text.count("[0.25, 0.75]") == 2
    assert len(to_rich(table, 1)) == 3
