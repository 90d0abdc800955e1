"""Layers that probes suggest: their order, names, sizes, times and receptive fields, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2i_fast.networks.hidden import HiddenMaps
from l2i_fast.networks.layouts import Layout
from l2i_fast.networks.suggest import LayerSuggestion, Suggestions, choose_layers, suggest_layers

from ..helpers import refused

RATE, N = 8000, 8000


def frames(x: Tensor, bands: int = 32) -> Tensor:
    """Logarithmic spectrum (B, 1, T, bands) of samples (B, N): frames of 160 samples, 80 from one to the next."""
    power = torch.stft(x, 160, 80, window=torch.hann_window(160), return_complex=True).abs().square()
    return torch.log(F.adaptive_avg_pool1d(power.transpose(1, 2), bands) + 1e-6)[:, None]


class Block(nn.Module):
    """Convolution, normalisation, ReLU shared by two places, dropout."""

    def __init__(self, n: int, m: int, inplace: bool = False) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(n, m, 3, padding=1), nn.BatchNorm2d(m)
        self.mix = nn.Conv2d(m, m, 1)
        self.relu, self.drop = nn.ReLU(inplace), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.drop(self.relu(self.mix(self.relu(self.bn(self.conv(x))))))
        return y


class Net(nn.Module):
    """Blocks with pooling between them; a part that never runs, and a branch that depends on the input."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.norm = nn.Identity()
        self.blocks = nn.Sequential(Block(1, 8, inplace), Block(8, 12, inplace), Block(12, 16, inplace))
        self.unused, self.loud = nn.Linear(2, 2), nn.ReLU6()
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.norm(x)
        for block in self.blocks:
            x = F.avg_pool2d(block(x), 2)
        if x.numel() < 0:
            x = self.loud(x)
        return {"embedding": x.mean((2, 3)), "logits": self.out(x.mean((2, 3)))}


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture(scope="module")
def suggested(net: Net) -> Suggestions:
    return suggest_layers(net.train(), np.zeros((2, N), np.float64), frames, RATE, unusable=True)


def test_layers_are_listed_once_in_the_order_in_which_they_run(net: Net, suggested: Suggestions) -> None:
    inner = ("conv", "bn", "relu#0", "mix")
    names = ["norm", *(f"blocks.{i}.{part}" for i in range(3) for part in (*inner, ""))]
    assert [layer.name for layer in suggested] == [name.removesuffix(".") for name in names] + ["out"]
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks for module in net.modules())
    layers = [layer.name for layer in suggested]
    for layer, x in zip(suggested, HiddenMaps(net, layers)(frames(torch.randn(1, N)))[1], strict=True):
        assert tuple(x.shape) == layer.shape


def test_sizes_times_and_receptive_fields_are_measured(suggested: Suggestions) -> None:
    named = {layer.name: layer for layer in suggested}
    assert str(named["blocks.0.conv"].layout) == "b c t f"
    for i, (channels, columns, rows) in enumerate(((8, 101, 32), (12, 50, 16), (16, 25, 8))):
        layer = named[f"blocks.{i}"]
        assert (layer.channels, layer.columns, layer.rows) == (channels, columns, rows)
        hop = 80 * 2**i / RATE
        assert layer.resolution == pytest.approx(hop, rel=0.02)
        # A frame has 160 samples; a convolution takes two more columns, pooling one more of the finer ones.
        field = 160 / RATE + sum(3 * 80 * 2**k / RATE for k in range(i)) + 2 * hop
        assert layer.receptive_field == pytest.approx(field, abs=1.5 * hop)
        assert not layer.whole
    out = named["out"]
    assert (out.layout, out.shape, out.reason) == (None, (1, 3), "has no axis of time")


def test_only_usable_layers_are_suggested_unless_all_are_asked_for(net: Net, suggested: Suggestions) -> None:
    usable = suggest_layers(net, torch.zeros(N), frames, RATE)
    assert usable == [layer for layer in suggested if layer.layout is not None]
    assert "out" not in [layer.name for layer in usable]


def test_what_is_overwritten_in_place_has_the_name_of_what_does_so() -> None:
    torch.manual_seed(0)
    layers = [layer.name for layer in suggest_layers(Net(inplace=True), np.zeros(N), frames, RATE)]
    inner = ("conv", "relu#0", "")
    names = ["norm", *(f"blocks.{i}.{part}".removesuffix(".") for i in range(3) for part in inner)]
    assert layers == names


