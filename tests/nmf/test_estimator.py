"""l2i.NMF in place of scikit-learn's NMF: the same answers and conventions."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pandas
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.decomposition import NMF as ScikitNMF
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

import l2i_fast as l2i
from l2i_fast import reference
from l2i_fast.backends.precision import at_cpu_precision as at_precision
from l2i_fast.data import Dataset

from ..helpers import refused

BETAS = [2.0, 1.0, 0.0, 0.5, 1.5, 3.0]
LOSSES = ["frobenius", "kullback-leibler", "itakura-saito"]
PENALTIES: list[dict[str, float]] = [{}, {"alpha_W": 0.01, "l1_ratio": 0.6}, {"alpha_W": 0.02, "alpha_H": 0.0}]


def samples(rng: np.random.Generator, n: int = 45, m: int = 29, K: int = 5) -> np.ndarray:
    """X (n, m), positive, of rank K up to noise."""
    return rng.random((n, K)) ** 2 @ rng.random((K, m)) ** 2 + 0.05 * rng.random((n, m)) + 1e-3


def both(X: Any, **parameters: Any) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """scikit-learn's estimator and ours, fitted alike, and their transforms of X."""
    parameters = {"solver": "mu", "random_state": 7, "tol": 0, "max_iter": 100} | parameters
    theirs, ours = ScikitNMF(**parameters), l2i.NMF(**parameters)
    return theirs, ours, theirs.fit_transform(X), ours.fit_transform(X)


def objective(model: Any, W: np.ndarray, n: int, m: int) -> float:
    """The minimised objective: the divergence and the penalties."""
    alpha_H = model.alpha_W if model.alpha_H == "same" else model.alpha_H
    total = model.reconstruction_err_**2 / 2
    for size, alpha, matrix in ((m, model.alpha_W, W), (n, alpha_H, model.components_)):
        matrix = matrix.astype(np.float64)
        total += size * alpha * (model.l1_ratio * matrix.sum() + (1 - model.l1_ratio) / 2 * (matrix**2).sum())
    return float(total)


