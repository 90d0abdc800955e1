"""The CUDA C++ kernels: emulated on the CPU against float64, and the resources of their machine code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from scipy.signal import get_window

import l2i_fast as l2i
from l2i_fast import reference
from l2i_fast.backends import cuda as with_cuda
from l2i_fast.backends import torch as with_torch
from l2i_fast.backends.dispatch import serving
from l2i_fast.settings import DOMAINS

from ...helpers import missing, refused, relative
from . import emulation


@pytest.fixture(params=["on_a_gpu", "emulated 16 shuffled", "emulated 8 backward", "emulated 4 forward"])
def place(request, device, monkeypatch):
    """The device of the kernels: a GPU, or an emulation with 16, 8 or 4 frames in a block."""
    if request.param == "on_a_gpu":
        if reason := missing("cuda", device):
            pytest.skip(reason)
        return device
    _, rows, order = request.param.split()
    emulation.install(monkeypatch, int(rows), order)
    return torch.device("cpu")


def hann(n_fft):
    return torch.tensor(get_window("hann", n_fft), dtype=torch.float32)


def spectra(rng, *shape):
    """Magnitudes that span many orders, with zeros."""
    X = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return torch.tensor(X * 10.0 ** rng.uniform(-3, 2, shape) * (rng.random(shape) < 0.9), dtype=torch.complex64)


def exact_istft(rows, window, hop, start, length):
    return with_torch.istft(torch.as_tensor(rows, dtype=torch.complex128), window.double(), hop, start, length)


@pytest.mark.parametrize("radix", [8, 4])
def test_banks_emulated(radix):
    """Sixteen threads, as many as access eight bytes at once, use all banks, in writing and in reading."""
    position, points = emulation.programs().position, 512
    assert emulation.programs().stride_of(points) % 16 == 2
    for first in range(0, points // radix, 16):
        for r in range(radix):
            wrote = {position(radix * (first + t) + r) % 16 for t in range(16)}
            read = {position(first + t + r * points // radix) % 16 for t in range(16)}
            assert len(wrote) == len(read) == 16


@pytest.mark.parametrize("n_fft", [32, 64, 128, 256, 512, 1024, 2048, 4096, 8192])
def test_stft_and_back(rng, place, n_fft):
    hop, n = n_fft // 4, 2 * n_fft + 11
    y, window = torch.tensor(rng.standard_normal((2, n)), dtype=torch.float32), hann(n_fft)
    X = with_cuda.stft(y.to(place), window.to(place), hop, n_fft // 2).cpu()
    for ours, clip in zip(X, y, strict=True):
        assert relative(ours.T, reference.stft(clip, window, hop)) < 1e-6
    back = with_cuda.istft(X.to(place), window.to(place), hop, n_fft // 2, n)
    assert relative(back, exact_istft(X, window, hop, n_fft // 2, n)) < 1e-6
    assert relative(back[:, :-n_fft], y[:, :-n_fft]) < 1e-6


@pytest.mark.parametrize(
    ("n", "n_fft", "hop", "pad"),
    [(1, 64, 16, 32), (700, 64, 64, 0), (999, 64, 100, 32), (300, 32, 1, 16), (64, 64, 5, 0), (2000, 256, 77, 1000)],
)
def test_stft_at_odd_sizes(rng, place, n, n_fft, hop, pad):
    clips, window = torch.tensor(rng.standard_normal((3, n))).float(), torch.tensor(rng.random(n_fft)).float()
    X = with_cuda.stft(clips.to(place), window.to(place), hop, pad)
    for ours, y in zip(X, np.pad(clips.numpy(), ((0, 0), (pad, pad))), strict=True):
        assert relative(ours.T, reference.stft(y, window, hop, center=False)) < 1e-6


#: Frames, their length, hop, first sample and samples: silence before and after, one batch of frames or more.
INVERSES = [
    (1, 64, 16, 32, 40),
    (7, 64, 16, 0, 160),
    (40, 64, 32, 32, 1248),
    (40, 64, 32, 500, 1000),
    (9, 64, 64, 0, 700),
    (9, 64, 100, 32, 864),
    (50, 32, 1, 16, 49),
    (50, 64, 3, 0, 1),
    (33, 64, 20, 32, 20),
]


def window_of(T, n_fft):
    """Hann's, which a single frame would be divided by where it almost vanishes, and its digits with it."""
    return hann(n_fft) if T > 1 else 0.1 + 0.9 * hann(n_fft)


