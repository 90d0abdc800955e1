"""Listening tests in a browser: blind, in an order of their own, and with the answers that were given."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from l2i_fast.explainers import EXPLAINERS
from l2i_fast.model import L2I
from l2i_fast.page import ListeningTest, PageSample, Section, read_answers, to_csv, write_listening_test

from ..helpers import refused
from .conftest import sample_of

Visit = Callable[..., Page]
Key = dict[str, Any]


@pytest.fixture(scope="module")
def sections(tiny_model: L2I) -> list[Section]:
    """Two sections, of three methods each."""
    rng = np.random.default_rng(8)
    names = ("l2i-dog", "Equal-Energy", "other")
    samples = [sample_of(tiny_model, rng, name, 4000 + 1000 * i) for i, name in enumerate(names)]
    return [Section("Constant", "A note on l2i.", samples[:2]), Section("Second", "", samples[2:])]


def contents(file: Path) -> Key:
    return dict(json.loads(file.read_text()))


def begin(page: Page, test: ListeningTest, seed: int) -> None:
    """Begin a test whose order comes from a given seed."""
    page.goto(f"{test.page.as_uri()}#seed={seed}")
    page.reload()
    page.locator("#begin").click()
    page.wait_for_selector(".play:enabled")


def order(page: Page) -> list[str]:
    """The sounds of the open trial in the order of their buttons."""
    found = page.locator("#sounds .choose").evaluate_all("buttons => buttons.map(button => button.dataset.sound)")
    return [sound for sound in found if sound not in ("input", "x")]


def saved(page: Page, folder: Path, name: str = "answers.json") -> Path:
    with page.expect_download() as download:
        page.locator("#save").click()
    assert download.value.suggested_filename.endswith(".json")
    download.value.save_as(folder / name)
    return folder / name


def rate_all(page: Page, given: dict[str, int]) -> None:
    """Rate every sound of the open trial; the ratings are added to `given`."""
    for sound in order(page):
        given[sound] = (37 * (len(given) + 1)) % 101
        row = page.locator(".sound", has=page.locator(f"[data-sound='{sound}']"))
        row.locator("input").fill(str(given[sound]))
    page.locator("#next").click()


@pytest.mark.parametrize("form", ["rating", "abx"])
@pytest.mark.parametrize("one_file", [False, True])
def test_nothing_that_listeners_get_names_a_method(
    sections: list[Section], tmp_path: Path, form: Any, one_file: bool
) -> None:
    output = tmp_path / ("test.html" if one_file else "test.x")
    test = write_listening_test(sections, output, one_file=one_file, form=form)
    assert test.key == tmp_path / ("test-key.json" if one_file else "test.x-key.json")
    own = {file.name for file in (Path(__file__).parents[2] / "l2i_fast" / "page").iterdir()}
    given = [test.page] if one_file else [file for file in test.page.parent.iterdir() if file.name not in own]
    text = "\n".join(file.name + file.read_text() for file in given)
    if one_file:  # scripts and styles are the same whatever the methods
        text = text.partition("<style>")[0] + text.rpartition("</style>")[2].partition("<script>")[0]
        assert 'id="data-test"' in text
    text = re.sub(r'"data":"[^"]*"|sha256-[\w+/]+', "", text)  # sounds and hashes of scripts, in base64
    assert '"kind":"int16"' in text
    words = {sample.name for section in sections for sample in section.samples}
    words |= {word for name, explainer in EXPLAINERS.items() for word in (name, explainer.title)}
    for word in words - {"other"}:
        assert word.casefold() not in text.casefold(), word
    methods = {sound["method"] for sound in contents(test.key)["sounds"].values()}
    assert methods == {"l2i", "equal-energy", "constant"}


@pytest.mark.parametrize("form", ["rating", "abx"])
def test_the_files_depend_on_the_seed_alone(sections: list[Section], tmp_path: Path, form: Any) -> None:
    def written(name: str, seed: int) -> list[bytes]:
        test = write_listening_test(sections, tmp_path / name, one_file=True, form=form, seed=seed)
        return [test.page.read_bytes(), test.key.read_bytes()]

    assert written("a.html", 1) == written("b.html", 1)
    # Neither the number of a trial nor that of a sound tells what it is.
    firsts = [json.loads(written("c.html", seed)[1])["sounds"]["1-1"] for seed in range(12)]
    assert len({first["sample"] for first in firsts}) == 3
    assert len({first["method"] for first in firsts}) == 3


def test_sounds_are_those_of_the_key(visit: Visit, sections: list[Section], tmp_path: Path) -> None:
    test = write_listening_test(sections, tmp_path / "test", form="rating")
    sounds = contents(test.key)["sounds"]
    audio = {
        (section.title, sample.name, result.method): result.audio
        for section in sections
        for sample in section.samples
        for result in sample.results
    }
    assert sorted((s["section"], s["sample"], s["method"]) for s in sounds.values()) == sorted(audio)
    page = visit(test.page)
    for name, sound in sounds.items():
        trial = f"Data.load('trial-{name.split('-')[0]}')"
        unpacked = f"{trial}.then(t => Engine.unpack(t.sounds['{name}'])).then(y => Array.from(y))"
        expected = audio[sound["section"], sound["sample"], sound["method"]]
        assert np.abs(np.array(page.evaluate(unpacked)) - expected).max() <= np.abs(expected).max() / 2**15
        assert sound["label"] == "rain"


def test_ratings_from_the_first_click_to_the_table(visit: Visit, sections: list[Section], tmp_path: Path) -> None:
    test = write_listening_test(sections, tmp_path / "test", form="rating", title="Which explains it?")
    page = visit(test.page, viewport={"width": 360, "height": 700})
    assert page.locator("h1").inner_text() == "Which explains it?"
    page.locator("#listener").fill("  Zoë, 2 ")
    page.locator("#begin").click()
    given: dict[str, int] = {}
    trials = []
    for position in (1, 2, 3):
        page.wait_for_selector(".play:enabled")
        assert page.locator("#place").inner_text() == f"Trial {position} of 3"
        assert page.locator("#question").inner_text() == "How well does each sound explain the decision RAIN?"
        assert page.locator("#next").is_disabled()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        trials.append(order(page)[0].split("-")[0])
        rate_all(page, given)
    page.wait_for_selector("#end:not([hidden])")
    file = saved(page, tmp_path)
    answers, key = contents(file), contents(test.key)
    assert answers["version"] == 1
    assert answers["test"] == key["test"]
    assert answers["form"] == "rating"
    assert answers["listener"] == "Zoë, 2"
    assert answers["started"] < answers["saved"]
    assert [answer["trial"] for answer in answers["answers"]] == trials
    assert all(0 < answer["seconds"] < 60 for answer in answers["answers"])
    rows = read_answers([file], test.key)
    assert len(rows) == len(given) == 9
    expected = {
        (key["sounds"][sound]["section"], key["sounds"][sound]["sample"], key["sounds"][sound]["method"]): rating
        for sound, rating in given.items()
    }
    assert {(row["section"], row["sample"], row["method"]): row["rating"] for row in rows} == expected
    assert [row["position"] for row in rows] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert {row["listener"] for row in rows} == {"Zoë, 2"}
    assert {row["seed"] for row in rows} == {answers["seed"]}
    table = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [int(row["rating"]) for row in table] == [row["rating"] for row in rows]


def test_abx_from_the_first_click_to_the_table(visit: Visit, sections: list[Section], tmp_path: Path) -> None:
    test = write_listening_test(sections, tmp_path / "test.html", one_file=True, form="abx")
    page = visit(test.page)
    begin(page, test, 5)
    chosen = {}
    for position in (1, 2, 3):
        page.wait_for_selector(".play:enabled")
        assert page.locator("#question").inner_text() == "Which of A and B is X?"
        assert page.locator(".choose span").all_inner_texts() == ["A", "B", "X"]
        assert page.locator("#next").is_disabled()
        a, b = order(page)
        page.locator("#choices input").nth(position % 2).check()
        chosen[a.split("-")[0]] = (a, b)[position % 2]
        page.locator("#next").click()
    file = saved(page, tmp_path)
    key = contents(test.key)
    answers = contents(file)
    assert answers["seed"] == 5
    pairs = []
    rows = read_answers([file], test.key)
    for answer, row in zip(answers["answers"], rows, strict=True):
        assert answer["chosen"] == chosen[answer["trial"]]
        assert {answer["a"], answer["b"]} == {f"{answer['trial']}-1", f"{answer['trial']}-2"}
        assert answer["x"] in (answer["a"], answer["b"])
        assert row["correct"] == (answer["chosen"] == answer["x"])
        for place in "abx":
            assert row[f"method_{place}"] == key["sounds"][answer[place]]["method"]
        pairs.append({row["method_a"], row["method_b"]})
    # Three trials of three methods: each pair once.
    assert sorted(map(sorted, pairs)) == [["constant", "equal-energy"], ["constant", "l2i"], ["equal-energy", "l2i"]]


def test_x_is_the_sound_that_the_answers_state(visit: Visit, sections: list[Section], tmp_path: Path) -> None:
    test = write_listening_test(sections, tmp_path / "test", form="abx")
    page = visit(test.page)
    page.evaluate("""() => {
        window.heard = {};
        const set = Sound.Player.prototype.setTrack;
        Sound.Player.prototype.setTrack = function (id, y) { heard[id] = Array.from(y); return set.call(this, id, y); };
    }""")
    page.locator("#begin").click()
    for _ in range(3):
        page.wait_for_selector(".play:enabled")
        page.locator("#choices input").first.check()
        page.locator("#next").click()
    answer = contents(saved(page, tmp_path))["answers"][-1]
    heard = page.evaluate("heard")
    assert heard["x"] == heard[answer["x"]]
    assert heard[answer["a"]] != heard[answer["b"]]


def shuffled(values: list[Any], random: Iterator[float]) -> list[Any]:
    """Fisher and Yates's shuffle, from the end."""
    values = list(values)
    for i in range(len(values) - 1, 0, -1):
        j = int(next(random) * (i + 1))
        values[i], values[j] = values[j], values[i]
    return values


