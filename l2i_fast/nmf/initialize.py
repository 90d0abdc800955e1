"""The initial values of scikit-learn's NMF, for the same random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.extmath import randomized_svd

#: Smaller values of the SVD's are cut to zero.
_LEAST = 1e-6


def initialize(
    X: NDArray[Any], n_components: int, init: str | None, random_state: int | np.random.RandomState | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return initial W (n_samples, K) and H (K, n_features) of ``X ~ W H``, non-negative.

    "random": absolute values of normal numbers, so scaled that W H is about as large as X. "nndsvd": of each singular
    pair of X the positive or the negative parts, whichever weigh more (C. Boutsidis and E. Gallopoulos, "SVD based
    initialization", Pattern Recognition 41(4), 2008), zeros filled with the mean of X ("nndsvda"), or with random
    numbers of a hundredth of it ("nndsvdar"). None: "nndsvda" if K is small enough, otherwise "random".

    Raises
    ------
    ValueError
        If K exceeds min(n_samples, n_features) and `init` needs the SVD.
    """
    fits = n_components <= min(X.shape)
    if init is None:
        init = "nndsvda" if fits else "random"
    mean = X.mean()
    if init == "random":
        rng, scale = check_random_state(random_state), np.sqrt(mean / n_components)
        H, W = (
            scale * np.abs(rng.standard_normal(shape).astype(X.dtype))
            for shape in ((n_components, X.shape[1]), (X.shape[0], n_components))
        )
        return W, H
    if not fits:
        raise ValueError(
            f"n_components is {n_components}, but must be at most min(n_samples, n_features) = {min(X.shape)} for "
            f"init={init!r}"
        )
    U, S, Vh = randomized_svd(X, n_components, random_state=random_state)
    W, Ht = _larger_parts(U, S, Vh.T)
    H = np.ascontiguousarray(Ht.T)
    if init == "nndsvda":
        W[W == 0], H[H == 0] = mean, mean
    elif init == "nndsvdar":
        rng = check_random_state(random_state)
        for matrix in (W, H):
            zeros = matrix == 0
            matrix[zeros] = np.abs(mean * rng.standard_normal(zeros.sum()) / 100)
    return W, H


def _larger_parts(U: NDArray[Any], S: NDArray[Any], V: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the non-negative halves (n, K) and (m, K) of the singular pairs U S V' with the larger norm."""

    def norms(parts: NDArray[Any]) -> NDArray[Any]:
        sizes: NDArray[Any] = np.linalg.norm(parts, axis=0)
        return sizes

    positive, negative = (np.maximum(sign * U, 0) for sign in (1, -1))
    positive_V, negative_V = (np.maximum(sign * V, 0) for sign in (1, -1))
    chosen = norms(positive) * norms(positive_V) > norms(negative) * norms(negative_V)
    # The first pair has one sign throughout, but for rounding.
    u, v = np.where(chosen, positive, negative), np.where(chosen, positive_V, negative_V)
    u[:, 0], v[:, 0] = np.abs(U[:, 0]), np.abs(V[:, 0])
    size_u, size_v = norms(u), norms(v)
    root = np.sqrt(S * size_u * size_v)
    W, H = (
        parts * np.divide(root, size, out=np.zeros_like(root), where=size > 0)
        for parts, size in ((u, size_u), (v, size_v))
    )
    W[W < _LEAST], H[H < _LEAST] = 0, 0
    return W, H
