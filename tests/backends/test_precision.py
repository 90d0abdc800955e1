"""Products in bfloat16 terms: on every CPU path against float64, and the AMX kernels on emulated tiles."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import l2i_fast as l2i
from l2i_fast import _core, reference
from l2i_fast.backends.precision import CpuPrecision as Precision
from l2i_fast.backends.precision import at_cpu_precision as at_precision
from l2i_fast.data import Dataset
from l2i_fast.nmf.factorize import Factorization, factorize

from ..helpers import refused, relative

ROOT = Path(__file__).parents[2]
#: Relative error of one update, L2: docs/nmf.md states what is usual, these are what roundings can add up to.
BOUNDS: dict[Precision, float] = {"bf16x3": 3e-6, "bf16x2": 5e-5, "bf16": 2e-2}
# Tails of tiles (16 rows, 32 along the sum) and vectors, one and several panels.
SHAPES = [(1, 1, 1), (7, 5, 3), (17, 49, 8), (33, 97, 101), (97, 130, 13), (200, 513, 100), (385, 16, 4)]


@pytest.fixture(params=BOUNDS)
def precision(request: pytest.FixtureRequest) -> Iterator[Precision]:
    """Each precision below float32, in force for one test."""
    l2i.set_cpu_precision(request.param)
    yield request.param
    l2i.set_cpu_precision("float32")


def problem(rng: np.random.Generator, T: int, F: int, K: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    V = rng.gamma(1.0, 1.0, (T, F)).astype(np.float32) + np.float32(0.01)
    W = rng.gamma(0.5, 1.0, (F, K)).astype(np.float32) + np.float32(1e-3)
    H = rng.gamma(0.5, 1.0, (T, K)).astype(np.float32) + np.float32(1e-3)
    return V, W, H


def close(got: Any, wanted: Any, tolerance: float) -> bool:
    """To `tolerance` relative, or both close to zero."""
    return bool(np.linalg.norm(got - wanted) <= tolerance * np.linalg.norm(wanted) + 1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("beta", [2.0, 1.5, 1.0, 0.0, 3.0, -1.0])
def test_one_iteration_equals_the_reference(
    beta: float, shape: tuple[int, int, int], masked: bool, precision: Precision, bf16_path: str,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    V, W, H = problem(rng, *shape)
    mask = None
    if masked:
        mask = rng.choice([0, 0.5, 1, 2], V.shape).astype(np.float32)
        mask[0, 0] = 1
        V[mask == 0] = np.nan
    w, h = W.copy(), H.copy()
    options: dict[str, Any] = {"beta": beta, "l1_W": 0.2, "l2_W": 0.1, "l1_H": 0.3, "l2_H": 0.05, "mask": mask}
    factorize(V, W, H, max_iter=1, **options)
    reference.factorize(V, w, h, max_iter=1, **options)
    assert close(H, h, BOUNDS[precision])
    assert close(W, w, 2 * BOUNDS[precision])  # from that H


def test_errors_match_the_number_of_terms(bf16_path: str, rng: np.random.Generator) -> None:
    V, W, H = problem(rng, 150, 200, 40)
    wanted = V.astype(np.float64).T @ H
    errors = [relative(gather(V, W, H, n), wanted) for n in (1, 2, 3)]
    assert 1e-4 < errors[0] < 4e-3
    assert 5e-8 < errors[1] < 1e-5
    assert errors[2] < 1e-6


def gather(V: np.ndarray, W: np.ndarray, H: np.ndarray, n_terms: int) -> np.ndarray:
    """V' H as in the update of W for the Euclidean loss."""
    numerator, gram = np.zeros(W.shape), np.zeros((W.shape[1], W.shape[1]))
    _core.nmf_pass(V, None, W, H.copy(), 2.0, "mu", 0, 0, 0, numerator, gram, False, n_terms)
    return numerator


# n terms hold 8 n bits of a factor; if both factors are long, n terms altogether.
@pytest.mark.parametrize(
    ("n", "bits"), [(1, (8, 8)), (2, (16, 8)), (2, (8, 16)), (3, (24, 1)), (3, (1, 24)), (3, (12, 12)), (3, (16, 8))]
)
def test_numbers_that_fit_the_terms_multiply_exactly(
    n: int, bits: tuple[int, int], bf16_path: str, rng: np.random.Generator
) -> None:
    T, F, K = 61, 83, 21
    V, H = (rng.integers(0, 2**b, (T, size)).astype(np.float32) for b, size in zip(bits, (F, K), strict=True))
    if sum(bits) > 16:  # a sum of products would round, a single one does not
        H *= np.arange(T)[:, None] == rng.integers(0, T, K)
    W = rng.random((F, K)).astype(np.float32)
    assert np.array_equal(gather(V, W, H, n), V.astype(np.float64).T @ H)