def mulberry32(seed: int) -> Iterator[float]:
    """Ettinger's generator in integers of any size."""
    mask = 2**32 - 1
    while True:
        seed = (seed + 0x6D2B79F5) & mask
        t = (seed ^ seed >> 15) * (1 | seed) & mask
        t ^= t + ((t ^ t >> 7) * (61 | t) & mask) & mask
        yield ((t ^ t >> 14) & mask) / 2**32


@pytest.mark.parametrize("form", ["rating", "abx"])
def test_the_order_is_that_of_the_listeners_seed(
    visit: Visit, sections: list[Section], tmp_path: Path, form: Any
) -> None:
    test = write_listening_test(sections, tmp_path / "test", form=form)
    n_sounds = 3 if form == "rating" else 2
    page = visit(test.page)
    met = set()
    for seed in (1, 4_000_000_000):
        begin(page, test, seed)
        random = mulberry32(seed)
        for trial in shuffled(["1", "2", "3"], random):
            page.wait_for_selector(".play:enabled")
            sounds = shuffled([f"{trial}-{i + 1}" for i in range(n_sounds)], random)
            x = sounds[int(next(random) * n_sounds)]
            expect(page.locator(".choose").last).to_have_attribute("data-sound", "x" if form == "abx" else sounds[-1])
            expect(page.locator(".choose").nth(int(form == "rating"))).to_have_attribute("data-sound", sounds[0])
            assert order(page) == sounds
            if form == "rating":
                rate_all(page, {})
            else:
                page.locator("#choices input").nth(sounds.index(x)).check()
                page.locator("#next").click()
                met.add(sounds.index(x))
        if form == "abx":
            rows = read_answers([saved(page, tmp_path)], test.key)
            assert [row["correct"] for row in rows] == [True] * 3
        page.evaluate("localStorage.clear()")
    assert form == "rating" or met == {0, 1}


