"""The global view as its readers have it: in Chromium, from disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Page, expect

from l2i_fast import reference
from l2i_fast.evaluation.overview import Overview, Recording
from l2i_fast.model import L2I
from l2i_fast.page import Section, write_page
from l2i_fast.results import Result

from ..conftest import make_model
from ..helpers import relative
from .conftest import decoded, floats, nameless, sample_of
from .test_engine import hann, white_noise

VIEW = "l2i.view('overview-1')"
Visit = Callable[..., Page]


def a_view(model: L2I, relevance: NDArray[np.float64]) -> Overview:
    """A view of three recordings, of which the page has "Long"."""
    recordings = [
        Recording("Long", "rain", ("rain",), True, -1.0, 0.5),
        Recording("away <b>", "clock_tick", ("rain",), False, 1.0, 0.0),
        Recording("other", "clock_tick", ("clock_tick",), True, 1.0, -0.4),
    ]
    analysis = {name: model.settings[name] for name in ("sample_rate", "n_fft", "hop_length")}
    return Overview("run", ["clock_tick", "rain"], relevance, recordings, model.dictionary, analysis)


def another_model() -> L2I:
    """A model with more components than fit beside one another on a phone."""
    return make_model(n_components=40, seed=1)


@pytest.fixture(scope="module")
def section(tiny_model: L2I) -> Section:
    """Two samples, and the views of two models; the page decodes components of the first one only."""
    rng = np.random.default_rng(8)
    samples = [sample_of(tiny_model, rng, "Long", 30000), sample_of(tiny_model, rng, "Brief", 700)]
    relevance = np.zeros((2, 40))
    relevance[0, [7, 2]] = [0.4, 0.6]
    relevance[1, [7, 5, 2]] = [0.9, 0.3, -0.5]
    other = np.roll(relevance, -1, axis=1)
    views = {"run/one": a_view(tiny_model, relevance[:, :12]), "run/two": a_view(another_model(), other)}
    return Section("Recordings as they are", "", samples, None, views)


@pytest.fixture(scope="module")
def index(section: Section, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page([section], tmp_path_factory.mktemp("page"))


@pytest.fixture
def page(visit: Visit, index: Path) -> Page:
    return opened(visit(index))


def opened(page: Page) -> Page:
    page.evaluate(f"() => {VIEW}.open()")
    return page


@pytest.fixture(scope="module")
def result(section: Section) -> Result:
    """By L2I, for the recording that the views and the page have."""
    return section.samples[0].results[0]


def column(page: Page, place: int) -> tuple[float, float]:
    """The middle of the cell of a component in the first row, in pixels of the window."""
    canvas = page.locator(".matrix canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box
    width = page.evaluate(f"() => {VIEW}.column")
    return box["x"] + (place + 0.5) * width, box["y"] + 12


def pixels_of(page: Page) -> NDArray[np.int64]:
    """The canvas of the components (height, width, 3)."""
    code = """() => {
        const canvas = document.querySelector(".matrix canvas");
        const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return [Array.from(data), width];
    }"""
    data, width = page.evaluate(code)
    return np.array(data).reshape(-1, width, 4)[..., :3]


def levelled(y: NDArray[Any]) -> NDArray[Any]:
    """At an RMS of 0.05, or lower so that none exceeds full scale."""
    return y * min(0.05 / np.sqrt(np.mean(np.square(y, dtype=np.float64))), 1 / np.abs(y).max())


def noise_of(model: L2I, k: int) -> NDArray[np.float64]:
    """White noise of 1.5 s under the magnitudes of a component, whose loudest bin is at a log magnitude of 2."""
    n_fft, hop = model.settings["n_fft"], model.settings["hop_length"]
    w = model.dictionary[:, k].astype(np.float64)
    X = reference.stft(white_noise(66150), hann(n_fft), hop)
    return reference.istft(np.expm1(2 * w / w.max())[:, None] * X, hann(n_fft), hop, length=66150)


def heard(page: Page, kind: str) -> NDArray[np.float32]:
    """What the view plays."""
    page.wait_for_function(f"() => {VIEW}.player?.playing && {VIEW}.player.kind === {kind!r}")
    return floats(page, f"{VIEW}.player.samples({kind!r})")


@pytest.mark.parametrize("one_file", [False, True])
def test_components_sound_as_by_python(
    visit: Visit, section: Section, tiny_model: L2I, result: Result, tmp_path: Path, one_file: bool
) -> None:
    page = opened(visit(write_page([section], tmp_path / "page.html", one_file=one_file)))
    k = int(np.argmax(result.relevance))
    assert result.relevance[k] > result.settings["threshold"]
    page.evaluate(f"() => {{ {VIEW}.choose({k}); }}")
    expected = decoded(result, [k], "log")
    assert np.abs(expected).max() > 0
    assert relative(heard(page, "part"), levelled(expected)) < 1e-4
    part, noise = page.get_by_role("button", name="In a recording"), page.get_by_role("button", name="As noise")
    expect(part).to_have_attribute("aria-pressed", "true")
    noise.click()
    assert relative(heard(page, "noise"), levelled(noise_of(tiny_model, k))) < 1e-4
    expect(part).to_have_attribute("aria-pressed", "false")
    expect(noise).to_have_attribute("aria-pressed", "true")
    noise.click()
    assert not page.evaluate(f"() => {VIEW}.player.playing")
    expect(noise).to_have_attribute("aria-pressed", "false")
    # What plays in a sample stops it, and it stops what plays in a sample.
    noise.click()
    heard(page, "noise")
    page.evaluate("() => l2i.sample('1-1-long').player.play()")
    page.wait_for_function(f"() => !{VIEW}.player.playing")
    page.evaluate(f"() => {VIEW}.play('noise')")
    page.wait_for_function("() => !l2i.sample('1-1-long').player.playing")


def test_every_component_can_be_heard(page: Page, tiny_model: L2I, result: Result) -> None:
    part = page.get_by_role("button", name="In a recording")
    for k in range(12):
        page.evaluate(f"() => {{ {VIEW}.choose({k}); }}")
        relevant = bool(result.relevance[k] > result.settings["threshold"])
        assert part.is_enabled() is relevant
        expect(page.locator(".where")).to_have_text(
            "its part of Long, predicted as rain" if relevant else "relevant in no recording of this page"
        )
        page.wait_for_function(f"() => {VIEW}.player?.k === {k}")
        kind = "part" if relevant else "noise"
        expected = decoded(result, [k], "log") if relevant else noise_of(tiny_model, k)
        assert relative(heard(page, kind), levelled(expected)) < 1e-4


def test_the_last_component_that_was_chosen_is_heard(page: Page, result: Result) -> None:
    most, least = int(np.argmax(result.relevance)), int(np.argmin(result.relevance))
    choices = f"[{VIEW}.choose({most}), {VIEW}.choose({least})]"  # the first one has to be decoded, and so comes later
    assert page.evaluate(f"async () => {{ await Promise.all({choices}); return {VIEW}.player.k; }}") == least


def test_the_canvas_shows_the_relevances(page: Page) -> None:
    order = [2, 7, 5, 0, 1, 3, 4, 6, 8, 9, 10, 11]  # by class, then by relevance; those of no class last
    assert page.evaluate(f"() => {VIEW}.order") == order
    assert page.locator(".rows li").all_inner_texts() == ["clock tick (2)", "rain (1)"]
    pixels = pixels_of(page)
    width = page.evaluate(f"() => {VIEW}.column")
    colours = [[pixels[24 * row + 12, int((place + 0.5) * width)] for place in range(12)] for row in range(2)]
    faint, accent, against = (np.array(c) for c in ((0xEF, 0xED, 0xE8), (0, 0x72, 0xB2), (0xB8, 0x4F, 0)))
    shares = {(0, 0): 0.6, (0, 1): 0.4, (1, 0): -0.5, (1, 1): 0.9, (1, 2): 0.3}
    for row in range(2):
        for place in range(12):
            r = shares.get((row, place), 0)
            expected = faint + abs(r) * ((against if r < 0 else accent) - faint)
            assert np.abs(colours[row][place] - expected).max() <= 2, (row, place)


def test_hovering_describes_and_a_click_chooses(page: Page) -> None:
    name, uses = page.locator(".component .name"), page.locator(".uses li")
    expect(name).to_have_text("Component 2")
    page.mouse.move(*column(page, 1))
    expect(name).to_have_text("Component 7")
    texts = [text.split("\n") for text in uses.all_inner_texts()]
    assert [(text[0], text[-1]) for text in texts] == [("rain", "0.90"), ("clock tick", "0.40")]
    spectrum = page.locator(".spectrum svg")
    expect(spectrum).to_have_attribute("aria-label", "Spectrum of component 7")
    assert page.locator(".spectrum span").all_inner_texts() == ["250", "1k", "4k", "16k Hz"]
    page.mouse.move(5, 5)
    expect(name).to_have_text("Component 2")
    page.mouse.click(*column(page, 3))
    page.mouse.move(5, 5)
    expect(name).to_have_text("Component 0")
    assert uses.all_inner_texts() == ["relevant to no class"]
    page.wait_for_function(f"() => {VIEW}.player?.playing && {VIEW}.player.k === 0")


def test_keys_choose_and_play_components(page: Page) -> None:
    slider = page.get_by_role("slider", name="Component")
    slider.focus()
    page.evaluate("() => l2i.sample('1-1-long').open()")
    for key, place, text in (
        ("ArrowRight", 1, "Component 7: rain 0.90, clock tick 0.40"),
        ("ArrowUp", 2, "Component 5: rain 0.30"),
        ("End", 11, "Component 11: relevant to no class"),
        ("ArrowRight", 11, "Component 11: relevant to no class"),
        ("Home", 0, "Component 2: clock tick 0.60"),
        ("ArrowLeft", 0, "Component 2: clock tick 0.60"),
    ):
        page.keyboard.press(key)
        expect(slider).to_have_attribute("aria-valuenow", str(place))
        expect(slider).to_have_attribute("aria-valuetext", text)
        expect(page.locator(".component .name")).to_have_text(text.partition(":")[0])
    assert page.evaluate(f"() => {VIEW}.player") is None
    assert page.evaluate("() => l2i.sample('1-1-long').player.position") == 0
    for key in ("Enter", " "):
        page.keyboard.press(key)
        page.wait_for_function(f"() => {VIEW}.player?.playing && {VIEW}.player.k === 2")
        page.evaluate(f"() => {VIEW}.player.pause()")
    assert not page.evaluate("() => l2i.sample('1-1-long').player.playing")


def test_the_table_says_the_same(page: Page) -> None:
    page.get_by_text("The same as a table").click()
    table = page.get_by_role("table", name="Mean relevance of each component for each predicted class")
    assert table.get_by_role("columnheader").all_inner_texts() == ["component", "clock tick", "rain"]
    cells = [row.get_by_role("cell").all_inner_texts() for row in table.get_by_role("row").all()[1:]]
    assert cells[:4] == [["0.60", "−0.50"], ["0.40", "0.90"], ["0.00", "0.30"], ["0.00", "0.00"]]
    assert len(cells) == 12
    table.get_by_role("button", name="Play 5", exact=True).click()
    page.wait_for_function(f"() => {VIEW}.player?.playing && {VIEW}.player.k === 5")
    expect(page.locator(".component .name")).to_have_text("Component 5")


def test_each_model_has_its_own_components(page: Page, section: Section) -> None:
    page.get_by_text("The same as a table").click()
    page.get_by_label("Model").select_option("run/two")
    expect(page.locator(".component .name")).to_have_text("Component 1")
    expect(page.get_by_role("slider", name="Component")).to_have_attribute("aria-valuemax", "39")
    assert page.locator(".table tbody tr").count() == 40
    # The page has the recording, but decodes it by the other dictionary.
    expect(page.get_by_role("button", name="In a recording")).to_be_disabled()
    page.get_by_role("button", name="As noise").click()
    other = another_model()
    assert np.array_equal(other.dictionary, section.views["run/two"].dictionary)
    assert relative(heard(page, "noise"), levelled(noise_of(other, 1))) < 1e-4
    page.get_by_label("Model").select_option("run/one")
    expect(page.locator(".component .name")).to_have_text("Component 2")
    assert page.locator(".table tbody tr").count() == 12


def test_one_model_needs_no_choice(visit: Visit, section: Section, tmp_path: Path) -> None:
    (name, view), *_ = section.views.items()
    page = opened(visit(write_page([Section("", "", section.samples, None, {name: view})], tmp_path)))
    expect(page.get_by_label("Model")).to_be_hidden()
    expect(page.locator(".component .name")).to_have_text("Component 2")


def test_the_map_places_names_and_marks_recordings(page: Page) -> None:
    assert {one.get_attribute("aria-label") for one in page.locator(".point").all()} == {
        "Long: predicted as rain, true rain",
        "away <b>: predicted as clock tick, true rain, wrong",
        "other: predicted as clock tick, true clock tick",
    }
    long, away, other = (page.locator(f".point[aria-label^={name}]") for name in ("Long", "away", "other"))
    box = page.locator(".map").bounding_box()
    assert box

    def place(one: Any) -> tuple[float, float]:
        found = one.locator("path").bounding_box()
        return found["x"] + found["width"] / 2 - box["x"], found["y"] + found["height"] / 2 - box["y"]

    (x, y), (x_away, y_away), (x_other, y_other) = map(place, (long, away, other))
    assert x_away - x == pytest.approx(x_other - x, abs=1.5)
    scale = (x_away - x) / 2
    assert (y_away - y, y_other - y) == pytest.approx((0.5 * scale, 0.9 * scale), abs=1.5)  # upwards, and to scale
    assert all(0 < v < box["width"] for v in (x, x_away))
    assert all(0 < v < box["height"] for v in (y, y_other))
    marks = [
        (
            one.locator("path").get_attribute("d"),
            one.locator("path").get_attribute("class"),
            one.locator(".wrong").count(),
        )
        for one in (long, away, other)
    ]
    assert marks[1][:2] == marks[2][:2]  # of one class
    assert marks[0][0] != marks[1][0]
    assert [(m[1].split()[1], m[2]) for m in marks if m[1]] == [("filled", 0), ("hollow", 1), ("hollow", 0)]
    assert page.locator(".key li").all_inner_texts() == ["clock tick", "rain", "not on this page", "wrong decision"]
    shapes = page.locator(".key path")
    assert [shapes.nth(i).get_attribute("d") for i in range(2)] == [marks[1][0], marks[0][0]]


def test_a_recording_on_the_map_leads_to_its_sample(page: Page) -> None:
    named = page.locator(".named")
    page.locator(".point[aria-label^=away]").click(force=True)
    expect(named).to_have_text("away <b>: predicted as clock tick, true rain, wrong")
    page.keyboard.press("ArrowRight")
    expect(named).to_have_text("other: predicted as clock tick, true clock tick")
    page.keyboard.press("ArrowRight")
    expect(named).to_have_text("Long: predicted as rain, true rain – go to it")
    assert page.locator(".point[tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#title-1-1-long"
    expect(page.locator("#title-1-1-long")).to_be_in_viewport()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_schemes(visit: Visit, index: Path, scheme: str) -> None:
    settings: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme}
    page = opened(visit(index, **settings))
    page.get_by_text("The same as a table").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_label("Model").select_option("run/two")
    expect(page.locator(".component .name")).to_have_text("Component 1")
    assert page.evaluate(f"() => {VIEW}.column") >= 10
    page.get_by_role("slider", name="Component").press("End")
    scrolled = page.evaluate(
        "[...document.querySelectorAll('.scroller')].map((s) => s.scrollWidth - s.scrollLeft - s.clientWidth)"
    )
    assert scrolled == pytest.approx([0], abs=1)
    assert bool(pixels_of(page)[12, 75].max() > 128) is (scheme == "light")  # of a relevance of 0


def test_the_scheme_may_change_while_it_is_shown(page: Page) -> None:
    picture = "document.querySelector('.matrix canvas').toDataURL()"
    light = page.evaluate(picture)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"(light) => {picture} !== light", arg=light)


def test_everything_has_a_name_for_screen_readers(page: Page) -> None:
    page.get_by_text("The same as a table").click()
    assert page.locator(".point").count() == 3
    assert nameless(page) == []