def assert_close(got: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    """Relative in L2."""
    assert got.shape == wanted.shape
    assert np.linalg.norm(got - wanted) <= tolerance * np.linalg.norm(wanted)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("penalties", PENALTIES, ids=["plain", "L1 and L2", "W only"])
@pytest.mark.parametrize("shape", [(45, 29), (29, 45), (101, 17)])
def test_same_objective_as_scikit_learn(
    beta: float, penalties: dict[str, float], shape: tuple[int, int], rng: np.random.Generator
) -> None:
    X = samples(rng, *shape)
    theirs, ours, wanted, got = both(X, n_components=4, init="random", beta_loss=beta, **penalties)
    assert objective(ours, got, *shape) == pytest.approx(objective(theirs, wanted, *shape), rel=1e-4)
    assert ours.reconstruction_err_ == pytest.approx(theirs.reconstruction_err_, rel=1e-4)
    assert (ours.n_iter_, ours.n_components_, ours.n_features_in_) == (100, 4, shape[1])


@pytest.mark.parametrize("beta", BETAS)
def test_same_objective_on_recordings(beta: float, esc10: Dataset, rng: np.random.Generator) -> None:
    clip = esc10.clips[rng.integers(len(esc10.clips))]
    frames = np.log1p(np.abs(l2i.stft(esc10.audio(clip, sr=44100)))).T[::4].astype(np.float64)
    X = frames if beta > 0 else frames + 1e-3  # many clips hold silence
    models = both(X, n_components=12, beta_loss=beta)
    # scikit-learn's own figure leaves out entries below 1.2e-7: the divergence of both is computed here.
    wanted, got = (
        reference.beta_divergence(X, W.astype(np.float64) @ model.components_.astype(np.float64), beta)
        for model, W in zip(models[:2], models[2:], strict=True)
    )
    # Where beta <= 1, scikit-learn also sets values below 2e-16 to zero for good, which can only raise the divergence.
    assert got == pytest.approx(wanted, rel=1e-4) or (got < wanted and beta <= 1)
    assert models[1].reconstruction_err_ ** 2 / 2 == pytest.approx(got, rel=1e-4)


@pytest.mark.parametrize("init", ["random", "nndsvda", "nndsvdar", "nndsvd", None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(45, 29), (29, 45)])
@pytest.mark.filterwarnings("ignore:The multiplicative update:UserWarning", "ignore:multiplicative updates:UserWarning")
def test_same_initial_values(init: str, dtype: type, shape: tuple[int, int], rng: np.random.Generator) -> None:
    X = samples(rng, *shape).astype(dtype)
    theirs, ours, wanted, got = both(X, n_components=4, init=init, max_iter=1)
    assert_close(got, wanted, 1e-4)
    assert_close(ours.components_, theirs.components_, 1e-4)


@pytest.mark.filterwarnings("ignore:The multiplicative update:UserWarning", "ignore:multiplicative updates:UserWarning")
def test_same_initial_values_for_odd_data(rng: np.random.Generator) -> None:
    faint = samples(rng)
    faint[::5] *= 1e-10
    for X in (faint, np.eye(9, 7), np.kron(np.eye(2), np.ones((5, 4)))):
        theirs, ours, wanted, got = both(X, n_components=4, init="nndsvd", max_iter=1)
        np.testing.assert_array_equal(got == 0, wanted == 0)
        np.testing.assert_array_equal(ours.components_ == 0, theirs.components_ == 0)
        assert_close(got, wanted, 1e-4)


@pytest.mark.parametrize("beta", [4, 6, 8, 12, 20, -1, -3, -5])
def test_extreme_divergences(beta: float, rng: np.random.Generator) -> None:
    for scale in (1e-3, 1, 1e5):
        X = samples(rng) * scale
        theirs, ours, _, _ = both(X, n_components=4, init="random", beta_loss=beta, max_iter=20)
        assert ours.reconstruction_err_ == pytest.approx(theirs.reconstruction_err_, rel=1e-3)


def test_initial_values_of_a_lone_entry() -> None:
    for place in range(20):  # scikit-learn divides zero by zero for some
        X = (np.arange(20) == place).reshape(4, 5).astype(float)
        model = l2i.NMF(4, tol=0, max_iter=1)
        assert np.isfinite(model.fit_transform(X)).all()
        assert np.isfinite(model.components_).all()


@pytest.mark.parametrize("shape", [(45, 29), (29, 45)])
@pytest.mark.parametrize("scale", [1.0, 1e20])
def test_custom_start_is_used_and_left_alone(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> None:
    X = samples(rng, *shape) * scale
    W, H = (np.sqrt(scale) * rng.random(size) for size in ((shape[0], 3), (3, shape[1])))
    theirs = ScikitNMF(init="custom", solver="mu", beta_loss=1, tol=0, max_iter=20)
    ours = l2i.NMF(init="custom", beta_loss=1, tol=0, max_iter=20)
    before = X.copy(), W.copy(), H.copy()
    got = ours.fit_transform(X, W=W, H=H)
    for now, then in zip((X, W, H), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert_close(got, theirs.fit_transform(X, W=W, H=H), 1e-4)
    assert_close(ours.components_, theirs.components_, 1e-4)
    assert ours.n_components_ == 3


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("penalties", [{}, {"alpha_W": 0.02}], ids=["plain", "L2"])
def test_transform_equals_scikit_learn(beta: float, penalties: dict[str, float], rng: np.random.Generator) -> None:
    X, new = samples(rng), samples(rng, n=11)
    theirs, ours, _, _ = both(X, n_components=4, beta_loss=beta, **penalties)
    theirs.components_ = ours.components_.astype(np.float64)  # the same dictionary, so that only `transform` differs
    wanted = theirs.transform(new)
    assert_close(ours.transform(new), wanted, 1e-4)
    assert_close(ours.inverse_transform(ours.transform(new)), theirs.inverse_transform(wanted), 1e-4)


# scikit-learn 1.9 is no reference here: with an L1 penalty and beta 1, its `transform` adds the penalty once more in
# every iteration.
@pytest.mark.parametrize("beta", BETAS)
def test_transform_with_an_l1_penalty_equals_the_reference(beta: float, rng: np.random.Generator) -> None:
    X = samples(rng)
    model = l2i.NMF(4, init="random", beta_loss=beta, tol=0, max_iter=50, alpha_W=0.01, l1_ratio=0.7).fit(X)
    H = np.full((len(X), 4), np.sqrt(X.mean() / 4))
    penalty = 0.01 * X.shape[1]
    W = model.components_.T.astype(np.float64)
    reference.factorize(X, W, H, beta=beta, l1_H=0.7 * penalty, l2_H=0.3 * penalty, max_iter=50, update_W=False)
    assert_close(model.transform(X), H, 1e-4)


def test_coordinate_descent_finds_the_same_activations(rng: np.random.Generator) -> None:
    X = samples(rng)
    same = {"n_components": 4, "random_state": 0, "alpha_W": 1e-3, "l1_ratio": 0.5, "tol": 0, "max_iter": 500}
    theirs, ours, hals = ScikitNMF(**same).fit(X), l2i.NMF(solver="cd", **same), l2i.NMF(solver="hals", **same)
    ours.fit(X)
    theirs.components_ = ours.components_.astype(np.float64)
    for max_iter in (1, 500):  # the start is the same, too
        wanted, got = (model.set_params(max_iter=max_iter).transform(X) for model in (theirs, ours))
        assert_close(got, wanted, 1e-4)
    np.testing.assert_array_equal(hals.fit(X).components_, ours.components_)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("penalties", PENALTIES[:2], ids=["plain", "L1 and L2"])
@pytest.mark.parametrize("shape", [(90, 29), (29, 90)])
def test_newton_steps_need_fewer_iterations(
    beta: float, penalties: dict[str, float], shape: tuple[int, int], rng: np.random.Generator
) -> None:
    ratios = []
    for _ in range(5):  # a run sometimes ends in another optimum
        X = samples(rng, *shape)
        same = {"n_components": 4, "random_state": 0, "beta_loss": beta, "tol": 0, **penalties}
        slow, fast = l2i.NMF(max_iter=100, **same), l2i.NMF(solver="newton", max_iter=40, **same)
        wanted, got = (objective(model, model.fit_transform(X), *shape) for model in (slow, fast))
        ratios.append(got / wanted)
    assert np.median(ratios) < 1.01


def test_stops_where_scikit_learn_does_and_warns_where_it_does(rng: np.random.Generator) -> None:
    X = samples(rng)
    theirs, ours, _, _ = both(X, n_components=4, tol=3e-3, max_iter=500)
    assert 10 < ours.n_iter_ == theirs.n_iter_ < 500
    short = l2i.NMF(4, tol=1e-9, max_iter=3)
    with pytest.warns(ConvergenceWarning, match="max_iter = 3"):
        short.fit(X)
    with pytest.warns(ConvergenceWarning, match="max_iter = 3"):
        short.transform(X)


@pytest.mark.parametrize(
    "parameters", [{}, {"solver": "cd"}, {"solver": "newton", "beta_loss": 1}, {"beta_loss": 1}, {"beta_loss": 0.5}]
)
def test_same_seed_same_bits(parameters: dict[str, Any], rng: np.random.Generator) -> None:
    X = samples(rng)
    a, b, c = (
        l2i.NMF(4, init="random", random_state=seed, tol=0, max_iter=20, **parameters).fit_transform(X)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks() -> None:
    def failed(estimator: Any) -> set[str]:
        results = check_estimator(estimator, on_fail=None, on_skip=None)
        assert len(results) > 40
        return {result["check_name"] for result in results if result["status"] == "failed"}

    assert failed(l2i.NMF(solver="cd", tol=1e-6, max_iter=1000)) == set()
    assert failed(l2i.NMF(solver="newton", tol=1e-6, max_iter=1000)) == set()
    # Multiplicative updates end before they converge, so `transform` differs from `fit_transform`, scikit-learn's too.
    unconverged = {"check_transformer_general", "check_transformer_data_not_an_array"}
    assert failed(l2i.NMF()) <= unconverged
    assert failed(ScikitNMF(solver="mu")) == unconverged


def test_fits_into_pipelines_and_searches(rng: np.random.Generator) -> None:
    X = samples(rng)
    model = l2i.NMF(3, init="random", random_state=0, tol=0, max_iter=20)
    assert clone(model).get_params() == model.get_params()
    pipeline = make_pipeline(MinMaxScaler(clip=True), model)
    wanted = clone(model).fit_transform(MinMaxScaler().fit_transform(X))
    np.testing.assert_array_equal(pipeline.fit_transform(X), wanted)
    assert list(pipeline.get_feature_names_out()) == ["nmf0", "nmf1", "nmf2"]
    assert pipeline.inverse_transform(wanted).shape == X.shape

    def score(estimator: l2i.NMF, X: np.ndarray) -> float:
        return -float(np.linalg.norm(X - estimator.inverse_transform(estimator.transform(X))))

    search = GridSearchCV(model, {"n_components": [1, 5]}, scoring=score, cv=3).fit(X)
    assert search.best_params_ == {"n_components": 5}
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.transform(X), search.best_estimator_.transform(X))


def test_takes_scikit_learns_parameters(rng: np.random.Generator) -> None:
    parameters = ScikitNMF(3, max_iter=20, tol=0).get_params()
    assert set(parameters) - set(l2i.NMF().get_params()) == {"shuffle"}
    parameters.pop("shuffle")
    assert l2i.NMF(**parameters).fit_transform(samples(rng)).shape == (45, 3)


def test_data_frames(rng: np.random.Generator) -> None:
    X = pandas.DataFrame(samples(rng, 20, 4), columns=list("abcd"))
    model = l2i.NMF(2, tol=0, max_iter=5).set_output(transform="pandas")
    W = model.fit_transform(X)
    assert list(W.columns) == ["nmf0", "nmf1"]
    assert list(model.feature_names_in_) == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        model.transform(X[list("dcba")])


@pytest.mark.parametrize("n_components", ["auto", None])
def test_as_many_components_as_features(n_components: str | None, rng: np.random.Generator) -> None:
    X = samples(rng, 9, 4)
    model = l2i.NMF(n_components, tol=0, max_iter=5).fit(X)
    assert (model.n_components_, model.components_.shape) == (4, (4, 4))


def test_kinds_of_input(rng: np.random.Generator) -> None:
    X = samples(rng).astype(np.float32)
    model = l2i.NMF(3, random_state=0, tol=0, max_iter=10)
    wanted = model.fit_transform(X)
    assert wanted.dtype == model.components_.dtype == model.inverse_transform(wanted).dtype == np.float32
    strided = np.repeat(np.asfortranarray(X), 2, axis=0)[::2]
    for x in (torch.from_numpy(X), strided, X[::-1][::-1], X.tolist()):
        assert_close(model.fit_transform(x), wanted, 1e-4)
    counts = rng.integers(1, 9, X.shape)
    np.testing.assert_array_equal(model.fit_transform(counts), model.fit_transform(counts.astype(float)))


def test_decomposes_for_librosa(rng: np.random.Generator) -> None:
    S = samples(rng, 40, 90)
    components, activations = librosa.decompose.decompose(S, transformer=l2i.NMF(5, solver="cd", tol=0))
    assert np.linalg.norm(S - components @ activations) < 0.1 * np.linalg.norm(S)


@pytest.mark.parametrize("beta_loss", [*LOSSES, 0.5, 1.5, 3.0])
@pytest.mark.parametrize("exponent", [-140, -100, -50, -12, 12, 50, 100, 120])
@pytest.mark.parametrize("l1_ratio", [0, 1])
def test_scale_does_not_matter(beta_loss: float | str, exponent: int, l1_ratio: int, rng: np.random.Generator) -> None:
    X, scale = samples(rng).astype(np.float32).astype(np.float64), 2.0**exponent
    beta = {"frobenius": 2, "kullback-leibler": 1, "itakura-saito": 0}.get(beta_loss, beta_loss)
    same = {"init": "random", "random_state": 0, "tol": 0, "max_iter": 50, "beta_loss": beta_loss, "alpha_H": 0}
    wanted = l2i.NMF(4, alpha_W=0.01, l1_ratio=l1_ratio, **same)
    # D_beta grows with scale^beta, an L1 penalty with the square root of the scale, an L2 penalty with the scale.
    got = l2i.NMF(4, alpha_W=0.01 * scale ** (beta - (0.5 if l1_ratio else 1)), l1_ratio=l1_ratio, **same)
    W = got.fit_transform(X * scale)
    assert_close(W / np.sqrt(scale), wanted.fit_transform(X), 1e-3)
    assert_close(got.components_ / np.sqrt(scale), wanted.components_, 1e-3)
    assert got.reconstruction_err_ == pytest.approx(wanted.reconstruction_err_ * scale ** (beta / 2), rel=1e-3)
    # `transform` starts elsewhere and has not converged.
    assert_close(got.transform(X * scale) / np.sqrt(scale), wanted.transform(X), 5e-2)


@pytest.mark.parametrize(
    ("solver", "beta_loss"),
    [("cd", "frobenius"), *((solver, beta) for solver in ("mu", "newton") for beta in (*LOSSES[:2], 0.5, 1.5, 3.0))],
)
@pytest.mark.parametrize("init", ["random", "nndsvda", "nndsvdar"])
def test_no_nan(solver: str, beta_loss: float | str, init: str, rng: np.random.Generator) -> None:
    silent, loud = np.zeros((12, 9), np.float32), samples(rng, 12, 9).astype(np.float32)
    mixed = loud * np.float32(10.0) ** rng.integers(-45, 38, loud.shape).astype(np.float32)
    gaps = loud.copy()
    gaps[::3], gaps[:, ::4] = 0, 0
    for X in (silent, gaps, mixed, 1e-42 * loud, 1e30 * loud, np.eye(12, 9)):
        model = l2i.NMF(3, beta_loss=beta_loss, solver=solver, init=init, tol=0, max_iter=15)
        W = model.fit_transform(X.astype(np.float32))
        for result in (W, model.components_, model.transform(gaps), model.reconstruction_err_):
            assert np.isfinite(result).all()
        assert min(W.min(), model.components_.min()) >= 0


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("shape", [(45, 29), (29, 45)])
@pytest.mark.parametrize("solver", ["mu", "newton"])
def test_missing_entries_do_not_count(
    beta: float, shape: tuple[int, int], solver: str, rng: np.random.Generator
) -> None:
    X = samples(rng, *shape)
    mask = rng.random(shape) < 0.8
    holes = np.where(mask, X, np.nan)
    parameters = {"n_components": 4, "init": "random", "random_state": 0, "beta_loss": beta, "tol": 0}
    parameters |= {"solver": solver, "max_iter": 150 if solver == "mu" else 30}
    model, same = l2i.NMF(**parameters), l2i.NMF(**parameters)
    W = model.fit_transform(holes, mask=mask)
    np.testing.assert_array_equal(same.fit_transform(np.where(mask, X, -7), mask=mask), W)
    fit = reference.beta_divergence(X, W.astype(np.float64) @ model.components_.astype(np.float64), beta, mask)
    assert model.reconstruction_err_**2 / 2 == pytest.approx(fit, rel=1e-4)
    # The holes are filled in from the known entries, far better than by the mean.
    filled = model.inverse_transform(model.transform(holes, mask=mask))
    assert np.linalg.norm((filled - X)[~mask]) < 0.7 * np.linalg.norm((X[mask].mean() - X)[~mask])


def test_weights_count(rng: np.random.Generator) -> None:
    X = samples(rng)
    parameters = {"n_components": 4, "init": "custom", "tol": 0, "max_iter": 30}
    W, H = rng.random((len(X), 4)), rng.random((4, X.shape[1]))
    once, twice = l2i.NMF(**parameters), l2i.NMF(**parameters)
    wanted = once.fit_transform(np.vstack([X, X[:9]]), W=np.vstack([W, W[:9]]), H=H)
    weights = np.where(np.arange(len(X)) < 9, 2, 1)[:, None] * np.ones_like(X)
    assert_close(twice.fit_transform(X, W=W, H=H, mask=weights), wanted[: len(X)], 1e-4)
    assert_close(twice.components_, once.components_, 1e-4)
    assert twice.reconstruction_err_ == pytest.approx(once.reconstruction_err_, rel=1e-4)


@pytest.mark.parametrize("scale", [1.0, 1e20])
def test_callback_and_verbose_report_the_error(
    scale: float, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    X = samples(rng) * scale
    seen: list[tuple[int, int, float | None]] = []
    model = l2i.NMF(4, tol=1e-9, max_iter=20, verbose=1, callback=lambda *report: seen.append(report))
    with pytest.warns(ConvergenceWarning):
        model.fit(X)
    assert [report[:2] for report in seen] == [(i, 20) for i in range(1, 21)]
    assert {i for i, _, objective in seen if objective is not None} >= {10, 20}
    assert (2 * (seen[-1][2] or 0)) ** 0.5 == pytest.approx(model.reconstruction_err_, rel=1e-4)
    printed = re.fullmatch(r"iteration 20 of 20: error (\S+), .* s", capsys.readouterr().out.splitlines()[-1])
    assert printed is not None
    assert float(printed[1]) == pytest.approx(model.reconstruction_err_, rel=1e-4)


def test_unused_arguments_are_reported(rng: np.random.Generator) -> None:
    X = samples(rng)
    with pytest.warns(RuntimeWarning, match="ignored unless init='custom'"):
        l2i.NMF(2, tol=0, max_iter=2).fit(X, W=np.ones((45, 2)))
    with pytest.warns(UserWarning, match="keep the zeros"):
        l2i.NMF(2, init="nndsvd", tol=0, max_iter=2).fit(X)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"n_components": 0}, ValueError, "n_components is 0, but must be at least 1"),
        ({"n_components": 2.0}, TypeError, "n_components is 2.0, but must be an integer"),
        (
            {"n_components": "all"},
            TypeError,
            "n_components is 'all', but must be an integer",
        ),
        (
            {"n_components": 6, "init": "nndsvd"},
            ValueError,
            "n_components is 6, but must be at most min(n_samples, n_features) = 5 for init='...'",
        ),
        (
            {"init": "svd"},
            ValueError,
            "init is 'svd', but must be one of random, nndsvd, nndsvda, nndsvdar, custom",
        ),
        ({"init": "custom"}, ValueError, "init is 'custom', but W or H is missing: both are needed"),
        ({"solver": "simplex"}, ValueError, "solver is 'simplex', but must be one of mu, cd, hals, newton"),
        ({"solver": "cd", "beta_loss": 1}, ValueError, "beta_loss is 1, but solver 'cd' minimises 'frobenius' only"),
        (
            {"beta_loss": "cosine"},
            ValueError,
            "beta_loss is 'cosine', but must be a number or one of frobenius, itakura-saito, kullback-leibler",
        ),
        ({"beta_loss": None}, TypeError, "beta_loss is None, but must be a number"),
        ({"beta_loss": float("nan")}, ValueError, "beta_loss is nan, but must be finite"),
        ({"tol": -1}, ValueError, "tol is -1, but must be at least 0"),
        ({"tol": "small"}, TypeError, "tol is 'small', but must be a number"),
        ({"max_iter": 0}, ValueError, "max_iter is 0, but must be at least 1"),
        ({"max_iter": 1.5}, TypeError, "max_iter is 1.5, but must be an integer"),
        ({"alpha_W": -0.1}, ValueError, "alpha_W is -0.1, but must be at least 0"),
        ({"alpha_H": "different"}, TypeError, "alpha_H is 'different', but must be a number"),
        ({"l1_ratio": 1.1}, ValueError, "l1_ratio is 1.1, but must be at most 1"),
    ],
)
def test_bad_parameters_are_refused(
    parameters: dict[str, Any], error: type[Exception], message: str, rng: np.random.Generator
) -> None:
    with refused(error, message):
        l2i.NMF(**parameters).fit(samples(rng, 12, 5))


