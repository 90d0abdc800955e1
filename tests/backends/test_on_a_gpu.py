"""Properties that only a GPU can show: no call waits for it, calls can be captured, the current CUDA stream is used."""

from __future__ import annotations

import pytest
import torch

import l2i_fast as l2i

pytestmark = [pytest.mark.alone, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]


@pytest.fixture
def calls():
    """One call of each operation, each on its own tensors."""
    torch.manual_seed(0)
    y = torch.randn(3, 20000, device="cuda")
    X = l2i.stft(y)
    W, H = torch.rand(513, 20, device="cuda"), torch.rand(3, 20, X.shape[-1], device="cuda")
    V, weights = torch.log1p(X.abs()), torch.rand(20, device="cuda")
    return {
        "stft": lambda: l2i.stft(y),
        "istft": lambda: l2i.istft(X, length=20000),
        "soft_mask": lambda: l2i.soft_mask(X, W, H, weights),
        "decode": lambda: l2i.decode(X, W, H, weights, length=20000),
        "activations": lambda: l2i.activations(V, W, "kullback-leibler", 3),
        "activations, Euclidean": lambda: l2i.activations(V, W, n_iter=3),
    }


NAMES = ["stft", "istft", "soft_mask", "decode", "activations", "activations, Euclidean"]
BACKENDS = ["torch", "triton", "cuda"]


@pytest.fixture(params=BACKENDS)
def ready(request, monkeypatch, calls):
    """A backend after its first calls, which tune kernels and copy tables."""
    monkeypatch.setenv("L2I_BACKEND", request.param)
    served = {}
    for name, call in calls.items():
        try:
            call()
            served[name] = call
        except RuntimeError as error:
            if "L2I_BACKEND" not in str(error):
                raise
    torch.cuda.synchronize()
    return served


@pytest.mark.parametrize("name", NAMES)
def test_no_call_waits_on_a_gpu(ready, name):
    if name not in ready:
        pytest.skip("this backend has no such operation")
    torch.cuda.set_sync_debug_mode("error")
    try:
        ready[name]()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", NAMES)
def test_calls_can_be_captured_on_a_gpu(ready, name):
    if name not in ready:
        pytest.skip("this backend has no such operation")
    expected = ready[name]()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = ready[name]()
    graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(answer, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_current_stream_is_used_on_a_gpu(ready, name):
    if name not in ready:
        pytest.skip("this backend has no such operation")
    expected = ready[name]()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)  # some 50 ms: longer than any call takes to launch
        answer = ready[name]()
    assert not stream.query()  # it waits behind the earlier work
    stream.synchronize()
    torch.testing.assert_close(answer, expected, rtol=0, atol=0)