@pytest.mark.parametrize("beta", [2.0, 1.0, 0.0])
def test_a_pass_measures_the_objective(
    beta: float, precision: Precision, bf16_path: str, rng: np.random.Generator
) -> None:
    V, W, H = problem(rng, 150, 200, 40)
    f = Factorization(V, W, H, beta)
    for _ in range(3):
        measured = f.update_H_and_gather(measure=True)
        wanted = f.divergence()
        f.update_W()
        assert abs(measured - wanted) <= (1e-6 * np.sum(V.astype(np.float64) ** 2) if beta == 2 else 1e-3 * wanted)


def test_ties_go_to_the_even_neighbour(bf16_path: str) -> None:
    V = np.array([[257, 259, 511]], np.float32)  # nine bits: halfway between two numbers of eight
    one = np.ones((1, 1), np.float32)
    assert gather(V, np.ones((3, 1), np.float32), one, 1).ravel().tolist() == [256, 260, 512]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_largest_values_stay_finite(n: int, bf16_path: str) -> None:
    largest = np.finfo(np.float32).max  # above the largest bfloat16, next to infinity
    V = np.array([[largest, 1], [largest, 2], [3, largest]], np.float32)
    H = np.array([[0], [0], [1]], np.float32)
    got = gather(V, np.ones((2, 1), np.float32), H, n).ravel()
    assert got[0] == 3
    assert 0.995 * largest < got[1] <= largest


def test_products_of_small_terms_are_left_out(bf16_path: str) -> None:
    x = np.array([[256 + 1]], np.float32)  # two terms
    wanted = [256 * 256, 256 * 256 + 2 * 256, 257 * 257]
    assert [gather(x, np.ones((1, 1), np.float32), x, n).item() for n in (1, 2, 3)] == wanted


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e30])
@pytest.mark.parametrize("beta", [2.0, 1.0, 0.0])
def test_any_level_stays_finite(
    beta: float, scale: float, precision: Precision, bf16_path: str, rng: np.random.Generator
) -> None:
    V, W, H = problem(rng, 50, 40, 5)
    V *= np.float32(scale)
    V[::7] = 0
    V[:, ::9] = np.finfo(np.float32).max
    H[:, 1] = 0
    W[:, 2] = 1e-42
    factorize(V, W, H, beta=beta, max_iter=5)
    assert np.isfinite(W).all()
    assert np.isfinite(H).all()


@pytest.mark.parametrize("beta", [2.0, 1.0])
def test_many_iterations_end_near_those_of_float32(beta: float, precision: Precision, esc10: Dataset) -> None:
    clip = esc10.audio(esc10.clips[7], 44100)
    V = np.ascontiguousarray(np.log1p(np.abs(l2i.stft(clip / np.abs(clip).max()))).T)
    rng = np.random.default_rng(0)
    _, W, H = problem(rng, *V.shape, 30)
    ends = []
    for chosen in ("float32", precision):
        l2i.set_cpu_precision(chosen)
        w, h = W.copy(), H.copy()
        _, divergence = factorize(V, w, h, beta=beta, max_iter=100)
        ends.append(divergence)
    assert abs(ends[1] / ends[0] - 1) < {"bf16x3": 1e-4, "bf16x2": 1e-3, "bf16": 3e-2}[precision]


def test_bits_depend_on_neither_the_call_nor_other_frames(precision: Precision, rng: np.random.Generator) -> None:
    V, W, H = problem(rng, 300, 97, 20)
    answers = []
    for _ in range(2):
        w, h = W.copy(), H.copy()
        factorize(V, w, h, beta=1.0, max_iter=3)
        answers.append((w, h))
    assert all(np.array_equal(a, b) for a, b in zip(*answers, strict=True))
    alone = H[:96].copy()
    factorize(V[:96], W.copy(), alone, beta=1.0, max_iter=3, update_W=False)
    together = H.copy()
    factorize(V, W.copy(), together, beta=1.0, max_iter=3, update_W=False)
    assert np.array_equal(alone, together[:96])


def test_threads_change_rounding_only(precision: Precision, bf16_path: str, rng: np.random.Generator) -> None:
    V, W, H = problem(rng, 1500, 65, 9)
    before = l2i.get_num_threads()
    answers = []
    for n in (1, 3):
        l2i.set_num_threads(n)
        try:
            w, h = W.copy(), H.copy()
            factorize(V, w, h, beta=1.0, max_iter=1)
        finally:
            l2i.set_num_threads(before)
        answers.append((w, h))
    (w, h), (others_w, others_h) = answers
    assert np.array_equal(h, others_h)
    assert relative(others_w, w) < 1e-6  # sums over frames in another order


