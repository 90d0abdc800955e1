"""Backends are equal: each says why it does not take a call, and the choice can be forced, checked and logged."""

from __future__ import annotations

import inspect
import logging
import re

import numpy as np
import pytest
import torch

import l2i_fast as l2i
from l2i_fast.backends import dispatch

from ..helpers import refused

CPU = torch.device("cpu")


@pytest.fixture
def forced(monkeypatch):
    """Set L2I_BACKEND."""
    return lambda name: monkeypatch.setenv("L2I_BACKEND", name)


@pytest.fixture
def log(caplog):
    """Log choices, and return their messages."""
    caplog.set_level(logging.DEBUG, "l2i_fast.backends")
    return lambda: [record.getMessage() for record in caplog.records]


def served(log):
    """The backends that served, in order."""
    return [message.rpartition(": ")[2] for message in log() if "since" not in message]


@pytest.mark.parametrize("name", dispatch.NAMES)
def test_each_backend_says_whether_it_takes_a_call(name):
    refuses = dispatch.backend(name).refuses
    assert list(inspect.signature(refuses).parameters) == ["operation", "device", "n_fft", "K"]
    on_host, on_device = refuses("stft", None, 1024), refuses("stft", torch.device("meta"), 1024)
    assert bool(on_host) == (name in dispatch.DEVICE)
    assert isinstance(on_device, str)
    if name in dispatch.HOST:
        assert "not tensors on meta" in on_device


#: Operations, and what stands for an operand in the signatures of backends on tensors and on arrays.
OPERATIONS = ("stft", "istft", "analyze", "log_mel", "soft_mask", "soft_mask_gradient", "decode", "decode_gradient")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_backends_have_the_same_parameters(operation):
    parameters = []
    for name in ("scipy", "triton", "torch"):
        function = getattr(dispatch.backend(name), operation, None)
        if function is not None:
            parameters.append([p for p in inspect.signature(function).parameters if p != "out"])
    assert all(names == parameters[0] for names in parameters)


def test_arrays_go_to_the_native_engine_or_to_scipy(log, rng):
    y = rng.standard_normal(4000).astype(np.float32)
    l2i.stft(y, 1024)
    l2i.stft(y, 1000)
    l2i.stft(torch.from_numpy(y), 512)
    l2i.istft(l2i.stft(y, 300), n_fft=300)
    assert served(log) == ["native", "scipy", "native", "scipy", "scipy"]
    assert any("not native, since the native engine takes frames of a power of two" in message for message in log())


def test_nothing_is_logged_unless_it_is_asked_for(caplog, rng):
    l2i.stft(rng.standard_normal(4000).astype(np.float32))
    assert not caplog.records


@pytest.mark.parametrize(("name", "who"), [("native", "the native engine"), ("scipy", "SciPy")])
def test_a_backend_of_arrays_refuses_streams_on_a_device(name, who, forced):
    forced(name)
    with refused(RuntimeError, f"L2I_BACKEND is {name}, but {who} takes NumPy arrays, not tensors on cpu"):
        l2i.DeviceStreams(np.ones((513, 2), np.float32), 2, device="cpu")


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_forced_native_engine_does_not_time_scipy(library, forced, rng):
    y = rng.standard_normal(4000).astype(np.float32)
    samples = torch.from_numpy(y) if library == "torch" else y
    forced("native")
    assert np.array_equal(np.asarray(l2i.stft(samples, 1024)), l2i.stft(y, 1024))
    sizes = "frames of a power of two from 32 to 65536 samples, not of 1000"
    message = f"L2I_BACKEND is native, but the native engine takes {sizes}"
    with refused(RuntimeError, message):
        l2i.stft(samples, 1000)
    with refused(RuntimeError, message):
        l2i.analyze(samples, n_fft=1000)


def test_scipy_can_be_forced(forced, rng):
    y = rng.standard_normal(4000).astype(np.float32)
    expected = l2i.stft(y, 1024)
    forced("scipy")
    X = l2i.stft(y, 1024)
    assert np.linalg.norm(X - expected) < 1e-6 * np.linalg.norm(expected)
    with refused(RuntimeError, "L2I_BACKEND is scipy, but this backend has no log_mel"):
        l2i.log_mel(X)
    with refused(RuntimeError, "L2I_BACKEND is scipy, but this backend has no StreamEngines"):
        l2i.StreamDecoder(np.ones((513, 2), np.float32))


def test_tensors_go_through_a_forced_backend(forced, log, rng):
    y = torch.from_numpy(rng.standard_normal(4000).astype(np.float32))
    forced("torch")
    X = l2i.stft(y)
    W, H = torch.rand(513, 3), torch.rand(3, X.shape[-1])
    l2i.decode(X, W, H, torch.ones(3))
    l2i.activations(torch.log1p(X.abs()), W, n_iter=1)
    assert served(log) == ["torch"] * 3


def test_a_forced_backend_of_tensors_leaves_arrays_alone(forced, log, rng):
    forced("torch")
    l2i.stft(rng.standard_normal(4000).astype(np.float32))
    assert served(log) == ["native"]


def test_triton_says_which_sizes_it_takes(forced, rng):
    pytest.importorskip("triton")
    if reason := dispatch.backend("triton").refuses("stft", CPU, 1024):
        pytest.skip(reason)
    forced("triton")
    sizes = "frames of 256, 512, 1024, 2048, 4096 samples, not of 128"
    with refused(RuntimeError, f"L2I_BACKEND is triton, but Triton takes {sizes}"):
        l2i.stft(torch.zeros(4000), 128)
    sizes = "at most 128 components in a factorisation, not 129"
    with refused(RuntimeError, f"L2I_BACKEND is triton, but Triton takes {sizes}"):
        l2i.activations(torch.ones(3, 4), torch.ones(3, 129), n_iter=1)
    with refused(RuntimeError, "L2I_BACKEND is triton, but this backend has no ticker"):
        l2i.DeviceStreams(np.ones((129, 4), np.float32), 2, 128, device="cpu")


def test_sizes_that_triton_refuses_are_served_by_torch(monkeypatch):
    # As on a GPU without the CUDA library, where Triton comes before torch.
    pytest.importorskip("triton")
    if reason := dispatch.backend("triton").refuses("stft", CPU, 1024):
        pytest.skip(reason)
    monkeypatch.setattr(dispatch.backend("cuda"), "refuses", lambda *_: "the CUDA library was not built")
    names = [dispatch.serving_backend("stft", CPU, n).__name__.rpartition(".")[2] for n in (1024, 1000, 128)]
    assert names == ["triton", "torch", "torch"]
    names = [dispatch.serving_backend("nmf_pass", CPU, K=K).__name__.rpartition(".")[2] for K in (128, 129)]
    assert names == ["triton", "torch"]


def test_an_unknown_backend_is_refused(forced, rng):
    forced("tpu")
    for y in (np.zeros(2000, np.float32), torch.zeros(2000)):
        with refused(ValueError, "L2I_BACKEND is 'tpu', but must be one of native, scipy, cuda, triton, torch"):
            l2i.stft(y)


def test_the_cuda_library_says_what_it_lacks(forced):
    reason = dispatch.backend("cuda").refuses("stft", CPU, 1024)
    if not reason:
        pytest.skip("the CUDA library runs here")
    assert re.match("the CUDA library (was not built|cannot|runs on)", reason)
    forced("cuda")
    with refused(RuntimeError, f"L2I_BACKEND is cuda, but {reason}"):
        l2i.stft(torch.zeros(4000))
