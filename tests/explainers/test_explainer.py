"""What all methods share, and the controls of Listen to Interpret."""

from __future__ import annotations

import numpy as np
import pytest

from l2i_fast.explainers import (
    EXPLAINERS,
    Evidence,
    Heard,
    MaskExplainer,
)

from ..helpers import refused
from .support import HIGH, LOW, RATE, tone, tones


class Marked(MaskExplainer):
    """Keeps a share that tells which class is explained."""

    name = "marked"
    title = "Marked"
    paper = "None"
    domain = "log"

    def find(self, heard: Heard, targets: list[int]) -> list[Evidence]:  # type: ignore[override]
        assert len(heard.signals) == len(heard.X) == len(heard.features) == len(heard.logits) == len(targets)
        return [Evidence(np.full((1, 1), (1 + c) / 4, np.float32)) for c in targets]


@pytest.fixture(scope="module")
def sounds() -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(1)
    return [(0.1 * rng.standard_normal(n).astype(np.float32), RATE) for n in (30000, 9000, 30000, 1)]


def test_names_and_sources() -> None:
    for name, method in EXPLAINERS.items():
        assert method.name == name
        assert method.title
        assert method.paper


def test_results_hold_input_probabilities_and_masks(sounds: list[tuple[np.ndarray, int]]) -> None:
    network = tones()
    results = Marked(network).explain(sounds)
    for (y, _), result in zip(sounds, results, strict=True):
        np.testing.assert_array_equal(result.input, y)
        np.testing.assert_allclose(result.probabilities, network.classify([y])[0], atol=1e-6)
        (explanation,) = result.explanations
        assert result.prediction == (explanation.label,) == (network.classes[int(result.probabilities.argmax())],)
        assert result.mask().shape == (513, 1 + len(y) // 512)
        assert np.all(result.mask() == (1 + explanation.target) / 4)
        assert (result.method, result.settings["domain"]) == ("marked", "log")
        assert len(result.audio) == len(y)


def test_probabilities_and_predictions_are_those_of_each_recording() -> None:
    sounds = [(tone(hertz, 30000), RATE) for hertz in (LOW, HIGH, LOW * 1.2)]
    results = Marked(tones()).explain(sounds, [None, None, "high"])
    assert [e.label for result in results for e in result.explanations] == ["low", "high", "high"]
    for result in results:
        (explanation,) = result.explanations
        assert explanation.probability == result.probabilities[explanation.target]
    assert len({float(result.explanations[0].probability) for result in results}) == 3


def test_targets_belong_to_recordings(sounds: list[tuple[np.ndarray, int]]) -> None:
    results = Marked(tones()).explain(sounds, ["high", ["low", 1], None, 0])
    assert [[e.label for e in r.explanations] for r in results[:2]] == [["high"], ["low", "high"]]
    assert [e.label for e in results[2].explanations] == list(results[2].prediction)
    assert [float(results[1].mask(e).max()) for e in results[1].explanations] == [0.25, 0.5]


def test_wrong_arguments(sounds: list[tuple[np.ndarray, int]]) -> None:
    method = Marked(tones())
    with refused(TypeError, "recordings is 'a.wav', but must be a list of recordings"):
        method.explain("a.wav")
    with refused(ValueError, "targets is ['low'], but must be a list with an entry for each of 4 recordings"):
        method.explain(sounds, ["low"])
    with refused(ValueError, "targets names 'dog', but must name classes (low, high) or hold indices from 0 to 1"):
        method.explain(sounds[:1], ["dog"])
    with refused(TypeError, "network is 3, but an AuditedNetwork is needed"):
        Marked(3)  # type: ignore[arg-type]
