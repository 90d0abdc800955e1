"""Networks that hear windows: maps are joined as the definition says, and scores pooled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from l2i_fast.model.windowed import WindowedNetwork, joined
from l2i_fast.networks.layouts import Layout
from l2i_fast.settings import Analysis

from ..helpers import refused, relative

ANALYSIS = Analysis(sample_rate=8000, n_fft=256, hop_length=128, n_mels=16)


class Means:
    """Scores and a map of means: each column is the mean of the samples that it covers."""

    layers = ("means",)

    def __init__(self, n_columns: int, most: float = 0.0) -> None:
        self.n_columns, self.most = n_columns, most

    def __call__(self, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        means = y.reshape(len(y), self.n_columns, -1).mean(2)
        return torch.stack([y.mean(1), self.most - y.mean(1), y[:, 0]], 1), [means[:, None]]


def make(window: int | None = 800, hop: int | None = None, columns: int = 8, **changed: Any) -> WindowedNetwork:
    layouts = [Layout.parse("b c t")]
    return WindowedNetwork(Means(columns), lambda y: y, list("abc"), ANALYSIS, layouts, window, hop, **changed)


def slow_join(x: np.ndarray, window: int, starts: Sequence[int], n: int) -> np.ndarray:
    """Join the maps (windows, T) of one channel by the definition, one column at a time."""
    T = x.shape[1]
    total = max(1, round(T * n / window))
    columns = []
    for j in range(total):
        centre = (j + 0.5) * n / total
        w = min(range(len(starts)), key=lambda i: abs(centre - starts[i] - window / 2))
        places = starts[w] + (np.arange(T) + 0.5) * window / T
        columns.append(np.interp(centre, places, x[w]))
    return np.asarray(columns)


@given(st.integers(1, 9), st.integers(10, 60), st.data())
@settings(deadline=None, max_examples=50)
def test_maps_are_joined_by_the_definition(columns: int, window: int, data: st.DataObject) -> None:
    hop = data.draw(st.integers(1, window))
    n = data.draw(st.integers(1, 5 * window))
    starts = [0] if n <= window else [min(i * hop, n - window) for i in range(1 + -(-(n - window) // hop))]
    x = np.random.default_rng(n).standard_normal((2, len(starts), 3, columns, 2)).astype(np.float32)
    found = joined(torch.from_numpy(x), window, starts, n).numpy()
    for b, c, f in np.ndindex(2, 3, 2):
        np.testing.assert_allclose(found[b, c, :, f], slow_join(x[b, :, c, :, f], window, starts, n), atol=1e-5)


@pytest.mark.parametrize("hop", [800, 400])
def test_a_network_in_windows_gives_the_maps_of_the_whole(hop: int, rng: np.random.Generator) -> None:
    y = rng.standard_normal((2, 4000)).astype(np.float32)
    network = make(800, hop)
    maps = network.run(network.analyze(y).features).maps["means"]
    assert relative(maps[:, 0, :, 0], y.reshape(2, 40, 100).mean(2)) < 1e-5


def test_windows_end_with_the_recording_or_are_padded(rng: np.random.Generator) -> None:
    network = make(800, 300)
    assert network.starts(800) == [0]
    assert network.starts(10) == [0]
    assert network.starts(801) == [0, 1]
    assert network.starts(1400) == [0, 300, 600]
    y = torch.from_numpy(rng.standard_normal((2, 500)).astype(np.float32))
    tiles = network.tiles(y)
    assert tiles.shape == (2, 1, 800)
    assert torch.equal(tiles[:, 0, :500], y)
    assert not tiles[:, 0, 500:].any()
    y = torch.arange(1000.0)[None]
    assert network.tiles(y)[0, :, 0].tolist() == network.starts(1000)
    assert make(None).tiles(y).shape == (1, 1, 1000)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_probabilities_of_windows_are_pooled(
    multilabel: bool, pooling: Any, output: Any, rng: np.random.Generator
) -> None:
    y = rng.uniform(0, 0.3, (2, 2400)) if output == "probabilities" else rng.standard_normal((2, 2400))
    network = make(800, 400, multilabel=multilabel, pooling=pooling, output=output)
    most = float(output == "probabilities")
    network.runner = Means(8, most)
    p = network.classify(list(y.astype(np.float32)))
    starts = [0, 400, 800, 1200, 1600]
    windows = np.stack([y[:, s : s + 800] for s in starts], 1)
    scores = np.stack([windows.mean(2), most - windows.mean(2), windows[:, :, 0]], 2)
    if output == "logits":
        e = np.exp(scores)
        scores = e / (1 + e) if multilabel else e / e.sum(2, keepdims=True)
    wanted = (scores.mean(1) if pooling == "mean" else scores.max(1)).clip(1e-7, 1)
    np.testing.assert_allclose(p, wanted if multilabel else wanted / wanted.sum(1, keepdims=True), atol=1e-6)


def test_the_network_hears_the_level_and_the_spectrum_does_not(rng: np.random.Generator) -> None:
    y = rng.standard_normal(1600).astype(np.float32)
    network = make()
    quiet, loud = network.analyze([y / 100]), network.analyze([y])
    np.testing.assert_allclose(quiet.features, loud.features / 100, rtol=1e-6)
    np.testing.assert_allclose(quiet.X, loud.X, atol=1e-4)
    np.testing.assert_allclose(quiet.scales * 100, loud.scales, rtol=1e-6)


def test_wrong_answers() -> None:
    class Wrong(Means):
        def __init__(self, scores: Any, maps: Any) -> None:
            self.scores, self.maps = scores, maps

        def __call__(self, y: Tensor) -> Any:
            return self.scores, self.maps

    def run(scores: Any, maps: Any) -> None:
        network = make()
        network.runner = Wrong(scores, maps)
        network.run(torch.zeros(1, 1600))

    maps, scores = [torch.zeros(2, 1, 8)], torch.zeros(2, 3)
    run(scores, maps)
    with refused(ValueError, "the layer 'means' returns 1 maps, but one for each of 2 windows is needed"):
        run(scores, [torch.zeros(1, 1, 8)])
    with refused(ValueError, "the layer 'means': ..."):
        run(scores, [torch.zeros(2, 8)])
    with refused(ValueError, "the network returns scores of shape (2, 3, 1), but (2, 3) is needed"):
        run(scores[..., None], maps)
    with refused(ValueError, "the network returns scores of shape NoneType, but (2, 3) is needed"):
        run(None, maps)
    with refused(ValueError, "classes has length 3, but the network returns 4 logits"):
        run(torch.zeros(2, 4), maps)
    with refused(ValueError, "hop is 900, but must be at most 800"):
        make(800, 900)
    with refused(ValueError, "pooling is 'sum', but must be one of mean, max"):
        make(pooling="sum")
