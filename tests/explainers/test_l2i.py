"""Listen to Interpret as a method among others, and its random controls."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from l2i_fast.data import Dataset
from l2i_fast.explainers import EXPLAINERS, EqualEnergy, EveryRelevant, ListenToInterpret, RandomComponents
from l2i_fast.model import L2I
from l2i_fast.settings import Selection

from ..conftest import make_model
from ..helpers import refused
from .support import RATE

FAMILY = [ListenToInterpret, EveryRelevant, RandomComponents, EqualEnergy]


@pytest.fixture(scope="module")
def sounds() -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(1)
    return [(0.1 * rng.standard_normal(n).astype(np.float32), RATE) for n in (30000, 9000, 30000, 1)]


def test_listening_is_interpreting(tiny_model: L2I, sounds: list[tuple[np.ndarray, int]]) -> None:
    wanted = [None, "rain", [0, 3], 1]
    results = ListenToInterpret(tiny_model).explain(sounds, wanted)
    for sound, targets, ours in zip(sounds, wanted, results, strict=True):
        theirs = tiny_model.interpret(sound, targets=targets)
        assert [e.label for e in ours.explanations] == [e.label for e in theirs.explanations]
        for one, two in zip(ours.explanations, theirs.explanations, strict=True):
            assert one.components == two.components
            np.testing.assert_allclose(one.audio, two.audio, atol=1e-6)
            np.testing.assert_allclose(one.relevance, two.relevance, atol=1e-5)
        np.testing.assert_allclose(ours.own_probabilities, theirs.own_probabilities, atol=1e-6)
        assert ours.method == "l2i"


def test_a_selection_of_ones_own(tiny_model: L2I, sounds: list[tuple[np.ndarray, int]]) -> None:
    selection = Selection(threshold=0.5, top_k=2)
    for result in ListenToInterpret(tiny_model, selection).explain(sounds[:3]):
        order = np.argsort(-result.relevance)[:2]
        assert result.components == tuple(order[result.relevance[order] > 0.5])
        assert (result.settings["threshold"], result.settings["top_k"]) == (0.5, 2)


def test_every_relevant_component(tiny_model: L2I, sounds: list[tuple[np.ndarray, int]]) -> None:
    results = EveryRelevant(tiny_model).explain(sounds)
    for result in results:
        assert set(result.components) == set(np.flatnonzero(result.relevance > 0.1))
        assert (result.settings["threshold"], result.settings["top_k"]) == (0.1, None)
        assert result.method == "l2i-all"
    few = [dataclasses.replace(tiny_model.selection, threshold=t, top_k=None) for t in (0.1, 0.9)]
    counts = [[len(r.components) for r in ListenToInterpret(tiny_model, s).explain(sounds)] for s in few]
    assert counts[0] == [len(r.components) for r in results]
    assert sum(counts[1]) < sum(counts[0])


def test_energies_by_hand(tiny_model: L2I) -> None:
    method = EqualEnergy(tiny_model)
    method.selection = Selection(threshold=0.2, top_k=2)
    relevance = np.array([1.0, 0.5, 0.4, -1.0, 0.1], np.float32)
    energy = np.array([3.0, 1.0, 9.0, 4.0, 2.0], np.float32)
    chosen = method.choose(relevance, energy)
    assert energy[list(chosen)].sum() >= 4  # of the first two components
    assert energy[list(chosen[:-1])].sum() < 4
    as_many = RandomComponents(tiny_model, method.selection).choose(relevance, energy)
    assert len(set(as_many)) == 2
    for control in (method, RandomComponents(tiny_model, method.selection)):
        assert control.choose(-np.ones(5, np.float32), energy) == ()
        # All energy is needed, whatever rounding says.
        assert sorted(control.choose(np.ones(2, np.float32), np.float32([0.1, 0.7]))) == [0, 1]
        assert len(control.choose(relevance, np.zeros(5, np.float32))) in (1, 2)


def test_random_components(tiny_model: L2I, sounds: list[tuple[np.ndarray, int]]) -> None:
    chosen, as_many, enough = (m(tiny_model).explain(sounds[:3], [0] * 3) for m in (FAMILY[0], *FAMILY[2:]))
    assert any(one.components != two.components for one, two in zip(chosen, as_many, strict=True))
    for one, two, three in zip(chosen, as_many, enough, strict=True):
        assert len(one.components) == len(two.components) == len(set(two.components))
        energy = one.dictionary.sum(0) * one.activations.sum(1)
        wanted, held = energy[list(one.components)].sum(), energy[list(three.components)]
        assert held.sum() >= wanted * (1 - 1e-6)
        assert held[:-1].sum() < wanted


def test_draws_differ_between_recordings_and_cover_all_components(tiny_model: L2I) -> None:
    rng = np.random.default_rng(0)
    relevance = np.float32([1, 0.9, 0.8, -1, -1, -1])
    method = RandomComponents(tiny_model)
    drawn = np.zeros(6)
    for _ in range(300):
        energy = rng.random(6).astype(np.float32)
        drawn[list(method.choose(relevance, energy))] += 1
        assert method.choose(relevance, energy) == method.choose(relevance, energy)
    np.testing.assert_allclose(drawn / 300, 0.5, atol=0.15)


@pytest.mark.parametrize("method", FAMILY)
@pytest.mark.parametrize("multilabel", [False, True])
def test_batches_equal_single_recordings(
    method: type[ListenToInterpret], multilabel: bool, sounds: list[tuple[np.ndarray, int]]
) -> None:
    model = make_model(multilabel=multilabel)
    several = [*sounds, (np.zeros(9000, np.float32), RATE)]
    results = method.for_model(model).explain(several, [[0, 2]] * len(several))
    for sound, result in zip(several, results, strict=True):
        (alone,) = method.for_model(model).explain([sound], [["dog", 2]])
        assert [e.label for e in result.explanations] == ["dog", "clock tick"]
        assert [e.components for e in alone.explanations] == [e.components for e in result.explanations]
        for one, two in zip(alone.explanations, result.explanations, strict=True):
            np.testing.assert_allclose(one.audio, two.audio, atol=1e-6)
        assert result.method == method.name
    assert not any(e.audio.any() for e in results[-1].explanations)


@pytest.mark.parametrize("method", FAMILY)
def test_the_same_interpreter_on_another_network(
    method: type[ListenToInterpret], tiny_model: L2I, sounds: list[tuple[np.ndarray, int]]
) -> None:
    network = tiny_model.network.randomized(tiny_model.network.weighted[-12:], seed=2)
    ours = method(tiny_model)
    twin = ours.on(network)
    model = L2I(network, tiny_model.interpreter)
    (result,) = twin.explain(sounds[:1], [0])
    (expected,) = method(model).explain(sounds[:1], [0])
    np.testing.assert_array_equal(result.probabilities, expected.probabilities)
    np.testing.assert_array_equal(result.relevance, expected.relevance)
    assert result.components == expected.components
    (before,) = ours.explain(sounds[:1], [0])
    assert not np.allclose(before.probabilities, result.probabilities, atol=1e-4)
    assert not np.allclose(before.relevance, result.relevance, atol=1e-4)


@pytest.mark.parametrize("method", FAMILY)
def test_unknown_classes(
    method: type[ListenToInterpret], tiny_model: L2I, sounds: list[tuple[np.ndarray, int]]
) -> None:
    known = "(dog, rain, clock tick, helicopter) or hold indices from 0 to 3"
    for wrong in ("cat", 4):
        with refused(ValueError, f"targets names {wrong!r}, but must name classes {known}"):
            method(tiny_model).explain(sounds[:1], [wrong])


def test_real_recordings(esc10: Dataset) -> None:
    model = L2I.load("esc10")
    paths = [clip.path for clip in esc10.clips[:80:20]]
    listened, every, enough = (
        EXPLAINERS[n].for_model(model).explain(paths) for n in ("l2i", "l2i-all", "equal-energy")
    )
    for one, two, three in zip(listened, every, enough, strict=True):
        assert set(one.components) <= set(two.components)
        energy = one.dictionary.sum(0) * one.activations.sum(1)
        assert energy[list(three.components)].sum() >= energy[list(one.components)].sum() * (1 - 1e-5)
        (alone,) = EXPLAINERS["equal-energy"].for_model(model).explain([three.source])
        assert alone.components == three.components


def test_settings_hold_the_selection_of_the_method(tiny_model: L2I) -> None:
    settings = EveryRelevant(tiny_model).settings
    assert (settings["threshold"], settings["top_k"]) == (0.1, None)
    assert ListenToInterpret(tiny_model).settings["threshold"] == tiny_model.selection.threshold
    assert settings["n_fft"] == 1024
