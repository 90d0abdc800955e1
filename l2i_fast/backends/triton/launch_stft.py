"""`stft`, `istft`, `log_mel` and `analyze` by the kernels of kernels/triton/stft.py, for frames of `SIZES` samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import triton
from numpy.typing import NDArray
from torch import Tensor

from l2i_fast.kernels.triton import stft as kernels

#: The transforms stay float32's at any precision of the other operations.
PRECISION = "tf32x3"


@dataclass(frozen=True)
class Tile:
    """How a program transforms: n_fft = n1 n2, its frames, and how many residues k1 of each half at a time.

    Registers are limited where that lets three programs share a multiprocessor without spilling.
    """

    n1: int
    frames: int
    block: int
    num_warps: int = 4
    maxnreg: int | None = None


# Chosen by what the compiler says: no spills, then as many programs on a multiprocessor as possible. The instructions
# of Hopper and Blackwell want 64 rows, frames * block here; older GPUs, and Blackwell's small ones, want few registers.
_FORWARD = {256: Tile(32, 16, 16), 512: Tile(32, 8, 16), 1024: Tile(32, 4, 16), 2048: Tile(64, 2, 16)}
_FORWARD[4096] = Tile(64, 1, 16)
_INVERSE = {256: Tile(16, 16, 8), 512: Tile(32, 8, 16), 1024: Tile(32, 4, 8), 2048: Tile(64, 2, 16)}
_INVERSE[4096] = Tile(128, 1, 16)
FORWARD_TILES = {
    8: _FORWARD,
    9: {**_FORWARD, 2048: Tile(64, 2, 32)},
    10: {**_FORWARD, 2048: Tile(64, 2, 32), 4096: Tile(64, 2, 32, 8)},
}
INVERSE_TILES = {
    8: _INVERSE,
    9: {**_INVERSE, 512: Tile(32, 8, 16, 4, 168), 1024: Tile(32, 4, 16, 4, 168), 2048: Tile(64, 2, 32)},
    10: {**_INVERSE, 1024: Tile(32, 4, 16), 2048: Tile(64, 2, 32)},
}
#: Frame lengths that the kernels know.
SIZES = tuple(_FORWARD)
#: Frames over a sample up to which they are added without going through memory.
MOST_OVERLAP = 4
#: Samples of a program that only adds.
_SAMPLES = 1024
#: Rows and mel bands of a program, and how many bins it sums at a time.
MEL_TILE = {"ROWS": 64, "BANDS": 32, "BINS": 16}


def stft(clips: Tensor, window: Tensor, hop: int, pad: int) -> Tensor:
    """Spectra (B, T, F) of clips (B, N), padded by `pad` zeros at both ends."""
    return _forward(clips, window, hop, pad, _n_frames(clips, window, hop, pad), log_magnitudes=False)[0]


def analyze(
    clips: Tensor, window: Tensor, hop: int, pad: int, bands: Tensor, amin: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Spectra X (B, T, F), log1p(abs(X)), and decibels (B, T, M)."""
    X, V = _forward(clips, window, hop, pad, _n_frames(clips, window, hop, pad), log_magnitudes=True)
    return X, V, _decibels(V, bands, amin)


def log_mel(rows: Tensor, bands: Tensor, amin: float) -> Tensor:
    """Decibels (B, T, M) of spectra (B, T, F), for mel bands (F, M)."""
    return _decibels(torch.view_as_real(rows), bands, amin)


def istft(rows: Tensor, window: Tensor, hop: int, start: int, length: int) -> Tensor:
    """Samples (B, length), from position `start` on, of the overlap-add of spectra (B, T, F)."""
    n_fft = window.numel()
    n_clips, n_frames, _ = rows.shape
    y = torch.empty((n_clips, length), dtype=torch.float32, device=rows.device)
    if not y.numel():
        return y
    scale = inverse_squares(window, hop, n_frames, start, length)
    X, tile = torch.view_as_real(rows), INVERSE_TILES[_generation(rows.device)][n_fft]
    operands = tables(n_fft, tile.n1, rows.device)
    shape = {"N_FFT": n_fft, "N1": tile.n1, "FRAMES": tile.frames, "BLOCK": tile.block, "PRECISION": PRECISION}
    usual = n_fft % hop == 0 and start % 16 == 0  # others need more registers
    options = {"num_warps": tile.num_warps, "num_stages": 1, "maxnreg": tile.maxnreg if usual else None}
    overlap = triton.cdiv(n_fft, hop)
    with torch.cuda.device_of(rows):
        if hop <= n_fft and overlap <= min(tile.frames + 1, MOST_OVERLAP):
            n_hops = triton.cdiv(start + length, hop) - start // hop
            n_tiles, n_programs = divide(n_clips, n_hops, tile.frames, overlap, _n_slots(rows.device))
            samples = triton.next_power_of_2(tile.frames * hop)
            kernels.istft_kernel[(n_programs * n_clips,)](
                X, window, scale, y, *operands, n_frames, n_programs, n_tiles, rows.stride(0), hop, start, length,
                **shape, OVERLAP=overlap, SAMPLES=samples, **options,
            )  # fmt: skip
        else:
            frames = torch.empty((n_clips, n_frames, n_fft), dtype=torch.float32, device=rows.device)
            n_rows = n_clips * n_frames
            kernels.istft_frames_kernel[(triton.cdiv(n_rows, tile.frames),)](
                X, window, frames, *operands, n_rows, n_frames, rows.stride(0), **shape, **options
            )
            n_programs = triton.cdiv(length, _SAMPLES)
            kernels.overlap_add_kernel[(n_programs * n_clips,)](
                frames, scale, y, n_frames, n_programs, hop, start, length, n_fft, _SAMPLES
            )
    return y


