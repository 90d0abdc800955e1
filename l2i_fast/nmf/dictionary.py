"""Sparse non-negative matrix factorisation: learn a dictionary, and activations for a fixed one.

Both minimise ``D_beta(V | W H) + sparsity * sum(H)`` by multiplicative updates. The dictionary keeps columns of unit L2
norm, by the update of J. Le Roux, F. Weninger and J. R. Hershey, "Sparse NMF - half-baked or well done?" (MERL
TR2015-023, 2015), section 4. ``W H`` only ever exists for a block of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

_BETAS = {"frobenius": 2.0, "kullback-leibler": 1.0, "itakura-saito": 0.0}
_BLOCK = 8192
#: Added to denominators, and the least value of W H where it is raised to a negative power.
_EPS = 1e-9


def beta_of(beta_loss: float | str) -> float:
    """The exponent beta of a loss given by scikit-learn's name or as a number."""
    if isinstance(beta_loss, str):
        if beta_loss not in _BETAS:
            raise ValueError(f"beta_loss must be a number or one of {sorted(_BETAS)}, got {beta_loss!r}")
        return _BETAS[beta_loss]
    return float(beta_loss)


def _gamma(beta: float) -> float:
    """Exponent of the multiplicative step that makes it monotone (Fevotte and Idier, 2011, table 2)."""
    if beta < 1:
        return 1 / (2 - beta)
    return 1.0 if beta <= 2 else 1 / (beta - 1)


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Denormal numbers slow every product down; the mode is restored afterwards."""
    before = float(torch.tensor([1e-40]) * 1.0) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, _BLOCK):
        yield slice(start, min(start + _BLOCK, n))


def _ratio_parts(V: Tensor, WH: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """``V * WH^(beta-2)`` and ``WH^(beta-1)``, the two matrices that every update multiplies by W' or H'."""
    WH = WH.clamp(min=_EPS)
    if beta == 1:
        return V / WH, torch.ones_like(WH)
    power = WH ** (beta - 2)
    return V * power, power * WH


def _update_H(V: Tensor, W: Tensor, H: Tensor, beta: float, sparsity: float) -> None:
    """One multiplicative update of H (K, T) in place; V is (F, T)."""
    if beta == 2:  # products of small matrices take the place of W H
        step = (W.T @ V) / ((W.T @ W) @ H + sparsity + _EPS)
    else:
        numerator, denominator = _ratio_parts(V, W @ H, beta)
        step = (W.T @ numerator) / (W.T @ denominator + sparsity + _EPS)
    H *= step if _gamma(beta) == 1 else step ** _gamma(beta)


def _products_for_W(V: Tensor, W: Tensor, H: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Numerator and denominator (F, K) of the update of W, from some frames."""
    if beta == 2:
        return V @ H.T, W @ (H @ H.T)
    up, down = _ratio_parts(V, W @ H, beta)
    return up @ H.T, down @ H.T


def objective(V: Tensor, W: Tensor, H: Tensor, beta: float, sparsity: float = 0.0) -> float:
    """``D_beta(V | W H) + sparsity * sum(H)`` in float64, for V (F, T), W (F, K), H (K, T)."""
    total = 0.0
    for cols in _blocks(V.shape[1]):
        v, wh = V[:, cols].double(), (W @ H[:, cols]).double()
        if beta == 2:
            d = 0.5 * (v - wh) ** 2
        elif beta == 1:
            wh = wh.clamp(min=_EPS)
            d = torch.xlogy(v, v / wh) - v + wh
        elif beta == 0:
            q = v.clamp(min=_EPS) / wh.clamp(min=_EPS)
            d = q - q.log() - 1
        else:
            wh = wh.clamp(min=_EPS)
            d = (v**beta + (beta - 1) * wh**beta - beta * v * wh ** (beta - 1)) / (beta * (beta - 1))
        total += float(d.sum())
    return total + sparsity * float(H.double().sum())


