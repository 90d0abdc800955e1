"""Launches of the kernels of non-negative matrix factorisation (`l2i_fast.kernels.triton.nmf`).

V (T, F), the mask (T, F) of weights, H (T, K) and the dictionary W (F, K) are contiguous float32 tensors on one device.
Clips of a batch are frames one after another. The kernels hold up to MOST_COMPONENTS components.
"""

from __future__ import annotations

from threading import Lock

import torch
from torch import Tensor

from l2i_fast.backends.torch import exponent
from l2i_fast.backends.triton.precision import products
from l2i_fast.kernels.triton import nmf as kernels

_LOSSES = {2.0: "euclidean", 1.5: "three_halves", 1.0: "kullback_leibler", 0.5: "half", 0.0: "itakura_saito"}
_TUNING = Lock()  # Triton's autotuner keeps what it tunes, and copies of H, in itself
_ROWS = 64  # of a program's block of sums
_COLUMNS = 32  # whose part of a sum is added at a time
_CHUNK = 512  # frames whose sums may grow on tensor cores alone
_SPAN = 16384  # frames whose sums are float32


def nmf_update_H(
    V: Tensor,
    mask: Tensor | None,
    W: Tensor,
    H: Tensor,
    beta: float,
    l1: float,
    l2: float,
    n: int,
    lengths: Tensor | None = None,
) -> None:
    """Update H (T, K) in V (T, F) ~ H W' n times in place (Fevotte and Idier, 2011, table 2).

    With `lengths` (B,), V is (B, T, F) and H (B, T, K); frames of a clip beyond its length are neither read nor
    changed.
    """
    (F, K), T = W.shape, V.shape[-2]
    n_clips = 1 if V.ndim == 2 else len(V)
    if not n_clips * T * n:
        return
    clips = {"lengths": H if lengths is None else lengths, "RAGGED": lengths is not None}
    shared = {"K": K, "PRECISION": products(), "PIECE": _piece(K)}
    with torch.cuda.device_of(V):
        if beta == 2 and mask is None:
            numerator = torch.empty_like(H)
            _product(V.view(-1, F), W, numerator)
            kernels.update_H_euclidean[(n_clips * -(-T // _ROWS),)](
                numerator, _sums_of_products(W, W).float(), H, T=T, l1=float(l1), l2=float(l2), n=int(n),
                FRAMES=_ROWS, COLUMNS=16, num_stages=1, **clips, **shared,
            )  # fmt: skip
            return
        full = mask is not None or beta != 1
        with _TUNING:
            kernels.update_H[lambda config: (n_clips * -(-T // config["FRAMES"]),)](
                V, V if mask is None else mask, W, W if full else W.sum(0, dtype=torch.float64).float(), H,
                T=T, beta=float(beta), gamma=exponent(beta), l1=float(l1), l2=float(l2), n=int(n), F=F,
                LOSS=_loss(beta), FULL=full, MASKED=mask is not None, **clips, **shared,
            )  # fmt: skip


def nmf_gather(V: Tensor, mask: Tensor | None, W: Tensor, H: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Return the sums over frames that the update of W needs, in float64: numerator (F, K) and denominator.

    The denominator is H'H (K, K) for beta 2 and the sums of H (K,) for beta 1, both without mask, otherwise (F, K).
    """
    (F, K), T = W.shape, len(V)
    with torch.cuda.device_of(V):
        if beta == 2 and mask is None:
            return _sums_of_products(V, H), _sums_of_products(H, H)
        full = mask is not None or beta != 1
        n_chunks = max(1, -(-T // _CHUNK))
        chunks = -(-n_chunks // _splits(V, F, n_chunks, _SPAN // _CHUNK))
        numerator = V.new_zeros((-(-n_chunks // chunks), F, K))
        denominator = torch.zeros_like(numerator) if full else numerator
        if T:
            with _TUNING:
                kernels.gather[lambda config: (-(-F // config["BINS"]), len(numerator))](
                    V, V if mask is None else mask, W, H, numerator, denominator, T=T, chunks=chunks,
                    beta=float(beta), F=F, K=K, LOSS=_loss(beta), FULL=full, MASKED=mask is not None,
                    PRECISION=products(), CHUNK=_CHUNK, PIECE=_piece(K),
                )  # fmt: skip
        sums = H if not full else denominator
        return numerator.sum(0, dtype=torch.float64), sums.sum(0, dtype=torch.float64)


def nmf_pass(
    V: Tensor,
    mask: Tensor | None,
    W: Tensor,
    H: Tensor,
    beta: float,
    l1: float,
    l2: float,
    n: int,
    measure: bool,
) -> tuple[Tensor, Tensor, float]:
    """Update H n times, and return the sums of `nmf_gather` and, if `measure`, the divergence (otherwise 0)."""
    if n:
        nmf_update_H(V, mask, W, H, beta, l1, l2, n)
    sums = nmf_gather(V, mask, W, H, beta)
    return *sums, float(nmf_divergence(V, mask, W, H, beta)) if measure else 0.0


def nmf_divergence(V: Tensor, mask: Tensor | None, W: Tensor, H: Tensor, beta: float) -> Tensor:
    """Return D_beta(V | H W') of V (T, F) as a tensor without dimensions, float64 (Fevotte and Idier, 2011, eq. 3)."""
    (F, K), T = W.shape, len(V)
    tiles = V.new_empty(-(-T // _ROWS), dtype=torch.float64)
    if T:
        with torch.cuda.device_of(V):
            kernels.divergence[(len(tiles),)](
                V, V if mask is None else mask, W, H, tiles, T=T, beta=float(beta), F=F, K=K,
                LOSS=_loss(beta), MASKED=mask is not None, PRECISION=products(),
                FRAMES=_ROWS, BINS=_COLUMNS, PIECE=_piece(K), num_stages=1,
            )  # fmt: skip
    return tiles.sum()


def _product(X: Tensor, Y: Tensor, out: Tensor, span: int | None = None) -> None:
    # Parts of X Y, each over `span` columns of X.
    M, N = X.shape
    span = span or N
    kernels.product[(-(-M // _ROWS), -(-N // span))](
        X, Y, out, M=M, N=N, span=span, row=X.stride(0), column=X.stride(1), K=Y.shape[1],
        PRECISION=products(), ROWS=_ROWS, COLUMNS=_COLUMNS, PIECE=_piece(Y.shape[1]), num_stages=1,
    )  # fmt: skip


def _sums_of_products(X: Tensor, Y: Tensor) -> Tensor:
    # X' Y in float64, for matrices of many rows.
    (N, M), K = X.shape, Y.shape[1]
    n_blocks = -(-N // _COLUMNS)
    span = _COLUMNS * -(-n_blocks // _splits(X, M, n_blocks, _SPAN // _COLUMNS)) if N else 1
    parts = X.new_empty((-(-N // span), M, K))
    if N:
        _product(X.mT, Y, parts, span)
    return parts.sum(0, dtype=torch.float64)


def _splits(x: Tensor, n_rows: int, n_blocks: int, most: int) -> int:
    # Into how many parts a sum of n_blocks is split, none of them more than `most`, so that all is done at once.
    n_programs = 2 * torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 4
    return max(1, min(n_blocks, n_programs // -(-n_rows // _ROWS)), -(-n_blocks // most))


def _piece(K: int) -> int:
    # Columns of W and H in one product: a power of two.
    return min(64, max(16, 1 << (K - 1).bit_length()))


def _loss(beta: float) -> str:
    return _LOSSES.get(beta, "general")
