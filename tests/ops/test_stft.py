"""stft and istft against float64 references, librosa and torch, on every compiled CPU path."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import get_window

import l2i_fast as l2i
from l2i_fast import reference
from l2i_fast.data import Dataset
from l2i_fast.ops.framing import _named_window, to_audio

from ..helpers import refused, relative

stft_module = importlib.import_module("l2i_fast.ops.stft")

SIZES = [
    # n_fft, hop, win_length, center, samples
    (1024, 512, 1024, True, 30001),
    (1024, 512, 1024, True, 1),
    (1024, 512, 1024, True, 700),
    (1024, 333, 1024, True, 5000),
    (1024, 256, 700, True, 9000),
    (2048, 512, 2048, False, 2048),
    (2048, 700, 2048, False, 9999),
    (512, 512, 511, True, 4000),
    (256, 1000, 256, True, 20000),
    (64, 1, 64, False, 200),
    (32, 8, 32, True, 777),
    (65536, 20000, 65536, True, 90000),
    (1000, 300, 1000, True, 4000),
    (441, 100, 400, True, 3000),
    (100, 50, 100, False, 1000),
    (16, 4, 16, True, 100),
    (3, 1, 3, True, 10),
]


def padded_hann(win_length: int, n_fft: int) -> NDArray[np.float64]:
    return librosa.util.pad_center(get_window("hann", win_length, fftbins=True), size=n_fft)


@pytest.mark.parametrize(("n_fft", "hop", "win_length", "center", "n"), SIZES)
def test_stft_equals_reference(
    n_fft: int, hop: int, win_length: int, center: bool, n: int, rng: np.random.Generator, cpu_path: str
) -> None:
    y = rng.standard_normal(n).astype(np.float32)
    X = l2i.stft(y, n_fft, hop, win_length, center=center)
    assert X.dtype == np.complex64
    assert relative(X, reference.stft(y, padded_hann(win_length, n_fft), hop, center)) < 1e-6


@pytest.mark.parametrize(("n_fft", "hop", "win_length", "center", "n"), SIZES)
def test_istft_equals_reference(
    n_fft: int, hop: int, win_length: int, center: bool, n: int, rng: np.random.Generator, cpu_path: str
) -> None:
    n_frames = 1 + (n - (0 if center else n_fft)) // hop
    shape = (n_fft // 2 + 1, n_frames)
    X = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)
    # The window as float32, as in the fast version: where only one squared window counts, its rounding matters.
    window = padded_hann(win_length, n_fft).astype(np.float32)
    longest = n + n_fft + 100
    # Where one window almost vanishes and no other overlaps, dividing by it amplifies rounding: weigh by it.
    weight = window_weight(window, hop, n_frames, n_fft // 2 if center else 0, longest)
    exact = weight * reference.istft(X, window, hop, center, longest)
    level = np.linalg.norm(exact) / np.sqrt(np.count_nonzero(weight))  # a few samples may be near zero by chance
    for length in (None, n, n + 100, n_fft // 2 + 1):
        y = l2i.istft(X, hop, win_length, n_fft, center=center, length=length)
        assert y.dtype == np.float32
        expected = reference.istft(X, window, hop, center, length)
        assert y.shape == expected.shape
        assert np.linalg.norm(weight[: len(y)] * (y - expected)) <= 1e-6 * level * np.sqrt(len(y))


def window_weight(window: np.ndarray, hop: int, n_frames: int, start: int, length: int) -> np.ndarray:
    """Root of the sum of squared windows at every sample of the answer."""
    squares = np.zeros(max(start + length, len(window) + hop * (n_frames - 1)))
    for t in range(n_frames):
        squares[t * hop : t * hop + len(window)] += window.astype(np.float64) ** 2
    return np.sqrt(squares[start : start + length])


@pytest.mark.parametrize(("n_fft", "hop", "win_length", "center", "n"), SIZES[3:13])
def test_equals_librosa(n_fft: int, hop: int, win_length: int, center: bool, n: int, rng: np.random.Generator) -> None:
    y = rng.standard_normal((2, n)).astype(np.float32)
    same: dict[str, Any] = {"hop_length": hop, "win_length": win_length, "n_fft": n_fft, "center": center}
    X = l2i.stft(y, **same)
    assert relative(X, librosa.stft(y, **same)) < 1e-6
    # librosa sums in float32: compared where the windows do not almost vanish.
    for length in (None, n - n_fft // 2):
        audible = slice(n_fft // 4, -n_fft // 2) if hop <= win_length // 2 else slice(0, 0)
        answer, expected = l2i.istft(X, length=length, **same), librosa.istft(X, length=length, **same)
        assert answer.shape == expected.shape
        assert relative(answer[:, audible], expected[:, audible]) < 1e-6


@pytest.mark.parametrize("n_fft", [1024, 600])
def test_equals_torch(n_fft: int, rng: np.random.Generator) -> None:
    y = torch.from_numpy(rng.standard_normal((3, 20000)).astype(np.float32))
    hop, window = n_fft // 4, torch.hann_window(n_fft)
    X = l2i.stft(y, n_fft, hop)
    expected = torch.stft(y, n_fft, hop, window=window, pad_mode="constant", return_complex=True)
    assert isinstance(X, torch.Tensor)
    assert relative(X.numpy(), expected.numpy()) < 1e-6
    back = l2i.istft(X, hop, n_fft=n_fft, length=19000)
    assert isinstance(back, torch.Tensor)
    assert relative(back.numpy(), torch.istft(X, n_fft, hop, window=window, length=19000).numpy()) < 1e-6


@pytest.mark.parametrize("pad_mode", ["edge", "reflect", "symmetric", "linear_ramp"])
def test_pad_modes_are_librosas(pad_mode: Any, rng: np.random.Generator) -> None:
    y = rng.standard_normal(5000).astype(np.float32)
    expected = librosa.stft(y, n_fft=512, hop_length=128, pad_mode=pad_mode)
    assert relative(l2i.stft(y, 512, 128, pad_mode=pad_mode), expected) < 1e-6


@pytest.mark.parametrize(
    "window", ["hamming", ("kaiser", 8.0), 6.5, np.bartlett, np.linspace(0.1, 1, 400), torch.ones(400)]
)
def test_windows_are_librosas(window: Any, rng: np.random.Generator) -> None:
    y = rng.standard_normal(5000).astype(np.float32)
    theirs = window.numpy() if isinstance(window, torch.Tensor) else window
    expected = librosa.stft(y, n_fft=512, hop_length=128, win_length=400, window=theirs)
    X = l2i.stft(y, 512, 128, 400, window=window)
    assert relative(X, expected) < 1e-6
    y_back = l2i.istft(X, 128, 400, window=window, length=5000)
    assert relative(y_back[500:-500], y[500:-500]) < 1e-6


def test_defaults_are_librosas(rng: np.random.Generator) -> None:
    y = rng.standard_normal(5000).astype(np.float32)
    assert relative(l2i.stft(y, n_fft=2048), librosa.stft(y)) < 1e-6
    assert l2i.stft(y).shape == (513, 1 + 5000 // 512)
    assert l2i.stft(y, hop_length=None).shape == (513, 1 + 5000 // 256)
    np.testing.assert_allclose(l2i.istft(l2i.stft(y)), y[: 9 * 512], atol=1e-5)


def test_leading_dimensions_do_not_change_a_bit(rng: np.random.Generator, cpu_path: str) -> None:
    y = rng.standard_normal((2, 3, 5000)).astype(np.float32)
    X = l2i.stft(y, hop_length=512)
    back = l2i.istft(X, 512, length=5000)
    assert X.shape == (2, 3, 513, 10)
    assert back.shape == y.shape
    for i in np.ndindex(2, 3):
        single = l2i.stft(y[i], hop_length=512)
        np.testing.assert_array_equal(X[i], single)
        np.testing.assert_array_equal(back[i], l2i.istft(single, 512, length=5000))


@pytest.mark.parametrize("n_fft", [512, 500])
def test_no_clips(n_fft: int) -> None:
    X = l2i.stft(np.zeros((0, 4000), np.float32), n_fft, 256)
    assert X.shape == (0, n_fft // 2 + 1, 16)
    assert l2i.istft(X, 256, length=4000).shape == (0, 4000)


def test_one_centred_frame_without_length_is_empty() -> None:
    X = l2i.stft(np.ones(1, np.float32))
    assert X.shape == (513, 1)
    assert l2i.istft(X).shape == (0,)
    assert librosa.istft(X).shape == (0,)


def test_frames_are_contiguous_and_not_copied(rng: np.random.Generator) -> None:
    X = l2i.stft(rng.standard_normal((2, 4000)).astype(np.float32))
    assert X.swapaxes(-1, -2).flags.c_contiguous
    rows, lead = stft_module.frame_major(X)
    assert lead == (2,)
    assert np.shares_memory(rows, X)
    tensor = torch.from_numpy(X)
    assert np.shares_memory(stft_module.frame_major(tensor)[0], X)


@pytest.mark.parametrize("kind", ["float64", "strided", "reversed", "big-endian", "unaligned", "list", "float16"])
def test_any_floating_layout(kind: str, rng: np.random.Generator) -> None:
    y = (rng.integers(-512, 512, 6000) / 512).astype(np.float32)
    store = np.zeros(y.nbytes + 1, np.uint8)
    unaligned = store[1:].view(np.float32)
    unaligned[:] = y
    layouts: dict[str, Any] = {
        "float64": y.astype(np.float64),
        "strided": np.repeat(y, 3)[::3],
        "reversed": y[::-1].copy()[::-1],
        "big-endian": y.astype(">f4"),
        "unaligned": unaligned,
        "list": y.tolist(),
        "float16": y.astype(np.float16),
    }
    np.testing.assert_array_equal(l2i.stft(layouts[kind]), l2i.stft(y))


@pytest.mark.parametrize("kind", ["complex128", "bin-major", "strided", "reversed", "conjugate view"])
def test_any_spectrum_layout(kind: str, rng: np.random.Generator) -> None:
    X = l2i.stft(rng.standard_normal(6000).astype(np.float32), hop_length=512)
    layouts: dict[str, Any] = {
        "complex128": X.astype(np.complex128),
        "bin-major": np.ascontiguousarray(X),
        "strided": np.repeat(X, 2, axis=1)[:, ::2],
        "reversed": X[:, ::-1].copy()[:, ::-1],
        "conjugate view": torch.from_numpy(X.conj()).conj(),
    }
    np.testing.assert_array_equal(np.asarray(l2i.istft(layouts[kind], 512)), l2i.istft(X, 512))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_integers_are_scaled(dtype: type[np.signedinteger[Any]], rng: np.random.Generator) -> None:
    info = np.iinfo(dtype)
    y = rng.integers(info.min, info.max, 3000, dtype=dtype, endpoint=True)
    y[0] = info.min
    samples = to_audio(y)
    assert samples.dtype == np.float32
    assert samples[0] == -1
    assert relative(l2i.stft(y), l2i.stft(y / -float(info.min))) < 1e-6
    np.testing.assert_array_equal(np.asarray(l2i.stft(torch.from_numpy(y))), l2i.stft(y))


def test_unsigned_bytes_are_centred() -> None:
    np.testing.assert_array_equal(to_audio(np.array([0, 128, 255], np.uint8)), np.float32([-1, 0, 127 / 128]))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(5, 11), st.floats(0.05, 0.5), st.floats(0.6, 1), st.booleans(), st.integers(1, 4000), st.integers(0, 99)
)
def test_round_trip(log_n: int, hop_part: float, width_part: float, center: bool, n: int, seed: int) -> None:
    n_fft = 2**log_n
    win_length = max(2, int(n_fft * width_part))
    hop = max(1, int(win_length * hop_part))
    n = n if center else n + n_fft
    y = np.random.default_rng(seed).uniform(-1, 1, n).astype(np.float32)
    back = l2i.istft(
        l2i.stft(y, n_fft, hop, win_length, center=center), hop, win_length, n_fft, center=center, length=n
    )
    window = padded_hann(win_length, n_fft)
    sums = np.zeros(n + 2 * n_fft)
    for start in range(0, n + (2 * (n_fft // 2) if center else 0) - n_fft + 1, hop):
        sums[start : start + n_fft] += window**2
    audible = sums[n_fft // 2 if center else 0 :][:n] > 0.05
    assert relative(back[audible], y[audible]) < 1e-6


def test_real_clips_round_trip(esc10: Dataset, cpu_path: str) -> None:
    for clip in esc10.clips[::80]:
        y = esc10.audio(clip, 44100)
        X = l2i.stft(y, hop_length=512)
        assert relative(X, reference.stft(y, padded_hann(1024, 1024), 512)) < 1e-6
        assert relative(l2i.istft(X, 512, length=y.size), y) < 1e-6


@pytest.mark.parametrize("n_fft", [1024, 600])
@pytest.mark.parametrize("level", [1e-30, 1e-20, 1e20, 1e29])
def test_any_level_comes_back(level: float, n_fft: int, rng: np.random.Generator, cpu_path: str) -> None:
    y = (level * rng.standard_normal(20_000)).astype(np.float32)
    window = 50 * get_window("hann", n_fft)
    X = l2i.stft(y, n_fft, n_fft // 4, window=window)
    assert relative(X, reference.stft(y, window, n_fft // 4)) < 1e-6
    assert relative(l2i.istft(X, n_fft // 4, n_fft=n_fft, window=window, length=y.size), y) < 1e-6


@pytest.mark.parametrize("n_fft", [1024, 600])
@pytest.mark.parametrize("hop", [3000, 10**6, 2**40])
def test_hops_far_beyond_the_end_leave_the_first_frame(hop: int, n_fft: int, rng: np.random.Generator) -> None:
    X = l2i.stft(rng.standard_normal(5000), n_fft, 400)
    W, H = np.ones((n_fft // 2 + 1, 2)), np.ones((2, X.shape[1]))
    settings: dict[str, Any] = {"n_fft": n_fft, "window": "hamming", "length": 2000}
    first = l2i.istft(X[:, :1], hop, **settings)
    assert first[: n_fft // 2].all()
    np.testing.assert_array_equal(l2i.istft(X, hop, **settings), first)
    np.testing.assert_allclose(l2i.decode(X, W, H, np.ones(2), hop, **settings), first, rtol=1e-3, atol=1e-4)
    h, weights = torch.from_numpy(H).requires_grad_(), torch.tensor([1.0, 0])
    l2i.decode(torch.from_numpy(X), torch.from_numpy(W), h, weights, hop, **settings).square().sum().backward()
    assert h.grad is not None
    assert h.grad[:, 0].all()
    assert not h.grad[:, 1:].any()


def test_samples_beyond_memory_are_refused() -> None:
    with pytest.raises(MemoryError):
        l2i.istft(SPECTRUM, length=2**40)


GOOD = np.ones(2000, np.float32)
SPECTRUM = np.ones((513, 4), np.complex64)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: l2i.stft(np.float32(1)), ValueError, "y has shape (), but at least one sample is needed"),
        (lambda: l2i.stft(GOOD[:0]), ValueError, "y has shape (0,), but at least one sample is needed"),
        (lambda: l2i.stft(np.append(GOOD, np.nan)), ValueError, "y holds NaN or infinity, but ..."),
        (lambda: l2i.stft(np.append(GOOD, np.inf)), ValueError, "y holds NaN or infinity, but ..."),
        (lambda: l2i.stft(np.append(GOOD, -1e300)), ValueError, "y holds NaN or infinity, but ..."),
        (lambda: l2i.stft(GOOD + 0j), TypeError, "y has dtype complex64, but ..."),
        (lambda: l2i.stft(GOOD.astype(np.int64)), TypeError, "y has dtype int64, but ..."),
        (lambda: l2i.stft(GOOD > 0), TypeError, "y has dtype bool, but ..."),
        (lambda: l2i.stft(GOOD, n_fft=0), ValueError, "n_fft is 0, but must be at least 2"),
        (lambda: l2i.stft(GOOD, n_fft=1), ValueError, "n_fft is 1, but must be at least 2"),
        (lambda: l2i.stft(GOOD, n_fft=10.5), TypeError, "n_fft is 10.5, but must be an integer"),
        (lambda: l2i.stft(GOOD, hop_length=0), ValueError, "hop_length is 0, but must be at least 1"),
        (lambda: l2i.stft(GOOD, win_length=1025), ValueError, "win_length is 1025, but must not exceed n_fft=1024"),
        (lambda: l2i.stft(GOOD, window=np.ones(5)), ValueError, "window has shape (5,), but win_length=1024 values..."),
        (lambda: l2i.stft(GOOD, window=np.full(1024, np.nan)), ValueError, "window holds NaN or infinity, but..."),
        (
            lambda: l2i.stft(GOOD, window=np.full(1024, 1e20)),
            ValueError,
            "window has magnitudes that sum to 1.024e+23, but at most 8e+07 is possible",
        ),
        (
            lambda: l2i.stft(np.append(GOOD, 3e38)),
            ValueError,
            "y holds samples beyond 1e+30, but samples from -1e+30 to 1e+30 are needed",
        ),
        (
            lambda: l2i.stft(GOOD, n_fft=2**62),
            ValueError,
            f"n_fft is {2**62}, but must be at most {2**31 - 1}",
        ),
        (
            lambda: l2i.stft(GOOD, hop_length=2**70),
            ValueError,
            f"hop_length is {2**70}, but must be at most {2**40}",
        ),
        (
            lambda: l2i.istft(SPECTRUM, hop_length=2**40),
            ValueError,
            f"the answer has {3 * 2**40} samples, but can have at most {2**40}",
        ),
        (lambda: l2i.istft(SPECTRUM, length=2**63), ValueError, f"length is {2**63}, but must be at most {2**40}"),
        (lambda: l2i.stft(GOOD, window="nonesuch"), ValueError, "...window..."),
        (lambda: l2i.stft(GOOD, pad_mode="wrap"), ValueError, "pad_mode is 'wrap', but ..."),
        (lambda: l2i.stft(GOOD, n_fft=4096, center=False), ValueError, "y has 2000 samples, but n_fft=4096 are..."),
        (lambda: l2i.stft(torch.ones(2000, requires_grad=True)), ValueError, "y requires grad, which is not..."),
        (
            lambda: l2i.stft(torch.ones(2000, device="meta")),
            ValueError,
            "y is on meta, but only the CPU and CUDA devices are supported: pass y.cpu()",
        ),
        (lambda: l2i.istft(SPECTRUM[0]), ValueError, "X has shape (4,), but (..., bins, frames) is needed"),
        (lambda: l2i.istft(SPECTRUM.real), TypeError, "X has dtype float32, but a complex spectrum is needed"),
        (lambda: l2i.istft(SPECTRUM[:, :0]), ValueError, "X has 513 bins and 0 frames, but at least 2 and 1 are..."),
        (lambda: l2i.istft(SPECTRUM[:1]), ValueError, "X has 1 bins and 4 frames, but at least 2 and 1 are needed"),
        (lambda: l2i.istft(SPECTRUM, n_fft=1000), ValueError, "X has 513 bins, but n_fft=1000 has 501"),
        (lambda: l2i.istft(SPECTRUM, length=0), ValueError, "length is 0, but must be at least 1"),
    ],
)
def test_bad_arguments_are_refused(call: Any, kind: type[Exception], message: str) -> None:
    with refused(kind, message):
        call()


@given(st.integers(1, 70_000))
@settings(max_examples=50, deadline=None)
def test_the_hann_window_is_scipys_to_the_last_bit(width: int) -> None:
    np.testing.assert_array_equal(_named_window("hann", width, width), get_window("hann", width).astype(np.float32))


def test_hann_windows_need_no_signal_processing_of_scipy() -> None:
    code = "import sys, numpy, l2i_fast; l2i_fast.stft(numpy.zeros(2000, 'f')); sys.exit('scipy.signal' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
