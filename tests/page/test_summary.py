"""The page of an archive, as its reader has it: it opens in Chromium, from disk, and its sounds load."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from playwright.sync_api import Page, expect

from l2i_fast.archive.summary import summarize
from l2i_fast.archive.tables import read_events
from l2i_fast.audio import read_audio
from l2i_fast.model import L2I, load
from l2i_fast.page import write_summary

from ..archive.support import RATE, made_up, noise, row_of, run
from ..conftest import make_model
from ..helpers import refused, relative
from .conftest import floats, nameless

Visit = Callable[..., Page]
NAMES = ["20240309_123456Z.wav", "ä ö # 100% 🐕.wav", "line\nbreak 'one' \"two\" <b>&.wav"]


@pytest.fixture(scope="module")
def model(tiny_model: L2I, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def archive(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over recordings with odd names, and its summary; its folder has one, too."""
    folder = tmp_path_factory.mktemp("archive")
    for seed, name in enumerate(NAMES):
        noise(folder / "in" / name, 4.0, seed=seed)
    (folder / "in" / "broken # 1.wav").write_text("no sound")
    output = folder / "out # %41 ü"
    settings: dict[str, Any] = {"timezone": "Europe/Berlin", "explain_rejected": 0.25, "confidence": 0.27}
    run(model, [folder / "in"], output, **settings)
    assert write_summary(output, best=2) == output / "summary" / "index.html"
    return output


def load_sounds(page: Page) -> list[float]:
    """Load every sound; return their lengths in seconds."""
    lengths: list[float] = page.evaluate("""() => Promise.all([...document.querySelectorAll("audio")].map((audio) =>
        new Promise((resolve, reject) => {
            audio.addEventListener("loadedmetadata", () => resolve(audio.duration));
            audio.addEventListener("error", () => reject(new Error(audio.src)));
            audio.preload = "auto";
            audio.load();
        })))""")
    return lengths


def test_the_page_opens_and_its_sounds_load(visit: Visit, archive: Path) -> None:
    page = visit(archive / "summary" / "index.html")
    assert page.locator("h1").inner_text() == "Archive out # %41 ü"
    assert "The run is finished." in page.locator(".masthead").inner_text()
    assert nameless(page) == []
    rows = [row for row in read_events(archive) if row["accepted"]]
    found = summarize(archive)
    events = found.most_confident(30)
    shown = page.locator("#best tbody tr")
    assert shown.count() == len(events) > 5
    lengths = load_sounds(page)
    assert len(lengths) == len(events)
    for i, (event, length) in enumerate(zip(events, lengths, strict=True)):
        assert event.sound is not None
        assert length == pytest.approx(soundfile.info(archive / event.sound).duration, abs=1e-3)
        cells = shown.nth(i).locator("th, td").all_inner_texts()
        assert cells[0].endswith(Path(event.recording).name.replace("\n", "\\n"))
        assert cells[1] == f"{event.start:.1f} to {event.end:.1f}"
        assert cells[2] == ("–" if event.moment is None else f"2024-03-09 13:34:{56 + int(event.start):02d}")
        assert cells[3:6] == [event.label, f"{event.probability:.3f}", f"{100 * event.kept:.0f} %"]
        begin = float(Path(event.sound).stem)
        assert shown.nth(i).locator("audio").get_attribute("src").endswith(f"#t={event.start - begin:.3f}")
    classes = page.locator("#classes tbody tr").all_inner_texts()
    assert [text.split("\t")[0] for text in classes] == [one.label for one in found.classes]
    assert sum(int(text.split("\t")[2]) for text in classes) == len(rows)
    figures = page.locator(".figures").inner_text()
    assert f"{len(rows)} windows, and {found.rejected} below the confidence" in figures
    unclocked = sum(row["start_utc"] is None for row in rows)
    clock = page.locator("#times .lead").inner_text()
    assert clock.startswith("Times are in Europe/Berlin, the zone that the run’s --timezone states.")
    assert f"Of {len(rows)} windows, {unclocked} have no clock time" in clock
    assert page.evaluate("() => [...document.images].map((image) => image.naturalWidth > 600)") == [True] * 3
    assert "broken # 1.wav" in page.locator("#errors").inner_text()
    for link in page.locator("#files a").all():
        assert (archive / "summary" / (link.get_attribute("href") or "")).is_file()
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_best_of_each_class_are_explained_anew(visit: Visit, archive: Path, model: Path) -> None:
    page = visit(archive / "summary" / "index.html")
    assert page.locator("#best details").count() == 0
    page.locator("#best a").click()
    expect(page.locator("h1")).to_have_text("The best of out # %41 ü")
    engine, found = load(model), summarize(archive)
    headings = page.locator("main > section > h2").all_inner_texts()
    assert headings == [one.label for one in found.classes]
    for i, one in enumerate(found.classes, 1):
        samples = page.locator(f"#section-{i} .sample")
        assert samples.count() == min(2, one.events)
        event = found.best[one.label][0]
        (name,) = [name for name in NAMES if event.recording.endswith(name)]
        y = read_audio(archive.parent / "in" / name)[0]
        begin, end = round(event.start * RATE), round(event.end * RATE)
        wanted = engine.interpret((y[begin:end], RATE), [one.label], threshold=0.1, top_k=None)
        block = samples.first.get_attribute("data-sample")
        page.evaluate("name => l2i.sample(name).open()", block)
        assert relative(floats(page, f"l2i.samples({block!r}, 'input')"), wanted.input) < 1e-6
        assert relative(floats(page, f"l2i.samples({block!r}, 'result-1-1')"), wanted.audio) < 1e-4
        note = samples.first.locator(".note").inner_text()
        assert note.startswith(event.recording.replace("\n", "\\n"))
        assert note.endswith("(Europe/Berlin)") == (event.moment is not None)