def _as_tensor(x: Any, name: str, ndim: int | None = None) -> Tensor:
    t = x.detach() if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
    t = t.to(torch.float32)
    if ndim is not None and t.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, got shape {tuple(t.shape)}")
    if not bool(torch.isfinite(t).all()):
        raise ValueError(f"{name} must be finite, it holds NaN or infinity")
    if t.numel() and float(t.min()) < 0:
        raise ValueError(f"{name} must be non-negative, its least value is {float(t.min()):g}")
    return t


def _columns(clips_or_V: Any) -> Tensor:
    """V (F, T) from a matrix or from a sequence of matrices (F, T_i), silent frames left out."""
    if isinstance(clips_or_V, Sequence):
        if not clips_or_V:
            raise ValueError("learn_dictionary needs at least one spectrogram, got an empty sequence")
        parts = [_as_tensor(v, "each spectrogram", 2) for v in clips_or_V]
        if len({p.shape[0] for p in parts}) > 1:
            raise ValueError(f"spectrograms must agree in F, got {sorted({p.shape[0] for p in parts})}")
        V = torch.cat(parts, dim=1)
    else:
        V = _as_tensor(clips_or_V, "V", 2)
    # Silence (a tenth of ESC-10) teaches nothing and costs as much as sound.
    V = V[:, V.amax(dim=0) > 0]
    if not V.shape[1]:
        raise ValueError("V holds no frame that is not silent")
    return V


def learn_dictionary(
    clips_or_V: Any,
    n_components: int = 100,
    beta_loss: float | str = "frobenius",
    sparsity: float = 0.8,
    max_iter: int = 150,
    random_state: int = 0,
    max_cosine: float = 0.95,
    callback: Callable[[int, int], None] | None = None,
) -> Any:
    """Learn a sparse dictionary of spectral components with unit-norm columns.

    Minimises ``D_beta(V | W H) + sparsity * sum(H)`` over non-negative W and H, columns of W of unit L2 norm
    (Le Roux et al., 2015, section 4). During the first three quarters of the run, components that are hardly used, or
    nearly parallel to another one, are replaced by the frames that are explained worst.

    Parameters
    ----------
    clips_or_V : array (F, T), or a sequence of arrays (F, T_i)
        Non-negative (log-magnitude) spectrograms; silent frames are left out.
    n_components : int
        K, at least 1.
    beta_loss : float or {"frobenius", "kullback-leibler", "itakura-saito"}
        The divergence: 2, 1, 0 or any real beta.
    sparsity : float
        Weight of the L1 penalty on H, at least 0.
    max_iter : int
        Multiplicative updates of H and W.
    random_state : int
        Seed of the initial values: the same seed gives the same dictionary.
    max_cosine : float
        Components more alike than this cosine count as duplicates; 1 turns the replacement of duplicates off.
    callback : callable, optional
        Called as ``callback(iteration, max_iter)`` after each iteration.

    Returns
    -------
    W : array (F, K), float32
        NumPy, or torch if a tensor (or a sequence of tensors) came in.

    Raises
    ------
    ValueError
        Negative, non-finite or only silent input; sizes or parameters out of range.
    """
    if n_components < 1 or max_iter < 1:
        raise ValueError(f"n_components and max_iter must be at least 1, got {n_components} and {max_iter}")
    if not sparsity >= 0:
        raise ValueError(f"sparsity must be at least 0, got {sparsity}")
    beta = beta_of(beta_loss)
    V = _columns(clips_or_V)
    is_torch = isinstance(clips_or_V[0] if isinstance(clips_or_V, Sequence) else clips_or_V, Tensor)
    peak = float(V.max())
    if not 1e-6 <= peak <= 1e6:  # products of float32 would overflow or vanish: the same problem at another scale
        V = V / peak
        sparsity *= peak ** (1 - beta)
    n_bins, n_frames = V.shape
    generator = torch.Generator().manual_seed(random_state)
    with _denormals_flushed():
        picks = torch.randint(n_frames, (n_components,), generator=generator)
        # Real frames, roughened so that equal frames do not stay equal.
        W = V[:, picks] * (0.5 + torch.rand(n_bins, n_components, generator=generator)) + 1e-4
        W /= W.norm(dim=0)
        scale = float(V.mean()) / max(float(W.mean()) * n_components, _EPS)
        H = torch.rand(n_components, n_frames, generator=generator) * 2 * scale
        for iteration in range(max_iter):
            numerator = torch.zeros(n_bins, n_components)
            denominator = torch.zeros(n_bins, n_components)
            for cols in _blocks(n_frames):
                v, h = V[:, cols], H[:, cols].contiguous()
                _update_H(v, W, h, beta, sparsity)
                H[:, cols] = h
                up, down = _products_for_W(v, W, h, beta)
                numerator += up
                denominator += down
            grow = numerator + W * (W * denominator).sum(0)
            shrink = denominator + W * (W * numerator).sum(0)
            W *= grow / (shrink + _EPS)
            W /= W.norm(dim=0).clamp(min=_EPS)
            if iteration % 10 == 9 and iteration < 0.75 * max_iter:
                _replace_useless(V, W, H, max_cosine)
            if callback is not None:
                callback(iteration + 1, max_iter)
    W[W < 1e-7] = 0  # nothing audible, and denormals slow every later product
    W /= W.norm(dim=0).clamp(min=_EPS)
    return W if is_torch else W.numpy()


