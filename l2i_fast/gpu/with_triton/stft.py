"""`stft`, `istft`, `log_mel` and `analyze` by the kernels of kernels/triton/stft.py.

The transforms have native frame lengths, 256 to 4096; torch serves others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import triton
from torch import Tensor

from l2i_fast.gpu import with_torch
from l2i_fast.kernels.triton import stft as kernels

#: Frame lengths that the kernels know.
SIZES = (256, 512, 1024, 2048, 4096)
#: The transforms stay float32's at any precision of the other operations.
PRECISION = "tf32x3"


def stft(clips: Tensor, window: Tensor, hop: int, pad: int) -> Tensor:
    """Spectra (B, T, F) of clips (B, N), padded by `pad` zeros at both ends."""
    if window.numel() not in SIZES:
        return with_torch.stft(clips, window, hop, pad)
    return _forward(clips, window, hop, pad, None)


def analyze(
    clips: Tensor, window: Tensor, hop: int, pad: int, bands: Tensor, amin: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Spectra X (B, T, F), log1p(abs(X)), and decibels (B, T, M)."""
    if window.numel() not in SIZES:
        return with_torch.analyze(clips, window, hop, pad, bands, amin)
    V = torch.empty((*_frames(clips, window, hop, pad), len(bands)), dtype=torch.float32, device=clips.device)
    X = _forward(clips, window, hop, pad, V)
    return X, V, _decibels(V, bands, amin)


def log_mel(rows: Tensor, bands: Tensor, amin: float) -> Tensor:
    """Decibels (B, T, M) of spectra (B, T, F), for mel bands (F, M)."""
    return _decibels(torch.view_as_real(rows), bands, amin)


def istft(rows: Tensor, window: Tensor, hop: int, start: int, length: int) -> Tensor:
    """Samples (B, length), from position `start` on, of the overlap-add of spectra (B, T, F)."""
    n_fft = window.numel()
    if n_fft not in SIZES:
        return with_torch.istft(rows, window, hop, start, length)
    n_clips, n_frames, _ = rows.shape
    y = torch.empty((n_clips, length), dtype=torch.float32, device=rows.device)
    if not y.numel():
        return y
    scale = inverse_squares(window, hop, n_frames, start, length)
    X, tile = torch.view_as_real(rows), inverse_tile(n_fft)
    operands = tables(n_fft, tile.n1, rows.device)
    overlap = triton.cdiv(n_fft, hop)
    fresh = tile.frames - overlap + 1
    with torch.cuda.device_of(rows):
        if 2 * fresh >= tile.frames:
            n_blocks = triton.cdiv(start + length, hop) - start // hop
            kernels.istft_kernel[(triton.cdiv(n_blocks, fresh), n_clips)](
                X,
                window,
                scale,
                y,
                *operands,
                n_frames,
                X.stride(0),
                hop,
                start,
                length,
                n_fft,
                tile.n1,
                tile.frames,
                tile.block,
                overlap,
                triton.next_power_of_2(fresh * hop),
                PRECISION,
                num_warps=tile.num_warps,
                num_stages=1,
            )
        else:
            frames = torch.empty((n_clips, n_frames, n_fft), dtype=torch.float32, device=rows.device)
            n_rows = n_clips * n_frames
            kernels.istft_frames_kernel[(triton.cdiv(n_rows, tile.frames),)](
                X,
                window,
                frames,
                *operands,
                n_rows,
                n_frames,
                X.stride(0),
                n_fft,
                tile.n1,
                tile.frames,
                tile.block,
                PRECISION,
                num_warps=tile.num_warps,
                num_stages=1,
            )
            kernels.overlap_add_kernel[(triton.cdiv(length, SAMPLES), n_clips)](
                frames, scale, y, n_frames, hop, start, length, n_fft, SAMPLES
            )
    return y


def inverse_squares(window: Tensor, hop: int, n_frames: int, start: int, length: int) -> Tensor:
    """1 over the sum of squared windows (length,) at each sample of `istft`, 1 where no window reaches."""
    scale = torch.empty(length, dtype=torch.float32, device=window.device)
    with torch.cuda.device_of(window):
        kernels.scale_kernel[(triton.cdiv(length, SAMPLES),)](
            window, scale, n_frames, hop, start, length, window.numel(), SAMPLES
        )
    return scale


