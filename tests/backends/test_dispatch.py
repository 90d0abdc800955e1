"""The public operations on tensors that a GPU backend serves: the same answers as the reference, and clear refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import l2i_fast as l2i
from l2i_fast import reference
from l2i_fast.backends import dispatch as backend
from l2i_fast.ops.stft import Frame

from ..problems import relative


@pytest.fixture(params=["torch", "triton", "cuda"] if torch.cuda.is_available() else ["torch", "triton"])
def served(request, device, monkeypatch):
    """Each backend serves that can run here: CUDA C++ on a GPU only."""
    if reason := backend.missing(request.param, device):
        pytest.skip(reason)
    monkeypatch.setenv("L2I_BACKEND", request.param)
    return request.param


def there(served, *operations):
    """Skip where a backend has no such operation: it is not meant to have all."""
    for name in operations:
        if not hasattr(backend.module(served), name):
            pytest.skip(f"{served} has no {name}")


@pytest.fixture
def tensor(device):
    return lambda x: torch.as_tensor(np.asarray(x), device=device)


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
def test_stft_and_back(served, tensor, rng, n, n_fft, hop, width, window, center, pad_mode):
    there(served, "stft", "istft")
    y = rng.standard_normal((2, n)).astype(np.float32)
    settings = {"hop_length": hop, "win_length": width, "window": window, "center": center}
    X = l2i.stft(tensor(y), n_fft, pad_mode=pad_mode, **settings)
    expected = l2i.stft(y, n_fft, pad_mode=pad_mode, **settings)
    assert X.dtype == torch.complex64
    assert X.shape == expected.shape
    assert X.mT.is_contiguous()
    assert relative(X, expected) < 1e-6
    back = l2i.istft(tensor(expected), n_fft=n_fft, length=n, **settings)
    assert back.dtype == torch.float32
    assert relative(back, l2i.istft(expected, n_fft=n_fft, length=n, **settings)) < 1e-6


def test_integer_samples(served, tensor, rng):
    there(served, "stft")
    for dtype, info in ((np.int16, 2**15), (np.uint8, 2**7), (np.int32, 2**31)):
        y = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, 1000, dtype)
        assert relative(l2i.stft(tensor(y), 256), l2i.stft(y, 256)) < 1e-6
        assert info


def test_analyze_and_log_mel(served, tensor, rng):
    there(served, "analyze", "log_mel")
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


@pytest.mark.parametrize("domain", ["log", "magnitude"])
@pytest.mark.parametrize(
    "leads", [((), (), ()), ((2,), (2,), (2,)), ((), (), (3,)), ((2, 1), (), (2, 2)), ((0,), (), ())]
)
def test_soft_mask_and_decode(served, tensor, rng, domain, leads):
    there(served, "soft_mask", "decode")
    operands = mask_problem(rng, *leads)
    tensors = [tensor(x) for x in operands]
    Y, expected = l2i.soft_mask(*tensors, domain), l2i.soft_mask(*operands, domain)
    assert Y.shape == expected.shape
    assert Y.dtype == torch.complex64
    assert relative(Y, expected) < 1e-5
    y, expected = (l2i.decode(*xs, hop_length=100, domain=domain, length=900) for xs in (tensors, operands))
    assert y.shape == expected.shape
    assert relative(y, expected) < 1e-5


def test_decode_against_the_definition(served, tensor, rng):
    there(served, "decode")
    X, W, H, weights = mask_problem(rng, (), (), ())
    window = Frame(256, 128, None, "hann").window
    expected = reference.decode(X, W, H, weights, window, 128)
    assert relative(l2i.decode(*(tensor(x) for x in (X, W, H, weights)), hop_length=128), expected) < 1e-5


@pytest.mark.parametrize("operation", ["soft_mask", "decode"])
def test_gradients(served, tensor, rng, operation):
    there(served, operation, f"{operation}_gradient")
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


def test_what_cannot_serve_says_so(device, monkeypatch):
    y = torch.zeros(2000, device=device)
    monkeypatch.setenv("L2I_BACKEND", "tpu")
    with pytest.raises(ValueError, match="L2I_BACKEND is 'tpu', but must be one of cuda, triton, torch"):
        l2i.stft(y)
    monkeypatch.setenv("L2I_BACKEND", "cuda")
    if backend.missing("cuda", device):
        with pytest.raises(RuntimeError, match="L2I_BACKEND is cuda, but the CUDA library"):
            l2i.stft(y)
    if device.type == "cpu":
        monkeypatch.setenv("L2I_BACKEND", "triton")
        import triton

        with triton.knobs.runtime.scope():
            triton.knobs.runtime.interpret = False
            with pytest.raises(RuntimeError, match="Triton runs on a GPU, not on cpu, unless TRITON_INTERPRET=1"):
                l2i.stft(y)


def test_older_gpus_are_left_to_torch(monkeypatch):
    for capability, able in (((7, 5), False), ((8, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert (backend.missing("triton", torch.device("cuda")) == "") == able


def test_refusals(tensor, rng, monkeypatch):
    monkeypatch.setenv("L2I_BACKEND", "torch")
    X, W, H, weights = (tensor(x) for x in mask_problem(rng, (), (), ()))
    y = tensor(np.zeros(2000, np.float32))
    with pytest.raises(TypeError, match=r"W is ndarray, but X is on .*: a tensor there is needed"):
        l2i.soft_mask(X, W.cpu().numpy(), H, weights)
    with pytest.raises(ValueError, match=r"X is on .*, but W is on meta: all must be on one device"):
        l2i.soft_mask(X, W.to("meta"), H, weights)
    with pytest.raises(ValueError, match="only the CPU and CUDA devices are supported"):
        l2i.stft(y.to("meta"))
    with pytest.raises(ValueError, match=r"H has shape \(5, 6\), but \(..., K, T\) with K=5 as in W, T=7"):
        l2i.soft_mask(X, W, H[:, :6], weights)
    with pytest.raises(ValueError, match="X requires grad"):
        l2i.decode(X.requires_grad_(), W, H, weights)
    with pytest.raises(ValueError, match="domain is 'power'"):
        l2i.soft_mask(X.detach(), W, H, weights, "power")
    with pytest.raises(TypeError, match=r"y has dtype torch.int64, but floating samples"):
        l2i.stft(y.long())
    with pytest.raises(TypeError, match=r"X has dtype torch.float32, but a complex spectrum"):
        l2i.istft(y[None])
    with pytest.raises(ValueError, match="at least one sample"):
        l2i.stft(y[:0])
    with pytest.raises(ValueError, match="center is False"):
        l2i.stft(y, 4096, center=False)
    with pytest.raises(ValueError, match="X has 129 bins, but n_fft=1024 has 513"):
        l2i.log_mel(X.detach())


def test_precision():
    assert l2i.get_gpu_precision() == "float32"
    assert backend.products() == "tf32x3"
    try:
        l2i.set_gpu_precision("tf32")
        assert backend.products() == "tf32"
    finally:
        l2i.set_gpu_precision("float32")
    with pytest.raises(ValueError, match="precision is 'half', but must be one of float32, tf32, bf16"):
        l2i.set_gpu_precision("half")


LOSSES = ["frobenius", "kullback-leibler", "itakura-saito", 0.5, 1.5, 3.0]


def nmf_problem(rng, F=33, T=40, K=4):
    return (rng.random((F, K)) ** 2 @ rng.random((K, T)) + 0.01).astype(np.float32)


@pytest.mark.parametrize("loss", LOSSES)
def test_activations(served, tensor, rng, loss):
    there(served, "nmf_update_H")
    V, W = np.stack([nmf_problem(rng), nmf_problem(rng)]), rng.random((33, 5)).astype(np.float32)
    ours = l2i.activations(tensor(V), tensor(W), loss, 5, sparsity=0.1)
    assert relative(ours, l2i.activations(V, W, loss, 5, sparsity=0.1)) < 1e-4
    H0 = rng.random((2, 5, 40)).astype(np.float32)
    ours = l2i.activations(tensor(V), tensor(W), loss, 3, tensor(H0))
    assert relative(ours, l2i.activations(V, W, loss, 3, H0)) < 1e-4


@pytest.mark.parametrize("loss", LOSSES[:3])
def test_clips_of_several_lengths(served, tensor, rng, loss):
    there(served, "nmf_update_H")
    V, W = np.stack([nmf_problem(rng), nmf_problem(rng), nmf_problem(rng)]), rng.random((33, 5)).astype(np.float32)
    lengths = np.array([17, 40, 0])
    for v, n in zip(V, lengths, strict=True):
        v[:, n:] = np.nan
    H = l2i.activations(tensor(V), tensor(W), loss, 4, lengths=tensor(lengths))
    for v, h, n in zip(V, H, lengths, strict=True):
        assert not h[:, n:].any()
        assert relative(h[:, :n], l2i.activations(v[:, :n], W, loss, 4)) < 1e-4


@pytest.mark.parametrize("loss", LOSSES[:3])
def test_learnt_dictionaries(served, tensor, rng, loss):
    there(served, "nmf_update_H", "nmf_gather", "nmf_divergence")
    clips = [nmf_problem(rng), nmf_problem(rng, T=25)]
    seen = []
    settings = {"sparsity": 0.05, "max_iter": 12, "random_state": 3, "max_cosine": 1.0}
    known = rng.random((33, 1)).astype(np.float32)
    ours = l2i.learn_dictionary(
        [tensor(v) for v in clips], 4, loss, known=tensor(known), callback=lambda *x: seen.append(x), **settings
    )
    expected = l2i.learn_dictionary(clips, 4, loss, known=known, **settings)
    assert ours.device == tensor(0).device
    assert relative(ours, expected) < 1e-3
    assert [i for i, _, _ in seen] == list(range(1, 13))
    objectives = [objective for _, _, objective in seen]
    assert objectives[-1] < objectives[0]


def test_learning_online(served, tensor, rng):
    there(served, "nmf_update_H", "nmf_gather")
    blocks = [nmf_problem(rng) for _ in range(3)]
    settings = {"n_updates": 3, "n_epochs": 2, "sparsity": 0.05, "max_cosine": 1.0}
    ours = l2i.learn_dictionary_online([tensor(v) for v in blocks], 4, **settings)
    assert relative(ours, l2i.learn_dictionary_online(blocks, 4, **settings)) < 1e-3


def test_useless_components_are_replaced(tensor, rng, monkeypatch):
    monkeypatch.setenv("L2I_BACKEND", "torch")
    V = nmf_problem(rng, T=60)
    ours = l2i.learn_dictionary(tensor(V), 6, max_iter=20, max_cosine=0.5)
    assert relative(ours, l2i.learn_dictionary(V, 6, max_iter=20, max_cosine=0.5)) < 1e-2


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("masked", [False, True])
def test_estimator(served, tensor, rng, loss, masked):
    there(served, "nmf_update_H", "nmf_gather", "nmf_divergence")
    X = nmf_problem(rng)
    mask = (rng.random(X.shape) < 0.8).astype(np.float32) if masked else None
    settings = {"beta_loss": loss, "max_iter": 10, "tol": 0, "init": "random", "random_state": 1, "alpha_W": 1e-3}
    ours, theirs = l2i.NMF(4, **settings), l2i.NMF(4, **settings)
    W = ours.fit_transform(tensor(X), mask=mask)
    expected = theirs.fit_transform(X, mask=mask)
    assert W.device == tensor(0).device
    assert relative(W, expected) < 1e-3
    assert relative(ours.components_, theirs.components_) < 1e-3
    assert ours.reconstruction_err_ == pytest.approx(theirs.reconstruction_err_, rel=1e-4)
    assert relative(ours.transform(tensor(X)), theirs.transform(X)) < 1e-3
    assert relative(ours.inverse_transform(W), theirs.inverse_transform(expected)) < 1e-3


def test_refusals_of_nmf(tensor, rng, monkeypatch):
    monkeypatch.setenv("L2I_BACKEND", "torch")
    V, W = tensor(nmf_problem(rng)), tensor(rng.random((33, 5)).astype(np.float32))
    with pytest.raises(ValueError, match="solver is 'newton', but tensors on a device have 'mu' only"):
        l2i.activations(V, W, solver="newton")
    with pytest.raises(ValueError, match="solver is 'hals'"):
        l2i.NMF(3, solver="cd").fit(V)
    with pytest.raises(ValueError, match=r"V must be \(..., F, T\) with F = 33"):
        l2i.activations(V[:7], W)
    with pytest.raises(ValueError, match="H0 must have shape"):
        l2i.activations(V, W, H0=W)
    with pytest.raises(ValueError, match=r"lengths has shape \(2,\), but \(\) as V's clips is needed"):
        l2i.activations(V, W, lengths=tensor([3, 4]))
    with pytest.raises(TypeError, match=r"lengths has dtype torch.float64, but integers are needed"):
        l2i.activations(V, W, lengths=tensor(3.0))
    with pytest.raises(ValueError, match="each spectrogram must be finite and non-negative, its least value is -1"):
        l2i.learn_dictionary([V - 1 - V], 3)
