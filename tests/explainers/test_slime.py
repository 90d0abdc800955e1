"""SLIME: against closed-form regression with explicit masks, and on networks whose blocks are planted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from l2i_fast.explainers import SLIME
from l2i_fast.explainers.seeds import content_seed
from l2i_fast.explainers.slime import relevance_of
from l2i_fast.model import L2I, LogMel, TorchNetwork
from l2i_fast.settings import Analysis

from ..helpers import refused
from .support import HIGH, RATE, Tones, tone, tones


def lime(held: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The weighted ridge regression, sample by sample and in closed form."""
    n, k = held.shape
    ones = np.ones(k)
    weights = []
    for z in held:
        length = np.linalg.norm(z) * np.linalg.norm(ones)
        distance = 1 - (z @ ones / length if length else 0)
        weights.append(np.sqrt(np.exp(-(distance**2) / 0.25**2)))
    design = np.hstack([held, np.ones((n, 1))])
    penalty = np.diag([1.0] * k + [0.0])
    normal = design.T @ (np.array(weights)[:, None] * design) + penalty
    return np.linalg.solve(normal, design.T @ (np.array(weights) * p))[:k]


def test_the_regression_is_limes(rng: np.random.Generator) -> None:
    held = rng.integers(0, 2, (60, 7)).astype(np.float32)
    held[3] = 0
    p = (0.5 * rng.random(60) + 0.5 * held[:, 2]).astype(np.float32)  # something is positive
    w = lime(held.astype(np.float64), p.astype(np.float64))
    np.testing.assert_allclose(relevance_of(held, p), w / w.max(), rtol=1e-4, atol=1e-5)


def test_nothing_positive_supports_nothing() -> None:
    held = np.array([[1, 1], [0, 1], [1, 0], [0, 0]], np.float32)
    assert relevance_of(held, 1 - held.sum(1) / 2).tolist() == [0, 0]


def test_against_explicit_masks() -> None:
    network = tones()
    y = tone(700, 30000) + tone(HIGH, 30000, 0.1)
    method = SLIME(network, n_samples=50, n_bands=3, n_times=2, threshold=0.3)
    (result,) = method.explain([(y, RATE)], ["low"])
    A = np.abs(network.analyze([y]).X[0])
    band, time = method.blocks(A.shape[1])
    held = np.random.default_rng(content_seed(y)).integers(0, 2, (50, 6)).astype(np.float32)
    held[0] = 1
    p = []
    for z in held:
        mask = np.zeros_like(A)
        for i in range(3):
            for j in range(2):
                mask[np.ix_(band == i, time == j)] = z[2 * i + j]
        mel = (mask * A).T @ network.front_end.filters
        x = torch.from_numpy(10 * np.log10(np.maximum(mel, 1e-6)))[None, None].float()
        p.append(float(network.probabilities(network.run(x).logits)[0, 0]))
    w = lime(held.astype(np.float64), np.array(p))
    explanation = result.explanations[0]
    np.testing.assert_allclose(explanation.relevance, w / w.max(), atol=2e-3)
    assert set(explanation.components) == set(np.flatnonzero(w / w.max() > 0.3))
    assert explanation.relevance[list(explanation.components)].tolist() == sorted(
        explanation.relevance[list(explanation.components)], reverse=True
    )
    kept = np.isin(np.arange(6), explanation.components)
    np.testing.assert_array_equal(result.mask(), kept[(band * 2)[:, None] + time[None]])


