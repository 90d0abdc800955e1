"""The slow factorisation, which defines the fast one, against scikit-learn's in float64."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from l2i_fast import reference

BETAS = [2.0, 1.0, 0.0, 0.5, 1.5, 3.0, -1.0]


def problem(rng: np.random.Generator, T: int = 31, F: int = 17, K: int = 4) -> tuple[np.ndarray, ...]:
    """V (T, F), and W (F, K) and H (T, K) to start from."""
    V = rng.random((T, K)) @ rng.random((K, F)) + 0.1 * rng.random((T, F))
    return V, 0.5 + rng.random((F, K)), 0.5 + rng.random((T, K))


def scikit_learn(V: np.ndarray, W: np.ndarray, H: np.ndarray, **parameters: Any) -> NMF:
    """scikit-learn's estimator fitted from the same start; what it calls W is written to H, what it calls H to W."""
    model = NMF(W.shape[1], init="custom", **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        H[...] = model.fit_transform(V, W=H.copy(), H=W.T.copy())
    W[...] = model.components_.T
    return model


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(("alpha_W", "alpha_H", "l1_ratio"), [(0, 0, 0), (0.02, 0.01, 1), (0.02, 0, 0), (0, 0.02, 0.4)])
def test_multiplicative_updates(
    beta: float, alpha_W: float, alpha_H: float, l1_ratio: float, rng: np.random.Generator
) -> None:
    V, W, H = problem(rng)
    V[3], V[:, 5] = (0, 0) if beta > 0 else (1e-3, 1e-3)
    T, F = V.shape
    wanted_W, wanted_H = W.copy(), H.copy()
    model = scikit_learn(
        V,
        wanted_W,
        wanted_H,
        solver="mu",
        beta_loss=beta,
        tol=0,
        max_iter=30,
        alpha_W=alpha_W,
        alpha_H=alpha_H,
        l1_ratio=l1_ratio,
    )
    n_iter, objective = reference.factorize(
        V,
        W,
        H,
        beta=beta,
        l1_H=F * alpha_W * l1_ratio,
        l2_H=F * alpha_W * (1 - l1_ratio),
        l1_W=T * alpha_H * l1_ratio,
        l2_W=T * alpha_H * (1 - l1_ratio),
        max_iter=30,
    )
    np.testing.assert_allclose(W, wanted_W, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(H, wanted_H, rtol=1e-6, atol=1e-12)
    assert n_iter == model.n_iter_ == 30
    assert objective == pytest.approx(model.reconstruction_err_**2 / 2, rel=1e-6)


def test_coordinate_descent(rng: np.random.Generator) -> None:
    V, W, H = problem(rng)
    wanted_W, wanted_H = W.copy(), H.copy()
    scikit_learn(V, wanted_W, wanted_H, solver="cd", tol=0, max_iter=10, alpha_W=0.01, alpha_H=0.02, l1_ratio=0.5)
    T, F = V.shape
    penalties = {"l1_H": F * 0.005, "l2_H": F * 0.005, "l1_W": T * 0.01, "l2_W": T * 0.01}
    reference.factorize(V, W, H, beta=2, solver="hals", max_iter=10, **penalties)
    np.testing.assert_allclose(W, wanted_W, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(H, wanted_H, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("beta", BETAS)
def test_stops_where_scikit_learn_does(beta: float, rng: np.random.Generator) -> None:
    V, W, H = problem(rng)
    seen: list[tuple[int, int, float | None]] = []
    model = scikit_learn(V, W.copy(), H.copy(), solver="mu", beta_loss=beta, tol=2e-3, max_iter=500)
    n_iter, objective = reference.factorize(
        V, W, H, beta=beta, tol=2e-3, max_iter=500, callback=lambda *args: seen.append(args)
    )
    assert 10 < n_iter < 500
    assert n_iter == model.n_iter_
    assert [iteration for iteration, _, _ in seen] == list(range(1, n_iter + 1))
    assert {iteration for iteration, _, d in seen if d is not None} == set(range(10, n_iter + 1, 10))
    assert seen[-1] == (n_iter, 500, objective)


@pytest.mark.parametrize(("beta", "solver"), [*((beta, "mu") for beta in BETAS), (2.0, "hals")])
def test_order_of_updates_is_that_of_the_transposed_problem(beta: float, solver: str, rng: np.random.Generator) -> None:
    V, W, H = problem(rng)
    mask = rng.random(V.shape)
    W2, H2 = W.copy(), H.copy()
    same = {"beta": beta, "solver": solver, "max_iter": 5}
    reference.factorize(V, W, H, l1_W=0.1, l2_H=0.2, mask=mask, **same)
    reference.factorize(V.T, H2, W2, l1_H=0.1, l2_W=0.2, mask=mask.T, W_first=True, **same)
    np.testing.assert_allclose(W2, W, rtol=1e-9)
    np.testing.assert_allclose(H2, H, rtol=1e-9)


@pytest.mark.parametrize(("beta", "solver"), [*((beta, "mu") for beta in BETAS), (2.0, "hals")])
def test_mask_weights_the_divergence(beta: float, solver: str, rng: np.random.Generator) -> None:
    V, W, H = problem(rng)
    # A frame that counts thrice for the dictionary is three equal frames; one that counts for nothing may be anything.
    weights = np.r_[3, 0, np.ones(len(V) - 2)]
    repeated = np.repeat(np.arange(len(V)), weights.astype(int))
    W2, H2 = W.copy(), H[repeated]
    V[1] = np.nan
    mask = np.broadcast_to(weights[:, None], V.shape)
    got = reference.factorize(V, W, H, beta=beta, solver=solver, mask=mask, max_iter=5)
    wanted = reference.factorize(V[repeated], W2, H2, beta=beta, solver=solver, max_iter=5)
    np.testing.assert_allclose(W, W2, rtol=1e-9)
    np.testing.assert_allclose(H[repeated], H2, rtol=1e-9)
    assert got[1] == pytest.approx(wanted[1], rel=1e-9)


def test_frozen_dictionary(rng: np.random.Generator) -> None:
    V, W, H = problem(rng)
    before = W.copy()
    wanted = reference.activations(V.T, W, 1.0, 4, sparsity=0.2)
    H[...] = 1
    reference.factorize(V, W, H, beta=1, l1_H=0.2, max_iter=4, update_W=False)
    np.testing.assert_array_equal(W, before)
    np.testing.assert_allclose(H.T, wanted, rtol=1e-9)
