"""What methods share that learn from recordings: random parts, and the fingerprint of what is learned from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import l2i_fast as l2i
from l2i_fast.audio import read_sound
from l2i_fast.data import Dataset
from l2i_fast.explainers import learning
from l2i_fast.explainers.learning import Sounds, crops, key_of, magnitudes
from l2i_fast.explainers.lmac import LMACConfig
from l2i_fast.model import LogMel, TorchNetwork
from l2i_fast.settings import Analysis

from ..helpers import refused, relative
from .support import RATE, Tones, tones

FRAMES = 20
LENGTH = (FRAMES - 1) * 512


@pytest.fixture
def sounds(rng: np.random.Generator) -> list[tuple[np.ndarray, int]]:
    return [(rng.normal(0, 0.1, n).astype(np.float32), RATE) for n in (30000, LENGTH, 300, 1)]


def test_parts_are_analysed_at_the_scale_of_the_recording(sounds: list[tuple[np.ndarray, int]]) -> None:
    y = sounds[0][0]
    y[-1] = 3.0  # in hardly any part
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        start = int(torch.randint(len(y) - LENGTH + 1, ()))
        torch.manual_seed(3)
        A, features = crops(tones(), Sounds(tones(), sounds), torch.tensor([0, 2]), FRAMES)
    assert A.shape == (2, FRAMES, 513)
    assert features.shape == (2, 1, FRAMES, 128)
    short = sounds[2][0]
    parts = [y[start : start + LENGTH] / 3, np.pad(short, (0, LENGTH - len(short))) / np.abs(short).max()]
    for a, x, part in zip(A, features, parts, strict=True):
        expected = np.abs(l2i.stft(part.astype(np.float32))).T
        assert relative(a, expected) < 1e-5
        assert relative(x[0], tones().front_end.of_mel(expected @ tones().front_end.filters)) < 1e-4


def test_parts_move_over_the_whole_recording() -> None:
    n = LENGTH + 2
    clicks = [(np.roll(np.eye(1, n, dtype=np.float32)[0], i), RATE) for i in (0, n - 1)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heard = torch.stack(
            [crops(tones(), Sounds(tones(), clicks), torch.tensor([0, 1]), FRAMES)[0].amax((1, 2)) for _ in range(60)]
        )
    # One of three places has the first sample, and one has the last.
    for share in (heard > 0).float().mean(0).tolist():
        assert 0.1 < share < 0.6


def test_short_silent_and_real_recordings(sounds: list[tuple[np.ndarray, int]], esc10: Dataset) -> None:
    recordings: list[Any] = [*sounds, (np.zeros(500, np.float32), RATE), esc10.clips[0].path, (np.ones((80, 2)), 8000)]
    A, features = crops(tones(), Sounds(tones(), recordings), torch.arange(len(recordings)), FRAMES)
    assert A.shape == (len(recordings), FRAMES, 513)
    assert bool(features.isfinite().all())
    assert not A[4].any()
    assert bool(A[[0, 1, 2, 3, 6]].flatten(1).any(1).all())
    whole, _ = crops(tones(), Sounds(tones(), recordings), torch.tensor([5]), 500)
    peak = np.abs(whole.numpy()).max()
    y = read_sound(recordings[5], RATE).samples
    assert peak == pytest.approx(np.abs(l2i.stft(y / np.abs(y).max())).max(), rel=1e-4)
    assert not features.is_inference()


def test_magnitudes_of_arrays_and_tensors(rng: np.random.Generator) -> None:
    X = (rng.normal(size=(2, 5, 3)) + 1j * rng.normal(size=(2, 5, 3))).astype(np.complex64)
    for kind in (X, torch.from_numpy(X)):
        A = magnitudes(kind)
        assert A.is_contiguous()
        np.testing.assert_allclose(A.numpy(), np.abs(X).transpose(0, 2, 1), rtol=1e-6)


def test_a_key_depends_on_all_that_is_learned_from(sounds: list[tuple[np.ndarray, int]]) -> None:
    def key(network: TorchNetwork, recordings: Any = sounds, *settings: Any) -> str:
        return key_of(network, network.differentiable(), Sounds(network, recordings), *settings)

    shifted = Tones()
    shifted.register_buffer("more", torch.ones(1))
    other = [(-sounds[0][0], RATE), *sounds[1:]]
    keys = [
        key(tones()),
        key(tones(multilabel=True)),
        key(TorchNetwork(Tones(), LogMel(Analysis(hop_length=256)), ("low", "high"), ("fine", "coarse"))),
        key(TorchNetwork(Tones(), LogMel(Analysis()), ("low", "high"), ("coarse",))),
        key(TorchNetwork(shifted, LogMel(Analysis()), ("low", "high"), ("fine", "coarse"))),
        key(tones(), other),
        key(tones(), sounds[:-1]),
        key(tones(), sounds[::-1]),
        key(tones(), sounds, LMACConfig()),
        key(tones(), sounds, LMACConfig(epochs=3)),
        key(tones(), sounds, LMACConfig(), 1),
    ]
    assert len(set(keys)) == len(keys)
    assert key(tones()) == keys[0]


@pytest.mark.parametrize("recordings", [[], "a.wav", None])
def test_no_recordings(recordings: Any) -> None:
    with refused(ValueError, f"recordings is {recordings!r}, but must be a list of at least one recording"):
        Sounds(tones(), recordings)


def test_recordings_are_decoded_once_as_far_as_memory_goes(
    sounds: list[tuple[np.ndarray, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []

    def counted(source: Any, rate: int) -> Any:
        decoded.append(len(source[0]))
        return read_sound(source, rate)

    monkeypatch.setattr(learning, "read_sound", counted)
    monkeypatch.setattr(learning, "_SOUNDS", 4 * (30000 + 300))  # not the second one, and the last one not any more
    kept = Sounds(tones(), sounds)
    for _ in range(2):
        for y, (expected, _) in zip(kept, sounds, strict=True):
            np.testing.assert_array_equal(y, expected)
    assert decoded == [30000, LENGTH, 300, 1, LENGTH, 1]
    assert len(kept) == 4
