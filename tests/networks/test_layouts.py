"""Layouts of layers: their text, the maps that they make, and how probes find them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from l2i_fast.networks.hidden import HiddenMaps
from l2i_fast.networks.inputs import MelSpectrogram
from l2i_fast.networks.layouts import Axis, Layout, agree, find_layout, find_layouts
from l2i_fast.networks.probes import N_BURSTS, N_TONES, Responses, make_probes, respond

from ..helpers import refused

N = 8000
FORM = "but must name axes b, c, t and f in their order, such as 'b c t f', 'b t c' or 'b 2+(f=12 t) c'"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("b c t f", "b c t f"),
        (" b  t c ", "b t c"),
        ("t b c", "t b c"),
        ("b 2+(f=12 t) c", "b 2+(f=12 t) c"),
        ("b 2 + ( f = 12  t )c", "b 2+(f=12 t) c"),
        ("b 0+(t) c", "b t c"),
        ("b 1+t c", "b 1+t c"),
        ("b(t f=8)c", "b (t f=8) c"),
        ("b t (c f=4)", "b t (c f=4)"),
        ("b (f=2 t=3) c", "b (f=2 t=3) c"),
    ],
)
def test_text_and_layout_are_one(text: str, written: str) -> None:
    layout = Layout.parse(text)
    assert str(layout) == written
    assert Layout.parse(written) == layout
    assert hash(layout) == hash(Layout.parse(written))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bct", FORM),
        ("b x t", FORM),
        ("b (f=2 t c", FORM),
        ("b ((f=2 t)) c", FORM),
        ("b () t", FORM),
        ("b (b=2 t)", FORM),
        ("b c t 2+", FORM),
        ("b -1+t c", FORM),
        ("", "but needs 'b', the axis of signals"),
        ("c t", "but needs 'b', the axis of signals"),
        ("b c", "but needs 't', the axis of time"),
        ("b c t t", "but 't' must stand once"),
        ("b c (c=2 t)", "but 'c' must stand once"),
        ("2+b c t", "but no signals can be skipped"),
        ("b (f t) c", "but all sizes in brackets but one must be given, such as '(f=12 t)'"),
        ("b (f=0 t) c", "but all sizes in brackets but one must be given, such as '(f=12 t)'"),
    ],
)
def test_other_text_is_refused(text: str, message: str) -> None:
    with refused(ValueError, f"layout is {text!r}, {message}"):
        Layout.parse(text)


def test_a_layout_is_text() -> None:
    with refused(ValueError, f"layout is 3, {FORM}"):
        Layout.parse(3)  # type: ignore[arg-type]


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Layout, dict[str, int]]:
    """A layout and the size of each of its axes."""
    names = ["b", "t", *draw(st.sets(st.sampled_from("cf")))]
    sizes = {name: draw(st.integers(1, 4)) for name in names}
    groups: list[list[str]] = [["b"]]
    for name in draw(st.permutations(names[1:])):
        if len(groups) > 1 and draw(st.booleans()):
            groups[-1].append(name)
        else:
            groups.append([name])
    axes = []
    for group in draw(st.permutations(groups)):
        open_one = draw(st.sampled_from([None, *group] if group != ["b"] else ["b"]))
        known = tuple(None if name == open_one else sizes[name] for name in group)
        axes.append(Axis("".join(group), known, 0 if group == ["b"] else draw(st.integers(0, 2))))
    return Layout(tuple(axes)), sizes


def laid_out(layout: Layout, sizes: dict[str, int], values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Write a map (B, C, T, F) value by value to where a layout says."""
    shape = [axis.skip + math.prod(sizes[name] for name in axis.names) for axis in layout.axes]
    out = np.full(shape, np.nan, np.float64)
    for places in itertools.product(*(range(sizes.get(name, 1)) for name in "bctf")):
        at = dict(zip("bctf", places, strict=True))
        index = []
        for axis in layout.axes:
            position = 0
            for name in axis.names:
                position = position * sizes[name] + at[name]
            index.append(axis.skip + position)
        out[tuple(index)] = values[places]
    return out


