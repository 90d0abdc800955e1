"""Launches of kernels/triton/soft_mask.py: shapes and conventions are those of `l2i_fast.gpu.with_torch`."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from l2i_fast.gpu import backend
from l2i_fast.kernels.triton import soft_mask as kernels


def _blocks(t: int, f: int, warps: int) -> triton.Config:
    return triton.Config({"BLOCK_T": t, "BLOCK_F": f, "BLOCK_K": 32}, num_warps=warps, num_stages=2)


#: Blocks of frames x bins. An interpreter has nothing to choose from.
CONFIGS = [_blocks(64, 64, 4), _blocks(64, 32, 4), _blocks(128, 64, 8), _blocks(128, 32, 8)]
_tuned = triton.autotune(
    CONFIGS[:1] if triton.knobs.runtime.interpret else CONFIGS, key=["F", "K", "LOG", "PRECISION"], cache_results=True
)(kernels.soft_mask)

#: Of the gradient: more accumulators, and so smaller blocks.
GRADIENT_BLOCKS = {"BLOCK_T": 64, "BLOCK_F": 32, "BLOCK_K": 32, "BLOCK_N": 128}
GRADIENT_WARPS, GRADIENT_STAGES = 8, 2


def soft_mask(X: Tensor, W: Tensor, H: Tensor, weights: Tensor, log: bool, eps: float) -> Tensor:
    """What the components weighted by (B, K) hold of X (B, T, F): complex64 of that shape."""
    n_clips, n_frames, F = X.shape
    Y = torch.empty(X.shape, dtype=X.dtype, device=X.device)
    if Y.numel():
        with torch.cuda.device_of(X):
            _tuned[lambda c: (n_clips * triton.cdiv(n_frames, c["BLOCK_T"]) * triton.cdiv(F, c["BLOCK_F"]),)](
                _bits(X), W, H, weights, _bits(Y), *_strides(X, H, weights), n_frames, eps, **_sizes(W, log)
            )
    return Y


def soft_mask_gradient(
    X: Tensor, W: Tensor, H: Tensor, weights: Tensor, log: bool, eps: float, dY: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of H (B, T, K) and weights (B, K) from that of the masked spectra (B, T, F)."""
    n_clips, n_frames, _ = X.shape
    K = W.shape[1]
    n_tiles = triton.cdiv(n_frames, GRADIENT_BLOCKS["BLOCK_T"])
    dH = torch.empty((n_clips, n_frames, K), device=X.device)
    dweights = torch.empty((n_clips, n_tiles, K), device=X.device)
    if X.numel():
        with torch.cuda.device_of(X):
            kernels.soft_mask_gradient[(n_clips * n_tiles, triton.cdiv(K, GRADIENT_BLOCKS["BLOCK_N"]))](
                _bits(X), W, H, weights, _bits(dY), dH, dweights, *_strides(X, H, weights), n_frames, eps,
                **_sizes(W, log), **GRADIENT_BLOCKS, num_warps=GRADIENT_WARPS, num_stages=GRADIENT_STAGES,
            )  # fmt: skip
    return dH, dweights.sum(1, dtype=torch.float64).float()


def _bits(X: Tensor) -> Tensor:
    # Complex numbers as 64-bit integers: one load or store each.
    return X.view(torch.int64)


def _strides(*tensors: Tensor) -> tuple[int, ...]:
    # Between clips; 0 where they share an operand.
    return tuple(x.stride(0) for x in tensors)


def _sizes(W: Tensor, log: bool) -> dict[str, Any]:
    F, K = W.shape
    padded = max(16, triton.next_power_of_2(K))
    return {"F": F, "K": K, "K_PADDED": padded, "LOG": log, "PRECISION": backend.products()}