def test_receptive_fields_of_convolutions_on_samples_are_known() -> None:
    torch.manual_seed(0)
    kernels, strides = (16, 9, 9, 9), (8, 2, 1, 2)
    layers = [nn.Conv1d(n, 16, k, s) for n, k, s in zip((1, 16, 16, 16), kernels, strides, strict=True)]
    network = nn.Sequential(nn.Unflatten(1, (1, -1)), *layers, nn.AdaptiveAvgPool1d(1), nn.Flatten())
    found = {layer.name: layer for layer in suggest_layers(network, np.zeros(16000), None, RATE)}
    assert list(found) == ["0", "1", "2", "3", "4"]
    field, hop = 1, 1
    for name, k, s in zip("1234", kernels, strides, strict=True):
        field, hop = field + (k - 1) * hop, hop * s
        layer = found[name]
        assert str(layer.layout) == "b c t"
        assert layer.resolution == pytest.approx(hop / RATE, rel=0.03)
        assert layer.receptive_field == pytest.approx(field / RATE, abs=2 * hop / RATE)


def test_silence_behind_the_signal_does_not_change_the_times() -> None:
    torch.manual_seed(0)

    def padded(x: Tensor) -> Tensor:
        return F.pad(frames(x), (0, 0, 0, 99), value=-13.8)

    named = {layer.name: layer for layer in suggest_layers(Net(), np.zeros(N), padded, RATE)}
    assert named["blocks.1"].columns == 100
    for i in range(3):
        assert named[f"blocks.{i}"].resolution == pytest.approx(80 * 2**i / RATE, rel=0.06)


class Words(nn.Module):
    """Convolutions on samples, a GRU that returns a tuple, and attention that sees everything."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv1d(1, 24, 160, 80)
        self.gru = nn.GRU(24, 24, batch_first=True)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(24, 4, 48, batch_first=True) for _ in range(4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        states, _ = self.gru(self.front(x[:, None]).transpose(1, 2))
        for layer in self.layers:
            states = layer(states)
        return states, states.mean(1)


def test_layers_that_see_everything_say_so() -> None:
    torch.manual_seed(0)
    found = suggest_layers(Words(), np.zeros(N), None, RATE)
    named = {layer.name: layer for layer in found}
    assert (str(named["front"].layout), str(named["gru"].layout), str(named["layers.3"].layout)) == (
        "b c t", "b t c", "b t c",
    )  # fmt: skip
    assert not named["front"].whole
    assert named["front"].receptive_field == pytest.approx(160 / RATE, rel=0.5)
    assert named["layers.3"].whole
    assert named["layers.3"].receptive_field == N / RATE
    chosen = choose_layers(found)  # and not the front alone
    assert len(chosen) == 3
    assert chosen[-1] == "layers.3"


def test_rates_come_from_the_front_end_or_the_caller() -> None:
    class Front:
        sample_rate = 4000

        def __call__(self, x: Tensor) -> Tensor:
            return x[:, None]

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(1, 8, 16, 8))
    assert suggest_layers(network, np.zeros(N), Front())[0].resolution == pytest.approx(8 / 4000, rel=0.02)
    assert suggest_layers(network, np.zeros(N), Front(), 8000)[0].resolution == pytest.approx(8 / 8000, rel=0.02)
    with refused(ValueError, "sample_rate is None, but must be given where the front end does not state it"):
        suggest_layers(network, np.zeros(N), lambda x: x[:, None])
    with refused(ValueError, "sample_rate is 0, but must be positive, and a normal number as float32"):
        suggest_layers(network, np.zeros(N), Front(), 0)
    with refused(ValueError, "example has shape (1, 2, 8000), but samples (N,) or (B, N) are needed"):
        suggest_layers(network, np.zeros((1, 2, N)), Front())
    with refused(TypeError, "network is 'net', but a torch module or a session is needed"):
        suggest_layers("net", np.zeros(N), Front())


class File:
    """A network in a file: answers for the layers that it is asked for."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = Net().eval()
        self.names = ("blocks.0.conv", "blocks.0.drop", "blocks.0", "blocks.2", "out")

    def available(self) -> Sequence[SimpleNamespace]:
        return [SimpleNamespace(name=name) for name in self.names]

    def select(self, layers: Sequence[str]) -> Callable[[Any], tuple[Tensor, list[Tensor]]]:
        return HiddenMaps(self.network, layers)


def test_sessions_take_part() -> None:
    expected = {layer.name: layer for layer in suggest_layers(File().network, np.zeros(N), frames, RATE)}
    for network in (File(), HiddenMaps(File().network, File().names)):
        found = suggest_layers(network, np.zeros(N), frames, RATE)
        # Nothing tells that "blocks.0" is a block around the dropout before it.
        assert [layer.name for layer in found] == ["blocks.0.conv", "blocks.0", "blocks.2"]
        assert all(layer == expected[layer.name] for layer in found)


def test_networks_that_draw_random_numbers_are_refused() -> None:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv1d(1, 4, 9, 4)

        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(self.layer(x[:, None]).mean(2))

    for network in (Drops(), HiddenMaps(Drops(), ["layer"])):
        with refused(ValueError, "the network gives different answers to the same input in its scores, but must ..."):
            suggest_layers(network, np.zeros(N), None, RATE)


