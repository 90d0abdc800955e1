"""The native passes of NMF against float64, on every CPU path and at odd shapes, and their properties."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import l2i_fast as l2i
from l2i_fast import _core, reference
from l2i_fast.data import Dataset
from l2i_fast.nmf.factorize import Factorization, factorize
from l2i_fast.nmf.newton import Newton

from ..helpers import refused, relative

BETAS = [2.0, 1.5, 1.0, 0.5, 0.0, 3.0, -1.0, 0.7]
# Tails of every vector width in frames, bins and components; more and fewer frames than a tile and than a panel.
SHAPES = [(2, 3, 1), (7, 5, 3), (17, 49, 8), (33, 97, 101), (97, 130, 13), (200, 513, 100), (385, 16, 4)]


def problem(rng: np.random.Generator, T: int, F: int, K: int, masked: bool = False) -> dict[str, Any]:
    V = rng.gamma(1.0, 1.0, (T, F)).astype(np.float32) + np.float32(0.01)
    W = rng.gamma(0.5, 1.0, (F, K)).astype(np.float32) + np.float32(1e-3)
    H = rng.gamma(0.5, 1.0, (T, K)).astype(np.float32) + np.float32(1e-3)
    mask = None
    if masked:
        mask = rng.choice([0, 0.5, 1, 2], (T, F)).astype(np.float32)
        mask[0, 0] = 1
        V[mask == 0] = np.nan
    return {"V": V, "W": W, "H": H, "mask": mask}


def close(got: Any, wanted: Any, tolerance: float) -> bool:
    """To `tolerance` relative, or both close to zero."""
    return bool(np.linalg.norm(got - wanted) <= tolerance * np.linalg.norm(wanted) + 1e-6)


@pytest.fixture(params=[1, 3])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = l2i.get_num_threads()
    l2i.set_num_threads(request.param)
    yield request.param
    l2i.set_num_threads(before)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("beta", BETAS)
def test_one_iteration_equals_the_reference(
    beta: float, shape: tuple[int, int, int], masked: bool, cpu_path: str, rng: np.random.Generator
) -> None:
    p = problem(rng, *shape, masked)
    for W_first in (False, True):
        W, H = p["W"].copy(), p["H"].copy()
        w, h = p["W"].copy(), p["H"].copy()
        options = {
            "beta": beta, "l1_W": 0.2, "l2_W": 0.1, "l1_H": 0.3, "l2_H": 0.05, "mask": p["mask"], "W_first": W_first,
        }  # fmt: skip
        n_iter, divergence = factorize(p["V"], W, H, max_iter=1, **options)
        _, wanted = reference.factorize(p["V"], w, h, max_iter=1, **options)
        assert n_iter == 1
        assert close(W, w, 1e-5)
        assert close(H, h, 1e-5)
        # Near a perfect fit it is a small difference of terms as large as V.
        assert divergence == pytest.approx(wanted, rel=1e-5, abs=1e-6 * p["V"].size)


@pytest.mark.parametrize("shape", SHAPES)
def test_coordinate_descent_equals_the_reference(
    shape: tuple[int, int, int], cpu_path: str, rng: np.random.Generator
) -> None:
    p = problem(rng, *shape)
    W, H, w, h = p["W"].copy(), p["H"].copy(), p["W"].copy(), p["H"].copy()
    options = {"beta": 2.0, "solver": "hals", "l1_W": 0.2, "l2_W": 0.1, "l1_H": 0.3, "l2_H": 0.05, "max_iter": 1}
    factorize(p["V"], W, H, **options)
    reference.factorize(p["V"], w, h, **options)
    assert np.linalg.norm(H - h) <= 1e-4 * np.linalg.norm(h)
    assert np.linalg.norm(W - w) <= 1e-4 * np.linalg.norm(w)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("beta", BETAS)
def test_newton_steps_equal_the_reference(
    beta: float, shape: tuple[int, int, int], masked: bool, cpu_path: str, rng: np.random.Generator
) -> None:
    p = problem(rng, *shape, masked)
    (T, F, K), V, W, H, mask = shape, p["V"], p["W"], p["H"], p["mask"]
    damping = rng.uniform(0.7, 3, T).astype(np.float32)
    bin_weights = rng.uniform(0.5, 2, F).astype(np.float32)
    weights = np.float64(1.0) if mask is None else mask
    h, wanted_damping = reference.newton_step(V, H, W, beta, damping, bin_weights, weights, 0.1, 0.05)
    gradient, curvature, gram = np.empty((F, K)), np.empty((F, K)), np.empty((K, K))
    divergence = _core.nmf_newton_pass(
        V, mask, W, H, beta, 0.1, 0.05, 1, damping, bin_weights, 1e-6, gradient, curvature, gram
    )
    # Where a coordinate is on the edge of zero, or a step on the edge of too long, rounding decides: in few frames.
    same = np.abs(damping - wanted_damping) < 1e-5
    same &= np.linalg.norm(H - h, axis=1) <= 1e-3 * np.linalg.norm(h, axis=1) + 1e-6  # sweeps amplify rounding
    assert np.count_nonzero(~same) <= T // 30
    assert divergence == pytest.approx(
        reference.beta_divergence(V.astype(np.float64), H.astype(np.float64) @ W.T, beta, weights),
        rel=1e-5, abs=1e-6 * V.size,
    )  # fmt: skip
    frame_weights = np.maximum(H.astype(np.float64) @ W.mean(axis=0), 1e-6) ** (beta - 2)
    VT, maskT = V.T, weights.T
    w, _ = reference.newton_step(VT, W, H, beta, np.full(F, 1.3), frame_weights, maskT, 0.2, 0.1, search=False)
    _core.nmf_newton_update(W, gradient, curvature, gram, 1.3, 0.2, 0.1, None)
    assert close(W, w, 1e-3)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_newton_never_raises_the_objective_and_ends_below_mu(
    beta: float, masked: bool, penalty: float, rng: np.random.Generator
) -> None:
    if penalty and not 1 <= beta <= 2:
        return
    penalties = dict.fromkeys(("l1_W", "l2_W", "l1_H", "l2_H"), penalty)
    ratios = []
    for _ in range(5):
        p = problem(rng, 150, 60, 10, masked)
        ends = []
        for solver in ("mu", "newton"):
            W, H, seen = p["W"].copy(), p["H"].copy(), []

            def objective(W: np.ndarray = W, H: np.ndarray = H, p: dict[str, Any] = p) -> float:
                weights = 1.0 if p["mask"] is None else p["mask"]
                d = reference.beta_divergence(p["V"].astype(np.float64), H.astype(np.float64) @ W.T, beta, weights)
                return d + sum(penalty * float(x.sum() + np.square(x).sum() / 2) for x in (W, H))

            for n in (5, 10, 20, 40):
                W[...], H[...] = p["W"], p["H"]
                factorize(p["V"], W, H, beta=beta, solver=solver, mask=p["mask"], max_iter=n, **penalties)
                seen.append(objective())
            assert all(b <= a * (1 + 1e-4) for a, b in pairwise(seen)), (solver, seen)
            ends.append(seen[-1])
        ratios.append(ends[1] / ends[0])
    assert np.median(ratios) < 1, ratios


@pytest.mark.parametrize("beta", [1.5, 1.0])
def test_newton_judges_a_step_by_the_objective_with_its_penalties(beta: float, rng: np.random.Generator) -> None:
    # From the best fit, every step that respects the penalties raises the divergence.
    p = problem(rng, 100, 40, 5)
    factorize(p["V"], p["W"], p["H"], beta=beta, solver="newton", max_iter=60)
    penalty = 2.0

    def objective(divergence: float) -> float:
        return divergence + penalty * float(p["W"].sum(dtype=np.float64) + p["H"].sum(dtype=np.float64))

    newton = Newton(p["V"], p["W"], p["H"], beta, l1_W=penalty, l1_H=penalty)
    first = Factorization(p["V"], p["W"], p["H"], beta).divergence()
    before = objective(first)
    for _ in range(10):
        newton.step()
    newton.finish()
    last = Factorization(p["V"], p["W"], p["H"], beta).divergence()
    assert last > first
    assert objective(last) < 0.95 * before


@pytest.mark.parametrize(
    ("beta", "solver"), [(2.0, "mu"), (1.0, "mu"), (0.5, "mu"), (2.0, "hals"), (1.0, "newton"), (0.5, "newton")]
)
def test_either_factor_can_be_kept(beta: float, solver: str, rng: np.random.Generator) -> None:
    p = problem(rng, 90, 40, 5)
    for kept, changed in (("W", "H"), ("H", "W")):
        q = {name: p[name].copy() for name in "WH"}
        before = reference.beta_divergence(p["V"], q["H"] @ q["W"].T, beta)
        _, after = factorize(
            p["V"], q["W"], q["H"], beta=beta, solver=solver, max_iter=8, tol=1e-9, **{f"update_{kept}": False}
        )
        assert np.array_equal(q[kept], p[kept])
        assert not np.array_equal(q[changed], p[changed])
        assert after < before
    with refused(ValueError, "update_W and update_H are both False, but one of W and H must change"):
        factorize(p["V"], p["W"], p["H"], beta=beta, update_W=False, update_H=False)


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_newton_finds_activations_of_a_fixed_dictionary(beta: float, rng: np.random.Generator) -> None:
    ratios = []
    for _ in range(1 if beta == 1 else 5):  # below 1 it is not convex: now and then a frame ends elsewhere
        p = problem(rng, 80, 50, 6)
        ends = []
        for solver, n in (("mu", 2000), ("newton", 40)):
            W, H = p["W"].copy(), np.ones((80, 6), np.float32)
            _, d = factorize(p["V"], W, H, beta=beta, solver=solver, update_W=False, max_iter=n)
            assert np.array_equal(W, p["W"])
            ends.append(d)
        ratios.append(ends[1] / ends[0])
    assert np.median(ratios) <= 1 + 1e-5


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("beta", BETAS)
def test_the_pass_measures_the_divergence_it_leaves(
    beta: float, masked: bool, cpu_path: str, n_threads: int, rng: np.random.Generator
) -> None:
    p = problem(rng, 700, 65, 9, masked)
    f = Factorization(p["V"], p["W"], p["H"], beta, p["mask"])
    measured = f.update_H_and_gather(2, measure=True)
    V = p["V"].astype(np.float64)
    weights = 1.0 if p["mask"] is None else p["mask"]
    wanted = reference.beta_divergence(V, p["H"].astype(np.float64) @ p["W"].T, beta, weights)
    assert f.divergence() == pytest.approx(wanted, rel=1e-5)
    # With the Euclidean loss it comes from the Gram matrix: a small difference of sums as large as the energy of V.
    assert measured == pytest.approx(wanted, rel=1e-5, abs=1e-6 * float(np.nansum(V**2)) if beta == 2 else 0)
    assert f.update_H_and_gather() == 0


@pytest.mark.parametrize(
    ("beta", "method"), [(2.0, "mu"), (1.0, "mu"), (0.0, "mu"), (2.0, "hals"), (1.0, "newton"), (0.0, "newton")]
)
def test_fixed_components_stay(beta: float, method: str, cpu_path: str, rng: np.random.Generator) -> None:
    p = problem(rng, 90, 37, 6)
    fixed = np.array([True, False, False, True, False, True])
    before = p["W"].copy()
    factorize(p["V"], p["W"], p["H"], beta=beta, solver=method, fixed=fixed, max_iter=5)
    assert np.array_equal(p["W"][:, fixed], before[:, fixed])
    assert not np.isclose(p["W"][:, ~fixed], before[:, ~fixed]).all(axis=0).any()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("beta", BETAS)
def test_every_iteration_lowers_the_objective(beta: float, masked: bool, rng: np.random.Generator) -> None:
    p = problem(rng, 120, 33, 5, masked)
    penalties = {"l1_W": 0.5, "l2_W": 0.2, "l1_H": 0.4, "l2_H": 0.1} if 1 <= beta <= 2 else {}
    seen = []
    for _ in range(12):
        _, d = factorize(p["V"], p["W"], p["H"], beta=beta, max_iter=1, mask=p["mask"], **penalties)
        for name in "WH":
            x = p[name].astype(np.float64)
            d += penalties.get(f"l1_{name}", 0) * x.sum() + penalties.get(f"l2_{name}", 0) / 2 * (x**2).sum()
        seen.append(d)
    assert all(b <= a * (1 + 1e-5) for a, b in pairwise(seen)), seen
    assert seen[-1] < seen[0]


def test_missing_entries_are_found_again(rng: np.random.Generator) -> None:
    ratios = []
    for _ in range(5):
        full = rng.gamma(1.0, 1.0, (200, 3)) @ rng.gamma(0.3, 1.0, (3, 40))
        mask = (rng.random(full.shape) < 0.7).astype(np.float32)
        V = np.where(mask > 0, full, np.nan).astype(np.float32)
        W, H = rng.random((40, 3), dtype=np.float32) + 0.1, rng.random((200, 3), dtype=np.float32) + 0.1
        factorize(V, W, H, beta=1.0, max_iter=500, mask=mask)
        gone = mask == 0
        ratios.append(relative((H @ W.T)[gone], full[gone]))
    assert np.median(ratios) < 0.05, ratios


@pytest.mark.parametrize("beta", [2.0, 1.0, 0.0])
def test_same_bits_for_the_same_threads(beta: float, n_threads: int, esc10: Dataset) -> None:
    y = esc10.audio(esc10.clips[7], 44100)
    V = np.ascontiguousarray(np.log1p(np.abs(l2i.stft(y))).T) + np.float32(1e-3)
    rng = np.random.default_rng(0)
    W0, H0 = rng.random((513, 20), dtype=np.float32), rng.random((len(V), 20), dtype=np.float32)
    results = []
    for _ in range(3):
        W, H = W0.copy(), H0.copy()
        factorize(V, W, H, beta=beta, max_iter=5)
        results.append((W, H))
    for W, H in results[1:]:
        assert np.array_equal(W, results[0][0])
        assert np.array_equal(H, results[0][1])


def test_threads_differ_in_rounding_only(rng: np.random.Generator) -> None:
    p = problem(rng, 1000, 65, 12)
    answers = []
    for n in (1, 2, 5):
        l2i.set_num_threads(n)
        W, H = p["W"].copy(), p["H"].copy()
        factorize(p["V"], W, H, beta=1.0, max_iter=3)
        answers.append(H @ W.T)
    l2i.set_num_threads(1)
    for answer in answers[1:]:
        assert relative(answer, answers[0]) < 1e-5


@given(exponent=st.integers(-37, 3), zeros=st.booleans(), beta=st.sampled_from(BETAS), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_no_nan_on_zeros_denormals_and_tiny_values(exponent: int, zeros: bool, beta: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = problem(rng, 40, 21, 5)
    V = (p["V"] * 10.0**exponent).astype(np.float32)
    if zeros:
        V[::3] = 0
        V[:, 4] = 0
        V[5, 5] = 1e-42
    p["W"][::4] = 0
    W, H = p["W"], p["H"]
    factorize(V, W, H, beta=beta, max_iter=10)
    assert np.isfinite(W).all()
    assert np.isfinite(H).all()


def test_denormal_mode_is_restored_in_every_thread(rng: np.random.Generator) -> None:
    def denormals_live() -> bool:
        return bool((np.full(8, 1e-40, np.float32) * np.float32(0.5)).all())

    p = problem(rng, 800, 33, 5)
    l2i.set_num_threads(2)
    factorize(p["V"], p["W"], p["H"], beta=1.0, max_iter=2)
    l2i.set_num_threads(1)
    assert denormals_live()


def test_memory_does_not_grow_with_the_frames() -> None:
    code = """
