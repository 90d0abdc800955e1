"""L-MAC: its loss by hand, its training, and what its masks keep."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from l2i_fast.explainers import LMAC
from l2i_fast.explainers.learning import Sounds, crops
from l2i_fast.explainers.lmac import Decoder, LMACConfig, Losses, doubt
from l2i_fast.explainers.mel import shares_of_bands
from l2i_fast.model import LogMel, TorchNetwork
from l2i_fast.settings import Analysis

from ..helpers import refused
from .support import (
    HIGH,
    LOW,
    RATE,
    REFUSED,
    Interrupt,
    Tones,
    assert_equal,
    kept_at,
    pairs,
    quiet,
    tone,
    tones,
    weights_of,
    without_gradients,
)

SMALL = LMACConfig(epochs=3, batch_size=4, crop=128, channels=8)


class Quieter(Tones):
    """The same network with another sensitivity."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(0.5 * x)


def test_the_loss_by_hand() -> None:
    losses = Losses(torch.tensor(0.5), torch.tensor(3.0), torch.tensor(0.25))
    assert float(losses.total(LMACConfig())) == pytest.approx(4 * 0.5 - 0.2 * 3 + 0.4 * 0.25)


def test_doubt_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    target = torch.tensor([1, 0])
    found = doubt(logits, target, multilabel=False)
    assert found.tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(-2))])
    found = doubt(logits, target, multilabel=True)
    assert found.tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(-2))])


@pytest.mark.parametrize("multilabel", [False, True])
def test_terms_are_those_of_masked_magnitudes(multilabel: bool) -> None:
    network = tones(multilabel)
    method = LMAC(network, LMACConfig(channels=8, masked_out_limit=0.6))
    spectra = network.analyze([y for y, _ in pairs()[:3]])
    A = torch.from_numpy(np.abs(spectra.X).swapaxes(1, 2).copy())
    features = spectra.features.clone()
    losses = Losses(*(x.detach() for x in method.losses(A, features)))
    with torch.no_grad():
        answers = network.run(features)
        maps = list(answers.maps.values())
        mask = method.decoder(maps, A.shape[1], 128).sigmoid().numpy()
    shares = shares_of_bands(network.front_end.filters)
    terms = [[], [], []]
    for a, m, target in zip(A.numpy(), mask @ shares.T, answers.logits.argmax(1), strict=True):
        for i, part in enumerate((m, 1 - m)):
            mel = (part * a) @ network.front_end.filters
            x = torch.from_numpy(10 * np.log10(np.maximum(mel, 1e-6)))[None, None].float()
            with torch.no_grad():
                p = network.probabilities(network.run(x).logits)[0, target]
            terms[i].append(-math.log(float(p)))
        terms[2].append(float(m.mean()))
    assert float(losses.masked_in) == pytest.approx(np.mean(terms[0]), rel=1e-3)
    assert float(losses.masked_out) == pytest.approx(np.mean(np.minimum(terms[1], 0.6)), rel=1e-3)
    assert float(losses.mask_mean) == pytest.approx(np.mean(terms[2]), rel=1e-4)


def test_an_interrupted_fit_resumes_to_the_same_decoder(tmp_path: Path) -> None:
    whole = LMAC(tones(), SMALL).fit(pairs(), tmp_path / "whole", quiet)
    for epoch in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            LMAC(tones(), SMALL).fit(pairs(), tmp_path / "cut", Interrupt(epoch))
    cut = LMAC(tones(), SMALL).fit(pairs(), tmp_path / "cut", quiet)
    assert_equal(weights_of(whole.decoder), weights_of(cut.decoder))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    read = LMAC(tones(), SMALL).fit(pairs(), tmp_path / "whole", Interrupt(0))  # reports nothing: it only reads
    assert_equal(weights_of(whole.decoder), weights_of(read.decoder))
    assert torch.equal(before, torch.get_rng_state())
    other = LMAC(tones(), SMALL).fit(pairs(), tmp_path / "other", quiet, seed=1)
    assert not torch.equal(weights_of(whole.decoder)["last.weight"], weights_of(other.decoder)["last.weight"])


def test_a_method_made_without_gradients_still_learns(tmp_path: Path) -> None:
    with torch.no_grad():
        expected = LMAC(tones(), SMALL).fit(pairs(), tmp_path / "usual", quiet)
    with torch.inference_mode():
        method = LMAC(tones(), SMALL).fit(pairs(), tmp_path / "inference", quiet)
        (result,) = method.explain(pairs()[:1])
        read = LMAC(tones(), SMALL).fit(pairs(), tmp_path / "inference", quiet)
    for other in (method, read):
        assert_equal(weights_of(expected.decoder), weights_of(other.decoder))
    np.testing.assert_array_equal(result.mask(), expected.explain(pairs()[:1])[0].mask())


def test_a_decoder_on_another_network(tmp_path: Path) -> None:
    method = LMAC(tones(), SMALL).fit(pairs(), tmp_path, quiet)
    other = TorchNetwork(Quieter(), LogMel(Analysis()), ("low", "high"), ("fine", "coarse"))
    twin = method.on(other)
    assert twin.fitted
    assert_equal(weights_of(method.decoder), weights_of(twin.decoder))
    assert not np.allclose(twin.explain(pairs()[:1])[0].mask(), method.explain(pairs()[:1])[0].mask(), atol=1e-4)
    A, features = crops(other, Sounds(other, pairs()), torch.arange(2), 40)
    fresh = LMAC(other, SMALL)
    fresh.decoder = method.decoder
    with torch.no_grad():
        ours, theirs, before = (m.losses(A, features) for m in (twin, fresh, method))
    assert ours == theirs
    assert before.masked_in != theirs.masked_in