def test_a_table_shows_what_is_known() -> None:
    layout = Layout.parse("b c t f")
    table = Suggestions([
        LayerSuggestion("a", (1, 8, 50, 4), layout, 8, 50, 4, 0.02, 0.05),
        LayerSuggestion("blocks.1", (1, 16, 5, 1), layout, 16, 5, 1, 0.2, 10.0, True),
        LayerSuggestion("out", (1, 3), reason="has no axis of time"),
    ])  # fmt: skip
    assert str(table).splitlines() == [
        "layer     layout   channels  columns  rows     hop  receptive field",
        "a         b c t f         8       50     4   20 ms            50 ms",
        "blocks.1  b c t f        16        5     1  200 ms       everything",
        "out       has no axis of time",
    ]
    assert str(Suggestions()) == "layer  layout  channels  columns  rows  hop  receptive field"


def layer(name: str, **changes: Any) -> LayerSuggestion:
    usual = LayerSuggestion(name, (1, 8, 50, 4), Layout.parse("b c t f"), 8, 50, 4, 0.02, 0.05)
    return usual._replace(**changes)


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [
        ([layer("a")], ["a"]),
        ([layer("a"), layer("b")], ["a", "b"]),
        ([layer(name) for name in "abcdef"], ["b", "d", "f"]),
        ([layer(name) for name in "abcdefghi"] + [layer("out", layout=None)], ["c", "f", "i"]),
        # Blocks are preferred to what lies within them, and what runs once to what does not.
        ([layer(f"{name}{part}") for name in "abc" for part in (".conv", ".bn", ".relu", "")], ["a", "b", "c"]),
        ([layer(name) for name in ("a", "pool#0", "b", "pool#1", "c", "pool#2")], ["a", "b", "c"]),
        # The last ones see everything.
        ([layer(name) for name in "abcdef"] + [layer("g", whole=True)], ["b", "d", "f"]),
        ([layer("a")] + [layer(name, whole=True) for name in "bcdef"], ["b", "d", "f"]),
        ([layer(name, whole=True) for name in "abc"], ["a", "b", "c"]),
        # Spectrograms, and maps that are as fine as samples.
        ([layer("spectrogram", channels=1)] + [layer(name) for name in "abc"], ["a", "b", "c"]),
        ([layer(name, resolution=0.001) for name in "xyz"] + [layer(name) for name in "abc"], ["a", "b", "c"]),
        ([layer(name, resolution=0.001, channels=1) for name in "abc"], ["a", "b", "c"]),
    ],
)
def test_the_choice_spreads_over_the_depth(layers: list[LayerSuggestion], chosen: list[str]) -> None:
    assert choose_layers(layers) == chosen


def test_a_choice_needs_a_layer() -> None:
    assert choose_layers([layer(name) for name in "abcdef"], 1) == ["f"]
    assert choose_layers([layer(name) for name in "abcdef"], 2) == ["c", "f"]
    with refused(ValueError, "suggestions has no layer with an axis of time, but at least one is needed"):
        choose_layers([layer("a", layout=None)])
    with refused(ValueError, "n is 0, but must be at least 1"):
        choose_layers([layer("a")], 0)


def test_transformers_of_hugging_face_are_read() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
    spectrogram = transformers.ASTForAudioClassification(
        transformers.ASTConfig(**small, max_length=200, num_mel_bins=64, patch_size=8, num_labels=5)
    )
    found = suggest_layers(spectrogram, np.zeros(16000), lambda x: frames(x, 64)[:, 0, :200], RATE)
    named = {layer.name: layer for layer in found}
    root = "audio_spectrogram_transformer"
    for name in (f"{root}.embeddings", f"{root}.layers.0", f"{root}.layers.2", root):
        one = named[name]
        assert (str(one.layout), one.channels, one.columns, one.rows) == ("b 2+(f=6 t) c", 48, 20, 6), name
        assert one.resolution == pytest.approx(0.1, rel=0.08)
    assert len(choose_layers(found)) == 3
    scores, (states,) = HiddenMaps(spectrogram, [f"{root}[last_hidden_state]"])(torch.zeros(1, 200, 64))
    assert scores.shape == (1, 5)
    assert states.shape == (1, 122, 48)
    waves = transformers.Wav2Vec2ForSequenceClassification(
        transformers.Wav2Vec2Config(
            **small, conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4
        )
    )
    found = suggest_layers(waves, np.zeros(16000), None, 16000)
    named = {layer.name: layer for layer in found}
    one = named["wav2vec2.feature_extractor"]
    assert (str(one.layout), one.channels, one.columns) == ("b c t", 16, 49)
    one = named["wav2vec2.encoder.layers.1"]
    assert (str(one.layout), one.channels, one.columns) == ("b t c", 48, 49)
    assert one.resolution == pytest.approx(0.02, rel=0.05)