class Blocks(nn.Module):
    """The probability of the first class is linear in which of 2 x 3 blocks sound."""

    coefficients = (0.3, 0.05, 0.0, 0.1, 0.2, -0.1)

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.seen(x)[:, 0]
        n = x.shape[1]
        sounding = [
            x[:, j * n // 3 : (j + 1) * n // 3, 64 * i + 6 : 64 * (i + 1) - 6].amax((1, 2)) > -30
            for i in range(2)
            for j in range(3)
        ]
        p = 0.2 + sum(c * s.float() for c, s in zip(self.coefficients, sounding, strict=True))
        return torch.stack([p.log(), (1 - p).log()], 1)


def test_the_blocks_of_a_linear_network_are_found() -> None:
    network = TorchNetwork(Blocks(), LogMel(Analysis()), ("a", "b"), ("seen",))
    y = np.random.default_rng(0).standard_normal(59 * 512).astype(np.float32)
    (result,) = SLIME(network, 400, 2, 3).explain([(y, RATE)], ["a"])
    expected = np.array(Blocks.coefficients) / 0.3
    np.testing.assert_allclose(result.relevance, expected, atol=0.12)
    assert result.components == (0, 4, 3)


def test_blocks_by_hand() -> None:
    band, time = SLIME(tones()).blocks(13)
    assert time.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert (np.diff(band) >= 0).all()
    assert set(band) == {0, 1, 2, 3}
    filters = tones().front_end.filters
    for i in range(4):  # a block holds the bins of 32 bands
        strongest = filters[band == i].sum(0)
        assert 32 * i - 1 <= np.average(np.arange(128), weights=strongest) <= 32 * (i + 1)


class Gappy(LogMel):
    """Some bins are in no band: the first and last ones, and some in between."""

    @property
    def filters(self) -> np.ndarray:
        filters = super().filters.copy()
        filters[[0, 1, 200, 511, 512]] = 0
        return filters


def test_bins_without_a_band_join_their_neighbours() -> None:
    network = TorchNetwork(Tones(), Gappy(Analysis()), ("low", "high"), ("fine", "coarse"))
    band, _ = SLIME(network).blocks(6)
    assert (band[:2] == 0).all()
    assert band[200] == band[199]
    assert (band[511:] == 3).all()


def test_any_length_and_batches_equal_single_recordings() -> None:
    method = SLIME(tones(), n_samples=20)
    sounds = [(tone(500, n), RATE) for n in (1, 700, 20000, 20000)] + [(np.zeros(9000, np.float32), RATE)]
    results = method.explain(sounds, [0] * len(sounds))
    for sound, result in zip(sounds, results, strict=True):
        assert result.mask().shape == (513, 1 + len(sound[0]) // 512)
        (alone,) = method.explain([sound], [0])
        np.testing.assert_array_equal(alone.mask(), result.mask())
        np.testing.assert_allclose(alone.relevance, result.relevance, atol=1e-5)
    assert not results[-1].explanations[0].supported
    assert not results[-1].mask().any()


def test_rounding_is_no_relevance(tiny_model: L2I) -> None:
    silence = np.zeros(20000, np.float32)
    for method in (SLIME(tiny_model.network, 50), SLIME(tones(), 50)):
        for result in method.explain([(silence, RATE)] * 2, [[0, 1]] * 2):
            for explanation in result.explanations:
                assert not explanation.supported
                assert not explanation.relevance.any()
                assert not explanation.audio.any()


def test_several_classes_are_explained_by_the_same_samples() -> None:
    network = tones(multilabel=True)
    runs = []
    run = network.run
    network.run = lambda x: runs.append(len(x)) or run(x)  # type: ignore[method-assign, func-returns-value]
    method = SLIME(network, n_samples=60)
    sound = (tone(700) + tone(HIGH), RATE)
    (result,) = method.explain([sound], [["high", "low"]])
    assert sum(runs) == 1 + 60
    for explanation, target in zip(result.explanations, ("high", "low"), strict=True):
        (alone,) = method.explain([sound], [target])
        np.testing.assert_array_equal(alone.relevance, explanation.relevance)
    assert result.explanations[0].components != result.explanations[1].components


def test_blocks_that_hold_nothing_do_not_count() -> None:
    method = SLIME(tones(), n_samples=40, n_bands=128, n_times=6)
    y = np.random.default_rng(2).standard_normal(700).astype(np.float32)  # two frames
    (result,) = method.explain([(y, RATE)], ["high"])
    band, time = method.blocks(2)
    assert time.tolist() == [0, 3]
    assert len(set(band)) < 128
    held = set((band[:, None] * 6 + time).ravel().tolist())
    assert held.isdisjoint(np.flatnonzero(result.relevance == 0).tolist())
    assert set(np.flatnonzero(result.relevance).tolist()) == held
    assert result.explanations[0].supported == bool(result.mask().any())


def test_long_recordings_go_through_the_network_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tones()
    sound = (tone(700, 30000) + tone(HIGH, 30000), RATE)
    (expected,) = SLIME(network, n_samples=20).explain([sound], [0])
    sizes = []
    run = network.run
    network.run = lambda x: sizes.append(len(x)) or run(x)  # type: ignore[method-assign, func-returns-value]
    for frames, size in ((10, 1), (4 * 59, 4), (5 * 59 - 1, 4)):
        monkeypatch.setattr("l2i_fast.explainers.slime._FRAMES", frames)
        sizes.clear()
        (result,) = SLIME(network, n_samples=20).explain([sound], [0])
        assert sizes == [1] + [size] * (20 // size)
        np.testing.assert_allclose(result.relevance, expected.relevance, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_samples": 1}, "n_samples is 1, but must be at least 2"),
        ({"n_bands": 0}, "n_bands is 0, but must be at least 1"),
        ({"threshold": 2.0}, "threshold is 2.0, but must be at most 1"),
    ],
)
def test_wrong_settings(settings: dict[str, float], message: str) -> None:
    with refused(ValueError, message):
        SLIME(tones(), **settings)  # type: ignore[arg-type]
