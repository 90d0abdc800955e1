"""log_mel against the float64 reference and librosa, on every compiled CPU path."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import l2i_fast as l2i
from l2i_fast import reference
from l2i_fast.data import Dataset
from l2i_fast.ops.log_mel import mel_filters

from ..helpers import refused


@pytest.mark.parametrize("top_db", [None, 80.0])
def test_equals_reference_and_librosa(top_db: float | None, esc10: Dataset) -> None:
    y = esc10.audio(esc10.clips[3], 44100)
    X = l2i.stft(y, hop_length=512)
    M = l2i.log_mel(X, top_db=top_db)
    assert M.dtype == np.float32
    assert M.shape == (128, X.shape[1])
    bands = librosa.filters.mel(sr=44100, n_fft=1024, n_mels=128)
    np.testing.assert_allclose(M, reference.log_mel(X, bands, top_db=top_db), rtol=0, atol=1e-4)
    expected = librosa.power_to_db(bands @ np.abs(X), ref=1.0, amin=1e-10, top_db=top_db)
    np.testing.assert_allclose(M, expected, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(l2i.log_mel(y, top_db=top_db), M)
    tensor = l2i.log_mel(torch.from_numpy(y), top_db=top_db)
    np.testing.assert_array_equal(tensor.numpy(), M)


@given(
    sr=st.integers(2000, 96000),
    n_fft=st.integers(2, 3000),
    n_mels=st.integers(1, 150),
    fmin=st.sampled_from([0.0, 20.5, 999.0]) | st.floats(0, 999),
    fmax=st.none() | st.floats(1000, 48000),
)
@settings(deadline=None, max_examples=60)
@pytest.mark.filterwarnings("ignore:Empty filters")  # librosa's
def test_filters_are_those_of_librosa(sr: int, n_fft: int, n_mels: int, fmin: float, fmax: float | None) -> None:
    expected = librosa.filters.mel(sr=sr, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax)
    filters = mel_filters(float(sr), n_fft, n_mels, fmin, sr / 2 if fmax is None else fmax)
    np.testing.assert_allclose(filters.T, expected, rtol=1e-6, atol=1e-7 * expected.max(initial=0.0))


def test_nothing_is_compiled_or_kept_in_a_folder_of_the_user() -> None:
    code = (
        "import sys, numpy, l2i_fast; l2i_fast.log_mel(numpy.ones(2000)); print({'librosa', 'numba'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


@pytest.mark.parametrize(("n_fft", "n_mels", "n"), [(2048, 40, 9000), (512, 33, 1), (256, 5, 5000), (30, 1, 99)])
def test_at_odd_sizes(n_fft: int, n_mels: int, n: int, rng: np.random.Generator, cpu_path: str) -> None:
    y = rng.standard_normal((2, n)).astype(np.float32)
    M = l2i.log_mel(y, 16000, n_mels, n_fft, 100, fmin=50, fmax=7000, amin=1e-3)
    bands = librosa.filters.mel(sr=16000, n_fft=n_fft, n_mels=n_mels, fmin=50, fmax=7000)
    X = l2i.stft(y, n_fft, 100)
    assert M.shape == (2, n_mels, X.shape[-1])
    for clip, expected in zip(M, X, strict=True):
        np.testing.assert_allclose(clip, reference.log_mel(expected, bands, 1e-3), rtol=0, atol=2e-5)


def test_any_magnitude_has_its_decibels(rng: np.random.Generator, cpu_path: str) -> None:
    bands = librosa.filters.mel(sr=44100, n_fft=1024, n_mels=128)
    X = rng.standard_normal((513, 75)) + 1j * rng.standard_normal((513, 75))
    X *= 10.0 ** rng.uniform(-30, 36, 75)  # frames of one tile differ
    X[:, ::7] = 0
    X[rng.random(X.shape) < 0.1] *= 1e-9
    X = X.astype(np.complex64)
    M = l2i.log_mel(X, amin=1e-35)
    np.testing.assert_allclose(M, reference.log_mel(X, bands, 1e-35), rtol=0, atol=1e-4)
    largest = np.full((513, 3), 3.4e38 * (1 + 1j), np.complex64)
    assert (l2i.log_mel(largest) > 360).all()
    assert np.isfinite(l2i.log_mel(largest)).all()


def test_does_not_hide_nan_and_infinity(cpu_path: str) -> None:
    X = np.ones((513, 3), np.complex64)
    X[20, 0], X[20, 1] = np.nan, np.inf
    M = l2i.log_mel(X)
    assert np.isnan(M[:, 0]).any()
    assert np.isinf(M[:, 1]).any()
    assert np.isfinite(M[:, 2]).all()


def test_of_silence_is_the_floor() -> None:
    silence = np.zeros((2, 3000), np.float32)
    np.testing.assert_allclose(l2i.log_mel(silence), np.full((2, 128, 6), -100), rtol=1e-6)
    np.testing.assert_allclose(l2i.log_mel(silence[0], amin=1e-6), np.full((128, 6), -60), rtol=1e-6)


def test_limits_each_clip_alone(rng: np.random.Generator) -> None:
    y = rng.standard_normal((2, 3000)).astype(np.float32) * np.float32([[1], [1e-4]])
    both = l2i.log_mel(y, top_db=20)
    for i in range(2):
        np.testing.assert_array_equal(both[i], l2i.log_mel(y[i], top_db=20))


def test_no_clips_give_no_clips() -> None:
    X = np.empty((0, 513, 16), np.complex64)
    assert l2i.log_mel(X, n_mels=20).shape == (0, 20, 16)


GOOD = np.ones(2000, np.float32)
SPECTRUM = np.ones((513, 4), np.complex64)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: l2i.log_mel(SPECTRUM, n_fft=512), ValueError, "X has 513 bins, but n_fft=512 has 257"),
        (lambda: l2i.log_mel(GOOD, amin=0), ValueError, "amin is 0, but ..."),
        (lambda: l2i.log_mel(GOOD, amin=np.nan), ValueError, "amin is nan, but ..."),
        (lambda: l2i.log_mel(GOOD, top_db=-1), ValueError, "top_db is -1, but must be at least 0"),
        (lambda: l2i.log_mel(GOOD, n_mels=0), ValueError, "n_mels is 0, but must be at least 1"),
    ],
)
def test_bad_input_is_refused(call: Any, kind: type[Exception], message: str) -> None:
    with refused(kind, message):
        call()


@pytest.mark.parametrize(("fmin", "fmax"), [(1000, 1000.0000000000001), (0, 5e-324), (20, 20 * (1 + 1e-13))])
def test_bands_without_width_are_refused(fmin: float, fmax: float) -> None:
    with refused(ValueError, f"fmin is {fmin:g}, but must be further below fmax, {fmax:g}, for 128 bands"):
        l2i.log_mel(np.ones(2000, np.float32), fmin=fmin, fmax=fmax)


def test_the_largest_range_is_no_limit(rng: np.random.Generator) -> None:
    y = rng.standard_normal(3000).astype(np.float32)
    np.testing.assert_array_equal(l2i.log_mel(y, top_db=1e300), l2i.log_mel(y))