def istft_adjoint(dy: Tensor, window: Tensor, hop: int, start: int, n_frames: int) -> Tensor:
    """Gradients of the spectra (B, T, F), by real and imaginary part, from that of the samples (B, length)."""
    n_fft = window.numel()
    samples = dy * inverse_squares(window, hop, n_frames, start, dy.shape[1])
    X, _ = _forward(samples, window * (2 / n_fft), hop, start, n_frames, log_magnitudes=False)
    ends = X[..., :: n_fft // 2]  # counted once, and without their imaginary parts
    ends.copy_(ends.real / 2)
    return X


def inverse_squares(window: Tensor, hop: int, n_frames: int, start: int, length: int) -> Tensor:
    """1 over the sum of squared windows (length,) at each sample of `istft`, 1 where no window reaches."""
    scale = torch.empty(length, dtype=torch.float32, device=window.device)
    with torch.cuda.device_of(window):
        kernels.inverse_squares_kernel[(triton.cdiv(length, _SAMPLES),)](
            window, scale, n_frames, hop, start, length, window.numel(), _SAMPLES
        )
    return scale


@lru_cache
def divide(n_clips: int, n_hops: int, frames: int, overlap: int, n_slots: int) -> tuple[int, int]:
    """How many tiles of frames a program goes through, and the programs of a clip of n_hops hops of samples.

    Fewest tiles one after the other win, where n_slots programs run at a time: a program computes overlap - 1 frames
    that are another's, but few long programs leave slots empty at the end.
    """

    def programs(n_tiles: int) -> int:
        return -(-n_hops // (n_tiles * frames - overlap + 1))

    least = (overlap - 1) // frames + 1
    n_tiles = min(range(least, least + 8), key=lambda n: -(-n_clips * programs(n) // n_slots) * n)
    return n_tiles, programs(n_tiles)


@lru_cache(maxsize=32)
def tables(n_fft: int, n1: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The matrix of the first product (n1, n1), twiddle factors (n2, n1, 2), matrix of the second (2 n2, n2)."""
    n2 = n_fft // n1

    def rotations(rows: int, columns: int, n: int) -> NDArray[np.float64]:
        angle = -2 * np.pi / n * np.outer(np.arange(rows), np.arange(columns))
        return np.stack([np.cos(angle), np.sin(angle)], axis=-1)

    def on_device(values: NDArray[np.float64]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    re, im = np.moveaxis(rotations(n2, n2 // 2, n2), -1, 0)
    second = np.stack([np.stack([re, im], -1), np.stack([-im, re], -1)], axis=1)
    return on_device(rotations(n1, n1 // 2, n1)), on_device(rotations(n2, n1, n_fft)), on_device(second)


def _generation(device: torch.device) -> int:
    # The GPUs whose tiles suit a device; what interprets takes any.
    major = torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 9
    return major if major in FORWARD_TILES else 8


def _n_slots(device: torch.device) -> int:
    # How many programs run at a time.
    return 3 * torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _n_frames(clips: Tensor, window: Tensor, hop: int, pad: int) -> int:
    return 1 + (clips.shape[1] + 2 * pad - window.numel()) // hop


def _forward(
    clips: Tensor, window: Tensor, hop: int, pad: int, n_frames: int, log_magnitudes: bool
) -> tuple[Tensor, Tensor]:
    # Spectra (B, T, F), and log1p of their magnitudes, which is empty where it is not wanted.
    n_fft, shape = window.numel(), (len(clips), n_frames, window.numel() // 2 + 1)
    X = torch.empty(shape, dtype=torch.complex64, device=clips.device)
    V = torch.empty(shape if log_magnitudes else 0, dtype=torch.float32, device=clips.device)
    tile = FORWARD_TILES[_generation(clips.device)][n_fft]
    n_rows = len(clips) * n_frames
    if n_rows:
        with torch.cuda.device_of(clips):
            kernels.stft_kernel[(triton.cdiv(n_rows, tile.frames),)](
                clips, window, torch.view_as_real(X), V, *tables(n_fft, tile.n1, clips.device),
                n_rows, n_frames, clips.shape[1], clips.stride(0), hop, pad,
                N_FFT=n_fft, N1=tile.n1, FRAMES=tile.frames, BLOCK=tile.block,
                LOG_MAGNITUDES=log_magnitudes, PRECISION=PRECISION,
                num_warps=tile.num_warps, num_stages=1, maxnreg=tile.maxnreg,
            )  # fmt: skip
    return X, V


def _decibels(spectra: Tensor, bands: Tensor, amin: float) -> Tensor:
    # Of X as pairs (B, T, F, 2), or of V = log(1 + |X|) (B, T, F).
    n_clips, n_frames, n_bins = spectra.shape[:3]
    n_bands, n_rows = bands.shape[1], n_clips * n_frames
    decibels = torch.empty((n_clips, n_frames, n_bands), dtype=torch.float32, device=bands.device)
    if n_rows:
        n_blocks = triton.cdiv(n_bands, MEL_TILE["BANDS"])
        edges = torch.empty((n_blocks, 2), dtype=torch.int32, device=bands.device)
        with torch.cuda.device_of(bands):
            kernels.band_edges_kernel[(n_blocks,)](
                bands, edges, n_bins, n_bands, BANDS=MEL_TILE["BANDS"], BINS=256, num_warps=16
            )
            kernels.log_mel_kernel[(triton.cdiv(n_rows, MEL_TILE["ROWS"]), n_blocks)](
                spectra, bands, edges, decibels, float(amin), n_rows, n_bins, n_bands,
                LOG_MAGNITUDES=spectra.ndim == 3, **MEL_TILE, PRECISION=PRECISION, num_stages=4,
            )  # fmt: skip
    return decibels
