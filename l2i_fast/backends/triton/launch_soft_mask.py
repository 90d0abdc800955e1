"""Launches of kernels/triton/soft_mask.py: shapes and conventions are those of `l2i_fast.gpu.with_torch`."""

from __future__ import annotations

from threading import Lock
from typing import Any

import torch
import triton
from torch import Tensor

from l2i_fast.backends.triton.launch_stft import istft, istft_adjoint
from l2i_fast.backends.triton.precision import products
from l2i_fast.kernels.triton import soft_mask as kernels

#: Blocks of frames x bins, and the warps of a program; all add up a bin in the same order.
CONFIGS = [
    triton.Config({"BLOCK_T": t, "BLOCK_F": f, "BLOCK_K": 32}, num_warps=warps, num_stages=2)
    for t, f, warps in ((64, 64, 4), (64, 32, 4), (128, 32, 8))
]
# Chosen by timing once for each size, and kept on disk; an interpreter has nothing to choose.
_soft_mask = triton.autotune(
    CONFIGS[:1] if triton.knobs.runtime.interpret else CONFIGS, ["F", "K", "DOMAIN", "PRECISION"], cache_results=True
)(kernels.soft_mask)

_TUNING = Lock()  # Triton's autotuner keeps what it tunes in itself

#: The gradient has more accumulators: smaller blocks, for more warps.
GRADIENT_BLOCKS = {"BLOCK_T": 64, "BLOCK_F": 32, "BLOCK_K": 32}
GRADIENT_LAUNCH = {"num_warps": 8, "num_stages": 2}


def soft_mask(X: Tensor, W: Tensor, H: Tensor, weights: Tensor, domain: str, eps: float) -> Tensor:
    """What the components weighted by (B, K) hold of X (B, T, F): complex64 of that shape."""
    n_clips, n_frames, F = X.shape
    Y = torch.empty(X.shape, dtype=X.dtype, device=X.device)
    if Y.numel():

        def grid(blocks: dict[str, int]) -> tuple[int]:
            return (n_clips * triton.cdiv(n_frames, blocks["BLOCK_T"]) * triton.cdiv(F, blocks["BLOCK_F"]),)

        operands = _bits(X), W, H, weights, _bits(Y), *_strides(X, H, weights)
        with _TUNING, torch.cuda.device_of(X):
            _soft_mask[grid](*operands, n_frames, eps, **sizes(W, domain, products()))
    return Y


def soft_mask_gradient(
    X: Tensor, W: Tensor, H: Tensor, weights: Tensor, domain: str, eps: float, dY: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of H (B, T, K) and weights (B, K) from that of the masked spectra (B, T, F)."""
    n_clips, n_frames, _ = X.shape
    K, n_tiles = W.shape[1], triton.cdiv(n_frames, GRADIENT_BLOCKS["BLOCK_T"])
    dH = torch.empty((n_clips, n_frames, K), dtype=torch.float32, device=X.device)
    shares = torch.empty((n_clips, n_tiles, K), dtype=torch.float32, device=X.device)
    if dH.numel():
        operands = _bits(X), W, H, weights, _bits(dY), dH, shares, *_strides(X, H, weights)
        constants = sizes(W, domain, products()) | gradient_blocks(K)
        with torch.cuda.device_of(X):
            kernels.soft_mask_gradient[n_clips * n_tiles, triton.cdiv(K, constants["BLOCK_N"])](
                *operands, n_frames, eps, **constants, **GRADIENT_LAUNCH
            )
    return dH, shares.sum(1, dtype=torch.float64).float()


def decode(
    X: Tensor,
    W: Tensor,
    H: Tensor,
    weights: Tensor,
    domain: str,
    eps: float,
    window: Tensor,
    hop: int,
    start: int,
    length: int,
) -> Tensor:
    """Samples (B, length) of the masked spectra."""
    return istft(soft_mask(X, W, H, weights, domain, eps), window, hop, start, length)


def decode_gradient(
    X: Tensor,
    W: Tensor,
    H: Tensor,
    weights: Tensor,
    domain: str,
    eps: float,
    window: Tensor,
    hop: int,
    start: int,
    dy: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of H (B, T, K) and weights (B, K) from that of the samples (B, length)."""
    return soft_mask_gradient(X, W, H, weights, domain, eps, istft_adjoint(dy, window, hop, start, X.shape[1]))


def _bits(X: Tensor) -> Tensor:
    # Complex numbers as 64-bit integers: one load or store each.
    return X.view(torch.int64)


def _strides(X: Tensor, H: Tensor, weights: Tensor) -> tuple[int, int, int]:
    # Between clips, that of H in frames; 0 where they share an operand.
    return X.stride(0), H.stride(0) // H.shape[2], weights.stride(0)


def sizes(W: Tensor, domain: str, precision: str) -> dict[str, Any]:
    """Compile-time constants of all kernels."""
    F, K = W.shape
    return {"F": F, "K": K, "K_PADDED": _padded(K), "DOMAIN": domain, "PRECISION": precision}


def gradient_blocks(K: int) -> dict[str, int]:
    """Compile-time blocks of the gradient: with more than 128 components, several programs share a tile of frames."""
    return GRADIENT_BLOCKS | {"BLOCK_N": min(128, _padded(K))}


def _padded(K: int) -> int:
    # A product has at least 16 columns.
    return max(16, triton.next_power_of_2(K))  # type: ignore[no-any-return]
