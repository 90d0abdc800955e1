"""Results in notebooks: the page opens in its frame, and long recordings give a summary of bounded size."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Page

from l2i_fast.explainers import Loudest
from l2i_fast.model import L2I
from l2i_fast.page import notebook
from l2i_fast.results import Result

Visit = Callable[..., Page]


@pytest.fixture
def result(tiny_model: L2I, rng: np.random.Generator) -> Result:
    found = tiny_model.interpret((rng.uniform(-0.5, 0.5, 9000).astype(np.float32), 44100), targets=["dog"])
    return dataclasses.replace(found, source='a "b" <i>&.wav')


def in_a_notebook(result: Result, folder: Path) -> Path:
    """A page that holds the view of a result, as a notebook does."""
    file = folder / "notebook.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><title>Notebook</title>{result._repr_html_()}", "utf-8")
    return file


def test_the_page_of_a_result_opens_in_its_frame(visit: Visit, result: Result, tmp_path: Path) -> None:
    page = visit(in_a_notebook(result, tmp_path))
    assert page.locator("iframe").get_attribute("title") == 'Interpretation of a "b" <i>&.wav'
    frame = page.frames[1]
    frame.wait_for_selector(".play:enabled")
    assert frame.locator("h3").inner_text() == 'a "b" <i>&.wav'
    name = frame.locator(".sample").get_attribute("data-sample")
    heard = np.array(frame.evaluate(f"Array.from(l2i.samples('{name}', 'result-1-1'))"), np.float32)
    assert np.linalg.norm(heard - result.audio) < 1e-4 * np.linalg.norm(result.audio)
    frame.locator(".play").click()
    frame.wait_for_selector(".play.playing")


def test_the_frame_cannot_reach_the_notebook(visit: Visit, result: Result, tmp_path: Path) -> None:
    frame = visit(in_a_notebook(result, tmp_path)).frames[1]
    reach = "() => { try { return parent.document.title; } catch (error) { return error.name; } }"
    assert frame.evaluate(reach) == "SecurityError"


def test_results_of_other_methods_and_without_explanations(
    visit: Visit, tiny_model: L2I, result: Result, tmp_path: Path
) -> None:
    (other,) = Loudest.for_model(tiny_model).explain([(result.input, 44100)], ["dog"])
    for one, titles in ((other, ["Input", "Loudest bins"]), (dataclasses.replace(result, explanations=[]), ["Input"])):
        frame = visit(in_a_notebook(one, tmp_path)).frames[1]
        frame.wait_for_selector(".play:enabled")
        assert frame.locator(".choose span").all_inner_texts() == titles


def test_a_long_recording_gives_its_picture_and_its_beginning(
    visit: Visit, result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "LONGEST", 0.1)
    loud = dataclasses.replace(
        result, explanations=[dataclasses.replace(result.explanations[0], audio=result.input * 4)]
    )
    page = visit(in_a_notebook(loud, tmp_path))
    assert page.locator("iframe").count() == 0
    assert "the first 0.1 s of the sounds" in page.locator("p").first.inner_text()
    assert page.evaluate("document.querySelector('img').naturalWidth") == 1690
    sounds = re.findall(r"data:audio/flac;base64,([^\"]+)", loud._repr_html_())
    decoded = [soundfile.read(io.BytesIO(base64.b64decode(sound)), dtype="float32") for sound in sounds]
    assert [len(y) for y, rate in decoded] == [4410, 4410]
    (heard, _), (kept, _) = decoded
    assert np.abs(heard - result.input[:4410]).max() < 2**-15
    peak = np.abs(4 * result.input[:4410]).max()
    assert peak > 1
    assert np.abs(kept * peak - 4 * result.input[:4410]).max() < 2**-14 * peak


def test_the_limit_is_a_minute(tiny_model: L2I, result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "write_page", lambda *_, **__: pytest.fail("a page is made"))
    long = dataclasses.replace(result, sample_rate=100, input=np.zeros(6001, np.float32), explanations=[])
    assert "60 s are too long" in long._repr_html_()


def test_the_same_result_gives_the_same_html(result: Result) -> None:
    assert result._repr_html_() == result._repr_html_()
