"""Triton's stft, istft, log_mel and analyze against float64, and the resources of their kernels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from l2i_fast import reference
from l2i_fast.backends import torch as with_torch
from l2i_fast.data import Dataset

from ...helpers import relative, served_after_triton
from . import ahead

triton = pytest.importorskip("triton")
with_triton = pytest.importorskip("l2i_fast.backends.triton.launch_stft")

SHAPES = [
    # n_fft, hop, clips, samples, padding
    (256, 100, 3, 2305, 128),
    (256, 256, 1, 256, 0),
    (256, 3, 1, 300, 0),
    (512, 256, 2, 2600, 256),
    (512, 511, 1, 3000, 7),
    (1024, 512, 2, 5000, 512),
    (1024, 512, 5, 1, 512),
    (1024, 333, 1, 4001, 0),
    (1024, 1500, 1, 6001, 512),
    (2048, 1024, 1, 5000, 1024),
    (4096, 1111, 1, 6007, 2048),
    (100, 30, 2, 500, 50),
]


def randn(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))


def spectra(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.view_as_complex(randn(rng, *shape, 2))


def mel_bands(n_fft: int, n_mels: int) -> Tensor:
    from librosa.filters import mel  # may be missing on machines with a GPU

    return torch.from_numpy(np.ascontiguousarray(mel(sr=44100, n_fft=n_fft, n_mels=n_mels).T))


def exact_stft(clips: Tensor, window: Tensor, hop: int, pad: int) -> np.ndarray:
    padded = np.pad(clips.double().numpy(), ((0, 0), (pad, pad)))
    return np.stack([reference.stft(y, window, hop, center=False).T for y in padded])


@pytest.mark.parametrize(("n_fft", "hop", "n_clips", "n", "pad"), SHAPES)
def test_stft_equals_reference(
    n_fft: int, hop: int, n_clips: int, n: int, pad: int, rng: np.random.Generator, device: torch.device
) -> None:
    clips, window = randn(rng, n_clips, n), 0.1 + randn(rng, n_fft).abs()
    X = served_after_triton("stft", n_fft)(clips.to(device), window.to(device), hop, pad)
    assert X.dtype == torch.complex64
    assert X.is_contiguous()
    assert relative(X, exact_stft(clips, window, hop, pad)) < 1e-6


@pytest.mark.parametrize(
    ("n_fft", "hop", "n_frames"),
    [
        *((256, hop, 35) for hop in (128, 64, 37, 3, 256, 259)),
        *((512, hop, 19) for hop in (256, 171)),
        *((1024, hop, 9) for hop in (512, 256, 341, 63, 1023, 1024, 1030)),
        *((2048, hop, 5) for hop in (1024, 700, 512)),
        *((4096, hop, 3) for hop in (2048, 1024)),
        (60, 25, 7),
    ],
)
def test_istft_equals_reference(
    n_fft: int, hop: int, n_frames: int, rng: np.random.Generator, device: torch.device
) -> None:
    X, window = spectra(rng, 2, n_frames, n_fft // 2 + 1), 0.1 + randn(rng, n_fft).abs()
    whole = n_fft + hop * (n_frames - 1)
    loud = np.sqrt(np.mean([reference.istft(x.T, window, hop, center=False) ** 2 for x in X]))  # few samples may be 0
    for start, length in ((n_fft // 2, whole - n_fft), (0, whole + 300), (hop + 1, hop // 2)):
        y = served_after_triton("istft", n_fft)(X.to(device), window.to(device), hop, start, length)
        exact = [reference.istft(x.T, window, hop, center=False, length=start + length)[start:] for x in X]
        assert y.dtype == torch.float32
        off = np.linalg.norm(y.cpu().numpy() - np.stack(exact))
        assert off < 1e-6 * max(np.linalg.norm(exact), loud * np.sqrt(y.numel()))
        assert not y[:, max(0, whole - start) :].any()


def test_real_clips_round_trip(esc10: Dataset, device: torch.device) -> None:
    clips = torch.from_numpy(np.stack([esc10.audio(clip, 44100)[:20_000] for clip in esc10.clips[5:200:97]])).to(device)
    window = torch.hann_window(1024, device=device)
    X = with_triton.stft(clips, window, 512, 512)
    assert relative(X, exact_stft(clips.cpu(), window.cpu(), 512, 512)) < 1e-6
    assert relative(with_triton.istft(X, window, 512, 512, 20_000), clips.cpu()) < 1e-6


def assert_same(answer: Tensor, expected: Tensor) -> None:
    """Bit by bit on a GPU; the interpreter's NumPy adds up the rows of a product in varying order."""
    if answer.device.type == "cuda":
        torch.testing.assert_close(answer, expected, rtol=0, atol=0, equal_nan=True)
    else:
        torch.testing.assert_close(answer, expected, rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("hop", [512, 256, 300])
def test_bits_do_not_depend_on_how_frames_are_divided(
    hop: int, rng: np.random.Generator, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips, window = randn(rng, 3, 4000).to(device), torch.hann_window(1024, device=device)
    X = with_triton.stft(clips, window, hop, 512)
    y = with_triton.istft(X, window, hop, 512, 3500)
    assert_same(with_triton.stft(clips[1:2], window, hop, 512)[0], X[1])
    assert_same(with_triton.istft(X[1:2], window, hop, 512, 3500)[0], y[1])
    assert_same(with_triton.istft(X[1:2].expand(3, -1, -1), window, hop, 512, 3500)[2], y[1])
    for n_slots in (1, 5, 100):
        monkeypatch.setattr(with_triton, "_n_slots", lambda _, n=n_slots: n)
        assert_same(with_triton.istft(X, window, hop, 512, 3500), y)


@pytest.mark.parametrize(
    ("n_clips", "n_hops", "frames", "overlap"), [(1, 1, 4, 2), (64, 432, 4, 2), (64, 864, 4, 4), (9, 5000, 1, 2)]
)
def test_division_covers_all(n_clips: int, n_hops: int, frames: int, overlap: int) -> None:
    for n_slots in (1, 396, 10**6):
        n_tiles, n_programs = with_triton.divide(n_clips, n_hops, frames, overlap, n_slots)
        fresh = n_tiles * frames - overlap + 1
        assert (n_programs - 1) * fresh < n_hops <= n_programs * fresh


def test_ends_of_the_spectrum_have_no_imaginary_part(rng: np.random.Generator, device: torch.device) -> None:
    window = torch.hann_window(1024, device=device)
    for hop in (512, 50):
        X = spectra(rng, 1, 5, 513).to(device)
        X.imag[..., ::512] = 0
        y = with_triton.istft(X, window, hop, 512, 1000)
        X.imag[..., ::512] = torch.nan
        torch.testing.assert_close(with_triton.istft(X, window, hop, 512, 1000), y, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_and_infinity_stay_in_their_frames(rng: np.random.Generator, device: torch.device) -> None:
    clips, window = randn(rng, 2, 9000), torch.hann_window(1024)
    bands, broken = mel_bands(1024, 20).to(device), clips.clone()
    broken[0, 4000] = torch.nan
    broken[1, 3000] = torch.inf
    X, V, mel = with_triton.analyze(clips.to(device), window.to(device), 512, 0, bands, 1e-10)
    X2, V2, mel2 = with_triton.analyze(broken.to(device), window.to(device), 512, 0, bands, 1e-10)
    for b, at in ((0, 4000), (1, 3000)):
        hit = torch.tensor([t * 512 <= at < t * 512 + 1024 for t in range(X.shape[1])])
        assert hit.sum() == 2
        for whole, other in ((X, X2), (V, V2), (mel, mel2)):
            assert_same(other[b, ~hit], whole[b, ~hit])
    assert X2[0, 6:8].isnan().all()
    y, y2 = (with_triton.istft(x, window.to(device), 512, 0, 9000) for x in (X, X2))
    assert_same(y2[0, :3072], y[0, :3072])
    assert_same(y2[0, 4608:], y[0, 4608:])
    assert y2[0, 3073:4608].isnan().all()


@pytest.mark.parametrize(("n_fft", "n_mels"), [(256, 33), (1024, 128), (2048, 1), (100, 7)])
def test_analyze_equals_reference(n_fft: int, n_mels: int, rng: np.random.Generator, device: torch.device) -> None:
    hop, pad = n_fft // 2 - 1, n_fft // 2
    clips, window, bands = randn(rng, 2, 5 * n_fft), torch.hann_window(n_fft), mel_bands(n_fft, n_mels)
    clips[1, n_fft:] = 0
    analyze, stft = (served_after_triton(name, n_fft) for name in ("analyze", "stft"))
    X, V, mel = analyze(clips.to(device), window.to(device), hop, pad, bands.to(device), 1e-6)
    exact = exact_stft(clips, window, hop, pad)
    assert relative(X, exact) < 1e-6
    assert relative(V, np.log1p(np.abs(exact))) < 1e-6
    assert torch.equal(X, stft(clips.to(device), window.to(device), hop, pad))
    for answer in (mel, with_triton.log_mel(X, bands.to(device), 1e-6)):
        expected = np.stack([reference.log_mel(x.T, bands.T, 1e-6).T for x in exact])
        np.testing.assert_allclose(answer.cpu(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("n_rows", "n_bins", "n_bands"), [(1, 33, 3), (65, 70, 40), (3, 513, 128)])
def test_any_bands(n_rows: int, n_bins: int, n_bands: int, rng: np.random.Generator, device: torch.device) -> None:
    X, bands = spectra(rng, 1, n_rows, n_bins), randn(rng, n_bins, n_bands).abs()
    bands[torch.from_numpy(rng.random((n_bins, n_bands))) < 0.5] = 0
    for empty in (slice(0, 0), slice(0, n_bands // 2), slice(0, n_bands)):
        bands[:, empty] = 0
        answer = with_triton.log_mel(X.to(device), bands.to(device), 1e-3)
        np.testing.assert_allclose(answer[0].cpu(), reference.log_mel(X[0].T, bands.T, 1e-3).T, rtol=0, atol=1e-4)


def test_log_magnitude_is_accurate_at_every_level(device: torch.device) -> None:
    """To a few units in the last place of the argument of log1p."""
    levels = np.logspace(-30, 30, 300).astype(np.float32)
    clips = torch.zeros((300, 256))
    clips[:, 20] = torch.from_numpy(levels)
    window, bands = torch.ones(256, device=device), mel_bands(256, 9)
    X, V, mel = with_triton.analyze(clips.to(device), window, 256, 0, bands.to(device), 1e-37)
    a = X.cpu().to(torch.complex128).abs()
    assert (a > 0).all()
    assert (V.cpu() / torch.log1p(a) - 1).abs().max() < 8 * 2.0**-24
    expected = 10 * torch.log10(a @ bands.double())
    torch.testing.assert_close(mel.cpu().double(), expected, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_silence_and_extreme_magnitudes(device: torch.device) -> None:
    bands = mel_bands(1024, 16).to(device)
    window = torch.hann_window(1024, device=device)
    X, V, mel = with_triton.analyze(torch.zeros((2, 100), device=device), window, 512, 512, bands, 1e-6)
    assert not X.any()
    assert not V.any()
    torch.testing.assert_close(mel, torch.full_like(mel, -60))
    X = torch.full((1, 3, 513), 1e30, dtype=torch.complex64, device=device)
    assert with_triton.log_mel(X, bands, 1e-6).isfinite().all()
    X = torch.full((1, 3, 513), 1e-42, dtype=torch.complex64, device=device)
    assert with_triton.istft(X, window, 512, 0, 2048).isfinite().all()
    sparse = torch.zeros(1024, device=device)
    sparse[512] = 1e-25  # its square underflows
    assert with_triton.istft(X, sparse, 512, 0, 2048).isfinite().all()


def test_no_clips_and_no_frames(device: torch.device) -> None:
    window, bands = torch.hann_window(512, device=device), torch.ones((257, 7), device=device)
    none = torch.zeros((0, 4000), device=device)
    assert with_triton.stft(none, window, 256, 256).shape == (0, 16, 257)
    assert [x.shape for x in with_triton.analyze(none, window, 256, 256, bands, 1e-3)] == [
        (0, 16, 257),
        (0, 16, 257),
        (0, 16, 7),
    ]
    X = torch.zeros((0, 16, 257), dtype=torch.complex64, device=device)
    assert with_triton.istft(X, window, 256, 256, 4000).shape == (0, 4000)
    assert with_triton.istft(X.reshape(16, 0, 257), window, 256, 0, 40).shape == (16, 40)
    assert not with_triton.istft(X.reshape(16, 0, 257), window, 256, 0, 40).any()
    assert with_triton.istft(X.reshape(0, 16, 257), window, 256, 0, 0).shape == (0, 0)
    assert with_triton.log_mel(X, bands, 1e-3).shape == (0, 16, 7)


@pytest.mark.parametrize(("n_fft", "hop"), [(256, 100), (1024, 512), (1024, 1100), (100, 30)])
def test_adjoint(n_fft: int, hop: int, rng: np.random.Generator, device: torch.device) -> None:
    window, n_frames = 0.1 + randn(rng, n_fft).abs(), 6
    length = n_fft + hop * (n_frames - 1) + 30
    dy = randn(rng, 2, length - 50)
    dX = served_after_triton("istft_adjoint", n_fft)(dy.to(device), window.to(device), hop, 50, n_frames)
    assert relative(dX, with_torch.istft_adjoint(dy.double(), window.double(), hop, 50, n_frames)) < 1e-6


def compiled(name: str, pointers: str, integers: str, tile: Any, **constants: Any) -> ahead.Kernel:
    """A kernel of stft.py as it is launched for a hop and a padding that are multiples of 16."""
    signature = dict.fromkeys(pointers.split(), "*fp32") | dict.fromkeys(integers.split(), "i32")
    aligned = {"hop", "pad", "start"}.intersection(signature)
    options = {}
    if tile is not None:
        constants |= {"N1": tile.n1, "FRAMES": tile.frames, "BLOCK": tile.block, "PRECISION": "tf32x3"}
        options = {"num_warps": tile.num_warps, "num_stages": 1, "maxnreg": tile.maxnreg}
    return ahead.Kernel("stft", name, signature, constants, (*pointers.split(), *sorted(aligned)), **options)


TABLES = "first_table twiddles second_table"


def stft_kernel(tile: Any, n_fft: int, log_magnitudes: bool = False) -> ahead.Kernel:
    integers = "n_rows n_frames n_samples y_stride hop pad"
    constants = {"N_FFT": n_fft, "LOG_MAGNITUDES": log_magnitudes}
    return compiled("stft_kernel", f"y window X V {TABLES}", integers, tile, **constants)


def istft_kernel(tile: Any, n_fft: int, overlap: int = 2) -> ahead.Kernel:
    integers = "n_frames n_programs n_tiles X_stride hop start length"
    constants = {"N_FFT": n_fft, "OVERLAP": overlap, "SAMPLES": tile.frames * n_fft // overlap}
    return compiled("istft_kernel", f"X window scale y {TABLES}", integers, tile, **constants)


def istft_frames_kernel(tile: Any, n_fft: int) -> ahead.Kernel:
    integers = "n_rows n_frames X_stride"
    return compiled("istft_frames_kernel", f"X window frames {TABLES}", integers, tile, N_FFT=n_fft)


def transforms(architecture: int) -> list[ahead.Kernel]:
    """The kernels that are launched on these GPUs."""
    forward = with_triton.FORWARD_TILES[architecture // 10]
    inverse = with_triton.INVERSE_TILES[architecture // 10]
    return [
        *(stft_kernel(tile, n_fft) for n_fft, tile in forward.items()),
        stft_kernel(forward[1024], 1024, log_magnitudes=True),
        *(istft_kernel(tile, n_fft) for n_fft, tile in inverse.items()),
        istft_kernel(inverse[1024], 1024, overlap=4),
        istft_frames_kernel(inverse[1024], 1024),
    ]


@pytest.mark.parametrize("architecture", ahead.ARCHITECTURES)
def test_transforms_within_their_budget_ahead_of_time(architecture: int) -> None:
    kernels = transforms(architecture)
    for kernel, report in zip(kernels, ahead.compile_all([(k, architecture) for k in kernels]), strict=True):
        assert report.spills == 0, kernel
        assert report.instructions, kernel
        assert report.shared <= 72 * 1024, kernel  # three programs on a multiprocessor of Hopper, one on sm_86
        if architecture == 90 and kernel.constants["N_FFT"] in (512, 1024):  # three programs by registers, too
            assert report.registers <= 168, kernel
            assert "wgmma.mma_async" in report.instructions, kernel


def test_other_kernels_within_their_budget_ahead_of_time() -> None:
    mel = {"LOG_MAGNITUDES": True, "PRECISION": "tf32x3", **with_triton.MEL_TILE}
    log_mel = compiled("log_mel_kernel", "spectra bands decibels", "n_rows n_bins n_bands", None, **mel)
    log_mel = replace(log_mel, signature=log_mel.signature | {"edges": "*i32", "amin": "fp32"}, num_stages=4)
    of_spectra = replace(log_mel, constants=mel | {"LOG_MAGNITUDES": False})
    pairs = [(kernel, architecture) for kernel in (log_mel, of_spectra) for architecture in ahead.ARCHITECTURES]
    for (kernel, _), report in zip(pairs, ahead.compile_all(pairs), strict=True):
        assert report.spills == 0, kernel
        assert report.registers <= 128, kernel
        assert report.shared <= 48 * 1024, kernel
        assert report.instructions, kernel

    edges = compiled("band_edges_kernel", "bands", "n_bins n_bands", None, BANDS=32, BINS=256)
    size = {"N_FFT": 1024, "SAMPLES": 1024}
    adding = "n_frames n_programs hop start length"
    simple = [
        replace(edges, signature=edges.signature | {"edges": "*i32"}, num_warps=16),
        compiled("inverse_squares_kernel", "window scale", "n_frames hop start length", None, **size),
        compiled("overlap_add_kernel", "frames scale y", adding, None, **size),
    ]
    for kernel in simple:
        report = ahead.compile_ahead(kernel, 90)
        assert report.spills == 0, kernel
        assert report.registers <= 96, kernel
        assert report.shared <= 16 * 1024, kernel


@pytest.mark.parametrize("precision", ["tf32", "bf16", "ieee"])
def test_products_use_tensor_cores_unless_ieee_ahead_of_time(precision: str) -> None:
    kernel = istft_frames_kernel(with_triton.INVERSE_TILES[8][512], 512)
    kernel.constants["PRECISION"] = precision
    assert bool(ahead.compile_ahead(kernel, 80).instructions) == (precision != "ieee")