@pytest.mark.parametrize("form", ["rating", "abx"])
def test_only_sounds_of_abx_are_equally_loud(visit: Visit, sections: list[Section], tmp_path: Path, form: Any) -> None:
    page = visit(write_listening_test(sections, tmp_path / "test", form=form).page)
    page.locator("#begin").click()
    page.wait_for_selector(".play:enabled")
    page.locator(".play").click()
    page.wait_for_selector(".play.playing")
    heard = page.evaluate("""async () => {
        const found = [];
        for (const id of [...Sound.Player.current.tracks.keys()].slice(-3)) {
            Sound.Player.current.setLoop([0, 0.08]);
            Sound.Player.current.select(id);
            await new Promise((resolve) => setTimeout(resolve, 150));
            const { voice, rms } = Sound.Player.current.tracks.get(id);
            found.push({ gain: voice.gain.gain.value, rms });
        }
        return found;
    }""")
    gains, levels = [one["gain"] for one in heard], [one["gain"] * one["rms"] for one in heard]
    assert gains[0] > 0
    assert np.allclose(levels if form == "abx" else gains, (levels if form == "abx" else gains)[0], rtol=0.01)
    assert not np.allclose(gains if form == "abx" else levels, (gains if form == "abx" else levels)[0], rtol=0.01)


