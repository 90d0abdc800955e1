"""Pages as their readers have them: they open in Chromium, from disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Page, expect

import l2i_fast as l2i
from l2i_fast.data import Dataset
from l2i_fast.explainers import ListenToInterpret
from l2i_fast.model import L2I
from l2i_fast.page import PageSample, Section, write_page

from ..helpers import relative
from .conftest import decoded, floats, nameless, sample_of

NAME = "1-1-long-b-b"
TRACKS = ["input", "part-1", "part-2", "result-1-1", "result-2-1", "result-3-1"]
Visit = Callable[..., Page]


def opened(page: Page, name: str = NAME) -> Page:
    """The page, with a sample read."""
    page.evaluate("name => l2i.sample(name).open()", name)
    return page


def heard(page: Page, track: str, name: str = NAME) -> NDArray[np.float32]:
    """The samples that a track plays."""
    return floats(page, f"l2i.samples({name!r}, {track!r})")


def settled(page: Page) -> None:
    """Wait until work that is due before the next picture is done."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def gains(page: Page, name: str = NAME) -> dict[str, float]:
    """The gain of every track, when its ramp is over by the clock of the sound."""
    code = """async (name) => {
        const tracks = [...l2i.sample(name).player.tracks];
        const { context } = tracks[0][1].voice.gain;
        const end = context.currentTime + 0.06;
        while (context.currentTime < end) await new Promise((resolve) => setTimeout(resolve, 5));
        return Object.fromEntries(tracks.map(([id, { voice }]) => [id, voice.gain.gain.value]));
    }"""
    found: dict[str, float] = page.evaluate(code, name)
    return found


def position(page: Page, name: str = NAME) -> float:
    found: float = page.evaluate("name => l2i.sample(name).player.position", name)
    return found


def is_playing(page: Page, name: str = NAME) -> bool:
    found: bool = page.evaluate("name => l2i.sample(name).player.playing", name)
    return found


def wait_until(page: Page, expression: str) -> None:
    page.wait_for_function(f"() => {{ const sample = l2i.sample({NAME!r}); return {expression}; }}", timeout=10000)


