"""The components of a sparse dictionary while it is learnt: initial values, unit norms, and replacement.

The update with columns of unit L2 norm is that of J. Le Roux, F. Weninger and J. R. Hershey, "Sparse NMF - half-baked
or well done?" (MERL TR2015-023, 2015), section 4.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2i_fast.arrays import Float32, Float64, double, host, namespace, placed
from l2i_fast.nmf.factorize import Factorization

#: Added to denominators.
EPS = 1e-9
#: Lowest peak of V at which EPS and the noise in initial components are small enough; below, V is scaled up.
LOWEST_PEAK = 0.1


def initial(V: Any, K: int, rng: np.random.Generator, known: Float32 | None = None) -> tuple[Any, Any]:
    """Return W, known components and frames with noise that tells equal ones apart, and random H."""
    n_frames, n_bins = V.shape
    picks = rng.integers(n_frames, size=K)
    frames = np.ascontiguousarray(host(V[picks]).T)
    W = frames * (0.5 + rng.random((n_bins, K), dtype=np.float32)) + np.float32(1e-4)
    normalize(W)
    if known is not None:
        W = np.hstack([known, W])
    K = W.shape[1]
    mean = float(double(V.mean(0)).mean())
    scale = mean / max(float(W.mean()) * K, EPS)
    H = rng.random((n_frames, K), dtype=np.float32) * np.float32(2 * scale)
    return placed(W, V), placed(H, V)


def normalize(W: Any) -> None:
    """Scale the columns to unit norm in place."""
    W /= norms(W)


def norms(W: Any) -> Any:
    """Return the norms of the columns, at least EPS."""
    return ((W**2).sum(0) ** 0.5).clip(EPS)


def keep_unused(W: Any, updated: Any, shrink: Any) -> Any:
    """Return the updated columns, but those of components without activations as they are in W.

    `shrink` is the divisor of the update. Where it is not well above EPS, EPS would decide what becomes of a column.
    """
    ones = namespace(W).ones_like(W[:, 0])  # NumPy's products are several times faster than its sums
    used = (ones @ shrink > 10 * EPS * len(W)) & (ones @ updated > EPS)
    return namespace(W).where(used, updated, W)


def power(peak: float, exponent: float) -> float:
    """Return ``peak ** exponent``, by which sums and penalties scale with V, from 2**-500 to 2**500."""
    return float(2.0 ** min(max(exponent * math.log2(peak), -500), 500))


def energy_of(H: Any) -> Float64:
    """Return the sum (K,) of the activations (T, K) of each component."""
    block = 4096
    sums: Float64 = sum(host(double(H[t : t + block].sum(0))) for t in range(0, len(H), block))
    return sums


def unit_column_sums(W: Any, numerator: Any, denominator: Any) -> tuple[Any, Any]:
    """Return the sums of the update that keeps columns at unit norm from those of the plain one (equation 12)."""
    return (
        numerator + W * (W * denominator).sum(0),
        denominator + W * (W * numerator).sum(0),
    )


def replace_useless(
    f: Factorization, max_cosine: float, energy: Float64, fixed: NDArray[np.bool_] | None = None
) -> list[int]:
    """Re-seed components of hardly any energy (K,), and duplicates, in place from the frames with the largest error.

    Components for which `fixed` holds stay. Returns the indices of the replaced ones.
    """
    V, W, H = f.V, f.W, f.H
    stay = np.zeros(len(energy), np.bool_) if fixed is None else fixed
    useless = set(np.flatnonzero((energy < 1e-3 * energy.mean()) & ~stay).tolist())
    for i, j in np.argwhere(np.triu(host(W.T @ W), 1) > max_cosine).tolist():
        if i not in useless and j not in useless and not (stay[i] and stay[j]):
            kept, gone = (i, j) if stay[i] or (energy[i] >= energy[j] and not stay[j]) else (j, i)
            H[:, kept] += H[:, gone]
            useless.add(gone)
    if not useless:
        return []
    block = 4096
    error = np.concatenate(
        [host(((V[t : t + block] - H[t : t + block] @ W.T) ** 2).sum(1)) for t in range(0, len(V), block)]
    )
    # Worst frames far apart from one another, so that the new components differ.
    order = error.argsort()[::-1][:: max(1, len(error) // (50 * len(useless)))]
    for k, frame in zip(sorted(useless), order.tolist(), strict=False):
        residual = (V[frame] - W @ H[frame]).clip(0) + 1e-4
        W[:, k] = residual / norms(residual)
        H[:, k] = H.mean()
    return sorted(useless)


def vanished(f: Factorization, energy: Float64) -> bool:
    """Return whether the penalty leaves activations, of sums `energy` (K,), that explain less than a thousandth of V.

    This takes a beta above 1: otherwise a model of zero has an infinite divergence.
    """
    return f.beta > 1 and bool(host(double(f.W.sum(0))) @ energy < 1e-3 * float(double(f.V.sum(0)).sum()))


def warn_of_vanishing(sparsity: float) -> None:
    """Warn that `sparsity` leaves no activations to learn a dictionary from."""
    warnings.warn(
        f"sparsity is {sparsity:g}, but must be smaller to learn from these spectrograms: all activations vanish",
        RuntimeWarning,
        stacklevel=5,  # beyond what is held around the caller: settings, and threads
    )
