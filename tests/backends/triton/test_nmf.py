"""Triton's kernels of NMF: interpreted or on a GPU, against float64; and compiled ahead of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from l2i_fast import reference
from l2i_fast.backends import torch as with_torch
from l2i_fast.backends.precision import set_gpu_precision
from l2i_fast.backends.triton import launch_nmf as nmf
from l2i_fast.kernels.triton.nmf import LARGEST, blocks

from ...helpers import relative, served_after_triton
from . import ahead

BETAS = [2.0, 1.5, 1.0, 0.5, 0.0, 3.0, -1.0, 0.7]
#: Frames of a chunk. The interpreter is slow, so its chunks have fewer.
CHUNK = 512 if torch.cuda.is_available() else 64
#: One of each; tails of the blocks of 16 and 32 frames, bins and components; two pieces of K; more than a chunk.
SHAPES = [(1, 1, 1), (33, 37, 19), (20, 17, 70), (CHUNK + 18, 5, 3)]


@pytest.fixture(autouse=True)
def chunk(monkeypatch):
    monkeypatch.setattr(nmf, "_CHUNK", CHUNK)


def problem(rng: np.random.Generator, T: int, F: int, K: int, masked: bool = False) -> dict[str, Any]:
    V = (rng.gamma(1.0, 1.0, (T, F)) + 0.01).astype(np.float32)
    W = (rng.gamma(0.5, 1.0, (F, K)) + 1e-3).astype(np.float32)
    H = (rng.gamma(0.5, 1.0, (T, K)) + 1e-3).astype(np.float32)
    mask = None
    if masked:
        mask = rng.choice([0, 0.5, 1, 2], (T, F)).astype(np.float32)
        mask[0, 0] = 1
        V[mask == 0] = np.nan
    return {"V": V, "mask": mask, "W": W, "H": H}


def on(device: torch.device, p: dict[str, Any]) -> list[Any]:
    return [None if x is None else torch.tensor(x, device=device) for x in p.values()]


def updated(p: dict[str, Any], beta: float, l1: float = 0.0, l2: float = 0.0, n: int = 1) -> np.ndarray:
    W, H = p["W"].astype(np.float64), p["H"].astype(np.float64)
    reference.factorize(
        p["V"], W, H, beta=beta, l1_H=l1, l2_H=l2, mask=p["mask"], max_iter=n, update_W=False
    )  # fmt: skip
    return H


def sums(p: dict[str, Any], beta: float) -> tuple[np.ndarray, np.ndarray]:
    H, m = p["H"].astype(np.float64), p["H"].astype(np.float64) @ p["W"].T
    weights = np.ones(m.shape) if p["mask"] is None else p["mask"]
    V = np.where(weights > 0, p["V"], 0).astype(np.float64)
    numerator = (weights * V * m ** (beta - 2)).T @ H
    if p["mask"] is None and beta in (1, 2):
        return numerator, H.T @ H if beta == 2 else H.sum(0)
    return numerator, (weights * m ** (beta - 1)).T @ H


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("beta", BETAS)
def test_one_pass_equals_the_reference(beta, masked, shape, device, rng):
    if shape[0] > CHUNK and beta not in (2.0, 1.0, 0.0):
        return
    p = problem(rng, *shape, masked)
    V, mask, W, H = on(device, p)
    numerator, denominator = nmf.nmf_gather(V, mask, W, H, beta)
    wanted = sums(p, beta)
    assert numerator.dtype == denominator.dtype == torch.float64
    assert relative(numerator, wanted[0]) < 1e-5
    assert relative(denominator, wanted[1]) < 1e-5
    divergence = nmf.nmf_divergence(V, mask, W, H, beta)
    weights = 1.0 if mask is None else p["mask"]
    model = p["H"].astype(np.float64) @ p["W"].T
    assert divergence.dtype == torch.float64
    assert divergence.shape == ()
    assert float(divergence) == pytest.approx(
        reference.beta_divergence(p["V"].astype(np.float64), model, beta, weights), rel=1e-5, abs=1e-6 * model.size
    )
    nmf.nmf_update_H(V, mask, W, H, beta, 0.3, 0.05, 1)
    assert relative(H, updated(p, beta, 0.3, 0.05)) < 1e-5


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("beta", [2.0, 1.0, 0.0, 0.7])
def test_several_updates_at_once(beta, masked, device, rng):
    p = problem(rng, 35, 18, 20, masked)
    V, mask, W, H = on(device, p)
    nmf.nmf_update_H(V, mask, W, H, beta, 0.1, 0.0, 5)
    assert relative(H, updated(p, beta, 0.1, n=5)) < 1e-4
    before = H.clone()
    nmf.nmf_update_H(V, mask, W, H, beta, 0.1, 0.0, 0)
    assert torch.equal(H, before)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("beta", [2.0, 1.0, 0.5])
def test_clips_end_where_their_lengths_say(beta, masked, device, rng):
    lengths = [40, 0, 33, 1]
    ps = [problem(rng, 40, 18, 5, masked) for _ in lengths]
    V, H = (torch.stack([torch.tensor(p[name]) for p in ps]).to(device) for name in "VH")
    mask = torch.stack([torch.tensor(p["mask"]) for p in ps]).to(device) if masked else None
    for v, n in zip(V, lengths, strict=True):
        v[n:] = torch.nan  # arbitrary values beyond the end
    W = torch.tensor(ps[0]["W"], device=device)
    before = H.clone()
    nmf.nmf_update_H(V, mask, W, H, beta, 0.1, 0.2, 2, lengths=torch.tensor(lengths, dtype=torch.int32, device=device))
    for p, h, was, n in zip(ps, H, before, lengths, strict=True):
        assert torch.equal(h[n:], was[n:])
        if n:
            q = {"V": p["V"][:n], "mask": p["mask"][:n] if masked else None, "W": ps[0]["W"], "H": p["H"][:n]}
            assert relative(h[:n], updated(q, beta, 0.1, 0.2, n=2)) < 2e-5
    whole = before.clone()
    nmf.nmf_update_H(V.nan_to_num(1), mask, W, whole, beta, 0.1, 0.2, 2)  # without lengths: all frames
    assert relative(whole[0], H[0]) < 1e-6
    assert not torch.equal(whole[1], before[1])


@pytest.mark.parametrize("beta", [2.0, 1.0])
def test_lengths_beyond_the_end_are_the_end(beta, device, rng):
    p = problem(rng, 80, 18, 5)
    V, _, W, H = on(device, p)
    h = H.reshape(2, 40, 5)
    before = h[1].clone()
    lengths = torch.tensor([1000, 0], dtype=torch.int32, device=device)
    nmf.nmf_update_H(V.reshape(2, 40, 18), None, W, h, beta, 0.1, 0.0, 1, lengths=lengths)
    assert torch.equal(h[1], before)
    assert relative(h[0], updated(p, beta, 0.1)[:40]) < 1e-5


def test_the_largest_activation_is_the_sum_of_its_terms():
    largest = torch.tensor(LARGEST.value)
    assert largest.bfloat16().float() == largest < torch.finfo(torch.float32).max


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("exponent", [-44, -30, 3])
def test_no_nan_on_zeros_denormals_and_extremes(beta, exponent, device, rng):
    p = problem(rng, 20, 17, 5)
    V = p["V"].astype(np.float64) * 10.0**exponent
    V[::3] = 0
    V[:, 4] = 0
    p["V"] = V.astype(np.float32)
    p["W"][::4] = 0
    p["H"][::5] = 0
    V, mask, W, H = on(device, p)
    nmf.nmf_update_H(V, mask, W, H, beta, 0.0, 0.0, 3)
    assert torch.isfinite(H).all()
    assert all(torch.isfinite(x).all() for x in nmf.nmf_gather(V, mask, W, H, beta))


def test_powers_that_overflow_only_beyond_the_columns(device, rng):
    p = problem(rng, 5, 17, 2)
    p["W"] += 0.5
    p["H"] += 0.5
    V, mask, W, H = on(device, p)
    nmf.nmf_update_H(V, mask, W, H, -6.0, 0.0, 0.0, 1)
    assert relative(H, updated(p, -6.0)) < 1e-4


@pytest.mark.parametrize(("beta", "scale"), [(2.0, 1e15), (1.0, 1e30)])
def test_numbers_as_large_as_float32_can_multiply(beta, scale, device, rng):
    p = problem(rng, 20, 17, 5)
    for name in "VH":
        p[name] = (p[name] * scale).astype(np.float32)
    V, mask, W, H = on(device, p)
    nmf.nmf_update_H(V, mask, W, H, beta, 0.0, 0.0, 1)
    assert relative(H / scale, updated(p, beta) / scale) < 1e-5


@pytest.mark.parametrize("beta", [2.0, 1.0, 0.0])
def test_same_bits(beta, device, rng):
    answers = []
    p = problem(rng, CHUNK + 8, 20, 3)
    for _ in range(2):
        V, mask, W, H = on(device, p)
        nmf.nmf_update_H(V, mask, W, H, beta, 0.0, 0.0, 2)
        answers.append([H, *nmf.nmf_gather(V, mask, W, H, beta), nmf.nmf_divergence(V, mask, W, H, beta)])
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))


@pytest.mark.parametrize("beta", [2.0, 1.0, 0.0])
def test_no_frames(beta, device, rng):
    V, mask, W, H = on(device, problem(rng, 0, 7, 3))
    nmf.nmf_update_H(V, mask, W, H, beta, 0.0, 0.0, 2)
    assert all(not x.any() for x in nmf.nmf_gather(V, mask, W, H, beta))
    assert nmf.nmf_divergence(V, mask, W, H, beta) == 0


def test_more_components_than_fit_are_left_to_torch(device, rng):
    V, mask, W, H = on(device, problem(rng, 4, 7, 129))
    update, gather, divergence = (
        served_after_triton(name, K=129) for name in ("nmf_update_H", "nmf_gather", "nmf_divergence")
    )
    h, expected = H.clone(), H.clone()
    update(V, mask, W, h, 1.0, 0.1, 0.0, 2)
    with_torch.nmf_update_H(V, mask, W, expected, 1.0, 0.1, 0.0, 2)
    assert torch.equal(h, expected)
    for ours, theirs in zip(gather(V, mask, W, H, 1.0), with_torch.nmf_gather(V, mask, W, H, 1.0), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(divergence(V, mask, W, H, 1.0), with_torch.nmf_divergence(V, mask, W, H, 1.0))
    assert served_after_triton("nmf_pass", K=128) is nmf.nmf_pass


@pytest.mark.parametrize(("precision", "low", "high"), [("tf32", 0, 2e-3), ("bf16", 1e-4, 1e-2)])
def test_lower_precision_can_be_chosen(precision, low, high, device, rng):
    p = problem(rng, 40, 30, 12)
    V, mask, W, H = on(device, p)
    set_gpu_precision(precision)
    try:
        nmf.nmf_update_H(V, mask, W, H, 1.0, 0.0, 0.0, 1)
    finally:
        set_gpu_precision("float32")
    # The interpreter multiplies float32 where a GPU multiplies TF32.
    assert low <= relative(H, updated(p, 1.0)) < high


TYPES = {
    **dict.fromkeys(("V", "mask", "W", "H", "X", "Y", "out", "sums", "gram", "numerator", "denominator"), "*fp32"),
    **dict.fromkeys(("T", "n", "chunks", "M", "N", "span", "row", "column"), "i32"),
    **dict.fromkeys(("beta", "gamma", "l1", "l2"), "fp32"),
    "lengths": "*i32",
}  # fmt: skip


def kernel(name: str, arguments: str, warps: int = 4, types: dict[str, str] | None = None, **constants: Any) -> Any:
    chosen = {n: (types or TYPES)[n] for n in arguments.split()}
    pointers = tuple(n for n, type_ in chosen.items() if type_[0] == "*")
    return ahead.Kernel("nmf", name, chosen, {"K": 100, "PIECE": 64, **constants}, pointers, warps, 1)


def passes(architecture: int, loss: str, full: bool, masked: bool, precision: str) -> list[Any]:
    found = []
    for rows, columns, warps in blocks(architecture == 90, full, masked):
        shared = {"F": 513, "LOSS": loss, "FULL": full, "MASKED": masked, "PRECISION": precision}
        arguments = "V mask W sums H lengths T beta gamma l1 l2 n"
        found.append(kernel("update_H", arguments, warps, **shared, RAGGED=False, FRAMES=rows, BINS=columns))
        arguments = "V mask W H numerator denominator T chunks beta"
        found.append(kernel("gather", arguments, warps, **shared, BINS=rows, FRAMES=columns, CHUNK=512))
    return found


def others(precision: str) -> list[Any]:
    shared = {"PRECISION": precision}
    return [
        kernel("product", "X Y out M N span row column", **shared, ROWS=64, COLUMNS=32),
        kernel(
            "update_H_euclidean", "numerator gram H lengths T l1 l2 n", **shared, RAGGED=True, FRAMES=64, COLUMNS=16
        ),
        kernel(
            "divergence", "V mask W H out T beta", types={**TYPES, "out": "*fp64"}, **shared, F=513,
            LOSS="kullback_leibler", MASKED=False, FRAMES=64, BINS=32,
        ),
    ]  # fmt: skip


def launched(architecture: int) -> list[Any]:
    """The kernels for 513 bins and 100 components, without those that need less of every resource."""
    simple, double, masked, tf32, bf16 = (
        passes(architecture, *of)
        for of in [
            ("kullback_leibler", False, False, "tf32x3"),
            ("itakura_saito", True, False, "tf32x3"),
            ("general", True, True, "tf32x3"),
            ("kullback_leibler", False, False, "tf32"),
            ("kullback_leibler", False, False, "bf16"),
        ]
    )
    some = [*double[-2:], masked[-1], bf16[-1], *others("tf32x3")]
    return [*simple, *double[:2], tf32[-1], *some] if architecture == 90 else some


@pytest.mark.parametrize("architecture", ahead.ARCHITECTURES)
def test_kernels_fit_registers_and_use_tensor_cores_ahead_of_time(architecture):
    kernels, hopper = launched(architecture), architecture == 90
    for k, report in zip(kernels, ahead.compile_all([(k, architecture) for k in kernels]), strict=True):
        assert report.spills == 0, (architecture, k, report)
        assert 32 < report.registers <= 255, (architecture, k, report)  # fewer: an empty kernel, by an error
        assert report.shared <= (140 if hopper else 99) * 1024, (architecture, k, report)
        in_blocks_of_64 = 32 not in (k.constants.get("FRAMES"), k.constants.get("BINS")) or report.shared > 50000
        if hopper and in_blocks_of_64 and not k.constants.get("MASKED"):
            assert report.instructions == ["wgmma.mma_async"], (architecture, k, report)
        else:
            assert report.instructions, (architecture, k, report)
