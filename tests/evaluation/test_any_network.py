"""Networks of every kind go from layers to sound: found, fitted, interpreted, streamed and run over an archive."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

import l2i_fast as l2i
from l2i_fast.model.windowed import WindowedNetwork
from l2i_fast.networks.inputs import MelSpectrogram
from l2i_fast.networks.sessions import LiteRTSession, OnnxSession
from l2i_fast.training.config import DictionaryConfig
from l2i_fast.training.post_hoc import FitConfig

from ..networks.test_sessions import Small, small_litert, small_onnx

RATE, CLASSES = 8000, 5
CONFIG = FitConfig(
    seconds=1.0, steps=1, batch_size=4, width=0.05, dictionary=DictionaryConfig(n_components=6, max_iter=5)
)


class Waves(nn.Module):
    """A network of the waveform, with a recurrent layer that returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv1d(1, 16, 40, 20), nn.ReLU(), nn.Conv1d(16, 24, 8, 4), nn.ReLU())
        self.gru = nn.GRU(24, 24, batch_first=True)
        self.out = nn.Linear(24, CLASSES)

    def forward(self, y: Tensor) -> Tensor:
        x, _ = self.gru(self.front(y[:, None]).transpose(1, 2))
        logits: Tensor = self.out(x.mean(1))
        return logits


class Patches(nn.Module):
    """A transformer on patches with a class token, like AST."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 32, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 32))
        self.places = nn.Parameter(0.5 * torch.randn(1, 1 + 12 * 4, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.layers = nn.ModuleList([layer, nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)])
        self.out = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        for layer in self.layers:
            x = layer(x)
        return {"hidden": x, "logits": self.out(x[:, 0])}


def waves() -> WindowedNetwork:
    """A network that hears whole recordings, with layers that are chosen for it."""
    torch.manual_seed(0)
    return l2i.wrap(Waves(), CLASSES, sample_rate=RATE)


def patches() -> WindowedNetwork:
    """A network that hears 96 frames of 32 bands."""
    torch.manual_seed(1)
    bands = MelSpectrogram(RATE, 256, 80, n_mels=32, center=False, mean=-6.0, std=4.0)
    layers = {"layers.0": "b 1+(t f=4) c", "layers.1": "b 1+(t f=4) c"}
    window = (95 * 80 + 256) / RATE
    return l2i.wrap(Patches(), CLASSES, front_end=bands, layers=layers, window=window, hop=0.5, multilabel=True)


class Frames:
    """Twelve bands of a few frames, as the small networks in files take them."""

    sample_rate = RATE

    def __init__(self, last: bool) -> None:
        self.bands = MelSpectrogram(RATE, 256, 80, n_mels=12, center=False, layout="b 1 f t")
        self.last = last

    def __call__(self, y: Tensor) -> Tensor:
        x = self.bands(y)
        return x.permute(0, 2, 3, 1) if self.last else x


def onnx() -> WindowedNetwork:
    """An ONNX file."""
    module = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    content = small_onnx(module, Small(np.random.default_rng(0))).SerializeToString()
    session = OnnxSession(content, ["maps"])
    return l2i.wrap(session, CLASSES, front_end=Frames(last=False), window=0.25, layers={"maps": "b c f t"})


def litert() -> WindowedNetwork:
    """A LiteRT file, with channels last and a window of eight frames."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    session = LiteRTSession(small_litert(schema, Small(np.random.default_rng(0))), ["maps"])
    window = (7 * 80 + 256) / RATE
    return l2i.wrap(session, CLASSES, front_end=Frames(last=True), window=window, layers={"maps": "b f t c"})


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recordings")
    for i in range(6):
        rng = np.random.default_rng(i)
        level = np.repeat(rng.uniform(0.001, 0.3, 10), RATE // 10)
        soundfile.write(folder / f"{i}.wav", rng.standard_normal(RATE) * level, RATE)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("make", [waves, patches, onnx, litert])
def test_from_layers_to_sound(make: Callable[[], WindowedNetwork], recordings: list[Path], tmp_path: Path) -> None:
    network = make()
    model = l2i.fit(network, recordings, tmp_path / "model", CONFIG)
    result = model.interpret(recordings[0], targets=0)
    assert result.audio.shape == (RATE,)
    assert np.isfinite(result.audio).all()
    again = l2i.load(tmp_path / "model", make())
    np.testing.assert_array_equal(again.interpret(recordings[0], targets=0).audio, result.audio)
    with model.stream(mode="synchronous", targets=[0], refresh=0.2, window=1.0) as stream:
        y = soundfile.read(recordings[1], dtype="float32")[0]
        assert stream.push(y).shape == y.shape
        assert stream.error is None
        assert stream.latest is not None
    settings = {"window": 1.0, "overlap": 0.25, "jobs": 1, "confidence": 0.0}
    run = l2i.Batch(recordings, tmp_path / "out", tmp_path / "model", network=f"{__name__}:{make.__name__}", **settings)
    rows = list(run)
    assert len(rows) == len(recordings) * CLASSES
    assert {Path(row["recording"]).name for row in rows} == {path.name for path in recordings}


def test_layers_are_suggested(recordings: list[Path]) -> None:
    found = {layer.name: str(layer.layout) for layer in l2i.suggest_layers(Waves(), np.zeros(RATE), None, RATE)}
    assert found["front"] == "b c t"
    assert found["gru"] in ("b t c", "b 1+t c")  # what it has heard after its first step says little
    assert set(waves().layers) <= set(found)


@pytest.mark.parametrize("make", [waves, patches])
def test_gradients_pass_through_modules(make: Callable[[], WindowedNetwork]) -> None:
    assert make().lets_gradients_pass()


def test_no_gradients_pass_through_files() -> None:
    assert not onnx().lets_gradients_pass()
    assert not litert().lets_gradients_pass()


def test_the_network_is_left_as_it_was(recordings: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Waves()
    module.out.bias.requires_grad_(False)
    module.train()
    before = {name: x.clone() for name, x in module.state_dict().items()}
    needed = {name: p.requires_grad for name, p in module.named_parameters()}
    network = l2i.wrap(module, CLASSES, sample_rate=RATE, layers={"front": "b c t"})
    l2i.fit(network, recordings, tmp_path / "model", dataclasses.replace(CONFIG, mask_start=0.0))
    assert all(torch.equal(x, before[name]) for name, x in module.state_dict().items())
    assert {name: p.requires_grad for name, p in module.named_parameters()} == needed
    assert all(p.grad is None for p in module.parameters())
    assert module.training
    assert not any(part._forward_hooks for part in module.modules())


def test_networks_that_change_are_refused() -> None:
    class Drops(Waves):
        def forward(self, y: Tensor) -> Tensor:
            return super().forward(y + torch.randn_like(y))

    class Wrong(Waves):
        def forward(self, y: Any) -> Any:
            return super().forward(y)[:, :, None]

    with pytest.raises(ValueError, match="gives different answers to the same input"):
        l2i.wrap(Drops(), CLASSES, sample_rate=RATE, layers=["front"])
    with pytest.raises(ValueError, match=r"but \(1, 5\) is needed|scores"):
        l2i.wrap(Wrong(), CLASSES, sample_rate=RATE, layers={"front": "b c t"})
