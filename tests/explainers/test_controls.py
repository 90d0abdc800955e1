"""Controls that keep as much as another method; those that draw bins and frames are tested in test_random_masks.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from l2i_fast.explainers import (
    SLIME,
    Constant,
    Evidence,
    Heard,
    ListenToInterpret,
    Loudest,
    MaskExplainer,
    RandomBands,
    RandomFrames,
)
from l2i_fast.model import L2I
from l2i_fast.results.masking import kept_share, log_magnitude

from ..conftest import make_model
from ..helpers import refused
from .support import HIGH, LOW, RATE, tone, tones

CONTROLS = [Constant, Loudest, RandomBands, RandomFrames]


@pytest.fixture(scope="module")
def sounds() -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(1)
    return [(0.1 * rng.standard_normal(n).astype(np.float32), RATE) for n in (30000, 9000, 30000, 1)]


@pytest.mark.parametrize("method", CONTROLS)
def test_each_recording_is_matched(
    method: type[Constant], tiny_model: L2I, sounds: list[tuple[np.ndarray, int]]
) -> None:
    targets = [[1, 3], 0, [1, 3], 2]
    reference = ListenToInterpret(tiny_model).explain(sounds, targets)
    shares = []
    for ours, theirs in zip(method.for_model(tiny_model).explain(sounds, targets), reference, strict=True):
        V = log_magnitude(ours.input, ours.settings)
        for one, two in zip(ours.explanations, theirs.explanations, strict=True):
            shares.append(kept_share(theirs.mask(two), V, "log"))
            # The loudest bins are whole ones: one sample has 513 of the same magnitude.
            assert kept_share(ours.mask(one), V, "log") == pytest.approx(
                shares[-1], abs=2e-3 if len(ours.input) < 9 else 2e-4
            )
            assert one.label == two.label
    assert np.ptp(shares) > 0.01


def test_a_method_with_masks_on_the_magnitude_is_matched() -> None:
    network = tones()
    reference = SLIME(network, n_samples=30)
    sound = (tone(LOW) + tone(HIGH, level=0.1), RATE)
    (theirs,) = reference.explain([sound], [0])
    V = log_magnitude(theirs.input, theirs.settings)
    share = kept_share(theirs.mask(), V, "magnitude")
    assert 0.05 < share < 0.95
    (ours,) = Constant(network, reference).explain([sound], [0])
    np.testing.assert_allclose(ours.mask(), share, atol=1e-5)
    assert ours.settings["domain"] == "log"


def test_the_loudest_bins_by_hand(tiny_model: L2I, sounds: list[tuple[np.ndarray, int]]) -> None:
    method = Loudest(tiny_model.network, 0.3)
    V = np.float32([[1, 5, 0], [2, 0, 2]])
    assert method.mask(0.55, V).tolist() == [[0, 1, 0], [0, 0, 0]]
    assert method.mask(0.75, V).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert method.mask(0.95, V).tolist() == [[0, 1, 0], [1, 0, 1]]
    assert method.mask(0.0, V).tolist() == [[0, 0, 0], [0, 0, 0]]
    for result in method.explain(sounds[:3]):
        V, mask = log_magnitude(result.input, result.settings), result.mask()
        assert set(np.unique(mask)) == {0.0, 1.0}
        assert V[mask == 1].min() >= V[mask == 0].max()
        assert V[mask == 1].sum() == pytest.approx(0.3 * V.sum(), rel=1e-3)


@pytest.mark.parametrize("method", CONTROLS)
@pytest.mark.parametrize("multilabel", [False, True])
def test_batches_equal_single_recordings(
    method: type[Constant], multilabel: bool, sounds: list[tuple[np.ndarray, int]]
) -> None:
    model = make_model(multilabel=multilabel)
    several = [*sounds, (np.zeros(9000, np.float32), RATE)]
    results = method.for_model(model).explain(several, [[0, 2]] * len(several))
    for sound, result in zip(several, results, strict=True):
        (alone,) = method.for_model(model).explain([sound], [["dog", 2]])
        for one, two in zip(alone.explanations, result.explanations, strict=True):
            assert one.label == two.label
            # A few bins, where the share lies between two of them.
            assert np.abs(alone.mask(one) - result.mask(two)).mean() < 1e-3
        assert result.method == method.name
    assert not any(e.audio.any() for e in results[-1].explanations)


class Sure(MaskExplainer):
    """Keeps as much as the network is sure of the class."""

    name = "sure"
    title = "Sure"
    paper = "None"
    domain = "log"

    def find(self, heard: Heard, targets: Sequence[int]) -> list[Evidence]:
        p = self.network.probabilities(heard.logits)
        return [Evidence(np.full((1, 1), float(p[b, c]), np.float32)) for b, c in enumerate(targets)]


@pytest.mark.parametrize("method", CONTROLS)
def test_a_matched_control_follows_to_another_network(method: type[Constant]) -> None:
    networks = tones(), tones(multilabel=True)
    sound = (tone(LOW, 9000) + tone(HIGH, 9000), RATE)
    control = method(networks[0], Sure(networks[0]))
    shares = []
    for ours, network in zip((control.on(networks[1]), control), networks[::-1], strict=True):
        (result,) = ours.explain([sound], [0])
        p = network.classify([sound[0]])[0]
        np.testing.assert_array_equal(result.probabilities, p)
        V = log_magnitude(result.input, result.settings)
        shares.append(kept_share(result.mask(), V, "log"))
        assert shares[-1] == pytest.approx(p[0], abs=1e-3)
    assert abs(shares[0] - shares[1]) > 0.02
    assert method(networks[0], 0.25).on(networks[1]).kept == 0.25


def test_silence_and_extreme_shares(tiny_model: L2I, sounds: list[tuple[np.ndarray, int]]) -> None:
    for method in CONTROLS:
        for share in (0.0, 1.0):
            noisy, silent = method(tiny_model.network, share).explain([sounds[0], (np.zeros(5000, np.float32), RATE)])
            assert noisy.mask().mean() == pytest.approx(share, abs=1e-4)
            assert not silent.audio.any()


@pytest.mark.parametrize("method", CONTROLS)
def test_wrong_arguments(method: type[Constant], tiny_model: L2I, sounds: list[tuple[np.ndarray, int]]) -> None:
    with refused(ValueError, "kept is 1.5, but must be at most 1"):
        method(tiny_model.network, 1.5)
    with refused(TypeError, "kept is 'l2i', but must be a number"):
        method(tiny_model.network, "l2i")  # type: ignore[arg-type]
    with refused(
        ValueError, "targets names 'cat', but must name classes (dog, rain, clock tick, helicopter) or hold ..."
    ):
        method(tiny_model.network).explain(sounds[:1], ["cat"])


def test_settings_hold_the_share(tiny_model: L2I) -> None:
    assert Constant(tiny_model.network, 0.3).settings["kept"] == 0.3
    assert Constant.for_model(tiny_model).settings["kept"] == "l2i"