@given(layouts())
def test_maps_hold_what_was_laid_out(case: tuple[Layout, dict[str, int]]) -> None:
    layout, sizes = case
    assert Layout.parse(str(layout)) == layout
    values = np.arange(math.prod(sizes.values()), dtype=np.float64).reshape([sizes.get(name, 1) for name in "bctf"])
    made = layout.to_map(torch.from_numpy(laid_out(layout, sizes, values)))
    assert made.dtype == torch.float32
    np.testing.assert_array_equal(made.numpy(), values)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("b c t f", (2, 3), "the output has shape (2, 3), but the layout 'b c t f' needs 4 dimensions"),
        ("b t c", (2, 3, 4, 5), "the output has shape (2, 3, 4, 5), but the layout 'b t c' needs 3 dimensions"),
        ("b 2+(f=3 t) c", (1, 9, 4), "the output has shape (1, 9, 4), but the layout ... does not fit axis 1"),
        ("b 2+(f=3 t) c", (1, 2, 4), "the output has shape (1, 2, 4), but the layout ... does not fit axis 1"),
        ("b c (t=5)", (1, 4, 10), "the output has shape (1, 4, 10), but the layout 'b c (t=5)' does not fit axis 2"),
    ],
)
def test_shapes_that_do_not_fit_are_named(text: str, shape: tuple[int, ...], message: str) -> None:
    with refused(ValueError, message):
        Layout.parse(text).to_map(torch.zeros(shape))


def test_maps_are_real_and_keep_their_memory() -> None:
    with refused(TypeError, "the output has dtype torch.complex64, but real numbers are needed"):
        Layout.parse("b c t").to_map(torch.zeros(1, 2, 3, dtype=torch.complex64))
    x = torch.zeros(2, 3, 4, 5)
    assert Layout.parse("b t f c").to_map(x).data_ptr() == x.data_ptr()
    assert Layout.parse("b c t").to_map(torch.zeros(1, 2, 3, dtype=torch.int64)).dtype == torch.float32
    assert Layout.parse("b c t").to_map(torch.zeros(0, 2, 3)).shape == (0, 2, 3, 1)


def log_bands(x: Tensor, bands: int = 32) -> Tensor:
    """Logarithmic spectrum (B, T, bands) of samples (B, N), 80 samples from frame to frame."""
    power = torch.stft(x, 256, 80, window=torch.hann_window(256), return_complex=True).abs().square()
    return torch.log(F.adaptive_avg_pool1d(power.transpose(1, 2), bands) + 1e-6)


def image(x: Tensor) -> Tensor:
    return log_bands(x)[:, None]


class Ordered(nn.Module):
    """Three blocks on (time, frequency), whose outputs also appear in another order of axes."""

    def __init__(self, order: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        super().__init__()
        widths = itertools.pairwise((1, 8, 16, 24))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
            for a, b in widths
        )
        self.seen = nn.ModuleList(nn.Identity() for _ in self.blocks)
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        for block, seen in zip(self.blocks, self.seen, strict=True):
            x = block(x)
            seen(x.permute(self.order))
        return x.mean((2, 3))