def test_only_multiplicative_updates_change(rng: np.random.Generator) -> None:
    V, W, H = problem(rng, 60, 33, 7)
    answers = {}
    for chosen in ("float32", "bf16"):
        l2i.set_cpu_precision(chosen)
        try:
            for solver, beta in (("mu", 2.0), ("hals", 2.0), ("newton", 1.0)):
                for update_W in (False, True):
                    h = H.copy()
                    factorize(V, W.copy(), h, beta=beta, solver=solver, max_iter=3, update_W=update_W)
                    answers[chosen, solver, update_W] = h
            answers[chosen, "activations"] = l2i.activations(V.T, W, 1.0, 5)
        finally:
            l2i.set_cpu_precision("float32")
    for name in (("hals", False), ("hals", True), ("newton", False), ("newton", True)):
        assert np.array_equal(answers["bf16", *name], answers["float32", *name])
    for name in (("mu", False), ("mu", True), ("activations",)):
        assert 1e-5 < relative(answers["bf16", *name], answers["float32", *name]) < 5e-2


def test_choice_is_checked() -> None:
    assert l2i.get_cpu_precision() == "float32"
    for precision in get_args(Precision):
        with at_precision(precision):
            assert l2i.get_cpu_precision() == precision
            assert Factorization(*problem(np.random.default_rng(0), 4, 3, 2), 2.0).precision == precision
    assert l2i.get_cpu_precision() == "float32"
    with refused(ValueError, "precision is 'fp8', but must be one of float32, bf16x3, bf16x2, bf16"):
        l2i.set_cpu_precision("fp8")  # type: ignore[arg-type]
    V, W, H = problem(np.random.default_rng(0), 4, 3, 2)
    for n in (-1, 4):
        with refused(ValueError, "n_terms must be from 0 to 3"):
            gather(V, W, H, n)


@lru_cache(maxsize=1)
def emulated_tiles() -> ctypes.CDLL | str:
    """The AMX kernels on emulated tiles, or the reason why they cannot be compiled."""
    flags = ["-mavx2", "-mfma", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mamx-tile", "-mamx-bf16"]
    compiler = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    if compiler is None:
        return "no C++ compiler"
    if not _core.cpu_features()["avx512"]:
        return "the vectors beside the tiles need AVX-512"
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "tiles.so"
        options = ["-O2", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        options += [f"-I{ROOT}/kernels", f"-I{ROOT}/csrc", "-DL2I_ISA=amx", "-DL2I_LANES=16", *flags]
        source = str(Path(__file__).parent / "emulated_tiles.cpp")
        done = subprocess.run([compiler, *options, source, "-o", str(target)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return ctypes.CDLL(str(target))


def words(size: int) -> np.ndarray:
    return np.full(size, 0xDEADBEEF, np.uint32)


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def sizes(*values: int) -> list[ctypes.c_ssize_t]:
    return [ctypes.c_ssize_t(value) for value in values]


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("n_rows", "depth", "lanes"), [(1, 1, 16), (16, 32, 32), (17, 33, 48), (40, 100, 48), (96, 96, 16), (33, 5, 32)]
)
def test_tiles_multiply_as_they_should(
    n_rows: int, depth: int, lanes: int, transposed: bool, add: bool, n: int, rng: np.random.Generator
) -> None:
    native = emulated_tiles()
    if isinstance(native, str):
        if os.environ.get("CI") and "compiler" in native:
            pytest.fail(native)
        pytest.skip(native)
    A, B, C = (rng.gamma(0.5, 1.0, s).astype(np.float32) for s in ((n_rows, depth), (depth, lanes), (n_rows, lanes)))
    row_tiles, steps = -(-n_rows // 16), -(-depth // 32)
    stride = steps * n * 256
    packed_A, packed_B = words(row_tiles * stride), words(steps * n * 16 * lanes)
    if transposed:
        columns = np.ascontiguousarray(A.T)
        native.pack_columns(pointer(columns), *sizes(n_rows, depth, n_rows), n, pointer(packed_A))
    else:
        native.pack_rows(pointer(A), *sizes(depth, n_rows, depth), n, pointer(packed_A))
    native.pack_panel(pointer(B), *sizes(lanes, depth, lanes), n, pointer(packed_B))
    got = np.concatenate([C, np.full((1, lanes), 7, np.float32)])  # a row that must not be touched
    faults = native.multiply(
        pointer(packed_A), *sizes(stride), pointer(packed_B), n, *sizes(n_rows, depth, lanes), add, pointer(got)
    )
    assert faults == 0
    assert native.n_products() == row_tiles * steps * lanes // 16 * n * (n + 1) // 2
    wanted = A.astype(np.float64) @ B + (C if add else 0)
    assert relative(got[:-1], wanted) <= {1: 8e-3, 2: 2e-5, 3: 5e-7}[n]
    assert (got[-1] == 7).all()
