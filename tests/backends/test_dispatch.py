"""The choice of a backend, the reasons why one cannot serve, and the precision of products on GPUs."""

from __future__ import annotations

import torch

import l2i_fast as l2i
from l2i_fast.backends import dispatch as backend

from ..helpers import refused


def test_a_forced_backend_that_cannot_serve_is_refused(device, monkeypatch):
    y = torch.zeros(2000, device=device)
    monkeypatch.setenv("L2I_BACKEND", "tpu")
    with refused(ValueError, "L2I_BACKEND is 'tpu', but must be one of cuda, triton, torch"):
        l2i.stft(y)
    monkeypatch.setenv("L2I_BACKEND", "cuda")
    if backend.missing("cuda", device):
        with refused(RuntimeError, "L2I_BACKEND is cuda, but the CUDA library ..."):
            l2i.stft(y)
    if device.type == "cpu":
        monkeypatch.setenv("L2I_BACKEND", "triton")
        import triton

        with triton.knobs.runtime.scope():
            triton.knobs.runtime.interpret = False
            with refused(RuntimeError, "L2I_BACKEND is triton, but Triton runs on a GPU, not on cpu, unless ..."):
                l2i.stft(y)


def test_older_gpus_are_left_to_torch(monkeypatch):
    for capability, able in (((7, 5), False), ((8, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert (backend.missing("triton", torch.device("cuda")) == "") == able


def test_gpu_precision_chooses_the_products():
    assert l2i.get_gpu_precision() == "float32"
    assert backend.products() == "tf32x3"
    try:
        l2i.set_gpu_precision("tf32")
        assert backend.products() == "tf32"
    finally:
        l2i.set_gpu_precision("float32")
    with refused(ValueError, "precision is 'half', but must be one of float32, tf32, bf16"):
        l2i.set_gpu_precision("half")
