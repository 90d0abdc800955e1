"""A model whose operations a backend of the GPU serves answers as on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from l2i_fast.backends import precision as precisions

from ..conftest import make_model
from ..helpers import missing, refused, relative


@pytest.mark.parametrize("served", ["torch", "triton"])
def test_interpretations_are_the_same(served, device, rng, monkeypatch):
    if reason := missing(served, device):
        pytest.skip(reason)
    signals = [(rng.standard_normal(n).astype(np.float32) / 5, 44100) for n in (30000, 30000, 12345)]
    expected = list(make_model().interpret_batch(signals))
    monkeypatch.setenv("L2I_BACKEND", served)
    model = make_model().to(device)
    for ours, theirs in zip(model.interpret_batch(signals), expected, strict=True):
        assert ours.prediction == theirs.prediction
        assert relative(ours.probabilities, theirs.probabilities) < 1e-4
        assert relative(ours.activations, theirs.activations) < 1e-4
        assert relative(ours.relevance, theirs.relevance) < 1e-3
        assert isinstance(ours.audio, np.ndarray)
        assert relative(ours.audio, theirs.audio) < 1e-3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there():
    model = make_model()
    with refused(ValueError, "device is 'cuda', but torch ...; `l2i doctor` tells more"):
        model.to("cuda")
    for unknown in ("cuda:x", "cuda:-1", "cuda:128", "cpu:1"):  # torch takes 128 for -128
        with refused(ValueError, f"device is '{unknown}', but must be 'cpu', 'cuda' or 'cuda:' and a number"):
            model.to(unknown)
    assert model.to("cpu:0").device.type == "cpu"
    with refused(ValueError, "device is 'meta', but must be 'cpu', 'cuda' or 'cuda:' and a number"):
        model.to("meta")
    assert model.to("cpu") is model
    assert model.device.type == "cpu"


@pytest.mark.parametrize(("precision", "seen"), [("float32", "ieee"), ("tf32", "tf32")])
def test_convolutions_are_as_exact_as_was_chosen(precision, seen, monkeypatch):
    monkeypatch.setattr(precisions, "_gpu", precision)
    setting = torch.backends.cudnn.conv
    assert setting.fp32_precision == "tf32"  # torch's default
    model, during = make_model(), []
    model.network.hidden.network.register_forward_pre_hook(lambda *_: during.append(setting.fp32_precision))
    model.hear(torch.zeros(1, 1, 100, 128), 100)
    model.network.device = torch.device("cuda", 0)
    model.hear(torch.zeros(1, 1, 100, 128), 100)
    assert during == ["tf32", seen]
    assert setting.fp32_precision == "tf32"


def test_convolutions_are_exact_until_the_last_run_ends():
    setting, gpu = torch.backends.cudnn.conv, torch.device("cuda", 0)
    one, other = precisions.exact_convolutions(gpu), precisions.exact_convolutions(gpu)
    with one:
        other.__enter__()
    assert setting.fp32_precision == "ieee"
    other.__exit__(None, None, None)
    assert setting.fp32_precision == "tf32"


def test_a_model_on_a_gpu_does_not_stream():
    model = make_model()
    model.network.device = torch.device("cuda", 0)
    with refused(ValueError, "the model is on cuda:0, but streams run on the CPU: model.to('cpu') first"):
        model.stream()
