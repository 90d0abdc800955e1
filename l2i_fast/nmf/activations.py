"""Activations of a fixed dictionary."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2i_fast.arguments import integer, number
from l2i_fast.arrays import LARGEST, TINY, Float32, contiguous, like, namespace, on_host, to_float32, to_numpy
from l2i_fast.backends.dispatch import device_of, serving
from l2i_fast.backends.native import in_range
from l2i_fast.defaults import default_settings
from l2i_fast.nmf.checks import at_safe_scale, check_fit, check_lengths, check_solver, non_negative
from l2i_fast.nmf.components import power
from l2i_fast.nmf.factorize import Factorization, beta_of, update_H_only


@default_settings()
def activations(
    V: Any,
    W: Any,
    beta_loss: float | str = "frobenius",
    n_iter: int = 50,
    H0: Any = None,
    sparsity: float = 0.0,
    solver: str = "mu",
    lengths: Any = None,
) -> Any:
    """Find the activations H of a fixed dictionary that lower ``D_beta(V | W H) + sparsity * sum(H)``.

    Parameters
    ----------
    V : array (..., F, T)
        Non-negative spectrograms. Frame-major memory, as `stft` returns it, is not copied.
    W : array (F, K)
        The dictionary.
    beta_loss : float or str
        See `learn_dictionary`.
    n_iter : int
        Updates, at least 0.
    H0 : array (..., K, T), optional
        Initial values; by default 1 everywhere. Zeros stay zero.
    sparsity : float
        Weight of the L1 penalty on H.
    solver : {"mu", "hals", "newton"}
        Multiplicative updates; coordinate descent, for "frobenius" only; or Newton steps, of which far fewer are needed
        (see `l2i_fast.nmf.newton`) and whose path, though not their limit, depends slightly on the other frames.
    lengths : array (...), int, optional
        Number of frames of each clip, if shorter ones are padded to T: the padding is ignored, and its activations
        are 0.

    Returns
    -------
    H : array (..., K, T), float32, of V's kind (NumPy or torch)
        Frames are contiguous in memory.

    Raises
    ------
    ValueError
        For negative or non-finite input, shapes that do not fit, n_iter or sparsity below 0, V so large for W that H
        leaves float32, H0 1e15 times as large as V and W let expect. On a GPU values are neither checked nor brought
        to another scale.
    """
    beta = beta_of(beta_loss)
    n_iter, sparsity = integer(n_iter, "n_iter", 0), number(sparsity, "sparsity", 0)
    device = device_of(V=V, W=W, **({} if H0 is None else {"H0": H0}))
    check_solver(solver, device)
    checked = non_negative if device is None else to_float32
    v, w = to_float32(V, "V", device), contiguous(checked(W, "W", device))
    lead = check_fit(tuple(v.shape), tuple(w.shape))
    shape = (*lead, v.shape[-1], w.shape[1])
    h0 = None
    if H0 is not None:
        h0, needed = checked(H0, "H0", device), (*lead, shape[-1], shape[-2])
        if tuple(h0.shape) != needed:
            raise ValueError(f"H0 has shape {tuple(h0.shape)}, but {needed} is needed")
        h0 = h0.swapaxes(-1, -2)
    solve = _solve_on_host if device is None else _solve_on_device
    h = solve(v.swapaxes(-1, -2), w, h0, shape, beta, n_iter, sparsity, solver, lengths)
    return like(h.swapaxes(-1, -2), V)


def _solve_on_host(
    rows: Float32,
    W: Float32,
    H0: Float32 | None,
    shape: tuple[int, ...],
    beta: float,
    n_iter: int,
    sparsity: float,
    solver: str,
    lengths: Any,
) -> Float32:
    # Frames beyond the lengths are left out, and all is brought to a scale at which float32 can multiply.
    seen = _within(lengths, shape[:-2], shape[-2])
    used = contiguous(non_negative(rows if seen is None else rows[seen], "V")).reshape(-1, len(W))
    (used, peak), (W, peak_W) = at_safe_scale(used), at_safe_scale(W)
    unit = peak / peak_W
    too_large = f"V and W hold up to {peak:g} and {peak_W:g}, but H must be float32"
    if not TINY <= unit <= LARGEST:
        raise ValueError(too_large)
    H = np.ones(shape, np.float32)
    if H0 is not None:
        if not in_range(H0, low=0, high=min(1e15 * unit, LARGEST)):
            raise ValueError(f"H0 holds {H0.max():g}, but at most {1e15 * unit:g} is possible with this V and W")
        H[...] = H0 / np.float32(unit)
    h = H.reshape(-1, shape[-1]) if seen is None else H[seen]
    update_H_only(Factorization(used, W, h, beta), solver, n_iter, sparsity * power(peak, 1 - beta) / peak_W)
    if seen is not None:
        H[...] = 0
        H[seen] = h
    if unit != 1:
        with np.errstate(over="ignore"):
            H *= np.float32(unit)
        if not in_range(H):
            raise ValueError(too_large)
    return H


def _solve_on_device(
    rows: Any,
    W: Any,
    H0: Any,
    shape: tuple[int, ...],
    beta: float,
    n_iter: int,
    sparsity: float,
    solver: str,
    lengths: Any,
) -> Any:
    # Kernels stop at the length of each clip, and values are not looked at.
    *lead, T, K = shape
    clips = contiguous(rows.reshape(math.prod(lead), T, len(W)))
    H = rows.new_ones((len(clips), T, K)) if H0 is None else contiguous(H0.reshape(len(clips), T, K)).clone()
    update = serving("nmf_update_H", rows.device, K=K)
    if lengths is None:
        update(clips.flatten(0, 1), None, W, H.flatten(0, 1), beta, sparsity, 0.0, n_iter)
    else:
        torch = namespace(rows)
        n_frames = torch.as_tensor(lengths, device=rows.device)
        check_lengths(n_frames, tuple(lead))
        n_frames = n_frames.reshape(-1).int()
        H *= (torch.arange(T, device=rows.device) < n_frames[:, None])[..., None]
        update(clips, None, W, H, beta, sparsity, 0.0, n_iter, n_frames)
    return H.reshape(shape)


def _within(lengths: Any, lead: tuple[int, ...], n_frames: int) -> NDArray[np.bool_] | None:
    # The frames (..., T) within clips of these lengths; None stands for all.
    if lengths is None:
        return None
    n = to_numpy(on_host(lengths), "lengths")
    check_lengths(n, lead)
    if n.size and not 0 <= n.min() <= n.max() <= n_frames:
        raise ValueError(f"lengths holds {n.min()} to {n.max()}, but must lie between 0 and T={n_frames}")
    within: NDArray[np.bool_] = np.arange(n_frames) < n[..., None]
    return within
