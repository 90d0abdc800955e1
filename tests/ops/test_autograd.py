"""Gradients of soft_mask and decode against autograd through float64 versions, on every compiled CPU path."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import l2i_fast as l2i
from l2i_fast import reference
from l2i_fast.data import Dataset
from l2i_fast.settings import DOMAINS

from ..helpers import refused, relative

#: Added to the denominator. Where all components have about the same weight, the gradient of H is as small as this
#: beside its terms, and so would be lost in their rounding.
EPS = 0.1
SIZES = [(513, 100, 43), (513, 7, 1), (257, 80, 16), (100, 37, 33), (17, 3, 5), (2, 2, 3), (1, 1, 9), (129, 13, 600)]


def masked(X: Tensor, W: Tensor, H: Tensor, weights: Tensor, domain: str, eps: float = EPS) -> Tensor:
    """`reference.soft_mask` in torch."""
    mask = W @ (weights[..., None] * H) / (eps + W @ H)
    if domain == "magnitude":
        return mask * X
    if domain == "wiener":
        return mask**4 / (mask**4 + (1 - mask) ** 4) * X
    a = X.abs()
    silent = a == 0
    return torch.where(silent, mask, torch.expm1(mask * a.log1p()) / torch.where(silent, 1.0, a)) * X


def audible(Y: Tensor, window: Tensor, hop: int, center: bool, length: int) -> Tensor:
    """`reference.istft` in torch."""
    n_fft, T = len(window), Y.shape[-1]
    start = n_fft // 2 if center else 0
    size = max(n_fft + hop * (T - 1), start + length)
    frames = torch.fft.irfft(Y.mT, n=n_fft) * window
    at = (torch.arange(T)[:, None] * hop + torch.arange(n_fft)).flatten()
    sums = torch.zeros(*Y.shape[:-2], size, dtype=torch.float64).index_add(-1, at, frames.flatten(-2))
    squares = torch.zeros(size, dtype=torch.float64).index_add(0, at, (window**2).repeat(T))
    y = sums / torch.where(squares > np.finfo(np.float32).tiny, squares, 1.0)
    return y[..., start : start + length]


def operands(rng: np.random.Generator, F: int, K: int, T: int) -> tuple[NDArray[Any], ...]:
    """Magnitudes of many orders, with zeros; W with zeros; soft weights, some 0 and some 1."""
    X = rng.standard_normal((T, F)) + 1j * rng.standard_normal((T, F))
    X *= np.exp(3 * rng.standard_normal((T, F))) * (rng.random((T, F)) < 0.9)
    W = rng.random((F, K)) * (rng.random((F, K)) < 0.7)
    H = rng.uniform(0.05, 1, (K, T))
    X[0, 0], W[:, 0] = 1 + 1j, 0.5
    weights = np.clip(rng.uniform(-0.5, 1.5, K), 0, 1)
    weights[0] = 0.75
    return X.astype(np.complex64).T, W.astype(np.float32), H.astype(np.float32), weights.astype(np.float32)


def leaf(x: NDArray[Any], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(x, dtype=dtype, requires_grad=True)


def wide(x: NDArray[Any]) -> Tensor:
    return torch.from_numpy(x).to(torch.complex128 if x.dtype.kind == "c" else torch.float64)


@pytest.mark.parametrize("level", [1e-30, 1e-20, 1e-17, 1e17, 1e20, 1e30])
def test_any_level(level: float, rng: np.random.Generator, cpu_path: str) -> None:
    X, W, H, weights = operands(rng, 65, 4, 37)
    X = (level * np.exp(1j * np.angle(X)) * rng.random(X.shape)).astype(np.complex64)
    d = torch.polar(torch.ones(X.shape), torch.from_numpy(rng.uniform(0, 6, X.shape).astype(np.float32)))
    answers = []
    for dtype in (torch.float32, torch.float64):
        h, w = leaf(H, dtype), leaf(weights, dtype)
        if dtype is torch.float32:
            Y = l2i.soft_mask(torch.from_numpy(X), torch.from_numpy(W), h, w, "log", EPS)
        else:
            Y = masked(wide(X), wide(W), h, w, "log")
        answers.append(torch.autograd.grad(Y, (h, w), d.to(Y.dtype)))
    for ours, exact in zip(*answers, strict=True):
        assert relative(ours, exact) < 1e-4


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(("F", "K", "T"), SIZES)
def test_soft_mask(F: int, K: int, T: int, domain: Any, rng: np.random.Generator, cpu_path: str) -> None:
    gradients: list[tuple[Tensor | None, ...]] = []
    for _ in range(8 if F * K * T < 100 else 1):  # the few terms of a small one may cancel: several are judged together
        X, W, H, weights = operands(rng, F, K, T)
        # As large everywhere as the answer's inverse, so that no bin hides the others.
        d = wide(rng.standard_normal((F, T)) + 1j * rng.standard_normal((F, T))) / (1 + wide(X).abs())
        h, w, h64, w64 = leaf(H), leaf(weights), leaf(H, torch.float64), leaf(weights, torch.float64)
        Y = l2i.soft_mask(torch.from_numpy(X), W, h, w, domain, EPS)
        exact = masked(wide(X), wide(W), h64, w64, domain)
        assert relative(Y.detach(), exact.detach()) < 1e-5
        Y.backward(d.to(torch.complex64))
        exact.backward(d)
        gradients.append((h.grad, h64.grad, w.grad, w64.grad))
    by_h, exact_h, by_w, exact_w = (torch.stack(list(all_of)) for all_of in zip(*gradients, strict=True))
    assert relative(by_h, exact_h) < 2e-5
    assert relative(by_w, exact_w) < 2e-5


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(
    ("n_fft", "hop", "K", "T", "center"),
    [
        (1024, 512, 100, 43, True),
        (64, 20, 5, 100, False),
        (64, 100, 13, 33, True),
        (512, 512, 1, 1, False),
        (256, 64, 7, 600, True),
        (500, 125, 9, 20, True),
        (75, 30, 4, 11, False),
    ],
)
def test_decode(
    n_fft: int, hop: int, K: int, T: int, center: bool, domain: Any, rng: np.random.Generator, cpu_path: str
) -> None:
    # A window that does not vanish, since the sum of squared windows is divided by.
    window = rng.uniform(0.5, 1, n_fft).astype(np.float32)
    gradients: list[tuple[Tensor | None, ...]] = []
    for length in (hop * T // 2 + 1, hop * T, hop * T + 2 * n_fft) * (4 if K * T < 100 else 1):  # see test_soft_mask
        X, W, H, weights = operands(rng, n_fft // 2 + 1, K, T)
        dy = torch.from_numpy(rng.standard_normal(length))
        h, w, h64, w64 = leaf(H), leaf(weights), leaf(H, torch.float64), leaf(weights, torch.float64)
        y = l2i.decode(X, W, h, w, hop, domain, length, EPS, n_fft=n_fft, window=window, center=center)  # type: ignore[type-var]
        assert isinstance(y, Tensor)
        exact = audible(masked(wide(X), wide(W), h64, w64, domain), wide(window), hop, center, length)
        assert relative(y.detach(), exact.detach()) < 1e-5
        y.backward(dy.float())
        exact.backward(dy)
        gradients.append((h.grad, h64.grad, w.grad, w64.grad))
    by_h, exact_h, by_w, exact_w = (torch.stack(list(all_of)) for all_of in zip(*gradients, strict=True))
    assert relative(by_h, exact_h) < 1e-4
    assert relative(by_w, exact_w) < 1e-4


def test_the_torch_version_is_the_reference(rng: np.random.Generator) -> None:
    X, W, H, weights = operands(rng, 33, 5, 9)
    window = rng.uniform(0.5, 1, 64)
    for domain in DOMAINS:
        y = audible(masked(wide(X), wide(W), wide(H), wide(weights), domain), wide(window), 16, True, 100)
        expected = reference.decode(X, W, H, weights, window, 16, domain, EPS, length=100)
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("domain", DOMAINS)
def test_gradcheck(domain: Any, rng: np.random.Generator, cpu_path: str) -> None:
    """Finite differences of the float32 function itself: the steps are large because of its rounding."""
    X, W, H, _ = operands(rng, 33, 4, 6)
    X = X / np.maximum(np.abs(X), 1e-3)
    weights = rng.uniform(0.2, 0.8, 4)
    inputs = leaf(H + 0.5, torch.float64), leaf(weights, torch.float64)

    def mask(h: Tensor, w: Tensor) -> Tensor:
        return torch.view_as_real(l2i.soft_mask(torch.from_numpy(X), W, h, w, domain, EPS)).double()

    def sound(h: Tensor, w: Tensor) -> Tensor:
        return l2i.decode(torch.from_numpy(X), W, h, w, 32, domain, eps=EPS, window="boxcar").double()

    for function in (mask, sound):
        assert torch.autograd.gradcheck(function, inputs, eps=2e-3, atol=1e-3, rtol=1e-2)


def test_on_a_recording(esc10: Dataset) -> None:
    rng = np.random.default_rng(0)
    y = esc10.audio(esc10.clips[5], 44100)
    X = l2i.stft(y)
    W = rng.gamma(0.5, 1.0, (513, 40)).astype(np.float32)
    H, weights = rng.gamma(0.3, 1.0, (40, X.shape[1])).astype(np.float32), (np.arange(40) % 7 == 0) * np.float32(1)
    window = torch.hann_window(1024, dtype=torch.float64)
    h, w, h64, w64 = leaf(H), leaf(weights), leaf(H, torch.float64), leaf(weights, torch.float64)
    sound: Any = l2i.decode(X, W, h, w, length=y.size)  # type: ignore[type-var]
    exact = audible(masked(wide(X), wide(W), h64, w64, "log", 1e-6), window, 512, True, y.size)
    (sound**2).mean().backward()
    (exact**2).mean().backward()
    assert relative(h.grad, h64.grad) < 1e-4
    assert relative(w.grad, w64.grad) < 1e-4


def test_broadcasting_sums_the_gradients(rng: np.random.Generator) -> None:
    X, W, H, _ = operands(rng, 65, 6, 20)
    many = rng.random((3, 6)).astype(np.float32)
    h, w, one = leaf(H), leaf(many), leaf(H)
    both = torch.from_numpy(np.stack([X, 2 * X])[:, None])
    y = l2i.decode(both, W, h, w, 32)
    assert y.shape == (2, 3, 19 * 32)
    y.square().sum().backward()
    alone = [leaf(row) for row in many]
    for x in both[:, 0]:
        for row in alone:
            l2i.decode(x, W, one, row, 32).square().sum().backward()
    assert relative(h.grad, one.grad) < 1e-5
    assert relative(w.grad, torch.stack([row.grad for row in alone])) < 1e-5  # type: ignore[misc]


def test_only_requested_gradients_are_computed(rng: np.random.Generator) -> None:
    X, W, H, weights = operands(rng, 65, 6, 20)
    w = leaf(weights, torch.float64)
    Y: Any = l2i.soft_mask(X, W, H, w)  # type: ignore[type-var]
    assert isinstance(Y, Tensor)
    np.testing.assert_array_equal(Y.detach().numpy(), l2i.soft_mask(X, W, H, weights))
    Y.abs().sum().backward()
    assert w.grad is not None
    assert w.grad.dtype == torch.float64
    h = leaf(H)
    with torch.no_grad():
        assert isinstance(l2i.soft_mask(X, W, h, weights), np.ndarray)
        assert not l2i.decode(torch.from_numpy(X), W, h, weights, 32).requires_grad
    assert isinstance(l2i.decode(X, W, h.detach(), weights, 32), np.ndarray)


def test_layouts_do_not_change_a_bit(rng: np.random.Generator) -> None:
    X, W, H, weights = operands(rng, 65, 20, 40)
    dY = torch.from_numpy(rng.standard_normal((65, 40)) + 0j).to(torch.complex64)

    def gradients(X: Tensor, h: Tensor, dY: Tensor) -> tuple[Tensor, ...]:
        w = leaf(weights)
        return torch.autograd.grad(l2i.soft_mask(X, W, h, w), (h, w), dY)

    x = torch.from_numpy(X)
    expected = gradients(x, leaf(H), dY)
    strided = torch.from_numpy(np.repeat(H, 2, 1))[:, ::2].requires_grad_()
    variants = [
        gradients(x.contiguous(), leaf(H), dY.mT.contiguous().mT),
        gradients(x, strided, dY.conj().resolve_conj().conj()),
    ]
    for variant in variants:
        for one, other in zip(variant, expected, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("operation", [l2i.decode, l2i.soft_mask])
def test_memory_may_be_shared_before_the_gradient_is_computed(operation: Any, rng: np.random.Generator) -> None:
    X, W, H, weights = operands(rng, 257, 9, 70)
    gradients = []
    for shares in (False, True):
        h, w = leaf(H), torch.from_numpy(W.copy())
        answer = operation(torch.from_numpy(X), w, h, torch.from_numpy(weights)).abs().square().sum()
        if shares:
            h.detach().share_memory_()
            w.share_memory_()
            rubbish = [np.full(x.shape, np.nan, np.float32) for x in (H, W) for _ in range(64)]  # where the memory was
            assert len(rubbish) == 128
        answer.backward()
        gradients.append(h.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=0)


@pytest.mark.parametrize("n_threads", [2, 3])
def test_number_of_threads_does_not_change_a_bit(n_threads: int, rng: np.random.Generator) -> None:
    X, W, H, weights = operands(rng, 129, 10, 6000)
    h, w = leaf(H), leaf(weights)
    dy = torch.randn(256 * 5999)
    before = l2i.get_num_threads()
    answers = []
    for n in (1, n_threads):
        l2i.set_num_threads(n)
        answers.append(torch.autograd.grad(l2i.decode(torch.from_numpy(X), W, h, w, 256), (h, w), dy))
    l2i.set_num_threads(before)
    assert torch.equal(answers[0][0], answers[1][0])
    assert torch.equal(answers[0][1], answers[1][1])


def test_unsupported_gradients_are_refused(rng: np.random.Generator) -> None:
    X, W, H, weights = operands(rng, 65, 6, 20)
    h = leaf(H)
    with refused(ValueError, "W requires grad, which is not supported here: pass W.detach()"):
        l2i.decode(torch.from_numpy(X), leaf(W), h, weights, 32)
    with refused(ValueError, "X requires grad, which is not supported here: pass X.detach()"):
        l2i.soft_mask(torch.from_numpy(X).requires_grad_(), W, h, weights)
    with refused(ValueError, "H holds negative numbers, NaN or infinity, but must be non-negative and finite"):
        l2i.soft_mask(torch.from_numpy(X), W, leaf(-H), weights)
    y = l2i.decode(torch.from_numpy(X), W, h, weights, 32)
    (first,) = torch.autograd.grad(y.square().sum(), h, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
    y = l2i.decode(torch.from_numpy(X), W, h, weights, 32)
    with torch.no_grad():
        h += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_spectrum_made_in_inference_mode_is_a_constant(rng: np.random.Generator) -> None:
    y = torch.from_numpy(rng.standard_normal(3000).astype(np.float32))
    W, weights = torch.rand(513, 3), torch.rand(3)
    gradients = []
    for mode in (torch.inference_mode(), torch.no_grad()):
        with mode:
            X = l2i.stft(y)
        H = torch.full((3, X.shape[1]), 0.5, requires_grad=True)
        l2i.decode(X, W, H, weights).square().sum().backward()
        gradients.append(H.grad)
    assert torch.equal(*gradients)
