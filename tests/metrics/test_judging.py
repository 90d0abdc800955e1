"""What the network hears in the parts that explanations keep and remove."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import l2i_fast as l2i
from l2i_fast.data import Dataset
from l2i_fast.explainers import EXPLAINERS
from l2i_fast.metrics.judging import judge, judge_published
from l2i_fast.model import L2I, LogMel, SpectralNetwork, TorchNetwork
from l2i_fast.results import Result
from l2i_fast.results.masking import apply_mask
from l2i_fast.settings import Analysis

from ..helpers import refused


class Bands(torch.nn.Module):
    """A network whose probabilities change by much with the level of each band."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.nn.Identity()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.out = torch.nn.Linear(128, 4)
        self.out.weight.data *= 3

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.out(self.seen(features)[:, 0].mean(1) / 30)
        return answer


@pytest.fixture(scope="module")
def network() -> SpectralNetwork:
    classes = ("dog", "rain", "clock tick", "helicopter")
    return TorchNetwork(Bands(), LogMel(Analysis()), classes, layers=["seen"])


@pytest.fixture(scope="module")
def sounds() -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(1)
    fade = np.linspace(0.1, 3, 70000)
    return [((0.1 * fade * rng.standard_normal(70000))[:n].astype(np.float32), 44100) for n in (70000, 30000, 70000)]


def test_both_parts_go_through_audio(
    tiny_model: L2I, network: SpectralNetwork, sounds: list[tuple[np.ndarray, int]]
) -> None:
    results = EXPLAINERS["l2i"].for_model(tiny_model).explain(sounds)
    for result, found in zip(results, judge(network, results), strict=True):
        peak = float(np.abs(result.input).max())
        removed = apply_mask(result.input, 1 - result.mask(), result.settings)
        assert found.target == result.explanations[0].target
        np.testing.assert_array_equal(found.before, result.probabilities)
        for p, y in ((found.kept, result.audio), (found.removed, removed)):
            np.testing.assert_allclose(p, network.classify([y], [peak])[0], atol=1e-5)
        V = np.log1p(np.abs(network.analyze([result.input]).X[0]))
        assert found.kept_share == pytest.approx((result.mask() * V).sum() / V.sum(), rel=1e-4)
        assert result.kept() == found.kept_share
        magnitude = dataclasses.replace(result, settings={**result.settings, "domain": "magnitude"})
        expected = np.log1p(result.mask() * np.expm1(V)).sum() / V.sum()
        assert magnitude.kept() == pytest.approx(expected, rel=1e-4)
        again = network.classify([result.audio])[0]  # at its own scale, which is not what is wanted
        assert np.abs(found.kept - again).max() > 1e-3
        assert np.abs(found.kept - found.removed).max() > 1e-3


def test_a_full_mask_keeps_the_decision(network: SpectralNetwork, sounds: list[tuple[np.ndarray, int]]) -> None:
    method = EXPLAINERS["constant"](network, 1.0)  # type: ignore[call-arg]
    for found in judge(network, method.explain(sounds)):
        np.testing.assert_allclose(found.kept, found.before, atol=1e-4)
        assert found.kept_share == pytest.approx(1)


def published(network: SpectralNetwork, result: Result, mask: np.ndarray) -> np.ndarray:
    """Features of ``exp(m V) - 1`` by their formula."""
    a = network.front_end.analysis
    V = np.log1p(np.abs(l2i.stft(result.input / np.abs(result.input).max(), n_fft=a.n_fft, hop_length=a.hop_length)))
    return 10 * np.log10(np.maximum(np.expm1(mask * V).T @ network.front_end.filters, a.amin))


def heard(network: SpectralNetwork, features: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(features[None, None].astype(np.float32))
    return network.probabilities(network.run(x).logits)[0].detach().numpy()


@pytest.mark.parametrize("method", ["constant", "loudest"])
def test_published_masks_act_on_the_log_magnitude(
    method: str, network: SpectralNetwork, sounds: list[tuple[np.ndarray, int]]
) -> None:
    results = EXPLAINERS[method](network, 0.3).explain(sounds)  # type: ignore[call-arg]
    results[0] = dataclasses.replace(results[0], settings={**results[0].settings, "domain": "magnitude"})
    for result, found in zip(results, judge_published(network, results), strict=True):
        np.testing.assert_allclose(found.kept, heard(network, published(network, result, result.mask())), atol=1e-4)
        removed = published(network, result, 1 - result.mask())
        np.testing.assert_allclose(found.removed, heard(network, removed), atol=1e-4)
        assert np.abs(found.kept - found.removed).max() > 1e-3
        np.testing.assert_array_equal(found.before, result.probabilities)


def test_published_parts_of_components_are_differences_of_features(
    tiny_model: L2I, network: SpectralNetwork, sounds: list[tuple[np.ndarray, int]]
) -> None:
    results = EXPLAINERS["l2i"].for_model(tiny_model).explain(sounds)
    for result, found in zip(results, judge_published(network, results), strict=True):
        whole, kept = (published(network, result, m) for m in (np.float32(1), result.mask()))
        np.testing.assert_allclose(heard(network, whole), network.classify([result.input])[0], atol=1e-4)
        np.testing.assert_allclose(found.kept, heard(network, kept), atol=1e-4)
        difference = network.front_end.silence + whole - kept
        np.testing.assert_allclose(found.removed, heard(network, difference), atol=1e-4)
        assert np.abs(found.removed - heard(network, published(network, result, 1 - result.mask()))).max() > 1e-3


def test_shares_of_masks_on_the_magnitude_are_of_what_is_kept(
    network: SpectralNetwork, sounds: list[tuple[np.ndarray, int]]
) -> None:
    (result,) = EXPLAINERS["constant"](network, 0.5).explain(sounds[:1])  # type: ignore[call-arg]
    A = np.abs(network.analyze([result.input]).X[0]).astype(np.float64)
    assert judge(network, [result])[0].kept_share == pytest.approx(0.5, rel=1e-5)
    result = dataclasses.replace(result, settings={**result.settings, "domain": "magnitude"})
    expected = np.log1p(0.5 * A).sum() / np.log1p(A).sum()
    assert judge(network, [result])[0].kept_share == pytest.approx(expected, rel=1e-5)
    assert expected > 0.55


def test_a_result_without_an_explanation(tiny_model: L2I, sounds: list[tuple[np.ndarray, int]]) -> None:
    (result,) = EXPLAINERS["l2i"].for_model(tiny_model).explain(sounds[:1], [[]])
    with refused(ValueError, "samples: no class was decided on, so none is explained; ..."):
        judge(tiny_model.network, [result])


def test_real_recordings(esc10: Dataset) -> None:
    model = L2I.load("esc10")
    results = EXPLAINERS["l2i"].for_model(model).explain([clip.path for clip in esc10.clips[:40:8]])
    found = judge(model.network, results)
    assert np.mean([j.kept[j.target] > j.removed[j.target] for j in found]) > 0.7
    silent = [dataclasses.replace(r, input=0 * r.input) for r in results[:1]]
    assert judge(model.network, silent)[0].kept_share == 0
