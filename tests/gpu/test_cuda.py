"""The CUDA C++ kernels: their block programs on the CPU, against float64 and in any order of the threads, and what
nvcc makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import get_window

from l2i_fast import reference
from l2i_fast.gpu import with_torch

from . import emulation
from .problems import relative

ROWS = [16, 8, 4]


@pytest.fixture(params=emulation.ORDERS)
def order(request):
    return request.param


def hann(n_fft):
    return torch.tensor(get_window("hann", n_fft), dtype=torch.float32)


def fits(rows, n_fft):
    return bool(emulation.library().block_holds(rows, n_fft // 2))


def spectra(rng, *shape):
    """Magnitudes that span many orders, with zeros."""
    X = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return torch.tensor(X * 10.0 ** rng.uniform(-3, 2, shape) * (rng.random(shape) < 0.9), dtype=torch.complex64)


def test_where_blocks_fit():
    """Frames of 32 to 8192 samples, four at a time at least."""
    for log in range(5, 14):
        assert fits(4, 2**log)
    assert fits(16, 1024)
    assert fits(8, 4096)
    assert not fits(16, 4096)


@pytest.mark.parametrize("radix", [8, 4])
def test_banks(radix):
    """Sixteen threads, as many as access eight bytes each at once, meet all banks in the first pass and when reading."""
    position, stride = emulation.library().position, emulation.library().stride_of(512)
    assert stride % 16 == 2
    for first in range(0, 512 // radix, 16):
        for r in range(radix):
            wrote = {position(radix * (first + t) + r) % 16 for t in range(16)}
            read = {position(first + t + r * 512 // radix) % 16 for t in range(16)}
            assert len(wrote) == len(read) == 16


@pytest.mark.parametrize("n_fft", [32, 64, 128, 256, 512, 1024, 2048, 4096, 8192])
def test_stft_and_back(rng, order, n_fft):
    rows = {"forward": 16, "backward": 8, "shuffled": 4}[order]
    rows = next(r for r in ROWS if r <= rows and fits(r, n_fft))
    hop = n_fft // 4
    y = rng.standard_normal((2, n_fft * 2 + 11)).astype(np.float32)
    X = emulation.stft(rows, order, torch.tensor(y), hann(n_fft), hop, n_fft // 2)
    for rows_of, clip in zip(X, y):
        assert relative(rows_of.T, reference.stft(clip, hann(n_fft), hop)) < 1e-6
    back = emulation.decode(rows, order, X, None, hann(n_fft), hop, n_fft // 2, y.shape[1])
    assert relative(back[:, :-n_fft], y[:, :-n_fft]) < 1e-6


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(
    ("n", "n_fft", "hop", "pad"),
    [(1, 64, 16, 32), (700, 64, 64, 0), (999, 64, 100, 32), (300, 32, 1, 16), (64, 64, 5, 0), (2000, 256, 77, 1000)],
)
def test_stft_at_odd_sizes(rng, rows, n, n_fft, hop, pad):
    clips, window = torch.tensor(rng.standard_normal((3, n)), dtype=torch.float32), torch.tensor(rng.random(n_fft))
    X = emulation.stft(rows, "shuffled", clips, window.float(), hop, pad)
    padded = np.pad(clips.numpy(), ((0, 0), (pad, pad)))
    for ours, y in zip(X, padded):
        assert relative(ours.T, reference.stft(y, window.float(), hop, center=False)) < 1e-6


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


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("T", "n_fft", "hop", "start", "length"), INVERSES)
def test_istft_at_odd_sizes(rng, rows, T, n_fft, hop, start, length):
    X = spectra(rng, 2, T, n_fft // 2 + 1)
    y = emulation.decode(rows, "shuffled", X, None, hann(n_fft), hop, start, length)
    expected = with_torch.istft(X.to(torch.complex128), hann(n_fft).double(), hop, start, length)
    assert relative(y, expected) < 1e-6


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("T", "n_fft", "hop", "start", "length"), INVERSES)
def test_decode(rng, rows, log, T, n_fft, hop, start, length):
    order = {16: "shuffled", 8: "backward", 4: "forward"}[rows]
    F, K = n_fft // 2 + 1, int(rng.integers(1, 12))
    X, W = spectra(rng, 2, T, F), torch.tensor(rng.random((F, K)) * (rng.random((F, K)) < 0.7)).float()
    H = torch.tensor(rng.random((2, T, K)) * (rng.random((2, T, K)) < 0.7)).float()
    weights = torch.tensor(rng.random((2, K)) * (rng.random((2, K)) < 0.6)).float()
    for given in (
        (X, W, H, weights),
        (X[:1].expand(2, -1, -1), W, H, weights),
        (X, W, H[:1].expand(2, -1, -1), weights),
    ):
        x, _, *mask = given
        y = emulation.decode(rows, order, x, (W, *mask, log, 1e-3), hann(n_fft), hop, start, length)
        for ours, *clip in zip(y, x, *mask):
            spectrum, h, w = (a.numpy() for a in clip)
            masked = reference.soft_mask(spectrum.T, W, h.T, w, "log" if log else "magnitude", 1e-3)
            exact = with_torch.istft(torch.tensor(masked.T[None]), hann(n_fft).double(), hop, start, length)[0]
            assert relative(ours, exact) < 1e-5 or exact.abs().max() < 1e-30


def test_threads_wait(rng):
    """The same bits in any order of the threads."""
    y, window = torch.tensor(rng.standard_normal((1, 900))).float(), hann(256)
    X, Z = (emulation.stft(8, order, y, window, 100, 128) for order in ("forward", "shuffled"))
    torch.testing.assert_close(X, Z, rtol=0, atol=0)
    W, H, weights = (torch.tensor(rng.random(s)).float() for s in ((129, 9), (1, X.shape[1], 9), (1, 9)))
    y, z = (emulation.decode(8, o, X, (W, H, weights, True, 1e-6), window, 100, 128, 900) for o in emulation.ORDERS[1:])
    torch.testing.assert_close(y, z, rtol=0, atol=0)
