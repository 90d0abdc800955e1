"""The engine of the page, in Node, against the float64 reference."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import l2i_fast.page
from l2i_fast import reference
from l2i_fast.audio import scale_to_peak
from l2i_fast.page.packing import pack_floats, pack_samples
from l2i_fast.results.masking import fade_end
from l2i_fast.settings import DOMAINS

from ..helpers import relative
from .conftest import program

ENGINE = Path(l2i_fast.page.__file__).with_name("engine.js")
PRELUDE = f"const Engine = require({str(ENGINE)!r}); const input = JSON.parse(require('fs').readFileSync(0));"


def run(code: str, value: Any) -> Any:
    """What asynchronous JavaScript makes of `input`, a value."""
    script = f"{PRELUDE} (async () => {{ {code} }})().then((x) => console.log(JSON.stringify(x)));"
    command = [program("node"), "--input-type=commonjs", "-e", script]
    done = subprocess.run(command, input=json.dumps(value), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def hann(n: int) -> NDArray[np.float64]:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(
    ("length", "n_fft", "hop", "peak"),
    [
        (5000, 1024, 512, "absolute"),
        (4001, 256, 100, "signed"),
        (300, 1024, 512, "absolute"),
        (1, 64, 16, "absolute"),
        (3000, 500, 250, "absolute"),  # no power of two
        (2000, 301, 97, "signed"),  # odd
    ],
)
def test_decoding_equals_the_reference(
    rng: np.random.Generator, length: int, n_fft: int, hop: int, peak: str, domain: str
) -> None:
    y = (rng.standard_normal(length) * np.linspace(-1, 3, length)).astype(np.float32)
    F, T, K = n_fft // 2 + 1, 1 + (length + 2 * (n_fft // 2) - n_fft) // hop, 7
    W = rng.random((F, K)).astype(np.float32) ** 4
    H = np.maximum(rng.standard_normal((K, T)), 0).astype(np.float32)  # with zeros, as after a ReLU
    chosen = [5, 0, 3]
    case = {
        "y": pack_floats(y),
        "W": pack_floats(W.T),
        "H": pack_floats(H),
        "settings": {"nFft": n_fft, "hop": hop, "peak": peak},
        "chosen": chosen,
        "domain": domain,
    }
    decoded = run(
        """const [y, W, H] = await Promise.all([input.y, input.W, input.H].map(Engine.unpack));
        const { samples, kept } = new Engine.Decoder(y, W, H, input.settings).decode(input.chosen, input.domain);
        return { samples: Array.from(samples), kept };""",
        case,
    )
    scaled, scale = scale_to_peak(y, peak)  # type: ignore[arg-type]
    X, weights = reference.stft(scaled, hann(n_fft), hop), np.isin(np.arange(K), chosen)
    expected = scale * reference.decode(X, W, H, weights, hann(n_fft), hop, domain, length=length)
    assert relative(decoded["samples"], expected) < 1e-6
    V = np.log1p(np.abs(X))
    mask = (W[:, chosen] @ H[chosen]) / (1e-6 + W.astype(np.float64) @ H)
    gain = mask**4 / (mask**4 + (1 - mask) ** 4) if domain == "wiener" else mask
    kept = mask * V if domain == "log" else np.log1p(gain * np.abs(X))
    assert decoded["kept"] == pytest.approx(kept.sum() / V.sum(), rel=1e-5)


def white_noise(length: int) -> NDArray[np.float64]:
    """The page's white noise."""
    states = [1]
    for _ in range(length):
        states.append((1664525 * states[-1] + 1013904223) % 2**32)
    return np.array(states[1:]) / 2**31 - 1