class Patches(nn.Module):
    """A transformer on patches of a spectrogram, with tokens before them; time or frequency runs fastest."""

    def __init__(self, skip: int, time_fastest: bool, norm_first: bool = True) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 32, (8, 8), stride=(6, 8))
        self.tokens = nn.Parameter(torch.randn(1, skip, 32))
        self.places = nn.Parameter(torch.randn(1, 400, 32) * 0.1)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=norm_first) for _ in range(3)
        )
        self.time_fastest = time_fastest

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x)  # time, frequency
        x = (x.transpose(2, 3) if self.time_fastest else x).flatten(2).transpose(1, 2)
        x = torch.cat((self.tokens.expand(len(x), -1, -1), x), 1)
        x = x + self.places[:, : x.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return x.mean(1)


class Waves(nn.Module):
    """Convolutions on samples, then a transformer and recurrent layers along time."""

    def __init__(self, skip: int = 0, batch_first: bool = True) -> None:
        super().__init__()
        self.front = nn.Sequential(
            nn.Conv1d(1, 16, 10, 5), nn.GELU(), nn.Conv1d(16, 24, 8, 4), nn.GELU(), nn.Conv1d(24, 24, 4, 4)
        )
        self.tokens = nn.Parameter(torch.randn(1, skip, 24))
        self.layer = nn.TransformerEncoderLayer(24, 4, 48, batch_first=True)
        self.gru = nn.GRU(24, 12, bidirectional=True, batch_first=batch_first)
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        x = self.front(x[:, None]).transpose(1, 2)
        x = self.layer(torch.cat((self.tokens.expand(len(x), -1, -1), x), 1))
        x, _ = self.gru(x if self.batch_first else x.transpose(0, 1))
        return x.mean(1 if self.batch_first else 0)


def found(network: nn.Module, layers: list[str], front_end: Callable[[Tensor], Any] | None) -> list[str]:
    return [str(layout) for layout in find_layouts(HiddenMaps(network, layers), layers, N, front_end).values()]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("order", "layout"),
    [
        ((0, 1, 2, 3), "b c t f"),
        ((0, 1, 3, 2), "b c f t"),
        ((0, 2, 3, 1), "b t f c"),
        ((0, 3, 2, 1), "b f t c"),
    ],
)
def test_maps_of_convolutions_are_found(order: tuple[int, ...], layout: str, seed: int) -> None:
    torch.manual_seed(seed)
    names = ["blocks.0.0", "blocks.0", "blocks.1", "blocks.2"]
    seen = ["seen.0", "seen.1", "seen.2"]
    assert found(Ordered(order), names + seen, image) == ["b c t f"] * len(names) + [layout] * len(seen)


def test_channels_between_time_and_frequency_are_found_by_tones() -> None:
    torch.manual_seed(0)
    assert found(Ordered((0, 2, 1, 3)), ["seen.0", "seen.1", "seen.2"], image) == ["b t c f"] * 3


def test_a_network_on_frequency_and_time_is_found() -> None:
    torch.manual_seed(0)
    names = ["blocks.0", "blocks.1", "blocks.2"]
    assert found(Ordered(), names, lambda x: image(x).transpose(2, 3)) == ["b c f t"] * 3


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("skip", [0, 1, 2])
@pytest.mark.parametrize("time_fastest", [True, False])
def test_tokens_of_patches_are_found(skip: int, time_fastest: bool, norm_first: bool) -> None:
    torch.manual_seed(skip)
    grid = "(f=4 t)" if time_fastest else "(t f=4)"
    tokens = f"b {f'{skip}+' if skip else ''}{grid} c"
    layers = ["patch", "layers.0", "layers.1", "layers.2", "layers.2.linear1"]
    assert found(Patches(skip, time_fastest, norm_first), layers, image) == ["b c t f"] + [tokens] * 4


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_tokens_along_time_are_found(skip: int) -> None:
    torch.manual_seed(skip)
    tokens = f"b {f'{skip}+' if skip else ''}t c"
    layers = ["front.0", "front.2", "front", "layer.linear1", "layer"]
    assert found(Waves(skip), layers, None) == ["b c t"] * 3 + [tokens] * 2


def test_signals_need_not_come_first() -> None:
    torch.manual_seed(0)
    assert found(Waves(batch_first=False), ["layer", "gru"], None) == ["b t c", "t b c"]


def test_silence_behind_the_signal_does_not_hide_time() -> None:
    torch.manual_seed(0)

    def padded(x: Tensor) -> Tensor:
        return F.pad(image(x), (0, 0, 0, 150), value=-13.8)

    assert found(Ordered(), ["blocks.0", "blocks.1"], padded) == ["b c t f"] * 2
    assert found(Patches(2, True), ["layers.2"], padded) == ["b 2+(f=4 t) c"]