#: Samples of a program that only adds.
SAMPLES = 1024


@dataclass(frozen=True)
class Tile:
    """How a program transforms: n_fft = n1 n2, its frames, and the residues k1 that it takes at a time."""

    n1: int
    frames: int
    block: int
    num_warps: int


@lru_cache
def forward_tile(n_fft: int) -> Tile:
    """The tile of `stft`."""
    n1 = 32 if n_fft <= 1024 else 64
    return Tile(n1, max(1, 4096 // n_fft), 16, 4)


@lru_cache
def inverse_tile(n_fft: int) -> Tile:
    """The tile of `istft`."""
    n1 = 16 if n_fft == 256 else 32 if n_fft <= 1024 else 64
    return Tile(n1, max(1, 4096 // n_fft), min(16, n1 // 2), 4)


@lru_cache(maxsize=32)
def tables(n_fft: int, n1: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The matrices of the first product (n1, n1), twiddle factors (n2, n1, 2), matrix of the second (2 n2, n2)."""
    n2 = n_fft // n1

    def turns(rows: int, columns: int, n: int) -> np.ndarray:
        angle = -2 * np.pi / n * np.outer(np.arange(rows), np.arange(columns))
        return np.stack([np.cos(angle), np.sin(angle)], axis=-1)

    first = turns(n1, n1 // 2, n1)
    twiddles = turns(n2, n1, n_fft)
    re, im = np.moveaxis(turns(n2, n2 // 2, n2), -1, 0)
    second = np.stack([np.stack([re, im], -1), np.stack([-im, re], -1)], axis=1)
    first, twiddles, second = (torch.tensor(x, dtype=torch.float32, device=device) for x in (first, twiddles, second))
    return first, twiddles, second


def _frames(clips: Tensor, window: Tensor, hop: int, pad: int) -> tuple[int, int]:
    return len(clips), 1 + (clips.shape[1] + 2 * pad - window.numel()) // hop


def _forward(clips: Tensor, window: Tensor, hop: int, pad: int, V: Tensor | None) -> Tensor:
    n_fft = window.numel()
    n_clips, n_frames = _frames(clips, window, hop, pad)
    X = torch.empty((n_clips, n_frames, n_fft // 2 + 1, 2), dtype=torch.float32, device=clips.device)
    n_rows, tile = n_clips * n_frames, forward_tile(n_fft)
    if n_rows:
        with torch.cuda.device_of(clips):
            kernels.stft_kernel[(triton.cdiv(n_rows, tile.frames),)](
                clips,
                window,
                X,
                V,
                *tables(n_fft, tile.n1, clips.device),
                n_rows,
                n_frames,
                clips.shape[1],
                clips.stride(0),
                hop,
                pad,
                n_fft,
                tile.n1,
                tile.frames,
                tile.block,
                V is not None,
                PRECISION,
                num_warps=tile.num_warps,
                num_stages=1,
            )
    return torch.view_as_complex(X)


def _decibels(spectra: Tensor, bands: Tensor, amin: float) -> Tensor:
    n_clips, n_frames, n_bins = spectra.shape[:3]
    n_bands = bands.shape[1]
    decibels = torch.empty((n_clips, n_frames, n_bands), dtype=torch.float32, device=bands.device)
    if not decibels.numel():
        return decibels
    n_rows, n_blocks = n_clips * n_frames, triton.cdiv(n_bands, 32)
    edges = torch.empty((n_blocks, 2), dtype=torch.int32, device=bands.device)
    with torch.cuda.device_of(bands):
        kernels.band_edges_kernel[(n_blocks,)](bands, edges, n_bins, n_bands, 32, 128)
        kernels.log_mel_kernel[(triton.cdiv(n_rows, 64), n_blocks)](
            spectra, bands, edges, decibels, amin, n_rows, n_bins, n_bands, spectra.ndim == 3, 64, 32, 32, PRECISION
        )
    return decibels
