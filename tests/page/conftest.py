"""A browser, and pages of small samples for it."""

from __future__ import annotations

import base64
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, sync_playwright

from l2i_fast.explainers import Constant, EqualEnergy, ListenToInterpret
from l2i_fast.model import L2I
from l2i_fast.page import PageSample, Section
from l2i_fast.results import Result
from l2i_fast.results.masking import apply_mask

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--no-first-run",
]


def program(name: str) -> str:
    """The path of a program; without it the test is skipped, but fails in CI."""
    path = shutil.which(name)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    path = program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page of a file, of which nothing may reach the console or the network."""
    contexts, said, asked = [], [], []

    def open_page(file: Path, **settings: Any) -> Page:
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert asked
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def floats(page: Page, expression: str) -> NDArray[np.float32]:
    """A Float32Array of the page."""
    code = f"""() => {{
        const samples = {expression};
        const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
        let text = "";
        for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
        return btoa(text);
    }}"""
    return np.frombuffer(base64.b64decode(page.evaluate(code)), np.float32)


def decoded(result: Result, components: Sequence[int], domain: str) -> NDArray[np.float32]:
    """The sound of some components, by Python."""
    mask = result.mask(dataclasses.replace(result.explanations[0], components=tuple(components), mask=None))
    return apply_mask(result.input, mask, {**result.settings, "domain": domain})


def nameless(page: Page) -> list[str]:
    """What has no name for screen readers."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas, svg, article, section, nav")]
            .filter((one) => !one.closest("[aria-hidden=true]") && !one.parentElement.closest("[role=img], a"))
            .filter((one) => {
                const labels = one.getAttribute("aria-labelledby");
                const text = labels ? document.getElementById(labels).textContent : one.textContent;
                return !(one.ariaLabel || one.labels?.[0]?.textContent || text).trim();
            }).map((one) => one.outerHTML)"""
    )
    return found


def sample_of(model: L2I, rng: np.random.Generator, name: str, length: int) -> PageSample:
    """A mix of two known sounds, explained by three methods."""
    target, other = (
        (rng.uniform(-0.4, 0.4, length) * np.linspace(a, 1 - a, length)).astype(np.float32) for a in (0, 1)
    )
    recordings = [(target + other, 44100)]
    explainers = [ListenToInterpret(model), EqualEnergy(model), Constant(model.network)]
    results = [explainer.explain(recordings, ["rain"])[0] for explainer in explainers]
    return PageSample(name, f"A mix: {name}", ("rain",), results, {"Target": target, "Corrupting": other}, "A note")


@pytest.fixture(scope="module")
def sections(tiny_model: L2I) -> list[Section]:
    """Two sections of synthetic samples, one shorter than a window."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed of the sections: {seed}")
    rng = np.random.default_rng(seed)
    short, long = sample_of(tiny_model, rng, "Brief", 700), sample_of(tiny_model, rng, "Long <b>&</b>", 30000)
    return [
        Section("Mixes", "One paragraph.\n\nAnother <i>one</i>.", [long]),
        Section("Brief ones", "", [short]),
    ]
