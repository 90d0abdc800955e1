"""aiSFX in torch computes what its published code computes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2i_fast.adapters.aisfx import AiSfx, AiSfxFrames, aisfx
from l2i_fast.adapters.parts import installed_file
from l2i_fast.audio import read_audio
from l2i_fast.data import Dataset
from l2i_fast.networks.hidden import HiddenMaps

from ..helpers import refused, relative


def random_weights(rng: np.random.Generator) -> dict[str, Tensor]:
    """Weights under the names of the published file, with those of a head."""
    found, previous = {}, 1
    for i, n in enumerate((64, 128, 256, 512), 1):
        for j, m in enumerate((previous, n), 1):
            name = f"embedding_net.conv_block{i}"
            found[f"{name}.conv{j}.weight"] = torch.from_numpy(rng.standard_normal((n, m, 3, 3)) / (3 * m**0.5))
            for part, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
                found[f"{name}.bn{j}.{part}"] = torch.from_numpy(rng.uniform(low, low + 1, n))
            found[f"{name}.bn{j}.num_batches_tracked"] = torch.tensor(3)
        previous = n
    return {name: value.float() for name, value in found.items()} | {"fc.0.0.bias": torch.zeros(3)}


def embedded(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """The body from its definition, on (B, T, 96)."""
    x = x[:, None]
    for i in range(1, 5):
        for j in (1, 2):
            name = f"embedding_net.conv_block{i}"
            x = F.conv2d(x, weights[f"{name}.conv{j}.weight"], padding=1)
            norm = [weights[f"{name}.bn{j}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
            x = F.relu(F.batch_norm(x, *norm))
        x = F.max_pool2d(x, 2 if i < 4 else 1)
    return x.mean(3).max(2).values


@pytest.fixture
def checkpoint(rng: np.random.Generator, tmp_path: Path) -> Path:
    torch.save((random_weights(rng), {"prosfx": (0, 3)}), tmp_path / "checkpoint.pth")
    return tmp_path / "checkpoint.pth"


def test_as_its_definition(checkpoint: Path, rng: np.random.Generator) -> None:
    weights, _ = torch.load(checkpoint, weights_only=True)
    x = torch.from_numpy(rng.uniform(0, 1, (2, 37, 96)).astype(np.float32))
    head = nn.Linear(512, 3)
    parts = aisfx(head, ("a", "b", "c"), weights=checkpoint)
    assert isinstance(parts.network, AiSfx)
    with torch.no_grad():
        logits, maps = HiddenMaps(parts.network, list(parts.layers))(x[:, None])
        assert relative(parts.network.embed(x[:, None]), embedded(weights, x)) < 1e-5
        assert relative(logits, head(embedded(weights, x))) < 1e-5
    assert [tuple(values.shape) for values in maps] == [(2, 128, 18, 48), (2, 256, 9, 24), (2, 512, 4, 12)]
    assert (parts.classes, parts.multilabel) == (("a", "b", "c"), False)


def test_without_a_head_scores_are_the_embedding(checkpoint: Path) -> None:
    parts = aisfx(weights=checkpoint)
    x = parts.front_end(torch.rand(1, round(parts.window * 44100)))
    assert x.shape == (1, 1, 100, 96)
    assert parts.network(x).shape == (1, len(parts.classes))
    assert parts.multilabel


def test_wrong_arguments_and_files(checkpoint: Path, tmp_path: Path) -> None:
    with refused(ValueError, "head is given, but must come with classes"):
        aisfx(nn.Linear(512, 2), weights=checkpoint)
    with refused(ValueError, "classes is given, but must come with head"):
        aisfx(classes=("a",), weights=checkpoint)
    weights, _ = torch.load(checkpoint, weights_only=True)
    del weights["embedding_net.conv_block3.bn1.bias"]
    torch.save((weights, {}), checkpoint)
    with refused(ValueError, "...checkpoint.pth cannot be read as the weights of aiSFX: ...conv_block3.bn1.bias..."):
        aisfx(weights=checkpoint)
    checkpoint.write_bytes(b"RIFF")
    with refused(ValueError, "...checkpoint.pth cannot be read as the weights of aiSFX: ..."):
        aisfx(weights=checkpoint)
    with pytest.raises(FileNotFoundError):
        aisfx(weights=tmp_path / "none.pth")


class Evil:
    def __reduce__(self) -> Any:
        return print, ("unpickled",)


def test_nothing_in_a_checkpoint_is_called(
    checkpoint: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save((random_weights(rng), {"prosfx": (np.int64(0), 3)}), checkpoint)
    aisfx(weights=checkpoint)
    torch.save((random_weights(rng), Evil()), checkpoint.with_name("evil.pth"))
    with refused(ValueError, "...evil.pth cannot be read as the weights of aiSFX: it is damaged or holds more"):
        aisfx(weights=checkpoint.with_name("evil.pth"))
    assert capsys.readouterr().out == ""


def slow_frame(frame: Any) -> list[float]:
    """Log-mel power of one frame, filter by filter, in float64."""

    def mel(hertz: float) -> float:
        return float(2595 * np.log10(1 + hertz / 700))

    edges = [i * mel(22050) / 97 for i in range(98)]
    power, bands = np.abs(np.fft.rfft(frame * np.hanning(2048))) ** 2, []
    at = [mel(k * 44100 / 2048) for k in range(1025)]
    for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
        weights = [max(0, min((m - left) / (centre - left), (right - m) / (right - centre))) for m in at]
        bands.append(np.log10(1 + 1e4 * np.dot(weights, power) / sum(weights)) / 9.457798957824707)
    return bands


def test_front_end_as_its_definition(rng: np.random.Generator) -> None:
    samples = rng.uniform(-1, 1, (2, 103424)).astype(np.float32) * np.array([[1], [0.001]], np.float32)
    spectra = AiSfxFrames()(torch.from_numpy(samples))
    assert spectra.shape == (2, 1, 100, 96)
    for spectrum, signal in zip(spectra[:, 0], samples.astype(np.float64), strict=True):
        for t in (0, 41, 99):
            assert np.abs(spectrum[t].numpy() - slow_frame(signal[1024 * t : 1024 * t + 2048])).max() < 1e-5
    assert torch.equal(AiSfxFrames()(torch.zeros(1, 5)), torch.zeros(1, 1, 100, 96))


# ---- the published files ----


@pytest.fixture(scope="module")
def published() -> Path:
    try:
        return installed_file("aisfx", "models/checkpoint.pth", "test")
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def clip(esc10: Dataset) -> Any:
    return read_audio(esc10.clips[0].path, 44100)[0]


class Ignored:
    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def test_as_the_published_code(published: Path, clip: Any) -> None:
    spec = importlib.util.spec_from_file_location("cnn2d", published.with_name("cnn2d.py"))
    assert spec is not None
    assert spec.loader is not None
    code: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    parts = aisfx()
    assert isinstance(parts.network, AiSfx)
    theirs = code.EmbeddingNet("max", 3, 1, 64).eval()
    with torch.serialization.safe_globals([(Ignored, "numpy.core.multiarray.scalar"), (Ignored, "numpy.dtype")]):
        weights, _ = torch.load(published, map_location="cpu", weights_only=True)
    prefix = "embedding_net."
    theirs.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    x = parts.front_end(torch.from_numpy(np.array(clip[:103424]))[None])
    with torch.no_grad():
        ours, expected = parts.network(x), theirs(x[:, 0])
    assert expected.std() > 0.01
    assert relative(ours, expected) < 1e-6


def test_front_end_as_essentia(clip: Any) -> None:
    essentia: Any = pytest.importorskip("essentia.standard")
    window = essentia.Windowing(type="hann", normalized=False, size=2048)
    spectrum = essentia.Spectrum(size=2048)
    bands = essentia.MelBands(
        inputSize=1025, numberBands=96, sampleRate=44100, lowFrequencyBound=0, highFrequencyBound=22050,
        warpingFormula="htkMel", weighting="warping", normalize="unit_sum", type="power",
    )  # fmt: skip
    ours = AiSfxFrames()(torch.from_numpy(np.array(clip[:103424]))[None])[0, 0]
    for t in range(0, 100, 7):
        expected = (
            np.log10(1 + 1e4 * bands(spectrum(window(np.array(clip[1024 * t : 1024 * t + 2048]))))) / 9.457798957824707
        )
        assert np.abs(ours[t].numpy() - expected).max() < 1e-4