@pytest.fixture(scope="module")
def index(sections: list[Section], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two samples."""
    return write_page(sections, tmp_path_factory.mktemp("page"))


@pytest.fixture
def page(visit: Visit, index: Path) -> Page:
    """The page, of which the first sample is read."""
    return opened(visit(index))


@pytest.mark.parametrize("one_file", [False, True])
def test_every_player_loads_and_plays(visit: Visit, sections: list[Section], tmp_path: Path, one_file: bool) -> None:
    page = visit(write_page(sections, tmp_path / "page.html", one_file=one_file))
    for name, section in ((NAME, sections[0]), ("2-1-brief", sections[1])):
        opened(page, name)
        sample = section.samples[0]
        for track in TRACKS:
            duration = "([name, track]) => l2i.sample(name).player.tracks.get(track).buffer.duration"
            assert page.evaluate(duration, [name, track]) == pytest.approx(len(sample.results[0].input) / 44100)
        assert relative(heard(page, "input", name), sample.results[0].input) < 1e-6
        for track, part in zip(("part-1", "part-2"), sample.parts.values(), strict=True):
            assert relative(heard(page, track, name), part) < 1e-4
        for track, result in zip(("result-1-1", "result-2-1", "result-3-1"), sample.results, strict=True):
            assert np.abs(result.audio).max() > 0
            assert relative(heard(page, track, name), result.audio) < 1e-4
    article = page.locator(f"[data-sample='{NAME}']")
    article.get_by_role("button", name="Play", exact=True).click()
    wait_until(page, "sample.player.playing && sample.player.position > 0.1")
    article.get_by_role("button", name="Pause").click()
    assert not is_playing(page)
    assert 0.1 < position(page) < 30000 / 44100


def test_a_player_stops_at_its_end(page: Page) -> None:
    page.evaluate("name => { const { player } = l2i.sample(name); player.seek(0.6); return player.play(); }", NAME)
    wait_until(page, "!sample.player.playing")
    assert position(page) == 0


def test_only_one_sample_plays(page: Page) -> None:
    opened(page, "2-1-brief")
    page.evaluate("name => l2i.sample(name).player.setLoop([0, 0.5])", NAME)
    page.evaluate("name => l2i.sample(name).player.play()", NAME)
    page.evaluate("() => l2i.sample('2-1-brief').player.play()")
    assert not is_playing(page)


def test_samples_are_read_when_they_come_into_view(
    visit: Visit, tiny_model: L2I, rng: np.random.Generator, tmp_path: Path
) -> None:
    samples = [sample_of(tiny_model, rng, f"{i}", 2000) for i in range(8)]
    page = visit(write_page([Section("", "", samples)], tmp_path))
    page.wait_for_function("() => l2i.sample('1-1-0').player?.tracks.size")
    assert page.evaluate("() => l2i.sample('1-8-7').opened === null")
    page.locator("[data-sample='1-8-7']").scroll_into_view_if_needed()
    page.wait_for_function("() => l2i.sample('1-8-7').player?.tracks.size")


def test_pictures_show_something(page: Page) -> None:
    canvases = page.locator(f"[data-sample='{NAME}'] canvas").all()
    assert len(canvases) == len(TRACKS)
    pictures = set()
    for canvas in canvases:
        box = canvas.bounding_box()
        assert box
        assert box["width"] > 100
        assert box["height"] > 80
        code = "c => Array.from(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer))"
        pixels = canvas.evaluate(code)
        assert len(set(pixels)) > 20
        pictures.add(tuple(pixels))
    assert len(pictures) == len(canvases)
    for svg in page.locator(f"[data-sample='{NAME}'] .panel[open] svg").all():
        box = svg.bounding_box()
        assert box is None or box["width"] > 50


def test_switched_components_change_what_is_heard(page: Page, sections: list[Section]) -> None:
    result = sections[0].samples[0].results[0]
    panel = page.locator("[data-panel='result-1-1']").first
    boxes = panel.get_by_role("checkbox")
    panel.get_by_role("button", name="Show all").click()
    page.evaluate(
        "name => { const { player } = l2i.sample(name); player.setLoop([0, 0.6]); return player.play(); }", NAME
    )
    labels = [label.removeprefix("Component ") for label in panel.locator("li label").all_inner_texts()]
    shown = [int(label) for label in labels]
    assert sorted(shown) == list(range(12))
    assert sorted(shown, key=lambda k: -result.relevance[k]) == shown
    chosen = {k for k, box in zip(shown, boxes.all(), strict=True) if box.is_checked()}
    assert chosen == set(result.components)
    for place in (0, 11, 5):
        before = heard(page, "result-1-1")
        boxes.nth(place).click()
        chosen ^= {shown[place]}
        settled(page)
        after = heard(page, "result-1-1")
        assert relative(after, before) > 1e-3
        assert relative(after, decoded(result, sorted(chosen), "log")) < 1e-4
        expect(panel.locator(".count")).to_have_text(f"{len(chosen)} of 12 heard")
    assert is_playing(page)
    panel.get_by_role("button", name="Reset").click()
    assert relative(heard(page, "result-1-1"), result.audio) < 1e-4


def test_threshold_number_and_domain_are_live(page: Page, tiny_model: L2I, sections: list[Section]) -> None:
    result = sections[0].samples[0].results[0]
    panel = page.locator("[data-panel='result-1-1']").first

    def check(threshold: float, top_k: int | None, domain: str) -> None:
        settled(page)
        selection = tiny_model.selection_with(threshold, top_k, domain)
        components = tiny_model.select(result.relevance, selection)
        assert relative(heard(page, "result-1-1"), decoded(result, components, domain)) < 1e-4
        expect(panel.locator(".count")).to_have_text(f"{len(components)} of 12 heard")

    panel.get_by_label("Relevance above").fill("0.05")
    check(0.05, 5, "log")
    panel.get_by_label("At most").select_option("2")
    check(0.05, 2, "log")
    panel.get_by_label("At most").select_option(label="all")
    panel.get_by_label("Relevance above").fill("0")
    check(0, None, "log")
    panel.get_by_label("Mask on").select_option(label="magnitude")
    check(0, None, "magnitude")


def test_a_component_plays_alone(page: Page, sections: list[Section]) -> None:
    result = sections[0].samples[0].results[0]
    panel = page.locator("[data-panel='result-1-1']").first
    best = int(np.argmax(result.relevance))
    button = panel.get_by_role("button", name=f"Play component {best} alone")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert relative(heard(page, "solo"), decoded(result, [best], "log")) < 1e-4
    assert is_playing(page)
    page.keyboard.press("1")
    expect(button).to_have_attribute("aria-pressed", "false")
    assert page.evaluate("name => l2i.sample(name).player.selected", NAME) == "input"


def test_keys(page: Page) -> None:
    page.evaluate("name => l2i.sample(name).player.setLoop([0, 0.68])", NAME)
    page.keyboard.press(" ")
    wait_until(page, "sample.player.playing")
    for i, track in enumerate(TRACKS, 1):
        page.keyboard.press(str(i))
        loud = {id for id, gain in gains(page).items() if gain > 0.01}
        assert loud == {track}
        chosen = page.locator(f"[data-sample='{NAME}'] .choose[aria-pressed=true] kbd")
        assert chosen.all_inner_texts() == [str(i)]
    page.keyboard.press(" ")
    assert not is_playing(page)
    page.keyboard.press("Escape")
    page.evaluate("name => l2i.sample(name).player.seek(0.6)", NAME)
    page.keyboard.press("ArrowLeft")
    assert position(page) == pytest.approx(0.1)
    page.keyboard.press("ArrowLeft")
    assert position(page) == 0
    page.keyboard.press("ArrowRight")
    assert position(page) == pytest.approx(0.5)
    page.keyboard.press("o")
    page.evaluate("name => l2i.sample(name).player.seek(0.2)", NAME)
    page.keyboard.press("i")
    assert page.evaluate("name => l2i.sample(name).player.loop", NAME) == pytest.approx([0.2, 0.5])
    page.get_by_role("button", name="Clear loop").click()
    assert page.evaluate("name => l2i.sample(name).player.loop", NAME) is None


def test_keys_that_an_input_needs_stay_with_it(page: Page) -> None:
    panel = page.locator("[data-panel='result-1-1']").first
    box, slider = panel.get_by_role("checkbox").first, panel.get_by_label("Relevance above")
    before = box.is_checked()
    box.press(" ")
    assert box.is_checked() is not before
    slider.press("ArrowRight")
    assert slider.input_value() == "0.21"
    assert not is_playing(page)
    assert position(page) == 0


def test_dragging_on_a_spectrogram_loops_and_a_click_seeks(page: Page) -> None:
    canvas = page.locator(f"[data-sample='{NAME}'] [data-track='result-1-1'] canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box
    x, y, width = box["x"], box["y"] + 30, box["width"]
    duration = 30000 / 44100
    page.mouse.move(x + 0.5 * width, y)
    page.mouse.down()
    page.mouse.move(x + 0.3 * width, y, steps=3)
    page.mouse.up()
    loop = page.evaluate("name => l2i.sample(name).player.loop", NAME)
    assert loop == pytest.approx([0.3 * duration, 0.5 * duration], abs=0.01)
    wait_until(page, "sample.player.playing")
    source = "name => l2i.sample(name).player.tracks.get('result-1-1').voice.source"
    assert page.evaluate(f"name => (({source})(name)).loop", NAME)
    assert [page.evaluate(f"name => (({source})(name)).{end}", NAME) for end in ("loopStart", "loopEnd")] == loop
    seen = [position(page)]
    while min(np.diff(seen), default=0) >= 0 and len(seen) < 5000:  # until it goes round
        seen.append(position(page))
    assert min(np.diff(seen)) < 0
    assert loop[0] <= min(seen)
    assert max(seen) <= loop[1]
    assert page.evaluate("name => l2i.sample(name).player.selected", NAME) == "result-1-1"
    page.evaluate("name => l2i.sample(name).player.pause()", NAME)
    page.mouse.click(x + 0.8 * width, y)
    assert page.evaluate("name => l2i.sample(name).player.loop", NAME) is None
    wait_until(page, "sample.player.playing")
    assert position(page) >= 0.8 * duration - 0.01


def test_volumes_are_matched_by_choice_and_never_clip(page: Page) -> None:
    page.evaluate(
        "name => { const { player } = l2i.sample(name); player.setLoop([0, 0.6]); return player.play(); }", NAME
    )

    def levels() -> list[tuple[float, float]]:
        found = []
        for track in TRACKS:
            page.evaluate("([name, track]) => l2i.sample(name).select(track)", [NAME, track])
            y = gains(page)[track] * heard(page, track)
            found.append((float(np.sqrt(np.mean(y**2))), float(np.abs(y).max())))
        return found

    plain = levels()
    assert max(rms for rms, _ in plain) > 1.1 * min(rms for rms, _ in plain)
    page.get_by_label("Same loudness for all sounds").check()
    matched = levels()
    assert [rms for rms, _ in matched] == pytest.approx([matched[0][0]] * len(TRACKS), rel=1e-3)
    assert max(peak for _, peak in [*plain, *matched]) <= 1.0001


def test_loud_inputs_are_not_clipped(visit: Visit, tiny_model: L2I, rng: np.random.Generator, tmp_path: Path) -> None:
    y = (3 * rng.uniform(-1, 1, 30000)).astype(np.float32)
    result = ListenToInterpret(tiny_model).explain([(y, 44100)])[0]
    page = opened(visit(write_page([Section("", "", [PageSample("a", "A", (), [result])])], tmp_path)), "1-1-a")
    page.evaluate("() => l2i.sample('1-1-a').player.play()")
    assert gains(page, "1-1-a")["input"] == pytest.approx(1 / np.abs(y).max(), rel=1e-3)


def test_a_real_recording_is_decoded_as_by_python(visit: Visit, esc10: Dataset, tmp_path: Path) -> None:
    model = l2i.load("esc10")
    clip = esc10.clips[17]
    result = ListenToInterpret(model).explain([clip.path])[0]
    sample = PageSample(clip.path.name, "Real", tuple(esc10.classes[c] for c in clip.labels), [result])
    page = visit(write_page([Section("Real", "", [sample])], tmp_path))
    name = page.locator(".sample").get_attribute("data-sample")
    assert name
    opened(page, name)
    assert relative(heard(page, "result-1-1", name), result.audio) < 1e-5
    box = page.get_by_role("checkbox", name=f"Component {result.components[0]}", exact=True)
    box.uncheck()
    settled(page)
    expected = decoded(result, result.components[1:], model.selection.domain)
    assert relative(heard(page, "result-1-1", name), expected) < 1e-5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_schemes(visit: Visit, index: Path, scheme: str) -> None:
    settings: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme}
    page = opened(visit(index, **settings))
    for details in page.locator("details").all():
        details.evaluate("one => (one.open = true)")
    page.locator(".more").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for name in ("color", "backgroundColor"):
        channels = page.evaluate(f"getComputedStyle(document.body).{name}.match(/\\d+/g).map(Number)")
        assert (max(channels) > 128) is ((scheme == "light") == (name == "backgroundColor"))


def test_everything_has_a_name_for_screen_readers(page: Page) -> None:
    assert nameless(page) == []