def test_what_is_gone_is_left_out(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copytree(model, tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        noise(Path("in", f"{i}.wav"), 1.0, seed=i)
    run("tiny", [Path("in")], Path("out"), confidence=0.0)
    # Model and recordings are found from another folder, too.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = write_summary(tmp_path / "out").read_text()
    assert 'href="listening/index.html"' in text
    assert "not on the listening page" not in text
    noise(tmp_path / "in" / "1.wav", 2.0)
    (tmp_path / "in" / "2.wav").unlink()
    text = write_summary(tmp_path / "out").read_text()
    assert 'href="listening/index.html"' in text
    assert "8 windows are not on the listening page" in text
    assert text.count("in/1.wav has changed since it was explained") == 4
    assert text.count("No such file or directory") == 4
    for change, reason in [
        (lambda: make_model(seed=1).save(copy), "is not the run’s model any more"),
        (lambda: shutil.rmtree(copy), "the run’s model cannot be read"),
    ]:
        change()
        text = write_summary(tmp_path / "out").read_text()
        assert "There is no page to listen to the best of each class" in text
        assert reason in text
        assert "listening/index.html" not in text


def test_a_run_with_nothing_but_errors(visit: Visit, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(7):
        (tmp_path / "in" / f"{i}.wav").write_text("no sound")
    os.symlink("gone", tmp_path / "in" / "a.wav")
    inputs = sorted((tmp_path / "in").iterdir())
    run(model, inputs, tmp_path / "out")
    page = visit(write_summary(tmp_path / "out"))
    assert "No window has a class with at least the probability 0.3" in page.locator("#classes").inner_text()
    kinds = page.locator("#errors tbody tr")
    assert [text.split("\t")[:2] for text in kinds.all_inner_texts()] == [["damaged", "7"], ["missing", "1"]]
    assert kinds.first.locator("div").count() == 5
    assert page.locator("img, audio").count() == 0
    assert sorted(path.name for path in (tmp_path / "out" / "summary").iterdir()) == [
        "best.csv", "classes.csv", "dates.csv", "errors.csv", "hours.csv", "index.html", "style.css", "summary.css",
    ]  # fmt: skip


def test_a_run_without_clock_times_that_was_interrupted(visit: Visit, tmp_path: Path) -> None:
    units = [(0, 1.0, [row_of("dog", 0.0, 0.75, sound="sound/gone/0.0.flac")])]
    with made_up(tmp_path, [("a.wav", None, units), ("b.wav", None, [])]) as journal:
        journal.open(2, journal.find(1)[1], [(0, None)])
        journal.commit()
    page = visit(write_summary(tmp_path))
    assert "The run was interrupted" in page.locator(".masthead").inner_text()
    assert page.locator("#times .lead").inner_text().startswith("No window has a clock time")
    assert page.locator("img, audio").count() == 0
    assert "the run’s journal does not state its model" in page.locator("#best").inner_text()


def test_what_is_refused(tmp_path: Path) -> None:
    with refused(FileNotFoundError, f"{tmp_path} holds no journal.sqlite, but must be the output of l2i batch"):
        write_summary(tmp_path)
    with refused(ValueError, "best is 26, but must be at most 25"):
        write_summary(tmp_path, best=26)
    assert list(tmp_path.iterdir()) == []
