"""soft_mask and decode against float64 references, on every compiled CPU path."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import get_window

import l2i_fast as l2i
from l2i_fast import reference
from l2i_fast.data import Dataset
from l2i_fast.settings import DOMAINS

from ..helpers import refused, relative

SIZES = [(513, 100, 43), (513, 1, 1), (513, 7, 1), (257, 80, 16), (100, 37, 31), (17, 3, 5), (2, 2, 3), (1, 1, 9)]


def operands(rng: np.random.Generator, F: int, K: int, T: int) -> tuple[NDArray[Any], ...]:
    """A spectrum whose magnitudes span many orders, with zeros; W and H with zeros; soft weights, some zero."""
    X = rng.standard_normal((T, F)) + 1j * rng.standard_normal((T, F))
    X *= np.exp(4 * rng.standard_normal((T, F))) * (rng.random((T, F)) < 0.9)
    W = rng.random((F, K)) * (rng.random((F, K)) < 0.7)
    H = rng.random((K, T)) * (rng.random((K, T)) < 0.7)
    X[0, 0], W[0, 0], H[0, 0] = 1 + 1j, 1, 1
    weights = rng.random(K) * (rng.random(K) < 0.5)
    weights[0] = 0.75
    return X.astype(np.complex64).T, W.astype(np.float32), H.astype(np.float32), weights.astype(np.float32)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(("F", "K", "T"), SIZES)
def test_soft_mask_equals_reference(
    F: int, K: int, T: int, domain: Any, rng: np.random.Generator, cpu_path: str
) -> None:
    X, W, H, weights = operands(rng, F, K, T)
    Y = l2i.soft_mask(X, W, H, weights, domain)
    assert Y.dtype == np.complex64
    assert relative(Y, reference.soft_mask(X, W, H, weights, domain)) < 1e-5
    Y = l2i.soft_mask(X, W, H, weights, domain, eps=0.5)
    assert relative(Y, reference.soft_mask(X, W, H, weights, domain, eps=0.5)) < 1e-5


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(
    ("n_fft", "hop", "K", "T", "center", "name"),
    [
        (1024, 512, 100, 43, True, "hann"),
        (64, 20, 5, 100, False, "hann"),
        # Not Hann: without overlap, rounding would be divided by its ends, which are almost zero.
        (512, 512, 1, 1, False, "hamming"),
        (500, 125, 9, 20, True, "hann"),
    ],
)
def test_decode_equals_reference(
    n_fft: int, hop: int, K: int, T: int, center: bool, name: str, domain: Any, rng: np.random.Generator, cpu_path: str
) -> None:
    X, W, H, weights = operands(rng, n_fft // 2 + 1, K, T)
    window = get_window(name, n_fft).astype(np.float32)
    for length in (None, hop * T // 2 + 1, hop * T + 2 * n_fft):
        y = l2i.decode(X, W, H, weights, hop, domain, length, window=name, center=center)
        expected = reference.decode(X, W, H, weights, window, hop, domain, center=center, length=length)
        assert y.dtype == np.float32
        assert relative(y, expected) < 1e-5


def test_gain_is_accurate_at_every_magnitude(cpu_path: str) -> None:
    a = np.logspace(-31, 32, 8000).astype(np.float32)[None]
    one = np.ones((1, a.size), np.float32)
    for weight in (1e-6, 0.1, 0.5, 0.9999, 1.0):
        m = np.float64(np.float32(weight))
        Y = l2i.soft_mask(a + 0j, one[:, :1], one, np.float32([weight]), eps=1e-30)
        exponent = m * np.log1p(a.astype(np.float64))
        # Two units in the last place of log1p and expm1 each, the former through exp; rounding of the rest.
        allowed = 2.0**-24 * (8 + 5 * exponent)
        assert np.all(np.abs(Y.real / np.expm1(exponent) - 1) < allowed)
        np.testing.assert_array_equal(Y.imag, 0)


def test_extreme_magnitudes_have_an_answer(cpu_path: str) -> None:
    X = np.array([[0, 1e-40, 1e-25, 1e30, 3e38]], np.complex64)
    Y = l2i.soft_mask(X, np.ones((1, 1)), np.ones((1, 5)), np.ones(1))
    assert np.isfinite(Y).all()
    assert Y[0, 0] == 0
    np.testing.assert_allclose(Y[0, 2:], X[0, 2:], rtol=1e-4)  # m is 1 - 1e-6, and an exponent


@pytest.mark.parametrize("domain", DOMAINS)
def test_any_level_equals_reference(domain: Any, rng: np.random.Generator, cpu_path: str) -> None:
    X, W, H, weights = operands(rng, 257, 9, 75)
    level = 10.0 ** rng.uniform(-30, 30, X.shape[1])  # frames of one tile differ
    X = (X / np.maximum(np.abs(X), 1e-3) * level * rng.random(X.shape)).astype(np.complex64)
    Y, y = l2i.soft_mask(X, W, H, weights, domain), l2i.decode(X, W, H, weights, 600, domain)
    expected = reference.soft_mask(X, W, H, weights, domain)
    assert np.isfinite(Y).all()
    for t in range(X.shape[1]):  # an exponent of up to 70 amplifies the rounding of the mask
        assert relative(Y[:, t], expected[:, t]) < (5e-5 if domain == "log" else 1e-5)
    np.testing.assert_array_equal(y, l2i.istft(Y, 600))


def test_products_that_leave_float32_are_refused(rng: np.random.Generator) -> None:
    X, W, H, weights = operands(rng, 17, 3, 5)
    W, H = W.clip(0, 0.9), H.clip(0, 0.9)
    W[0, 0] = H[0, 0] = 1
    quiet = l2i.soft_mask(X, 1e30 * W, 1e-30 * H, weights)
    assert relative(quiet, l2i.soft_mask(X, W, H, weights)) < 1e-5
    for call in (l2i.soft_mask, l2i.decode):
        assert np.isfinite(call(X, 1e19 * W, 1e18 * H, weights)).all()
        with refused(
            ValueError, "W and H hold up to 1e+20 and 3e+19, but sums of K=3 products must not exceed 3.40282e+38"
        ):
            call(X, 1e20 * W, 3e19 * H, weights)


@pytest.mark.parametrize("domain", DOMAINS)
def test_all_components_give_the_input_back(domain: Any, esc10: Dataset, cpu_path: str) -> None:
    rng = np.random.default_rng(0)
    y = esc10.audio(esc10.clips[5], 44100)
    X = l2i.stft(y, hop_length=512)
    W, H = rng.uniform(0.1, 1, (513, 100)), rng.uniform(0.1, 1, (100, X.shape[1]))
    assert relative(l2i.soft_mask(X, W, H, np.ones(100), domain), X) < 2e-6
    assert relative(l2i.decode(X, W, H, np.ones(100), 512, domain, y.size), y) < 2e-6


def test_parts_add_up_in_the_magnitude_domain(rng: np.random.Generator) -> None:
    X, W, H, weights = operands(rng, 129, 20, 30)
    both = l2i.decode(X, W, H, np.stack([weights, 1 - weights]), 64, "magnitude")
    assert both.shape[0] == 2
    assert relative(both.sum(0), l2i.decode(X, W, H, np.ones(20), 64, "magnitude")) < 1e-5


def test_no_component_is_silence(rng: np.random.Generator, cpu_path: str) -> None:
    X, W, H, weights = operands(rng, 129, 20, 30)
    assert not l2i.soft_mask(X, W, H, 0 * weights).any()
    assert not l2i.decode(X, W, H, 0 * weights, 64).any()
    assert not l2i.soft_mask(X, W, 0 * H, weights).any()


def test_phase_is_kept(rng: np.random.Generator) -> None:
    X, W, H, weights = operands(rng, 129, 20, 30)
    Y = l2i.soft_mask(X, W, H, weights)
    ratio = (Y * X.conj())[np.abs(Y) > 0]
    assert np.all(np.abs(ratio.imag) <= 1e-6 * ratio.real)


@pytest.mark.parametrize("n_fft", [256, 250])
def test_decode_is_soft_mask_and_istft(n_fft: int, rng: np.random.Generator, cpu_path: str) -> None:
    X, W, H, weights = operands(rng, n_fft // 2 + 1, 20, 50)
    y = l2i.decode(X, W, H, weights, 64, win_length=200, window="hamming", length=3000)
    Y = l2i.soft_mask(X, W, H, weights)
    np.testing.assert_array_equal(y, l2i.istft(Y, 64, 200, n_fft, "hamming", length=3000))


def test_leading_dimensions_do_not_change_a_bit(rng: np.random.Generator, cpu_path: str) -> None:
    clips = [operands(rng, 129, 20, 37) for _ in range(6)]
    X, H, weights = (np.stack([clip[i] for clip in clips]) for i in (0, 2, 3))
    W = clips[0][1]
    X, H, weights = X.reshape(2, 3, 129, 37), H.reshape(2, 3, 20, 37), weights.reshape(2, 3, 20)
    H0, w0 = H[0, 0], weights[0, 0]
    batches = [(X, H, weights), (X, H0, w0), (X[0, 0], H0, weights), (X[:, :1], H[0], weights)]
    for batch in batches:
        every = [np.broadcast_to(a, (2, 3, *a.shape[-n:])) for a, n in zip(batch, (2, 2, 1), strict=True)]
        Y, y = l2i.soft_mask(batch[0], W, *batch[1:]), l2i.decode(batch[0], W, *batch[1:], 64)
        assert Y.shape == X.shape
        for i in np.ndindex(2, 3):
            one = (every[0][i], W, every[1][i], every[2][i])
            np.testing.assert_array_equal(Y[i], l2i.soft_mask(*one))
            np.testing.assert_array_equal(y[i], l2i.decode(*one, 64))


def test_no_clips_and_no_frames(rng: np.random.Generator) -> None:
    X, W, H, weights = operands(rng, 129, 20, 5)
    assert l2i.soft_mask(X[None][:0], W, H[None][:0], weights).shape == (0, 129, 5)
    assert l2i.soft_mask(X[None][:0], W, H, weights).shape == (0, 129, 5)
    assert l2i.decode(X, W, H, weights[None][:0], 64, length=300).shape == (0, 300)
    assert l2i.soft_mask(X[:, :0], W, H[:, :0], weights).shape == (129, 0)


def test_layouts_and_dtypes_do_not_change_a_bit(rng: np.random.Generator, cpu_path: str) -> None:
    X, W, H, weights = operands(rng, 129, 20, 37)
    expected = l2i.soft_mask(X, W, H, weights)
    frame_major = np.ascontiguousarray(H.T).T
    variants: list[tuple[Any, ...]] = [
        (X, W, frame_major, weights),
        (np.ascontiguousarray(X), np.asfortranarray(W), H, weights),
        (X, np.repeat(W, 2, 0)[::2], np.repeat(H, 2, 1)[:, ::2], np.repeat(weights, 2)[::2]),
        (X, W[:, ::-1].copy()[:, ::-1], H[::-1].copy()[::-1], weights[::-1].copy()[::-1]),
        (X.astype(np.complex128), W.astype(np.float64), H.astype(np.float64), weights.tolist()),
    ]
    for variant in variants:
        np.testing.assert_array_equal(l2i.soft_mask(*variant), expected)
    tensors = [torch.from_numpy(np.ascontiguousarray(a)) for a in (X, W, H, weights)]
    Y, y = l2i.soft_mask(*tensors), l2i.decode(*tensors, 64)
    assert isinstance(Y, torch.Tensor)
    assert isinstance(y, torch.Tensor)
    np.testing.assert_array_equal(Y.numpy(), expected)
    np.testing.assert_array_equal(y.numpy(), l2i.decode(X, W, H, weights, 64))


def test_integer_weights_are_numbers(rng: np.random.Generator) -> None:
    X, W, H, _ = operands(rng, 129, 4, 7)
    np.testing.assert_array_equal(l2i.soft_mask(X, W, H, [1, 0, 1, 0]), l2i.soft_mask(X, W, H, [1.0, 0.0, 1.0, 0.0]))


def test_denormal_dictionaries_count_as_zero(rng: np.random.Generator, cpu_path: str) -> None:
    X, W, H, weights = operands(rng, 129, 20, 37)
    dusty = np.where(W == 0, np.float32(1e-42), W)
    np.testing.assert_array_equal(l2i.soft_mask(X, dusty, H, weights), l2i.soft_mask(X, W, H, weights))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 140),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(DOMAINS),
    st.integers(0, 99),
)
def test_any_shape(F: int, K: int, T: int, domain: Any, seed: int) -> None:
    X, W, H, weights = operands(np.random.default_rng(seed), F, K, T)
    Y = l2i.soft_mask(X, W, H, weights, domain)
    assert relative(Y, reference.soft_mask(X, W, H, weights, domain)) < 1e-5
    assert np.all(np.abs(Y) <= np.abs(X) * (1 + 1e-5))


ONES = (np.ones((129, 5), np.complex64), np.ones((129, 3)), np.ones((3, 5)), np.ones(3))
NAMES = ["X", "W", "H", "weights"]


@pytest.mark.parametrize("function", [l2i.soft_mask, l2i.decode])
@pytest.mark.parametrize(
    ("name", "value", "kind", "message"),
    [
        ("X", np.ones((129, 5)), TypeError, "X has dtype float64, but a complex spectrum is needed"),
        ("X", np.ones(129, np.complex64), ValueError, "X has shape (129,), but (..., bins, frames) is needed"),
        ("W", np.ones((128, 3)), ValueError, "W has shape (128, 3), but (F, K) with F=129 as in X is needed"),
        ("W", np.ones((129, 0)), ValueError, "W has shape (129, 0), but (F, K) with F=129 as in X is needed"),
        ("W", np.ones((129, 3)) * 1j, TypeError, "W has dtype complex128, but real numbers are needed"),
        ("W", -np.ones((129, 3)), ValueError, "W holds negative numbers, NaN or infinity, but ..."),
        ("W", np.full((129, 3), np.nan), ValueError, "W holds negative numbers, NaN or infinity, but ..."),
        ("W", np.full((129, 3), 1e300), ValueError, "W holds negative numbers, NaN or infinity, but ..."),
        ("H", np.ones((5, 3)), ValueError, "H has shape (5, 3), but (..., K, T) with K=3 as in W, T=5 as in X is..."),
        ("H", np.ones(3), ValueError, "H has shape (3,), but (..., K, T) with K=3 as in W, T=5 as in X is needed"),
        ("H", np.eye(3, 5) - 0.01, ValueError, "H holds negative numbers, NaN or infinity, but ..."),
        ("H", np.full((3, 5), np.inf), ValueError, "H holds negative numbers, NaN or infinity, but ..."),
        ("weights", np.ones(4), ValueError, "weights has shape (4,), but (K,) or (..., K) with K=3 as in W is needed"),
        ("weights", np.float32(1), ValueError, "weights has shape (), but (K,) or (..., K) with K=3 as in W is needed"),
        ("weights", [0, 1, 1.001], ValueError, "weights holds numbers outside [0, 1] or NaN, but ..."),
        ("weights", [0, 1, -0.001], ValueError, "weights holds numbers outside [0, 1] or NaN, but ..."),
        ("weights", [0, 1, np.nan], ValueError, "weights holds numbers outside [0, 1] or NaN, but ..."),
        ("W", torch.ones((129, 3), requires_grad=True), ValueError, "W requires grad, which is not supported here..."),
        (
            "W",
            torch.ones((129, 3), device="meta"),
            TypeError,
            "X is ndarray, but W is on meta: a tensor there is needed",
        ),
    ],
)
def test_bad_operands_are_refused(function: Any, name: str, value: Any, kind: type[Exception], message: str) -> None:
    given = [value if name == n else one for n, one in zip(NAMES, ONES, strict=True)]
    with refused(kind, message):
        function(*given)


def test_bad_settings_are_refused() -> None:
    X, W, H, weights = ONES
    with refused(ValueError, "domain is 'power', but must be one of log, magnitude, wiener"):
        l2i.soft_mask(X, W, H, weights, "power")  # type: ignore[arg-type]
    for eps in (0, -1, np.nan, np.inf, 1e-40):
        with refused(ValueError, f"eps is {eps}, but must be positive, and a normal number as float32"):
            l2i.soft_mask(X, W, H, weights, eps=eps)
    with refused(ValueError, "X, H and weights have leading dimensions (), (2,) and (3,), which cannot be broadcast"):
        l2i.soft_mask(X, W, np.ones((2, 3, 5)), np.ones((3, 3)))
    with refused(ValueError, "hop_length is 0, but must be at least 1"):
        l2i.decode(X, W, H, weights, 0)
    with refused(ValueError, "X has 129 bins, but n_fft=100 has 51"):
        l2i.decode(X, W, H, weights, n_fft=100)