def test_a_closed_page_goes_on_where_it_was(visit: Visit, sections: list[Section], tmp_path: Path) -> None:
    test = write_listening_test(sections, tmp_path / "test", form="rating")
    page = visit(test.page)
    page.locator("#listener").fill("me")
    page.locator("#begin").click()
    page.wait_for_selector(".play:enabled")
    given: dict[str, int] = {}
    rate_all(page, given)
    expect(page.locator("#place")).to_have_text("Trial 2 of 3")
    second = order(page)
    page.reload()
    assert page.locator("#begin").inner_text() == "Continue after 1 of 3"
    assert page.locator("#listener").input_value() == "me"
    page.locator("#begin").click()
    page.wait_for_selector(".play:enabled")
    assert order(page) == second
    page.locator("#back").click()
    expect(page.locator("#place")).to_have_text("Trial 1 of 3")
    ratings = page.locator(".rating input").evaluate_all("sliders => sliders.map(slider => slider.valueAsNumber)")
    assert ratings == [given[sound] for sound in order(page)]
    page.reload()
    page.locator("#discard").click()
    assert page.locator("#begin").inner_text() == "Begin"


def test_a_trial_that_is_not_loaded_cannot_be_skipped(visit: Visit, sections: list[Section], tmp_path: Path) -> None:
    page = visit(write_listening_test(sections, tmp_path / "test", form="rating").page)
    page.locator("#begin").click()
    page.wait_for_selector(".play:enabled")
    for slider in page.locator(".rating input").all():
        slider.fill("10")
    page.evaluate("document.getElementById('next').click(); document.getElementById('next').click()")
    page.wait_for_selector(".play:enabled")
    assert page.locator("#place").inner_text() == "Trial 2 of 3"


def test_sounds_play_on_one_clock_and_keys_choose_them(visit: Visit, sections: list[Section], tmp_path: Path) -> None:
    test = write_listening_test(sections, tmp_path / "test", form="rating")
    page = visit(test.page)
    page.locator("#begin").click()
    page.wait_for_selector(".play:enabled")
    page.keyboard.press("3")
    assert page.locator(".choose").nth(2).get_attribute("aria-pressed") == "true"
    page.locator("#question").focus()
    page.keyboard.press("Space")
    page.wait_for_selector(".play.playing")
    page.evaluate("Sound.Player.current.setLoop([0, Sound.Player.current.duration])")  # or it ends at once
    expect(page.locator(".time")).not_to_have_text("0.0 / 0.1 s")
    page.locator(".choose").nth(1).click()
    assert page.locator(".choose").nth(1).get_attribute("aria-pressed") == "true"