def _replace_useless(V: Tensor, W: Tensor, H: Tensor, max_cosine: float) -> None:
    """Point dead and duplicate components, in place, at the frames with the largest error."""
    energy = H.sum(dim=1)
    useless = set(torch.nonzero(energy < 1e-3 * energy.mean()).flatten().tolist())
    cosine = (W.T @ W).triu(1)
    for i, j in torch.nonzero(cosine > max_cosine).tolist():
        if i not in useless and j not in useless:
            kept, gone = (i, j) if energy[i] >= energy[j] else (j, i)
            H[kept] += H[gone]
            useless.add(gone)
    if not useless:
        return
    error = torch.cat([(V[:, cols] - W @ H[:, cols]).square().sum(0) for cols in _blocks(V.shape[1])])
    # Worst frames far apart from one another, so that the new components differ.
    order = error.argsort(descending=True)[:: max(1, len(error) // (50 * len(useless)))]
    for k, frame in zip(sorted(useless), order.tolist(), strict=False):
        residual = (V[:, frame] - W @ H[:, frame]).clamp(min=0) + 1e-4
        W[:, k] = residual / residual.norm()
        H[k] = H.mean()


def activations(
    V: Any,
    W: Any,
    beta_loss: float | str = "frobenius",
    n_iter: int = 50,
    H0: Any = None,
    sparsity: float = 0.0,
) -> Any:
    """Activations of a fixed dictionary, by multiplicative updates.

    Parameters
    ----------
    V : array (..., F, T)
        Non-negative spectrograms.
    W : array (F, K)
        The dictionary.
    beta_loss : float or str
        See `learn_dictionary`.
    n_iter : int
        Updates, at least 0.
    H0 : array (..., K, T), optional
        Where to start; by default 1 everywhere. Zeros stay zero.
    sparsity : float
        Weight of the L1 penalty on H.

    Returns
    -------
    H : array (..., K, T), float32, of V's kind (NumPy or torch)

    Raises
    ------
    ValueError
        Negative or non-finite input, shapes that do not fit, n_iter or sparsity below 0.
    """
    beta = beta_of(beta_loss)
    if n_iter < 0 or not sparsity >= 0:
        raise ValueError(f"n_iter and sparsity must be at least 0, got {n_iter} and {sparsity}")
    v, w = _as_tensor(V, "V"), _as_tensor(W, "W", 2)
    if v.ndim < 2 or v.shape[-2] != w.shape[0]:
        raise ValueError(f"V must be (..., F, T) with F = {w.shape[0]} as in W, got shape {tuple(v.shape)}")
    shape = (*v.shape[:-2], w.shape[1], v.shape[-1])
    if H0 is None:
        h = torch.ones(shape)
    else:
        h = _as_tensor(H0, "H0").clone()
        if tuple(h.shape) != shape:
            raise ValueError(f"H0 must have shape {shape}, got {tuple(h.shape)}")
    with _denormals_flushed():
        for _ in range(n_iter):
            _update_H(v, w, h, beta, sparsity)
    return h if isinstance(V, Tensor) else h.numpy()
