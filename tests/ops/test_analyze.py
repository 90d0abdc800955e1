"""analyze against stft, log1p of the magnitude and log_mel, on every compiled CPU path."""

from __future__ import annotations

from typing import Any

import librosa
import numpy as np
import pytest
import torch
from scipy.signal import get_window

import l2i_fast as l2i
from l2i_fast import reference
from l2i_fast.data import Dataset

from ..helpers import refused, relative


def test_equals_reference(esc10: Dataset, cpu_path: str) -> None:
    y = esc10.audio(esc10.clips[7], 44100)
    X, V, M = l2i.analyze(y, top_db=70.0)
    exact = reference.stft(y, get_window("hann", 1024), 512)
    assert (X.dtype, V.dtype, M.dtype) == (np.complex64, np.float32, np.float32)
    assert X.shape == V.shape == exact.shape
    assert np.linalg.norm(X - exact) <= 1e-6 * np.linalg.norm(exact)
    assert np.linalg.norm(V - np.log1p(np.abs(exact))) <= 1e-6 * np.linalg.norm(np.log1p(np.abs(exact)))
    bands = librosa.filters.mel(sr=44100, n_fft=1024, n_mels=128)
    np.testing.assert_allclose(M, reference.log_mel(X, bands, top_db=70), rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_fft", [1024, 600])
@pytest.mark.parametrize("level", [1e-30, 1e-22, 1e-17, 1e16, 1e19, 1e22, 1e29])
def test_any_level_equals_reference(level: float, n_fft: int, rng: np.random.Generator, cpu_path: str) -> None:
    y = (level * rng.standard_normal(9000)).astype(np.float32)
    y[4000:7000] = 0
    X, V, M = l2i.analyze(y, n_fft=n_fft, n_mels=40, amin=1e-35)
    exact = reference.stft(y, get_window("hann", n_fft), 512)
    assert relative(X, exact) < 1e-6
    assert relative(V, np.log1p(np.abs(exact))) < 1e-6
    bands = librosa.filters.mel(sr=44100, n_fft=n_fft, n_mels=40)
    np.testing.assert_allclose(M, reference.log_mel(X, bands, 1e-35), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("n_fft", "hop", "n", "n_mels"), [(1024, 512, 20_000, 128), (64, 7, 1003, 5), (32, 50, 300, 1), (100, 30, 999, 9)]
)
@pytest.mark.parametrize("center", [True, False])
def test_equals_the_steps_bit_by_bit(
    n_fft: int, hop: int, n: int, n_mels: int, center: bool, rng: np.random.Generator, cpu_path: str
) -> None:
    y = rng.standard_normal((2, 3, n)).astype(np.float32)
    y[0, 1] = 0
    settings: dict[str, Any] = {"hop_length": hop, "window": "hamming", "center": center, "pad_mode": "reflect"}
    X, V, M = l2i.analyze(y, 16000, n_mels, n_fft, fmin=50, fmax=7000, amin=1e-3, top_db=30, **settings)
    np.testing.assert_array_equal(X, l2i.stft(y, n_fft, **settings))
    mel = l2i.log_mel(y, 16000, n_mels, n_fft, fmin=50, fmax=7000, amin=1e-3, top_db=30, **settings)
    np.testing.assert_array_equal(M, mel)
    np.testing.assert_allclose(V, np.log1p(np.abs(X)), rtol=1e-6)
    for rows in (X, V, M):
        assert rows.swapaxes(-1, -2).flags.c_contiguous
    batch = l2i.analyze(y[1, 2], 16000, n_mels, n_fft, fmin=50, fmax=7000, amin=1e-3, top_db=30, **settings)
    for one, every in zip(batch, (X, V, M), strict=True):
        np.testing.assert_array_equal(one, every[1, 2])


def test_tensors_give_tensors_and_names() -> None:
    y = torch.linspace(-1, 1, 5000)
    spectra = l2i.analyze(y)
    assert all(isinstance(x, torch.Tensor) for x in spectra)
    np.testing.assert_array_equal(spectra.X.numpy(), l2i.stft(y.numpy()))
    np.testing.assert_array_equal(spectra.log_mel.numpy(), l2i.log_mel(y.numpy()))
    assert spectra.V.dtype == torch.float32


def test_log_magnitude_is_accurate_at_every_level(cpu_path: str) -> None:
    """To two units in the last place of the argument of log1p."""
    levels = np.logspace(-18, 16, 700).astype(np.float32)
    y = np.zeros((700, 64), np.float32)
    y[:, 20] = levels
    X, V, _ = l2i.analyze(y, 8000, 4, 64, 64, window="boxcar", center=False)
    assert np.all(np.abs(X) > 0)
    exact = np.log1p(np.abs(X.astype(np.complex128)))
    assert np.all(np.abs(V / exact - 1) < 5 * 2.0**-24)


def test_silence_and_no_clips() -> None:
    X, V, M = l2i.analyze(np.zeros((2, 100), np.float32), amin=1e-6)
    assert not X.any()
    assert not V.any()
    np.testing.assert_allclose(M, -60, rtol=1e-6)
    X, V, M = l2i.analyze(np.zeros((0, 100), np.float32), n_mels=7)
    assert (X.shape, V.shape, M.shape) == ((0, 513, 1), (0, 513, 1), (0, 7, 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"amin": 0}, "amin is 0, but must be positive, and a normal number as float32"),
        ({"top_db": -1}, "top_db is -1, but must be at least 0"),
        ({"n_mels": 0}, "n_mels is 0, but must be at least 1"),
        ({"n_fft": 1}, "n_fft is 1, but must be at least 2"),
        ({"hop_length": 0}, "hop_length is 0, but must be at least 1"),
        ({"pad_mode": "wrap"}, "pad_mode is 'wrap', but ..."),
        ({"center": False}, "y has 100 samples, but n_fft=1024 are needed if center is False"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with refused(ValueError, message):
        l2i.analyze(np.ones(100, np.float32), **settings)


def test_bad_samples_are_refused() -> None:
    with refused(ValueError, "y holds NaN or infinity, but finite samples are needed"):
        l2i.analyze(np.full(100, np.nan))
    with refused(TypeError, "y has dtype complex128, but floating samples or int8, int16, int32, uint8 PCM are needed"):
        l2i.analyze(np.ones(100) * 1j)