import resource
import numpy as np
from l2i_fast.nmf.factorize import Factorization
rng = np.random.default_rng(0)
V, H = rng.random((40000, 513), dtype=np.float32), rng.random((40000, 100), dtype=np.float32)
W = rng.random((513, 100), dtype=np.float32)
f = [Factorization(V, W, H, beta) for beta in (2.0, 1.0, 0.0)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for one in f:
    one.update_H_and_gather(measure=True)
    one.update_W()
    one.divergence()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import l2i_fast as l2i; l2i.set_num_threads(1)\n{code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(done.stdout) < 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W": np.ones((4, 3), np.float32)}, "W must have as many rows as V has bins"),
        ({"H": np.ones((10, 2), np.float32)}, "H must have as many frames as V and as many components as W"),
        ({"mask": np.ones((10, 4), np.float32)}, "mask must have the shape of V"),
        ({"V": np.ones((10, 5))}, "V must be an aligned array of 2 dimensions and dtype float32"),
        ({"V": np.ones((5, 10), np.float32).T}, "V must be contiguous in its last dimension"),
    ],
)
def test_unsuitable_operands_are_refused(change: dict[str, Any], message: str) -> None:
    p = {"V": np.ones((10, 5), np.float32), "W": np.ones((5, 3), np.float32), "H": np.ones((10, 3), np.float32)}
    p["mask"] = None
    p |= change
    with refused((ValueError, TypeError), message):
        Factorization(p["V"], p["W"], p["H"], 1.0, p["mask"]).update_H()


def test_unsuitable_methods_are_refused(rng: np.random.Generator) -> None:
    p = problem(rng, 10, 5, 3)
    with refused(ValueError, "solver is 'simplex', but must be one of mu, hals, newton"):
        factorize(p["V"], p["W"], p["H"], beta=2.0, solver="simplex")
    with refused(ValueError, "method is 'hals', but must be 'mu' for all but the Euclidean loss without mask"):
        factorize(p["V"], p["W"], p["H"], beta=1.0, solver="hals")
    p["H"].setflags(write=False)
    with refused(ValueError, "H must be writeable"):
        factorize(p["V"], p["W"], p["H"], beta=1.0)
    assert _core.nmf_divergence(p["V"], None, p["W"], p["H"], 1.0) > 0