@pytest.mark.parametrize(("length", "n_fft", "hop"), [(5000, 1024, 512), (3000, 500, 250), (700, 301, 97)])
def test_noise_of_a_component_equals_the_reference(rng: np.random.Generator, length: int, n_fft: int, hop: int) -> None:
    W = rng.random((n_fft // 2 + 1, 3)).astype(np.float32) ** 4
    case = {"W": pack_floats(W.T), "settings": {"nFft": n_fft, "hop": hop}, "length": length}
    found = run(
        """const noise = Engine.componentNoise(await Engine.unpack(input.W), 1, input.settings, input.length);
        return [noise, Engine.levelled(noise)].map((y) => Array.from(y));""",
        case,
    )
    X = reference.stft(white_noise(length), hann(n_fft), hop)
    gains = np.expm1(2 * W[:, 1].astype(np.float64) / W[:, 1].max())
    expected = fade_end(reference.istft(gains[:, None] * X, hann(n_fft), hop, length=length), n_fft, hop)
    assert relative(found[0], expected) < 1e-6
    assert relative(found[1], expected * 0.05 / np.sqrt(np.mean(expected**2))) < 1e-6


def test_the_white_noise_is_white() -> None:
    power = np.abs(reference.stft(white_noise(66150), hann(1024), 512)[1:-1, 2:-2]) ** 2
    levels = 10 * np.log10(power.mean(axis=1))
    # A mean over 126 frames, every other one independent, has a standard deviation of about 0.5 dB.
    assert np.abs(levels - levels.mean()).max() < 2.5


def test_levels_are_equal_unless_they_would_clip() -> None:
    code = "return input.map((y) => Array.from(Engine.levelled(Float32Array.from(y))));"
    click = [0.0] * 9999 + [-0.001]
    steady, clipped, silent = run(code, [[0.5, -0.5, 0.5], click, [0, 0]])
    assert steady == pytest.approx([0.05, -0.05, 0.05])
    assert clipped == pytest.approx([0.0] * 9999 + [-1.0])
    assert silent == [0, 0]


def test_silence_stays_silent() -> None:
    zeros = {"y": [0] * 500, "W": [0.5] * 33, "H": [0.0] * 32}
    code = """const options = { nFft: 64, hop: 16, peak: "absolute" };
        const decoder = new Engine.Decoder(...[input.y, input.W, input.H].map((x) => Float32Array.from(x)), options);
        const { samples, kept } = decoder.decode([0], "log");
        return [Math.max(...samples), Math.min(...samples), kept];"""
    assert run(code, zeros) == [0, 0, 0]


def test_components_are_selected_as_by_a_model(rng: np.random.Generator, tiny_model: Any) -> None:
    relevance = rng.uniform(-1, 1, 40).round(1).astype(np.float32)  # with ties
    cases = [(threshold, top_k) for threshold in (0.0, 0.25, 0.9) for top_k in (1, 5, None)]
    code = """const r = Float32Array.from(input.relevance);
        return input.cases.map(([threshold, topK]) => Engine.select(r, threshold, topK));"""
    found = run(code, {"relevance": relevance.tolist(), "cases": cases})
    for (threshold, top_k), chosen in zip(cases, found, strict=True):
        selection = tiny_model.selection_with(threshold, top_k, None)
        assert tuple(chosen) == tiny_model.select(relevance, selection)


@pytest.mark.parametrize("length", [1, 2, 3, 1000])
def test_floats_come_back_as_they_were(rng: np.random.Generator, length: int) -> None:
    x = (rng.standard_normal(length) * 10.0 ** rng.integers(-30, 30, length)).astype(np.float32)
    back = run("return Array.from(await Engine.unpack(input));", pack_floats(x))
    np.testing.assert_array_equal(np.asarray(back, np.float32), x)


@pytest.mark.parametrize("smooth", [0, 1, 3])
def test_16_bit_recordings_come_back_as_they_were(rng: np.random.Generator, smooth: int) -> None:
    integers = rng.integers(-32768, 32768, 2000)
    for _ in range(smooth):
        integers = np.convolve(integers, np.ones(50) / 50, "same").astype(np.int64)
    integers[:3] = (-32768, 32767, -32768)  # steps that do not fit into 16 bits
    packed = pack_samples((integers / 32768).astype(np.float32))
    assert packed["kind"] == "int16"
    back = run("return Array.from(await Engine.unpack(input));", packed)
    np.testing.assert_array_equal(np.multiply(back, 32768), integers)


@pytest.mark.parametrize(("exact", "kind", "error"), [(True, "int24", 2**-23), (False, "int16", 2**-16)])
def test_other_sounds_come_back_to_the_bits_promised(
    rng: np.random.Generator, exact: bool, kind: str, error: float
) -> None:
    y = np.cumsum(rng.standard_normal(3000)).astype(np.float32)
    packed = pack_samples(y, exact)
    assert packed["kind"] == kind
    back = np.asarray(run("return Array.from(await Engine.unpack(input));", packed))
    assert np.abs(back - y).max() <= 1.01 * error * np.abs(y).max()


def test_smooth_sounds_take_less_room(rng: np.random.Generator) -> None:
    noise = rng.uniform(-1, 1, 5000).astype(np.float32)
    tone = np.sin(np.arange(5000) / 50).astype(np.float32)
    assert len(pack_samples(tone)["data"]) < 0.6 * len(pack_samples(noise)["data"])