@pytest.mark.parametrize(("T", "n_fft", "hop", "start", "length"), INVERSES)
def test_istft_at_odd_sizes(rng, place, T, n_fft, hop, start, length):
    X, window = spectra(rng, 2, T, n_fft // 2 + 1), window_of(T, n_fft)
    y = with_cuda.istft(X.to(place), window.to(place), hop, start, length)
    assert relative(y, exact_istft(X, window, hop, start, length)) < 1e-6


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("shared", [None, "X", "H", "weights"])
@pytest.mark.parametrize(("T", "n_fft", "hop", "start", "length"), INVERSES)
def test_decode(rng, place, shared, domain, T, n_fft, hop, start, length):
    F, K, n, window = n_fft // 2 + 1, int(rng.integers(1, 12)), 2, window_of(T, n_fft)
    sizes = {"X": (n, T, F), "W": (F, K), "H": (n, T, K), "weights": (n, K)}
    given = {name: torch.tensor(rng.random(s) * (rng.random(s) < 0.7)).float() for name, s in sizes.items()}
    given["X"] = spectra(rng, n, T, F)
    tensors = {name: x.to(place) for name, x in given.items()}
    if shared:
        tensors[shared] = tensors[shared][:1].expand(n, *(-1 for _ in sizes[shared][1:]))
        given[shared] = tensors[shared].cpu()
    y = with_cuda.decode(*tensors.values(), domain, 1e-3, window.to(place), hop, start, length)
    for ours, x, h, w in zip(y, given["X"], given["H"], given["weights"], strict=True):
        masked = reference.soft_mask(x.T, given["W"], h.T, w, domain, 1e-3)
        exact = exact_istft(masked.T[None], window, hop, start, length)[0]
        assert relative(ours, exact) < 1e-5 or exact.abs().max() < 1e-30


def test_a_usual_clip(rng, place):
    """513 bins, 100 components, a few of them selected."""
    X, W, H = (
        spectra(rng, 1, 20, 513),
        torch.tensor(rng.random((513, 100))).float(),
        torch.tensor(rng.random((1, 20, 100))).float(),
    )
    weights = torch.zeros(1, 100)
    weights[0, [3, 17, 99]] = torch.tensor([1, 0.5, 0.1])
    tensors = [x.to(place) for x in (X, W, H, weights)]
    y = with_cuda.decode(*tensors, "log", 1e-6, hann(1024).to(place), 512, 512, 19 * 512)
    exact = reference.decode(X[0].T, W, H[0].T, weights[0], hann(1024), 512)
    assert relative(y[0], exact) < 1e-5


def test_order_of_threads_does_not_change_a_bit_emulated(rng, monkeypatch):
    """The same bits in any order of the threads."""
    y, window = torch.tensor(rng.standard_normal((1, 900))).float(), hann(256)
    W, H, weights = (torch.tensor(rng.random(s)).float() for s in ((129, 9), (1, 10, 9), (1, 9)))
    answers = []
    for order in emulation.ORDERS:
        emulation.install(monkeypatch, 8, order)
        X = with_cuda.stft(y, window, 100, 128)
        answers.append((X, with_cuda.decode(X, W, H, weights, "log", 1e-6, window, 100, 128, 900)))
    for other in answers[1:]:
        torch.testing.assert_close(other, answers[0], rtol=0, atol=0)


def test_extreme_magnitudes_give_finite_sound(rng, place):
    """Silence, denormals and magnitudes close to overflow."""
    X = torch.stack([0 * spectra(rng, 5, 33), 1e-40 * spectra(rng, 5, 33), 1e15 * spectra(rng, 5, 33)])
    W, H = torch.tensor(rng.random((33, 4))).float(), torch.tensor(rng.random((3, 5, 4))).float()
    H[:, 2] = 0
    weights = torch.tensor([[1, 0, 0.5, 0]]).expand(3, -1).contiguous()
    tensors = [x.to(place) for x in (X, W, H, weights)]
    y = with_cuda.decode(*tensors, "log", 1e-6, hann(64).to(place), 32, 32, 128)
    expected = torch.as_tensor(l2i.decode(X.mT.numpy(), W.numpy(), H.mT.numpy(), weights.numpy(), 32))
    assert not y[0].any()
    assert torch.isfinite(y).all()
    assert relative(y[2], expected[2]) < 1e-4


def test_the_public_call_is_emulated(rng, monkeypatch):
    """Through L2I_BACKEND=cuda; frame lengths that the kernels lack are refused, and left to torch if not forced."""
    library = emulation.install(monkeypatch, 8, "forward")
    y = torch.tensor(rng.standard_normal((2, 1000))).float()
    X = l2i.stft(y, 256, 64)
    assert library.launches == 1
    assert l2i.istft(X, 64, length=1000).shape == y.shape
    assert library.launches == 2
    for n_fft in (240, 16):
        with refused(RuntimeError, f"L2I_BACKEND is cuda, but the CUDA library does not take frames of {n_fft}..."):
            l2i.stft(y, n_fft, 64)
        with monkeypatch.context() as patch:
            patch.delenv("L2I_BACKEND")
            X = serving("stft", y.device, n_fft)(y, torch.ones(n_fft), 64, n_fft // 2)
        assert X.shape == (2, 1 + 1000 // 64, n_fft // 2 + 1)
        assert library.launches == 2
    X, W = l2i.stft(y, 256, 64)[:0], torch.rand(129, 3)
    library.launches = 0
    assert l2i.decode(X, W, torch.rand(0, 3, X.shape[-1]), torch.rand(3), 64).shape[0] == 0
    assert library.launches == 0


# ---- compiled by nvcc


def find_nvcc():
    """The compiler; without it the test is skipped, but fails in CI."""
    nvcc = shutil.which("nvcc")
    if nvcc is None and os.environ.get("CI"):
        pytest.fail("no nvcc")
    return nvcc or pytest.skip("no nvcc")


def compiled(file, architecture):
    """The lines of ptxas about the kernels of a file."""
    options = ["-std=c++20", "-O3", f"-arch=sm_{architecture}", "-Xptxas", "-v", "-Werror", "all-warnings"]
    source = emulation.ROOT / "kernels" / "cuda" / f"{file}.cu"
    result = subprocess.run(
        [find_nvcc(), *options, "-cubin", str(source), "-o", os.devnull], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stderr


#: Kernels of each file.
FILES = {"decode": 6, "stft": 3, "stream": 4}
ARCHITECTURES = ("80", "90a", "100")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", FILES)
def test_registers_ahead_of_time(file, architecture):
    """No spills, no local memory, and registers for two blocks of 256 threads, the number for 513 bins."""
    report = compiled(file, architecture)
    assert len(re.findall(r"Compiling entry function", report)) == FILES[file]
    assert {int(n) for n in re.findall(r"(\d+) bytes stack frame", report)} == {0}
    assert {int(n) for n in re.findall(r"(\d+) bytes spill", report)} == {0}
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", report)]
    assert len(registers) == FILES[file]
    assert max(registers) * 2 * 256 <= 65536


def test_the_library_without_a_gpu():
    """It can be imported, and reports why it cannot run."""
    find_nvcc()  # the library is built if nvcc exists
    from l2i_fast import _cuda as cuda

    can, reason = cuda.available()
    assert can == torch.cuda.is_available()
    assert can != bool(reason)
    assert cuda.FFT_SIZES == (32, 8192)
    if not can:
        empty = torch.zeros(64).data_ptr()
        sizes = {"n_clips": 1, "n_samples": 64, "n_frames": 1, "n_fft": 32, "hop": 1, "pad": 0, "stream": 0}
        with pytest.raises(RuntimeError, match="cudaGetDevice: "):
            cuda.stft(y=empty, window=empty, twiddles=empty, X=empty, **sizes)
    with refused(ValueError, "n_fft is 48, but must be a power of two from 32 to 8192"):
        cuda.stft(y=0, window=0, twiddles=0, X=0, n_clips=1, n_samples=1, n_frames=1, n_fft=48, hop=1, pad=0, stream=0)
    assert not cuda.fits(48, 1, False)
    with refused(ValueError, "hop is 134217728, but must be at most 134217727"):
        cuda.decode(
            **dict.fromkeys(("X", "W", "H", "weights", "window", "twiddles", "y", "X_stride"), 0),
            **dict.fromkeys(("n_clips", "n_frames", "length"), 1),
            **{"K": 0, "H_stride": 0, "weights_stride": 0, "n_fft": 32, "hop": 2**27, "start": 0},
            **{"domain": 0, "eps": 0.0, "stream": 0},
        )
