"""Corruptions of the clips that networks learn from: levels, shares, colours, and what the front end makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import l2i_fast as l2i
from l2i_fast.audio import scale_to_peak
from l2i_fast.settings import Analysis
from l2i_fast.training.config import InterpreterConfig, TrainingConfig
from l2i_fast.training.corruption import add_clips, add_noise, corrupted, magnitudes, roll_each
from l2i_fast.training.features import Features

N = 8192


@pytest.fixture(autouse=True)
def seeded() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def level_db(added: Tensor, y: Tensor) -> Tensor:
    return 10 * torch.log10(added.square().mean(1) / y.square().mean(1))


def test_noise_has_the_asked_levels() -> None:
    y = torch.randn(200, N) * torch.rand(200, 1)
    added = add_noise(y, 1.0, (-5.0, 20.0)) - y
    snr = -level_db(added, y)
    assert float(snr.min()) > -5.01
    assert float(snr.max()) < 20.01
    assert float(snr.min()) < -3
    assert float(snr.max()) > 18
    np.testing.assert_allclose(float(snr.mean()), 7.5, atol=2.5)


def test_half_of_the_noise_is_white_and_none_rises() -> None:
    y = torch.randn(400, N)
    added = add_noise(y, 1.0, (0.0, 0.0)) - y
    power = torch.fft.rfft(added).abs().square()
    octave = [float(x) for x in 10 * torch.log10(power[:, 1024:2048].mean(1) / power[:, 2048:4096].mean(1))]
    white = np.abs(octave) < 0.5
    assert 0.4 < white.mean() < 0.75  # some of the coloured noise is nearly white
    assert max(octave) < 6.6  # brown noise falls by 6 dB
    assert max(octave) > 4
    assert min(octave) > -0.7


def test_other_clips_have_the_asked_levels() -> None:
    y = torch.randn(60, N) * torch.logspace(-3, 0, 60)[:, None]
    added = add_clips(y, 1.0, (-15.0, -3.0)) - y
    itself = (added / y).std(1) < 1e-3  # a clip may meet itself
    level = level_db(added, y)
    assert float(level.min()) > -15.01
    assert float(level.max()) < -2.99
    assert float(itself.float().mean()) < 0.1
    directions = torch.nn.functional.normalize(added, dim=1) @ torch.nn.functional.normalize(y, dim=1).T
    torch.testing.assert_close(directions.amax(1), torch.ones(60), rtol=0, atol=1e-3)


@pytest.mark.parametrize("add", [add_noise, add_clips])
def test_a_share_of_the_clips_changes(add: Any) -> None:
    y = torch.randn(300, 256)
    assert add(y, 0.0, (0.0, 0.0)).equal(y)
    changed = (add(y, 0.3, (-10.0, -10.0)) != y).any(1).float().mean()
    assert 0.2 < float(changed) < 0.4


@pytest.mark.parametrize("add", [add_noise, add_clips])
def test_silence_stays_silent(add: Any) -> None:
    y = torch.randn(4, 256)
    y[1] = 0
    for _ in range(20):
        z = add(y, 1.0, (0.0, 0.0))
        assert not z[1].any()
        assert bool(z.isfinite().all())


@pytest.mark.parametrize("peak", ["absolute", "signed"])
def test_magnitudes_are_those_of_the_front_end(peak: Any) -> None:
    analysis = Analysis(peak=peak)
    y = torch.randn(4, 5000) * torch.tensor([[1e-3], [1.0], [0.0], [3.0]])
    y[3] = -y[3].abs()
    A = magnitudes(y, analysis)
    assert A.shape == (4, 10, 513)
    for a, one in zip(A.numpy(), y.numpy(), strict=True):
        scaled, _ = scale_to_peak(one, peak)
        np.testing.assert_allclose(a.T, np.abs(l2i.stft(scaled)), rtol=1e-4, atol=1e-5)


def test_clips_rotate_by_times_of_their_own() -> None:
    x = torch.arange(50.0).repeat(20, 1)
    rolled = roll_each(x)
    assert rolled.sort(1).values.equal(x)
    assert len({float(row[0]) for row in rolled}) > 5


def features_of(y: Tensor, config: TrainingConfig) -> Features:
    V = magnitudes(y, config.analysis).log1p().numpy()
    peak = y.abs().amax(1, keepdim=True)
    return Features((y / peak * 32767).round().short().numpy(), V.astype(np.float16), torch.eye(len(y)), False)


def test_clips_without_the_noise_are_at_the_scale_of_those_with_it() -> None:
    config = TrainingConfig(interpreter=InterpreterConfig(noise=0.5, snr_db=(0.0, 0.0)))
    y = torch.randn(40, 20 * 512) * torch.logspace(-3, 0, 40)[:, None]
    A, quiet = corrupted(features_of(y, config), torch.arange(40), config.interpreter, config.analysis)
    clean = magnitudes(y, config.analysis)
    noisy = (quiet != A).flatten(1).any(1)
    assert 5 < int(noisy.sum()) < 35
    torch.testing.assert_close(A[~noisy], clean[~noisy], rtol=1e-2, atol=5e-2)
    for a, b, x in zip(A[noisy], quiet[noisy], clean[noisy], strict=True):
        scale = float((b * x).sum() / (x * x).sum())
        torch.testing.assert_close(b, scale * x, rtol=1e-2, atol=5e-2)
        assert 0.4 < scale < 0.95  # noise as loud as the clip makes the peak higher
        assert 1.2 < float(a.square().mean() / b.square().mean()) < 5  # 2, but for chance


def test_what_the_interpreter_learns_from() -> None:
    def heard(**changes: Any) -> Tensor:
        config = TrainingConfig(interpreter=InterpreterConfig(**changes))
        A, quiet = corrupted(features_of(y, config), torch.tensor([2, 0]), config.interpreter, config.analysis)
        assert A.equal(quiet) or "noise" in changes
        return A

    y = torch.randn(3, 150 * 512)
    whole = magnitudes(y, TrainingConfig().analysis)
    torch.testing.assert_close(heard(), whole[[2, 0]], rtol=2e-2, atol=1e-3)
    for changes in ({"noise": 1.0}, {"mixing": 1.0}):
        A = heard(**changes)
        assert A.shape == (2, 151, 513)
        assert bool(A.isfinite().all())
    # Noise 80 dB below changes nothing much; noise 20 dB above hides the clip.
    torch.testing.assert_close(heard(noise=1.0, snr_db=(80.0, 80.0)).log1p(), heard().log1p(), rtol=0, atol=0.1)
    buried = heard(noise=1.0, snr_db=(-20.0, -20.0))
    assert float((buried.log1p() - heard().log1p()).abs().mean()) > 0.1
    alone = heard(mixing=1.0, mixing_db=(60.0, 60.0))
    assert min(float((alone[0].log1p() - x.log1p()).abs().mean()) for x in whole[[0, 2]]) < 0.05
