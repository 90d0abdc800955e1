"""Triton's soft mask, its gradients and decode against float64; and the resources of their kernels."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from l2i_fast import reference
from l2i_fast.backends import precision as precisions
from l2i_fast.backends import torch as with_torch
from l2i_fast.kernels.triton import arithmetic
from l2i_fast.kernels.triton import soft_mask as kernels
from l2i_fast.settings import DOMAINS

from ...helpers import relative, served_after_triton
from . import ahead

serving = import_module("l2i_fast.backends.triton.launch_soft_mask")  # a function has the same name

#: Clips, bins, components, frames: tails of all blocks, a last block of one bin and of 16, more than 128 components.
SIZES = [
    (2, 129, 20, 65),
    (1, 80, 100, 3),
    (3, 100, 37, 1),
    (1, 17, 3, 70),
    (2, 64, 130, 2),
    (1, 2, 2, 3),
    (1, 1, 1, 9),
]


def operands(rng, device, B, F, K, T):
    """Spectra whose magnitudes span many orders, with zeros; W with zeros; soft weights, some zero."""
    X = rng.standard_normal((B, T, F)) + 1j * rng.standard_normal((B, T, F))
    X *= np.exp(3 * rng.standard_normal((B, T, F))) * (rng.random((B, T, F)) < 0.9)
    W = rng.random((F, K)) * (rng.random((F, K)) < 0.7)
    H = rng.uniform(0.05, 1, (B, T, K))
    weights = rng.random((B, K)) * (rng.random((B, K)) < 0.5)
    X[:, 0, 0], W[:, 0], weights[:, 0] = 1 + 1j, 0.5, 0.75
    kinds = np.complex64, np.float32, np.float32, np.float32
    return [torch.from_numpy(x.astype(kind)).to(device) for x, kind in zip((X, W, H, weights), kinds, strict=True)]


def wide(*tensors):
    return [x.cpu().to(torch.complex128 if x.is_complex() else torch.float64) for x in tensors]


def expected_mask(X, W, H, weights, domain, eps):
    clips = zip(*(x.cpu().numpy() for x in (X, H, weights)), strict=True)
    return np.stack([reference.soft_mask(x.T, W.cpu().numpy(), h.T, w, domain, eps).T for x, h, w in clips])


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("size", SIZES)
def test_soft_mask_equals_reference(device, rng, size, domain):
    given = operands(rng, device, *size)
    for eps in (1e-6, 0.5):
        Y = serving.soft_mask(*given, domain, eps)
        assert Y.dtype == torch.complex64
        assert relative(Y, expected_mask(*given, domain, eps)) < 1e-5


@pytest.mark.parametrize("n_selected", [0, 1, 16, 17, 40])
def test_any_number_of_selected_components(device, rng, n_selected):
    X, W, H, weights = operands(rng, device, 2, 33, 40, 5)
    weights[:] = 0
    for clip in weights:  # other components in each
        clip[torch.from_numpy(rng.permutation(40)[:n_selected])] = torch.rand(n_selected, device=device) + 0.01
    Y = serving.soft_mask(X, W, H, weights, "log", 1e-6)
    if n_selected == 0:
        assert not Y.any()
    else:
        assert relative(Y, expected_mask(X, W, H, weights, "log", 1e-6)) < 1e-5


@pytest.mark.parametrize("config", serving.CONFIGS[1:], ids=lambda c: f"{c.kwargs['BLOCK_T']}x{c.kwargs['BLOCK_F']}")
def test_all_blocks_give_the_same(device, rng, monkeypatch, config):
    given = operands(rng, device, 1, 81, 20, 130)
    expected = serving.soft_mask(*given, "log", 1e-6)
    monkeypatch.setattr(serving, "_soft_mask", triton.autotune([config], [])(kernels.soft_mask))
    assert relative(serving.soft_mask(*given, "log", 1e-6), expected.cpu()) < 1e-6


def test_all_components_of_a_recording_give_it_back(device, esc10):
    y = esc10.audio(esc10.clips[5], 44100)[40000:50000]
    window = np.hanning(1025)[:-1].astype(np.float32)
    X = torch.from_numpy(reference.stft(y, window, 512).T[None].astype(np.complex64)).to(device)
    W, H = torch.rand((513, 12), device=device) + 0.1, torch.rand((1, X.shape[1], 12), device=device) + 0.1
    given = X.contiguous(), W, H, torch.ones((1, 12), device=device), "log", 1e-6
    assert relative(serving.soft_mask(*given), X.cpu()) < 5e-6
    back = serving.decode(*given, torch.from_numpy(window).to(device), 512, 512, y.size)
    assert relative(back[0], y) < 5e-6


def test_shared_operands_do_not_change_a_bit(device, rng):
    X, W, H, weights = operands(rng, device, 3, 40, 20, 5)
    dY = operands(rng, device, 3, 40, 20, 5)[0]
    cases = [(X, H, weights), (X[:1], H, weights), (X, H[:1], weights), (X[:1], H[:1], weights), (X, H, weights[:1])]
    for case in cases:
        x, h, w = (a.expand(3, *a.shape[1:]) for a in case)
        Y = serving.soft_mask(x, W, h, w, "log", 1e-6)
        gradients = serving.soft_mask_gradient(x, W, h, w, "log", 0.1, dY)
        for b in range(3):
            one = x[b : b + 1].contiguous(), W, h[b : b + 1].contiguous(), w[b : b + 1].contiguous(), "log"
            assert torch.equal(Y[b : b + 1], serving.soft_mask(*one, 1e-6))
            for whole, alone in zip(gradients, serving.soft_mask_gradient(*one, 0.1, dY[b : b + 1]), strict=True):
                assert torch.equal(whole[b : b + 1], alone)


@pytest.mark.parametrize("weight", [torch.nan, -0.5])
def test_weights_out_of_range_are_not_dropped(device, rng, weight):
    X, W, H, weights = operands(rng, device, 2, 33, 20, 5)
    weights[0, 7] = weight
    Y = serving.soft_mask(X, W, H, weights, False, 1e-6)
    expected = with_torch.soft_mask(*wide(X, W, H, weights), False, 1e-6)
    assert relative(Y[1], expected[1]) < 1e-5
    if weight < 0:
        assert relative(Y[0], expected[0]) < 1e-5
    else:
        assert Y[0].isnan().all()


@pytest.mark.parametrize(("B", "T"), [(0, 5), (2, 0)])
def test_no_clips_and_no_frames(device, B, T):
    X, H = torch.ones((B, T, 9), dtype=torch.complex64, device=device), torch.ones((B, T, 3), device=device)
    W, weights = torch.ones((9, 3), device=device), torch.ones((B, 3), device=device)
    assert serving.soft_mask(X, W, H, weights, "log", 1e-6).shape == X.shape
    dH, dweights = serving.soft_mask_gradient(X, W, H, weights, "log", 1e-6, X)
    assert dH.shape == H.shape
    assert dweights.shape == weights.shape
    assert not dweights.any()


def test_gain_is_accurate_at_every_magnitude(device):
    a = np.logspace(-31, 32, 960).astype(np.float32)
    X = torch.from_numpy(a.reshape(1, 10, 96) + 0j).to(device)
    for weight in (1e-6, 0.1, 0.5, 0.9999, 1.0):
        W, H = torch.ones((96, 1), device=device), torch.ones((1, 10, 1), device=device)
        Y = serving.soft_mask(X, W, H, torch.full((1, 1), weight, device=device), "log", 1e-30)
        exponent = np.float64(np.float32(weight)) * np.log1p(a.astype(np.float64))
        # A GPU's quotient, root and power of 2 are within 2 ulp; errors before the power grow with the exponent.
        allowed = 2.0**-24 * (32 + 12 * exponent)
        assert np.all(np.abs(Y.real.cpu().numpy().ravel() / np.expm1(exponent) - 1) < allowed)
        assert not Y.imag.any()


@pytest.mark.filterwarnings("ignore:overflow encountered")  # by the interpreter, of squares
def test_extreme_magnitudes_have_an_answer(device):
    X = torch.tensor([[[0, 1e-40, 1e-25, 1e30, 3e38]]], dtype=torch.complex64, device=device)
    W, H, weights = torch.ones((5, 2), device=device), torch.ones((1, 1, 2), device=device), torch.ones((1, 2))
    Y = serving.soft_mask(X, W, H, weights.to(device), "log", 1e-6).cpu()
    assert Y.isfinite().all()
    assert Y[0, 0, 0] == 0
    np.testing.assert_allclose(Y[0, 0, 2:], X[0, 0, 2:].cpu(), rtol=1e-4)  # m is 1 - 1e-6, and an exponent
    dY = (1 / (1 + X.abs())).to(torch.complex64)
    for gradient in serving.soft_mask_gradient(X, W, H, weights.to(device), "log", 1e-6, dY):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("size", SIZES)
def test_gradient_equals_autograd(device, rng, size, domain):
    answers, exact = [], []
    for _ in range(8 if np.prod(size) < 100 else 1):  # the few terms of a small one may cancel
        X, W, H, weights = operands(rng, device, *size)
        # As large everywhere as the answer's inverse, so that no bin hides the others; see EPS in ops/test_autograd.py.
        dY = torch.randn(X.shape, dtype=torch.complex64, device=device) / (1 + X.abs())
        answers.append(serving.soft_mask_gradient(X, W, H, weights, domain, 0.1, dY))
        exact.append(with_torch.soft_mask_gradient(*wide(X, W, H, weights), domain, 0.1, *wide(dY)))
    for answer, wanted in zip(zip(*answers, strict=True), zip(*exact, strict=True), strict=True):
        assert relative(torch.stack(answer), torch.stack(wanted)) < 2e-5


def test_gradient_equals_finite_differences(device, rng):
    X, W, H, weights = wide(*operands(rng, device, 1, 33, 5, 4))
    dY = torch.randn(X.shape, dtype=torch.complex128) / (1 + X.abs())

    def objective(h, w):
        Y = reference.soft_mask(X[0].T, W, h[0].T, w[0], "log", 0.1).T
        return float((Y.conj() * dY[0].numpy()).real.sum())

    def differences(x, f):
        steps = torch.eye(x.numel(), dtype=torch.float64).reshape(-1, *x.shape) * 1e-6
        return torch.tensor([(f(x + s) - f(x - s)) / 2e-6 for s in steps]).reshape(x.shape)

    narrow = [x.to(device, torch.complex64 if x.is_complex() else torch.float32) for x in (X, W, H, weights, dY)]
    dH, dweights = serving.soft_mask_gradient(*narrow[:4], "log", 0.1, narrow[4])
    assert relative(dH, differences(H, lambda h: objective(h, weights))) < 1e-4
    assert relative(dweights, differences(weights, lambda w: objective(H, w))) < 1e-4


#: Frame length, hop, frames, start: of the kernels and of torch, an even and an odd one, hops that leave gaps.
FRAMINGS = [(256, 128, 5, 128), (256, 100, 7, 0), (256, 300, 3, 128), (50, 20, 9, 25), (75, 30, 4, 0)]


def exact_decode(X, W, H, weights, domain, eps, window, hop, start, length):
    """`with_torch.decode` in float64, differentiable by autograd."""
    return with_torch.decode(*wide(X, W), H, weights, domain, eps, *wide(window), hop, start, length)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(("n_fft", "hop", "T", "start"), FRAMINGS)
def test_decode_and_its_gradient(device, rng, n_fft, hop, T, start, domain):
    # A window that does not vanish, since the sum of squared windows is divided by.
    window = torch.from_numpy(rng.uniform(0.5, 1, n_fft).astype(np.float32)).to(device)
    answers, exact = [], []
    for length in (hop * T // 2 + 1, n_fft + hop * (T - 1) - start, hop * T + 2 * n_fft):
        given = *operands(rng, device, 2, n_fft // 2 + 1, 5, T), domain, 0.1, window, hop, start
        dy = torch.randn((2, length), device=device)
        y = served_after_triton("decode", n_fft)(*given, length)
        h, w = (x.requires_grad_() for x in wide(*given[2:4]))
        expected = exact_decode(*given[:2], h, w, *given[4:], length)
        assert relative(y, expected) < 1e-5
        answers.append(served_after_triton("decode_gradient", n_fft)(*given, dy))
        exact.append(torch.autograd.grad(expected, (h, w), *wide(dy)))
    for answer, wanted in zip(zip(*answers, strict=True), zip(*exact, strict=True), strict=True):
        assert relative(torch.stack(answer), torch.stack(wanted)) < 1e-4


def test_lower_precision_can_be_chosen(device, rng, monkeypatch):
    given = operands(rng, device, 1, 64, 50, 20)
    expected = expected_mask(*given, "log", 1e-6)
    monkeypatch.setattr(precisions, "_gpu", "bf16")
    assert 1e-5 < relative(serving.soft_mask(*given, "log", 1e-6), expected) < 1e-2


@triton.jit
def _split(x, high, low, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b = arithmetic.split(tl.load(x + i), "tf32x3")
    tl.store(high + i, a)
    tl.store(low + i, b)


def test_a_number_is_the_sum_of_its_parts(device, rng):
    x = torch.from_numpy((rng.random(64) * np.exp(20 * rng.standard_normal(64))).astype(np.float32)).to(device)
    high, low = torch.empty_like(x), torch.empty_like(x)
    _split[(1,)](x, high, low, 64)
    assert not (high.view(torch.int32) & 0x1FFF).any()  # so nothing is lost where tensor cores drop these bits
    assert (low.abs() <= 2.0**-11 * x).all()
    assert torch.equal(high + low, x)


#: Limit of a kernel's shared memory, that of sm_86.
SHARED = 99 * 1024
POINTERS = {"X": "*i64", "W": "*fp32", "H": "*fp32", "weights": "*fp32"}
NUMBERS = {"X_stride": "i64", "H_frames": "i64", "weights_stride": "i64", "n_frames": "i32", "eps": "fp32"}
DICTIONARY = torch.empty((513, 100))


def mask_kernel(config, precision):
    pointers = POINTERS | {"Y": "*i64"}
    constants = serving.sizes(DICTIONARY, "log", precision) | config.kwargs
    launch = config.num_warps, config.num_stages
    return ahead.Kernel("soft_mask", "soft_mask", pointers | NUMBERS, constants, tuple(pointers), *launch)


def gradient_kernel(precision):
    pointers = POINTERS | {"dY": "*i64", "dH": "*fp32", "shares": "*fp32"}
    constants = serving.sizes(DICTIONARY, "log", precision) | serving.gradient_blocks(100)
    types = pointers | NUMBERS
    return ahead.Kernel("soft_mask", "soft_mask_gradient", types, constants, tuple(pointers), **serving.GRADIENT_LAUNCH)


#: All kernels that are launched by default, and one of each other precision.
KERNELS = [mask_kernel(config, "tf32x3") for config in serving.CONFIGS] + [gradient_kernel("tf32x3")]
KERNELS += [mask_kernel(serving.CONFIGS[-1], "bf16"), gradient_kernel("tf32")]


@pytest.mark.parametrize("architecture", ahead.ARCHITECTURES)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k.name}-{'-'.join(map(str, k.constants.values()))}")
def test_machine_code_fits_ahead_of_time(kernel, architecture):
    report = ahead.compile_ahead(kernel, architecture)
    assert report.spills == 0
    assert report.shared <= SHARED
    # On a multiprocessor of 64 Ki registers: three programs of 64 x 32, two of 64 x 64 or, but on sm_80, of 128 x 32.
    most = 255
    if kernel.name == "soft_mask" and kernel.constants["BLOCK_F"] == 32:
        most = 168 if kernel.num_warps == 4 else 255 if architecture == 80 else 128
    assert report.registers <= most
    assert report.instructions


def test_ieee_takes_no_tensor_cores_ahead_of_time():
    assert ahead.compile_ahead(mask_kernel(serving.CONFIGS[1], "ieee"), 90).instructions == []