class Loudness(nn.Module):
    """Channels and rows that mix what they know of loudness: nothing tells which of them is frequency."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.mix, self.seen = nn.Linear(1, 32), nn.Identity()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (-1, 200)).square().mean(2, keepdim=True)
        y: Tensor = self.seen(self.mix(x * 100).unflatten(2, (4, 8)).permute(self.order))
        return y.flatten(1)


@pytest.mark.parametrize(
    ("order", "layout"), [((0, 1, 2, 3), "b t f c"), ((0, 2, 1, 3), "b c t f"), ((0, 2, 3, 1), "b c f t")]
)
def test_convention_decides_where_tones_do_not(order: tuple[int, ...], layout: str) -> None:
    torch.manual_seed(0)
    assert found(Loudness(order), ["seen"], None) == [layout]


@pytest.mark.parametrize(("swap", "layout"), [(True, "b c (f=4 t)"), (False, "b c (t f=4)")])
def test_grids_may_stand_behind_the_channels(swap: bool, layout: str) -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.flat = nn.Conv2d(1, 12, (8, 8), stride=(6, 8)), nn.Flatten(2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            y: Tensor = self.flat(x.transpose(2, 3) if swap else x)
            return y.mean(2)

    torch.manual_seed(0)
    assert found(Flat(), ["flat"], image) == [layout]


def test_rows_must_not_contradict_time() -> None:
    def sharp(n: int, count: int, of: Callable[[int, int], float]) -> list[list[Tensor]]:
        rows = [[of(one, i) for i in range(n)] for one in range(count)]
        return [[torch.ones(1), torch.tensor(row), torch.ones(4)] for row in rows]

    # 48 moments, of which each eighth happens to answer to the same tone.
    moments = Responses(torch.zeros(1, 48, 4))
    moments.moved = sharp(48, N_BURSTS, lambda p, i: float(i // 4 == p))
    moments.tuned = sharp(48, N_TONES, lambda q, i: 0.01 + float(i % 8 == q))
    assert str(find_layout(moments)) == "b t c"


class Shapes(nn.Module):
    """Layers that have no layout."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.mixed, self.five, self.windows, self.fixed, self.square = (nn.Identity() for _ in range(6))
        self.mix = nn.Linear(N // 50, 400)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, (-1, 50)).square().mean(2)
        self.flat(x)
        self.mixed(torch.tanh(self.mix(x - x.mean())).reshape(-1, 20, 20))
        self.five(x.reshape(len(x), 1, 2, -1, 2))
        self.windows(x.reshape(4 * len(x), 4, -1))
        self.fixed(torch.ones(1, 3, 4))
        self.square(x[:, :, None] * torch.eye(x.shape[1]))
        return x[:, :2]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("flat", "the layer 'flat' returns shape (1, 160), but has no axis of time"),
        ("mixed", "the layer 'mixed' returns shape (1, 20, 20), but no axis follows bursts in time (correlations 0..."),
        ("five", "the layer 'five' returns shape (1, 1, 2, 40, 2), but layouts have three or four dimensions"),
        ("windows", "the layer 'windows' returns shape (4, 4, 10), but no axis counts the signals"),
        ("fixed", "the layer 'fixed' returns shape (1, 3, 4), but no axis counts the signals"),
        ("square", "the layer 'square' returns shape (1, 160, 160), but several axes follow bursts in time (...)..."),
    ],
)
def test_layers_without_a_layout_are_named(layer: str, message: str) -> None:
    torch.manual_seed(0)
    with refused(ValueError, message):
        found(Shapes(), [layer], None)