def test_the_weights_of_the_loss_count(tmp_path: Path) -> None:
    def kept(name: str, **weights: float) -> float:
        config = dataclasses.replace(SMALL, epochs=8, learning_rate=1e-2, **weights)
        method = LMAC(tones(), config).fit(pairs(), tmp_path / name, quiet)
        return float(np.mean([result.mask() for result in method.explain(pairs()[:2])]))

    nothing = {"masked_in": 0.0, "masked_out": 0.0, "mask_mean": 0.0}
    assert kept("small", **{**nothing, "mask_mean": 10.0}) < 0.2
    assert kept("kept", **{**nothing, "masked_out": 10.0}) > 0.6


def test_a_folder_of_other_recordings_is_refused(tmp_path: Path) -> None:
    LMAC(tones(), SMALL).fit(pairs()[:2], tmp_path, quiet)
    with refused(ValueError, "... was made with other settings or clips; ..."):
        LMAC(tones(), SMALL).fit(pairs()[:3], tmp_path, quiet)
    with refused(ValueError, "recordings is [], but must be a list of at least one recording"):
        LMAC(tones(), SMALL).fit([], tmp_path, quiet)


def test_the_tone_that_decides_is_kept(tmp_path: Path) -> None:
    config = LMACConfig(
        epochs=40, batch_size=4, crop=128, channels=8, learning_rate=3e-3, mask_mean=1.0, masked_out=1.0
    )
    method = LMAC(tones(), config).fit(pairs(), tmp_path, quiet)
    mixed = tone(LOW * 1.1, level=0.02) + tone(HIGH * 0.9, level=0.6)
    (result,) = method.explain([(mixed, RATE)])
    assert result.prediction == ("high",)
    assert kept_at(result.mask(), HIGH * 0.9) > 2 * kept_at(result.mask(), LOW * 1.1)


def test_what_is_removed_counts_up_to_the_limit() -> None:
    network = tones()
    spectra = network.analyze([y for y, _ in pairs()[:3]])
    A, features = torch.from_numpy(np.abs(spectra.X).swapaxes(1, 2).copy()), spectra.features.clone()
    free, bound = (LMAC(network, LMACConfig(channels=8, masked_out_limit=limit)) for limit in (1e6, 1e-3))
    assert float(free.losses(A, features).masked_out.detach()) > 2e-3
    assert float(bound.losses(A, features).masked_out.detach()) == pytest.approx(1e-3)


def test_the_mask_of_a_short_recording_is_the_beginning_of_the_padded_one(tmp_path: Path) -> None:
    method = LMAC(tones(), SMALL).fit(pairs(), tmp_path, quiet)
    features = method.network.analyze([tone(500, 3 * 512)]).features.clone()  # 4 frames, of 16 that are needed
    padded = method.network.padded(features)
    with torch.no_grad():
        maps = list(method.network.run(features).maps.values())
        expected = method.decoder(maps, 16, 128).sigmoid()[:, :4]
        found = method._mask(maps, features)
    assert padded.shape[2] == 16
    torch.testing.assert_close(found, expected)


def test_the_decoder_begins_from_the_seed(tmp_path: Path) -> None:
    still = dataclasses.replace(SMALL, epochs=1, learning_rate=0.0)
    starts = [
        weights_of(LMAC(tones(), still).fit(pairs(), tmp_path / str(seed), quiet, seed).decoder)["last.weight"]
        for seed in (0, 1)
    ]
    assert not torch.equal(*starts)


@pytest.mark.parametrize("multilabel", [False, True])
def test_any_length_and_batches_equal_single_recordings(multilabel: bool, tmp_path: Path) -> None:
    method = LMAC(tones(multilabel), SMALL).fit(pairs(), tmp_path, quiet)
    sounds = [(tone(500, n), RATE) for n in (1, 700, 30000, 30000)] + [(np.zeros(9000, np.float32), RATE)]
    results = method.explain(sounds, [0] * len(sounds))
    for sound, result in zip(sounds, results, strict=True):
        mask = result.mask()
        assert mask.shape == (513, 1 + len(sound[0]) // 512)
        assert 0 <= mask.min() <= mask.max() <= 1
        (alone,) = method.explain([sound], [0])
        np.testing.assert_allclose(alone.mask(), mask, atol=1e-5)


def test_what_has_not_learned_cannot_explain() -> None:
    with refused(ValueError, "lmac has not learned yet, but must learn from recordings first: call fit"):
        LMAC(tones()).explain(pairs()[:1])


def test_a_network_without_gradients_is_refused() -> None:
    with refused(ValueError, REFUSED):
        LMAC(without_gradients())


def test_the_decoder_reads_every_map() -> None:
    decoder = Decoder((3, 5, 7), 16)
    maps = [torch.randn(2, c, t, f, requires_grad=True) for c, t, f in ((3, 20, 16), (5, 10, 8), (7, 5, 4))]
    decoder(maps, 80, 128).sum().backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in maps)
