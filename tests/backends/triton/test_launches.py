"""Launches of Triton's kernels: they compile, once for clips of all lengths, and threads launch one by one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from threading import Lock
from time import sleep

import pytest
import torch

from . import launches

#: Compiled once each, but for configurations that are timed and strides of one.
KERNELS = {
    "band_edges_kernel",
    "divergence",
    "gather",
    "inverse_squares_kernel",
    "istft_frames_kernel",
    "istft_kernel",
    "log_mel_kernel",
    "overlap_add_kernel",
    "product",
    "soft_mask",
    "soft_mask_gradient",
    "stft_kernel",
    "update_H",
    "update_H_euclidean",
}


def test_all_sizes_share_their_kernels():
    first, *others = launches.compiled()
    assert set(first) == KERNELS
    assert others == [[], []]


class Tuned:
    """In place of a kernel whose configurations are timed: fails if a second thread enters."""

    def __init__(self):
        self.free, self.calls = Lock(), 0

    def __getitem__(self, grid):
        return self.launch

    def launch(self, *arguments, **constants):
        assert self.free.acquire(blocking=False)
        sleep(0.01)
        self.calls += 1
        self.free.release()


@pytest.mark.parametrize("operation", ["nmf_update_H", "nmf_gather", "soft_mask"])
def test_tuned_kernels_are_launched_by_one_thread_at_a_time(operation, monkeypatch):
    nmf, soft_mask = (import_module(f"l2i_fast.backends.triton.launch_{name}") for name in ("nmf", "soft_mask"))
    V, W, H = torch.ones((4, 3)), torch.ones((3, 2)), torch.ones((4, 2))
    kernel, X = Tuned(), torch.ones((1, 4, 3), dtype=torch.complex64)
    for module, name in ((nmf.kernels, "update_H"), (nmf.kernels, "gather"), (soft_mask, "_soft_mask")):
        monkeypatch.setattr(module, name, kernel)
    calls = {
        "nmf_update_H": lambda: nmf.nmf_update_H(V, None, W, H, 1.0, 0.0, 0.0, 1),
        "nmf_gather": lambda: nmf.nmf_gather(V, None, W, H, 1.0),
        "soft_mask": lambda: soft_mask.soft_mask(X, W, H[None], torch.ones((1, 2)), "log", 1e-6),
    }
    with ThreadPoolExecutor(max_workers=4) as pool:
        for answer in [pool.submit(calls[operation]) for _ in range(8)]:
            answer.result()
    assert kernel.calls == 8
