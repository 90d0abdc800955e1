"""Writing pages: the files, their bytes, and input that makes no page."""

from __future__ import annotations

import dataclasses
import re
import runpy
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2i_fast.explainers import Constant
from l2i_fast.model import L2I
from l2i_fast.page import PageSample, Section, write_page
from l2i_fast.results.masking import log_magnitude
from l2i_fast.settings import DOMAINS

from ..conftest import make_model
from ..helpers import refused
from .conftest import sample_of


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_names_all_its_files(sections: list[Section], tmp_path: Path) -> None:
    index = write_page(sections, tmp_path / "page")
    assert index == tmp_path / "page" / "index.html"
    names = set(contents(index.parent))
    linked = set(re.findall(r'(?:src|href)="([\w.-]+)"', index.read_text()))
    data = {f"data-{name}.js" for name in re.findall(r'data-sample="([^"]+)"', index.read_text())}
    dictionaries = {name for name in names if name.startswith("data-dictionary-")}
    assert len(dictionaries) == 1  # that of both samples
    assert names == {"index.html"} | linked | data | dictionaries
    assert data == {"data-1-1-long-b-b.js", "data-2-1-brief.js"}


@pytest.mark.parametrize("one_file", [False, True])
def test_the_same_input_gives_the_same_bytes(tiny_model: L2I, tmp_path: Path, one_file: bool) -> None:
    pages = []
    for name in ("a.html", "b.html"):
        sample = sample_of(tiny_model, np.random.default_rng(3), "Sample", 4000)
        pages.append(write_page([Section("One", "Text", [sample])], tmp_path / name, one_file=one_file))
    a, b = pages
    assert a.read_bytes() == b.read_bytes()
    if not one_file:
        assert contents(a.parent) == contents(b.parent)


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_share_that_is_shown(tiny_model: L2I, tmp_path: Path, domain: str) -> None:
    y = np.random.default_rng(1).uniform(-0.4, 0.4, 8000).astype(np.float32)
    (halved,) = Constant(tiny_model.network, 0.5).explain([(y, 44100)], ["rain"])
    result = dataclasses.replace(halved, settings={**halved.settings, "domain": domain})
    sample = PageSample("Half", "Half", ("rain",), [result])
    text = write_page([Section("One", "", [sample])], tmp_path / "page").read_text()
    V = log_magnitude(y, result.settings)
    share = 0.5 if domain == "log" else np.log1p(0.5 * np.expm1(V)).sum() / V.sum()
    assert re.findall(r'class="kept">(\d+) %', text) == [f"{100 * share:.0f}"]
    assert domain == "log" or share > 0.7


def test_one_file_asks_for_no_other(sections: list[Section], tmp_path: Path) -> None:
    file = write_page(sections, tmp_path / "page.html", one_file=True)
    assert list(tmp_path.iterdir()) == [file]
    assert re.findall(r'\s(?:src|href)="(?!#|data:)', file.read_text()) == []


@pytest.mark.parametrize("one_file", [False, True])
def test_a_policy_forbids_what_the_page_does_not_need(sections: list[Section], tmp_path: Path, one_file: bool) -> None:
    text = write_page(sections, tmp_path / "page.html", one_file=one_file).read_text()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert "default-src &#39;none&#39;" in policy
    assert "unsafe" not in policy


class Text(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_texts_are_shown_and_not_run(tiny_model: L2I, rng: np.random.Generator, tmp_path: Path) -> None:
    evil = "</script><b>evil</b>"
    made = sample_of(tiny_model, rng, evil, 2000)
    sample = dataclasses.replace(made, title=evil, note=evil, parts={evil: made.parts["Target"]})
    page = Text(write_page([Section(evil, evil, [sample])], tmp_path / "p.html", evil, one_file=True).read_text())
    assert "b" not in page.tags
    assert page.text.count(evil) == 7  # in both titles, heading, text, heading of the sample, note and part


def test_a_page_names_classes_and_probabilities(tiny_model: L2I, rng: np.random.Generator, tmp_path: Path) -> None:
    right = sample_of(tiny_model, rng, "One", 2000)
    first = right.results[0]
    right = dataclasses.replace(right, true=first.prediction)
    other = next(label for label in first.labels if label not in first.prediction)
    wrong = dataclasses.replace(right, true=(other, "unicorn"))
    text = Text(write_page([Section("", "", [right, wrong])], tmp_path).read_text()).text
    p = dict(zip(first.labels, first.probabilities, strict=True))
    heard, missed = (rf"{label}\s+{100 * p[label]:.0f} %" for label in (*first.prediction, other))
    a, b = re.split("✓ right", text)
    assert re.search(rf"Heard as\s+{heard}\s+True\s+{heard}\s*$", a)
    assert re.search(rf"Heard as\s+{heard}\s+True\s+{missed}\s+unicorn\s+✗ wrong", b)


def test_each_class_of_several_has_its_own_sound(rng: np.random.Generator, tmp_path: Path) -> None:
    model = make_model(multilabel=True)
    y = rng.uniform(-1, 1, 3000).astype(np.float32)
    both = model.interpret((y, 44100), targets=["dog", "rain"])
    none = model.interpret((y, 44100), targets=[])
    page = write_page([Section("", "", [PageSample("a", "A", (), [both, none])])], tmp_path)
    assert re.findall(r"<span>(.+)</span></button>", page.read_text()) == ["Input", "L2I: dog", "L2I: rain"]


def test_what_makes_no_page(tiny_model: L2I, rng: np.random.Generator, tmp_path: Path) -> None:
    sample = sample_of(tiny_model, rng, "a", 2000)
    other = sample_of(tiny_model, rng, "b", 2000)

    def write(**changes: Any) -> None:
        write_page([Section("", "", [dataclasses.replace(sample, **changes)])], tmp_path / "page")

    with refused(TypeError, "sections is ..., but must be a list of Section"):
        write_page([sample], tmp_path / "page")  # type: ignore[list-item]
    with refused(TypeError, "samples holds 3, but must hold PageSample only"):
        write_page([Section("", "", [3])], tmp_path / "page")  # type: ignore[list-item]
    with refused(ValueError, "results of 'a' is empty, but must hold at least one Result"):
        write(results=[])
    with refused(ValueError, "results of 'a' holds different inputs, but all must have the same input"):
        write(results=[*sample.results, *other.results])
    with refused(ValueError, "the part 'Target' of 'a' has length 1999, but must have 2000 samples"):
        write(parts={"Target": sample.parts["Target"][1:]})
    with refused(ValueError, "Target holds NaN or infinity (first at sample 0), but finite samples are needed"):
        write(parts={"Target": np.full(2000, np.nan, np.float32)})
    with refused(TypeError, "one_file is 1, but must be True or False"):
        write_page([Section("", "", [sample])], tmp_path / "page", one_file=1)  # type: ignore[arg-type]
    with refused(ValueError, "output is 'page', but must end in .html where it is one file"):
        write_page([Section("", "", [sample])], tmp_path / "page", one_file=True)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_page([Section("", "", [sample])], tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_example_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = str(Path(__file__).parents[2] / "examples" / "listening_page.py")
    monkeypatch.setattr(sys, "argv", [program, str(tmp_path / "page")])
    runpy.run_path(program)
    text = (tmp_path / "page" / "index.html").read_text()
    assert re.findall(r"<h3[^>]*>([^<]+)</h3>", text) == ["Dog", "Dog and rain", "Dog in noise"]
    assert text.count("Integrated gradients") >= 3
