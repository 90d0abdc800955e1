"""stft, istft, log_mel, analyze, soft_mask and decode on tensors, through each backend, against NumPy's answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import l2i_fast as l2i
from l2i_fast import reference
from l2i_fast.ops.framing import Frame
from l2i_fast.settings import DOMAINS

from ..helpers import missing, refused, relative, require


@pytest.mark.parametrize(
    ("n", "n_fft", "hop", "width", "window", "center", "pad_mode"),
    [
        (2000, 256, 128, None, "hann", True, "constant"),
        (1999, 256, 100, 200, "hamming", True, "reflect"),
        (700, 256, 64, None, ("kaiser", 2.0), False, "constant"),
        (1, 256, 64, None, "hann", True, "edge"),
        (900, 240, 60, None, "hann", True, "symmetric"),
        (300, 512, 128, None, "hann", True, "linear_ramp"),
    ],
)
def test_stft_and_back(backend, tensor, rng, n, n_fft, hop, width, window, center, pad_mode):
    require(backend, "stft", "istft")
    y = rng.standard_normal((2, n)).astype(np.float32)
    settings = {"hop_length": hop, "win_length": width, "window": window, "center": center}
    expected = l2i.stft(y, n_fft, pad_mode=pad_mode, **settings)
    if reason := missing(backend, tensor(y).device, n_fft):
        with refused(RuntimeError, f"L2I_BACKEND is {backend}, but {reason}"):
            l2i.stft(tensor(y), n_fft, pad_mode=pad_mode, **settings)
        with refused(RuntimeError, f"L2I_BACKEND is {backend}, but {reason}"):
            l2i.istft(tensor(expected), n_fft=n_fft, length=n, **settings)
        return
    X = l2i.stft(tensor(y), n_fft, pad_mode=pad_mode, **settings)
    assert X.dtype == torch.complex64
    assert X.shape == expected.shape
    assert X.mT.is_contiguous()
    assert relative(X, expected) < 1e-6
    back = l2i.istft(tensor(expected), n_fft=n_fft, length=n, **settings)
    assert back.dtype == torch.float32
    assert relative(back, l2i.istft(expected, n_fft=n_fft, length=n, **settings)) < 1e-6


def test_integer_samples(backend, tensor, rng):
    require(backend, "stft")
    for dtype, info in ((np.int16, 2**15), (np.uint8, 2**7), (np.int32, 2**31)):
        y = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, 1000, dtype)
        assert relative(l2i.stft(tensor(y), 256), l2i.stft(y, 256)) < 1e-6
        assert info


def test_analyze_and_log_mel(backend, tensor, rng):
    require(backend, "analyze", "log_mel")
    y = rng.standard_normal((3, 1, 1700)).astype(np.float32)
    ours = l2i.analyze(tensor(y), 22050, 20, 256, 100, amin=1e-6, top_db=50)
    expected = l2i.analyze(y, 22050, 20, 256, 100, amin=1e-6, top_db=50)
    for name in ("X", "V"):
        assert relative(getattr(ours, name), getattr(expected, name)) < 1e-6
        assert getattr(ours, name).shape == getattr(expected, name).shape
    assert np.abs(ours.log_mel.cpu().numpy() - expected.log_mel).max() < 1e-3
    for x in (y, expected.X):
        M = l2i.log_mel(tensor(x), 22050, 20, 256, 100, amin=1e-6)
        assert np.abs(M.cpu().numpy() - l2i.log_mel(x, 22050, 20, 256, 100, amin=1e-6)).max() < 1e-3


def mask_problem(rng, lead_X, lead_H, lead_weights, F=129, T=7, K=5):
    X = rng.standard_normal((*lead_X, F, T)) + 1j * rng.standard_normal((*lead_X, F, T))
    X *= 10.0 ** rng.uniform(-3, 2, X.shape)
    W, H = rng.random((F, K)) ** 3, rng.random((*lead_H, K, T)) ** 2
    return X.astype(np.complex64), *(x.astype(np.float32) for x in (W, H, rng.random((*lead_weights, K))))


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(
    "leads", [((), (), ()), ((2,), (2,), (2,)), ((), (), (3,)), ((2, 1), (), (2, 2)), ((0,), (), ())]
)
def test_soft_mask_and_decode(backend, tensor, rng, domain, leads):
    require(backend, "soft_mask", "decode")
    operands = mask_problem(rng, *leads)
    tensors = [tensor(x) for x in operands]
    Y, expected = l2i.soft_mask(*tensors, domain), l2i.soft_mask(*operands, domain)
    assert Y.shape == expected.shape
    assert Y.dtype == torch.complex64
    assert relative(Y, expected) < 1e-5
    y, expected = (l2i.decode(*xs, hop_length=100, domain=domain, length=900) for xs in (tensors, operands))
    assert y.shape == expected.shape
    assert relative(y, expected) < 1e-5


def test_decode_against_the_definition(backend, tensor, rng):
    require(backend, "decode")
    X, W, H, weights = mask_problem(rng, (), (), ())
    window = Frame(256, 128, None, "hann").window
    expected = reference.decode(X, W, H, weights, window, 128)
    assert relative(l2i.decode(*(tensor(x) for x in (X, W, H, weights)), hop_length=128), expected) < 1e-5


@pytest.mark.parametrize("operation", ["soft_mask", "decode"])
def test_gradients(backend, tensor, rng, operation):
    require(backend, operation, f"{operation}_gradient")
    X, W, H, weights = mask_problem(rng, (2,), (), (2,))

    def gradients(place):
        x, w = place(X), place(W)
        h, m = (place(a).requires_grad_() for a in (H, weights))
        answer = getattr(l2i, operation)(x, w, h, m)
        projection = place(projections)
        (answer * projection).real.sum().backward()
        return h.grad, m.grad

    shape = getattr(l2i, operation)(X, W, H, weights).shape
    projections = rng.standard_normal(shape).astype(np.float32)
    ours = gradients(tensor)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("L2I_BACKEND")
        expected = gradients(lambda a: torch.from_numpy(a.copy()))
    for mine, theirs in zip(ours, expected, strict=True):
        assert mine.shape == theirs.shape
        assert relative(mine, theirs) < 1e-4


def test_unusable_tensors_are_refused(tensor, rng, monkeypatch):
    monkeypatch.setenv("L2I_BACKEND", "torch")
    X, W, H, weights = (tensor(x) for x in mask_problem(rng, (), (), ()))
    y = tensor(np.zeros(2000, np.float32))
    with refused(TypeError, "W is ndarray, but X is on cpu: a tensor there is needed"):
        l2i.soft_mask(X, W.cpu().numpy(), H, weights)
    with refused(ValueError, "X is on cpu, but W is on meta: all must be on one device"):
        l2i.soft_mask(X, W.to("meta"), H, weights)
    with refused(ValueError, "y is on meta, but only the CPU and CUDA devices are supported: pass y.cpu()"):
        l2i.stft(y.to("meta"))
    with refused(ValueError, "H has shape (5, 6), but (..., K, T) with K=5 as in W, T=7 as in X is needed"):
        l2i.soft_mask(X, W, H[:, :6], weights)
    with refused(ValueError, "X requires grad, which is not supported here: pass X.detach()"):
        l2i.decode(X.requires_grad_(), W, H, weights)
    with refused(ValueError, "domain is 'power', but must be one of log, magnitude, wiener"):
        l2i.soft_mask(X.detach(), W, H, weights, "power")
    with refused(TypeError, "y has dtype torch.int64, but ..."):
        l2i.stft(y.long())
    with refused(TypeError, "X has dtype torch.float32, but a complex spectrum is needed"):
        l2i.istft(y[None])
    with refused(ValueError, "y has shape (0,), but at least one sample is needed"):
        l2i.stft(y[:0])
    with refused(ValueError, "y has 2000 samples, but n_fft=4096 are needed if center is False"):
        l2i.stft(y, 4096, center=False)
    with refused(ValueError, "X has 129 bins, but n_fft=1024 has 513"):
        l2i.log_mel(X.detach())