def test_a_rating_in_the_middle_is_one(visit: Visit, sections: list[Section], tmp_path: Path) -> None:
    test = write_listening_test(sections, tmp_path / "test", form="rating")
    page = visit(test.page)
    page.locator("#begin").click()
    page.wait_for_selector(".play:enabled")
    assert page.locator(".rating output").all_inner_texts() == ["–"] * 3
    page.locator(".rating input").first.click()
    assert page.locator(".rating output").first.inner_text() == "50"


def test_samples_that_cannot_be_compared(tiny_model: L2I, sections: list[Section], tmp_path: Path) -> None:
    (sample, *_) = sections[0].samples
    alone = dataclasses.replace(sample, results=sample.results[:1])
    twice = dataclasses.replace(sample, results=[sample.results[0], dataclasses.replace(sample.results[0], method="b")])
    for one in (alone, twice):
        needed = "two different interpretations of one sample"
        with refused(ValueError, f"sections holds no trial, but must hold {needed}"):
            write_listening_test([Section("", "", [one])], tmp_path / "no", form="abx")
    nothing = [dataclasses.replace(result, explanations=[]) for result in sample.results]
    with refused(ValueError, "sections holds no trial, but must hold interpretations"):
        write_listening_test([Section("", "", [dataclasses.replace(sample, results=nothing)])], tmp_path / "no")
    other = tiny_model.interpret((sample.results[0].input, 44100), targets=["dog"])
    mixed = PageSample("mixed", "", (), [*sample.results, other])
    with refused(ValueError, "results of 'mixed' explain dog, rain, but must explain the same class"):
        write_listening_test([Section("", "", [mixed])], tmp_path / "no")
    with refused(ValueError, "form is 'mushra', but must be one of rating, abx"):
        write_listening_test(sections, tmp_path / "no", form="mushra")  # type: ignore[arg-type]
    with refused(ValueError, "seed is -1, but must be at least 0"):
        write_listening_test(sections, tmp_path / "no", seed=-1)
    with refused(TypeError, "sections is 5, but must be a list of Section"):
        write_listening_test(5, tmp_path / "no")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_answers_that_do_not_fit(tmp_path: Path) -> None:
    key = {"version": 1, "test": "aa", "form": "rating", "sounds": {"1-1": {"method": "l2i"}}}
    answer = {"position": 1, "seconds": 2.5, "ratings": {"1-1": 70}}
    answers = {"version": 1, "test": "aa", "listener": "", "seed": 3, "answers": [answer]}
    key_file, file = tmp_path / "key.json", tmp_path / "anna.json"

    def read(answers: Any, key: Any = key) -> list[dict[str, Any]]:
        key_file.write_text(json.dumps(key))
        file.write_text(json.dumps(answers))
        return read_answers([file], key_file)

    row = {"listener": "anna", "seed": 3, "position": 1, "seconds": 2.5, "method": "l2i", "rating": 70}
    assert read(answers) == [row]
    assert to_csv([row]) == "listener,seed,position,seconds,method,rating\nanna,3,1,2.5,l2i,70\n"
    assert to_csv([]) == ""
    with refused(ValueError, f"{file} answers the test bb, but the key is of aa"):
        read({**answers, "test": "bb"})
    with refused(ValueError, f"the version of {file} is 2, but must be 1"):
        read({**answers, "version": 2})
    for wrong in ({}, [], {"version": 1}, key):
        with refused(ValueError, f"{file} has no entry 'answers', but must be a file of answers"):
            read(wrong)
    with refused(ValueError, f"{key_file} has no entry 'sounds', but must be a key of a listening test"):
        read(answers, answers)
    for wrong in ({**answer, "ratings": {"9-9": 1}}, {"position": 1}, 5, {**answer, "ratings": 5}):
        with refused(ValueError, f"{file} is damaged (...), but must be whole"):
            read({**answers, "answers": [wrong]})
    with refused(TypeError, "files is 'text', but must be a list of files"):
        read_answers("text", key_file)