def test_an_output_that_changes_its_shape_has_no_layout() -> None:
    probes = make_probes(N)

    def run(x: Tensor) -> dict[str, Tensor]:
        loud = int(x[0, :100].abs().max() * 100)
        return {"steady": x.reshape(len(x), 1, -1), "cut": x[:, None, loud:]}

    responses = respond(run, probes)
    assert str(find_layout(responses["steady"])) == "b c t"
    with refused(ValueError, "the layer 'cut' returns shape (1, 1, ...), but its shape differs from signal ..."):
        find_layout(responses["cut"], "cut")


def test_most_layers_with_as_many_tokens_decide() -> None:
    written = {"a": "b 1+t c", "b": "b t c", "c": "b t c", "d": "b 1+t c", "e": "b c t", "f": "b c t f"}
    shapes = {"a": (1, 9, 4), "b": (1, 9, 5), "c": (1, 9, 4), "d": (1, 8, 4), "e": (1, 4, 9), "f": (1, 2, 9, 4)}
    agreed = agree({name: Layout.parse(text) for name, text in written.items()}, shapes)
    assert {name: str(layout) for name, layout in agreed.items()} == {**written, "a": "b t c"}


def test_probes_are_alike_in_level_and_differ_where_they_should() -> None:
    probes = make_probes(6000)
    for y in (probes.base, *probes.moved, *(probes.tuned - probes.base), probes.short):
        assert float(y.square().mean().sqrt()) == pytest.approx(0.1, rel=0.05)
    places = [(y != probes.base).nonzero().flatten() for y in probes.moved]
    starts = [round(p * 6000 / N_BURSTS) for p in range(N_BURSTS)]
    assert [int(place[0]) for place in places] == pytest.approx(starts, abs=1)
    assert [len(place) for place in places] == pytest.approx([6000 // N_BURSTS] * N_BURSTS, abs=1)
    changed = (probes.short != probes.base).nonzero().flatten()
    assert (int(changed[0]) + int(changed[-1])) / 2 == pytest.approx(3000, abs=1)
    assert int(changed[-1] - changed[0]) + 1 == probes.short_length == 60
    spectra = torch.fft.rfft(probes.tuned - probes.base).abs().square()
    middles = (spectra * torch.arange(spectra.shape[1])).sum(1) / spectra.sum(1) / spectra.shape[1]
    expected = [0.45 * ((q / N_TONES) ** 2 + ((q + 1) / N_TONES) ** 2) for q in range(N_TONES)]
    np.testing.assert_allclose(middles, expected, atol=0.01)
    with refused(ValueError, "n_samples is 63, but must be at least 64"):
        make_probes(63)
    assert torch.equal(make_probes(64).moved, make_probes(64).moved)


def test_a_network_that_is_not_its_own_is_refused() -> None:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv1d(1, 4, 9, 4)

        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(self.layer(x[:, None]).mean(2))

    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.GRU(1, 4, batch_first=True)
            self.state: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            state = self.state[:, : len(x)].contiguous() if self.state is not None else None
            y, self.state = self.layer(x[:, :400, None], state)
            return y[:, -1]

    class Trains(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Sequential(nn.Conv1d(1, 4, 9, 4), nn.Dropout(0.5))

        def forward(self, x: Tensor) -> Tensor:
            self.layer.train()
            y: Tensor = self.layer(x[:, None])
            return y.mean(2)

    for network, place in (
        (Remembers(), "at layer 'layer'"),
        (Trains(), "at layer 'layer'"),
        (Drops(), "in its scores"),
    ):
        message = (
            f"the network gives different answers to the same input {place}, but must not draw random numbers in "
            "evaluation mode or keep state from call to call"
        )
        with refused(ValueError, message):
            found(network, ["layer"], None)


@pytest.mark.parametrize("seed", range(6))
def test_few_channels_do_not_hide_time(seed: int) -> None:
    """Responses of four channels with random weights follow the bursts by chance; those along time do so more."""
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))
    bands = MelSpectrogram(8000, 256, 80, n_mels=32)
    found = find_layouts(lambda x: (x.mean((2, 3)), [body(x)]), ["body"], 4000, bands)
    assert str(found["body"]) == "b c t f"
