"""FLINT: its losses and relevance by hand, its training, and what it makes audible."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from l2i_fast.explainers import Flint
from l2i_fast.explainers.flint import FlintConfig, Losses, conciseness, relevance_of

from ..helpers import refused
from .support import (
    HIGH,
    LOW,
    RATE,
    REFUSED,
    Interrupt,
    assert_equal,
    kept_at,
    pairs,
    quiet,
    tone,
    tones,
    weights_of,
    without_gradients,
)

SMALL = FlintConfig(n_attributes=6, epochs=3, batch_size=4, crop=128, start=1, rounds=1, steps=2)


def test_the_loss_and_its_schedule_by_hand() -> None:
    losses = Losses(*(torch.tensor(x) for x in (1.0, 2.0, 3.0, 5.0, 7.0)))
    config = FlintConfig(accuracy=0.5, fidelity=0.25, reconstruction=0.1, conciseness=0.2, sparsity=0.3, start=2)
    assert float(losses.total(config, 1)) == pytest.approx(0.5 + 0.3)
    assert float(losses.total(config, 2)) == pytest.approx(0.5 + 0.3 + 0.5 + 1.0 + 2.1)


def test_conciseness_by_hand() -> None:
    def entropy(*x: float) -> float:
        shares = [math.exp(v) / sum(map(math.exp, x)) for v in x]
        return -sum(p * math.log(p) for p in shares)

    found = conciseness(torch.tensor([[2.0, 0.0], [0.0, 4.0]]))
    assert float(found) == pytest.approx((entropy(2, 0) + entropy(0, 4)) / 2 - entropy(1, 2), rel=1e-5)


def test_relevance_by_hand() -> None:
    phi, weights = np.array([1.0, 2.0, 0.0, 1.0], np.float32), np.array([1.0, -2.0, 5.0, 2.0], np.float32)
    np.testing.assert_allclose(relevance_of(phi, weights), [0.25, -1, 0, 0.5])  # not by the signed maximum, 2
    assert relevance_of(0 * phi, weights).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("multilabel", [False, True])
def test_terms_against_their_formulas(multilabel: bool) -> None:
    network = tones(multilabel)
    method = Flint(network, SMALL)
    features = network.analyze([y for y, _ in pairs()[:3]]).features.clone()
    losses = [x.detach() for x in method.losses(features)]
    with torch.no_grad():
        answers = network.run(features)
        p = network.probabilities(answers.logits).numpy().astype(np.float64)
        phi = method.net.attributes(list(answers.maps.values()))
        logits = method.net.out(phi).numpy().astype(np.float64)
        decoded = method.net.decode(phi, features.shape[2], 128).numpy()
    if multilabel:
        q = 1 / (1 + np.exp(-logits))
        cross = [-(y * np.log(q) + (1 - y) * np.log(1 - q)).mean() for y in (p >= 0.5, p)]
    else:
        q = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        cross = [-np.log(q[np.arange(3), p.argmax(1)]).mean(), -(p * np.log(q)).sum(1).mean()]
    error = ((decoded - (features[:, 0].numpy() + 60) / 10) ** 2).mean()
    expected = (*cross, error, float(conciseness(phi)), float(phi.mean()))
    assert [float(x) for x in losses] == pytest.approx(expected, rel=1e-4)
    assert (phi >= 0).all()


def test_an_interrupted_fit_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole = Flint(tones(), SMALL).fit(pairs(), tmp_path / "whole", quiet)
    for epoch in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            Flint(tones(), SMALL).fit(pairs(), tmp_path / "cut", Interrupt(epoch))
    cut = Flint(tones(), SMALL).fit(pairs(), tmp_path / "cut", quiet)
    assert_equal(weights_of(whole.net), weights_of(cut.net))
    read = Flint(tones(), SMALL).fit(pairs(), tmp_path / "whole", Interrupt(0))  # reports nothing: it only reads
    assert_equal(weights_of(whole.net), weights_of(read.net))
    with refused(ValueError, "... was made with other settings or clips; ..."):
        Flint(tones(), SMALL).fit(pairs()[:3], tmp_path / "whole", quiet)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Flint:
    config = FlintConfig(n_attributes=6, epochs=80, batch_size=4, crop=128, learning_rate=1e-2)
    return Flint(tones(), config).fit(pairs(), tmp_path_factory.mktemp("flint"), quiet)


def test_the_tone_that_decides_is_restored(learned: Flint) -> None:
    mixed = tone(LOW * 1.1, level=0.02) + tone(HIGH * 0.9, level=0.6)
    (result,) = learned.explain([(mixed, RATE)])
    assert result.prediction == ("high",)
    assert result.own_probabilities is not None
    assert result.own_probabilities.argmax() == 1
    assert result.components
    assert kept_at(result.mask(), HIGH * 0.9) > 2 * kept_at(result.mask(), LOW * 1.1)


def test_relevance_and_components(learned: Flint) -> None:
    sound = pairs()[0]
    (result,) = learned.explain([sound], [[0, 1]])
    with torch.no_grad():
        answers = learned.network.run(learned.network.analyze([sound[0]]).features)
        phi = learned.net.attributes(list(answers.maps.values()))[0]
    for explanation in result.explanations:
        product = (phi * learned.net.out.weight[explanation.target]).numpy()
        np.testing.assert_allclose(explanation.relevance, product / np.abs(product).max(), atol=1e-5)
        assert set(explanation.components) == set(np.flatnonzero(explanation.relevance > 0.2))
        assert bool(explanation.components) == explanation.supported


def test_any_length_and_batches_equal_single_recordings(learned: Flint) -> None:
    sounds = [(tone(500, n), RATE) for n in (1, 700, 20000, 20000)] + [(np.zeros(9000, np.float32), RATE)]
    results = learned.explain(sounds, [0] * len(sounds))
    for sound, result in zip(sounds, results, strict=True):
        mask = result.mask()
        assert mask.shape == (513, 1 + len(sound[0]) // 512)
        assert 0 <= mask.min() <= mask.max() <= 1
        (alone,) = learned.explain([sound], [0])
        np.testing.assert_allclose(alone.mask(), mask, atol=1e-2)


def test_one_attribute_is_heard(learned: Flint) -> None:
    y, _ = pairs()[0]
    heard = learned.attribute_audible((y, RATE), 0)
    assert heard.shape == y.shape
    assert np.abs(heard).max() <= 1.1 * np.abs(y).max()
    with refused(ValueError, "attribute is 6, but must be at most 5"):
        learned.attribute_audible((y, RATE), 6)


def test_errors() -> None:
    with refused(ValueError, "flint has not learned yet, but must learn from recordings first: call fit"):
        Flint(tones()).explain(pairs()[:1])
    with refused(ValueError, REFUSED):
        Flint(without_gradients())
    with refused(ValueError, "crop is 5, but must be at least 128"):
        FlintConfig(crop=5)
