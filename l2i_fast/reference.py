"""Slow, readable float64 versions of the fast operations, which the tests compare with.

Shapes are the public ones without leading dimensions: spectra (F, T), dictionaries (F, K), activations (K, T).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]
Complex128 = NDArray[np.complex128]

#: Least value of W H in logarithms and negative powers, and what replaces denominators of 0: scikit-learn's.
EPS = float(np.finfo(np.float32).eps)


def stft(y: ArrayLike, window: ArrayLike, hop_length: int, center: bool = True) -> Complex128:
    """Return the spectrum (F, T) of samples (N,); the window (n_fft,) gives the frame length."""
    w = np.asarray(window, np.float64)
    samples = np.asarray(y, np.float64)
    if center:
        samples = np.pad(samples, w.size // 2)
    starts = range(0, samples.size - w.size + 1, hop_length)
    return np.stack([np.fft.rfft(w * samples[s : s + w.size]) for s in starts], axis=1)


def istft(X: ArrayLike, window: ArrayLike, hop_length: int, center: bool = True, length: int | None = None) -> Float64:
    """Return the samples (length,) of a spectrum (F, T)."""
    w = np.asarray(window, np.float64)
    spectrum = np.asarray(X, np.complex128)
    pad = w.size // 2 if center else 0
    total = w.size + hop_length * (spectrum.shape[1] - 1)
    if length is None:
        length = total - 2 * pad
    y, squares = np.zeros(max(total, pad + length)), np.zeros(max(total, pad + length))
    for t, column in enumerate(spectrum.T):
        frame = slice(t * hop_length, t * hop_length + w.size)
        y[frame] += w * np.fft.irfft(column, w.size)
        squares[frame] += w**2
    audible = squares > np.finfo(np.float32).tiny
    y[audible] /= squares[audible]
    return y[pad : pad + length]


def log_mel(X: ArrayLike, bands: ArrayLike, amin: float = 1e-10, top_db: float | None = None) -> Float64:
    """Return the mel spectrogram (M, T) in decibels of a spectrum (F, T) for mel filters (M, F)."""
    mel = np.asarray(bands, np.float64) @ np.abs(np.asarray(X, np.complex128))
    decibels = 10 * np.log10(np.maximum(amin, mel))
    return decibels if top_db is None else np.maximum(decibels, decibels.max() - top_db)


def soft_mask(
    X: ArrayLike, W: ArrayLike, H: ArrayLike, weights: ArrayLike, domain: str = "log", eps: float = 1e-6
) -> Complex128:
    """Return the part of a spectrum (F, T) that the components weighted by (K,) explain."""
    spectrum = np.asarray(X, np.complex128)
    spectra, activations = np.asarray(W, np.float64), np.asarray(H, np.float64)
    parts = np.einsum("fk,kt->kft", spectra, activations)
    mask = np.einsum("k,kft->ft", np.asarray(weights, np.float64), parts) / (eps + parts.sum(0))
    gain: Float64 = mask
    if domain == "wiener":
        gain = mask**4 / (mask**4 + (1 - mask) ** 4)
    elif domain == "log":
        magnitude = np.abs(spectrum)
        silent = magnitude == 0
        gain = np.where(silent, mask, np.expm1(mask * np.log1p(magnitude)) / np.where(silent, 1, magnitude))
    masked: Complex128 = gain * spectrum
    return masked


def decode(
    X: ArrayLike,
    W: ArrayLike,
    H: ArrayLike,
    weights: ArrayLike,
    window: ArrayLike,
    hop_length: int,
    domain: str = "log",
    eps: float = 1e-6,
    center: bool = True,
    length: int | None = None,
) -> Float64:
    """Return the audio (length,) of the weighted components."""
    return istft(soft_mask(X, W, H, weights, domain, eps), window, hop_length, center, length)


def beta_divergence(V: ArrayLike, WH: ArrayLike, beta: float, mask: ArrayLike = 1.0) -> float:
    """Return the sum of the beta divergence between V and its model W H (Fevotte and Idier, 2011, equation 3).

    `mask` weights the entries; where it is 0, V may hold anything, NaN too.
    """
    v, m, weights = np.broadcast_arrays(np.asarray(V, np.float64), np.asarray(WH, np.float64), mask)
    seen = weights > 0
    v, m, weights = v[seen], m[seen], weights[seen]
    safe = np.maximum(m, EPS)
    if beta == 0:
        d = v / safe - np.log(v / safe) - 1
    elif beta == 1:
        d = np.where(v > 0, v * np.log(np.where(v > 0, v, 1) / safe), 0) - v + m
    else:
        model = (m if beta > 0 else safe) ** beta
        d = (v**beta + (beta - 1) * model - beta * v * (m if beta > 1 else safe) ** (beta - 1)) / (beta * (beta - 1))
    return float(np.sum(weights * d))


def factorize(
    V: ArrayLike,
    W: NDArray[Any],
    H: NDArray[Any],
    *,
    beta: float,
    solver: str = "mu",
    l1_W: float = 0.0,
    l2_W: float = 0.0,
    l1_H: float = 0.0,
    l2_H: float = 0.0,
    max_iter: int = 200,
    tol: float = 0.0,
    update_W: bool = True,
    W_first: bool = False,
    mask: ArrayLike | None = None,
    callback: Callable[[int, int, float | None], None] | None = None,
) -> tuple[int, float]:
    """Improve V (T, F) ~ H W' in place, for W (F, K) and H (T, K); return the iterations and the divergence.

    Minimises ``D_beta(V | H W') + l1_W sum(W) + l2_W/2 |W|^2 + l1_H sum(H) + l2_H/2 |H|^2``, by scikit-learn's
    updates: multiplicative ("mu"), or one sweep of coordinate descent, column by column ("hals", beta 2).
    """
    v = np.asarray(V, np.float64)
    weights = np.ones_like(v) if mask is None else np.asarray(mask, np.float64)
    v = np.where(weights > 0, v, 0)
    w, h = W.astype(np.float64), H.astype(np.float64)

    def divergence() -> float:
        return beta_divergence(v, h @ w.T, beta, weights)

    step = _descend if solver == "hals" else partial(_multiply, beta=beta)
    sides = [(v, weights, h, w, l1_H, l2_H)]
    if update_W:
        sides.insert(0 if W_first else 1, (v.T, weights.T, w, h, l1_W, l2_W))
    first = before = np.sqrt(2 * max(divergence(), 0))
    iteration = 0
    for iteration in range(1, max_iter + 1):
        for side in sides:
            step(*side)
        objective = divergence() if tol > 0 and iteration % 10 == 0 else None
        if callback is not None:
            callback(iteration, max_iter, objective)
        if objective is not None:
            after = np.sqrt(2 * max(objective, 0))
            if before - after <= tol * first:
                break
            before = after
    W[...], H[...] = w, h
    return iteration, divergence()


def _multiply(V: Float64, weights: Float64, A: Float64, B: Float64, l1: float, l2: float, beta: float) -> None:
    """One multiplicative update of A in V ~ A B' (Fevotte and Idier, 2011, table 2), with scikit-learn's floors."""
    model = A @ B.T
    safe = np.maximum(model, EPS)
    numerator = (weights * V * (safe if beta < 2 else model) ** (beta - 2)) @ B
    denominator = (weights * (safe if beta < 1 else model) ** (beta - 1)) @ B + l1 + l2 * A
    denominator[denominator == 0] = EPS
    gamma = 1 / (2 - beta) if beta < 1 else 1 / (beta - 1) if beta > 2 else 1.0
    A *= (numerator / denominator) ** gamma


def _descend(V: Float64, weights: Float64, A: Float64, B: Float64, l1: float, l2: float) -> None:
    """One sweep over the columns of A in V ~ A B', each set to its optimum (Cichocki and Phan, 2009)."""
    for a, b in zip(A.T, B.T, strict=True):
        slope = (weights * (V - A @ B.T)) @ b - l1 - l2 * a
        curvature = weights @ b**2 + l2
        a += np.divide(slope, curvature, out=np.zeros_like(a), where=curvature > 0)
        np.maximum(a, 0, out=a)


def newton_step(
    V: ArrayLike,
    A: ArrayLike,
    B: ArrayLike,
    beta: float,
    damping: ArrayLike,
    weights: ArrayLike,
    mask: ArrayLike = 1.0,
    l1: float = 0.0,
    l2: float = 0.0,
    search: bool = True,
) -> tuple[Float64, Float64]:
    """One Newton step of the rows of A (N, K) in V (N, M) ~ A B', as l2i_fast.nmf.newton describes it.

    `weights` (M,) are those of the rows of B in the shared Hessian. Returns the new A and the damping (N,) that a
    search along the step leads to; without a search the step is taken in full, and the damping stays.
    """
    a, b, lam = (np.asarray(x, np.float64) for x in (A, B, damping))
    mask = np.broadcast_to(np.asarray(mask, np.float64), np.shape(V))
    v = np.where(mask > 0, V, 0).astype(np.float64)

    def slope(model: Float64) -> Float64:
        m = np.maximum(model, EPS)
        return mask * m ** (beta - 2) * (m - v)

    model = a @ b.T
    m = np.maximum(model, EPS)
    second = mask * m ** (beta - 3) * np.maximum((beta - 1) * m + (2 - beta) * v, m)
    gradient = slope(model) @ b + l1 + l2 * a
    root = np.sqrt(second @ b**2 + l2)
    gram = (b * np.asarray(weights, np.float64)[:, None]).T @ b
    size = np.sqrt(np.diag(gram))
    live = (root > 1e-10) & (size > 0)
    root = np.where(live, root, 1)
    unit = np.divide(1, size, out=np.zeros_like(size), where=size > 0)
    correlation = gram * np.outer(unit, unit)
    step = np.zeros_like(a)
    for _ in range(2):
        for k in range(a.shape[1]):
            moved = step[:, k] - gradient[:, k] / root[:, k] / lam - step @ correlation[:, k]
            step[:, k] = np.where(live[:, k], np.maximum(-root[:, k] * a[:, k], moved), 0)
    step /= root
    if not search:
        return np.maximum(a + step, 0), lam
    before = (gradient * step).sum(1)
    after = (slope(model + step @ b.T) * (step @ b.T)).sum(1) + ((l1 + l2 * (a + step)) * step).sum(1)
    too_far = after > -before
    length = np.where(too_far, before / np.minimum(before - after, -1e-30), 1)
    return np.maximum(a + length[:, None] * step, 0), np.where(too_far, 2.5 * lam, np.maximum(0.6 * lam, 0.7))


def activations(V: ArrayLike, W: ArrayLike, beta: float, n_iter: int, sparsity: float = 0.0) -> Float64:
    """Return the activations (K, T) of V (F, T) after multiplicative updates that start at 1."""
    v, w = np.asarray(V, np.float64), np.asarray(W, np.float64)
    h = np.ones((w.shape[1], v.shape[1]))
    gamma = 1 / (2 - beta) if beta < 1 else 1 / (beta - 1) if beta > 2 else 1.0
    for _ in range(n_iter):
        model = w @ h
        h = h * ((w.T @ (v * model ** (beta - 2))) / (w.T @ model ** (beta - 1) + sparsity)) ** gamma
    return h


def stream_activations(
    V: ArrayLike, W: ArrayLike, n_iter: int, start: ArrayLike | None = None, lift: float = 0.0
) -> Float64:
    """Return the activations (K, T) of V (F, T): `n_iter` Euclidean updates a frame, from those of the frame before.

    None begins lower than 1e-3 of W' v, so that a component comes back after a silence; so the first frame begins, too.
    Or each frame begins with `start` (K,) and the share `lift` of W' v.
    """
    v, w = np.asarray(V, np.float64), np.asarray(W, np.float64)
    h, columns = np.zeros(w.shape[1]), []
    for frame in v.T:
        b = w.T @ frame
        h = np.maximum(h, 1e-3 * b) if start is None else np.asarray(start, np.float64) + lift * b
        for _ in range(n_iter):
            model = w.T @ (w @ h)
            h = h * np.divide(b, model, out=np.zeros_like(b), where=model > 0)
        columns.append(h)
    return np.stack(columns, axis=1)


def stream(
    y: ArrayLike,
    W: ArrayLike,
    window: ArrayLike,
    hop_length: int,
    weights: ArrayLike,
    H: ArrayLike | None = None,
    n_iter: int = 10,
    scale: ArrayLike = 1.0,
    domain: str = "log",
    eps: float = 1e-6,
) -> Float64:
    """Return what a stream of samples (N,) answers in all (N + n_fft,): `decode` of the whole, n_fft samples later.

    The weights are (K,) or, changing from frame to frame, (K, T); the scale by which spectra are divided is a number or
    (T,). Without activations H (K, T) they are those of `stream_activations`.
    """
    scales = np.asarray(scale, np.float64)
    X = stft(y, window, hop_length) / scales
    rows = np.transpose(stream_activations(np.log1p(np.abs(X)), W, n_iter) if H is None else H)
    frames = zip(X.T, rows, np.broadcast_to(np.transpose(weights), rows.shape), strict=True)
    Y = np.hstack([soft_mask(x[:, None], W, h[:, None], row, domain, eps) for x, h, row in frames])
    audio = istft(Y * scales, window, hop_length, length=np.size(y))
    return np.concatenate([np.zeros(np.size(window)), audio])