def test_bad_data_is_refused(rng: np.random.Generator) -> None:
    X = samples(rng, 12, 5)
    hole = np.where(np.arange(60).reshape(12, 5) == 7, np.nan, X)
    loud = np.median(X) < X
    model = l2i.NMF(2, tol=0, max_iter=3)
    with pytest.raises(NotFittedError):
        model.transform(X)
    with pytest.raises(NotFittedError):
        model.inverse_transform(X)
    model.fit(X)
    for call in (model.fit, model.transform):
        with pytest.raises(ValueError, match="Negative values"):
            call(-X)
        with pytest.raises(ValueError, match="NaN"):
            call(hole)
        with pytest.raises(ValueError, match="infinity"):
            call(np.where(loud, np.inf, X))
        with refused(ValueError, "X holds ..., but must fit into float32"):
            call(1e60 * X)
        with pytest.raises(TypeError, match="Sparse data was passed"):
            call(scipy.sparse.csr_array(X))
        with pytest.raises(ValueError, match="2D array"):
            call(X[0])
        with refused(ValueError, "mask has shape (5, 12), but (12, 5) as X is needed"):
            call(X, mask=np.ones((5, 12)))
        with pytest.raises(ValueError, match="Negative values"):
            call(X, mask=-X)
        with refused(ValueError, "mask is 0 everywhere, but some entries must not be missing"):
            call(X, mask=0 * X)
        with pytest.raises(ValueError, match="NaN"):
            call(hole, mask=np.ones_like(X))
        with pytest.raises(ValueError, match="Negative values"):
            call(-X, mask=X)
        model.set_params(beta_loss=0)
        with refused(
            ValueError, "X holds zeros, or values that vanish in float32, but must be positive where beta_loss <= 0"
        ):
            call(np.where(loud, X, 0))
        call(np.where(loud, X, 0), mask=loud)
        model.set_params(beta_loss=2)
    with pytest.raises(ValueError, match="6 features, but NMF is expecting 5"):
        model.transform(samples(rng, 12, 6))
    with refused(ValueError, "X has 3 columns, but must have n_components_ = 2"):
        model.inverse_transform(np.ones((4, 3)))
    with refused(ValueError, "beta_loss is 20, but X around ... then leaves the range of float64"):
        l2i.NMF(2, beta_loss=20).fit(1e30 * X)
    with refused(ValueError, "mask cannot be combined with solver 'cd', only with 'mu' and 'newton'"):
        l2i.NMF(2, solver="cd").fit(X, mask=loud)
    custom = l2i.NMF(2, init="custom")
    for W, H, message in (
        (np.ones((12, 3)), np.ones((2, 5)), "W has shape (12, 3), but (12, 2) is needed"),
        (np.ones((12, 2)), np.ones((2, 4)), "H has shape (2, 4), but (2, 5) is needed"),
        (np.ones((12, 2)), np.zeros((2, 5)), "H is zero everywhere, but some entries must be positive"),
    ):
        with refused(ValueError, message):
            custom.fit(X, W=W, H=H)
    with pytest.raises(ValueError, match="Negative values"):
        custom.fit(X, W=-np.ones((12, 2)), H=np.ones((2, 5)))


def test_the_page_works() -> None:
    text = (Path(__file__).parents[2] / "docs" / "nmf.md").read_text()
    names: dict[str, Any] = {}
    with at_precision("float32"):  # restores what the page changes
        for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            exec(block, names)
    assert names["ticks"].shape == names["y"].shape
    missing = ~names["known"]
    error, size = names["filled"] - names["V"].T, names["V"].T
    assert np.linalg.norm(error[missing]) < 0.5 * np.linalg.norm(size[missing])


def test_unaligned_data(rng: np.random.Generator) -> None:
    X = rng.random((30, 20), np.float32)
    unaligned = np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(np.float32).reshape(X.shape)
    assert not unaligned.flags.aligned
    model = l2i.NMF(3, max_iter=5, tol=0, random_state=0)
    np.testing.assert_array_equal(model.fit_transform(unaligned), model.fit_transform(X))
    np.testing.assert_array_equal(model.transform(unaligned), model.transform(X))
