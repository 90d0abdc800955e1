"""The block programs of kernels/cuda on the CPU: emulate.cpp, compiled once for the tests and called through ctypes."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from l2i_fast.gpu.with_cuda import turns

ROOT = Path(__file__).parents[2]
ORDERS = ["forward", "backward", "shuffled"]


def _structure(name: str, text: str) -> type[ctypes.Structure]:
    """A C structure of pointers (p), long long (l), int (i) and float (f) members: "p:name name l:name"."""
    kinds = {"p": ctypes.c_void_p, "l": ctypes.c_longlong, "i": ctypes.c_int, "f": ctypes.c_float}
    members = [(member, kinds[part[0]]) for part in text.split("; ") for member in part[2:].split()]
    return type(name, (ctypes.Structure,), {"_fields_": members})


Streams = _structure(
    "Streams",
    "p:by_bins by_components gram window norms turns hops input sums h weights start scale has_start fading "
    "next_weights next_start next_scale next_has_start fresh; l:n hop K; i:log_points n_updates log; f:eps",
)
Stft = _structure("Stft", "p:y window turns X; l:n_clips n_samples n_frames hop pad; i:log_points")
Decode = _structure(
    "Decode",
    "p:X W H weights window turns y; l:n_clips n_frames X_stride K H_stride weights_stride hop start length; "
    "i:log_points log; f:eps",
)


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """Compile and load; without a compiler the test is skipped, in CI it fails."""
    compiler = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    if compiler is None:
        if os.environ.get("CI"):
            pytest.fail("no C++ compiler")
        pytest.skip("no C++ compiler")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "emulate.so"
        options = ["-O2", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{ROOT}/kernels/cuda"]
        source = str(Path(__file__).parent / "emulate.cpp")
        result = subprocess.run([compiler, *options, source, "-o", str(target)], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        loaded = ctypes.CDLL(str(target))
    for structure in (Streams, Stft, Decode):
        assert getattr(loaded, f"size_of_{structure.__name__.lower()}")() == ctypes.sizeof(structure)
    return loaded


def threads(points: int, order: str, n: int | None = None) -> ctypes.Array[ctypes.c_int]:
    """The threads of a block in an order: as many as on a GPU, or n."""
    turns = np.arange(n or library().threads_of(points), dtype=np.int32)
    if order == "backward":
        turns = turns[::-1].copy()
    if order == "shuffled":
        np.random.default_rng().shuffle(turns)
    return (ctypes.c_int * len(turns))(*turns.tolist())


def call(function: str, problem: ctypes.Structure, points: int, rows: int, order: str, *arguments: object) -> None:
    """Run a program; it must stay in its memory."""
    block = threads(points, order)
    assert library().block_holds(rows, points)
    assert getattr(library(), function)(ctypes.byref(problem), rows, block, len(block), *arguments)


def at(x: Tensor | None) -> ctypes.c_void_p:
    """Where a tensor lies."""
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def log_points(n_fft: int) -> int:
    """Of half a frame."""
    return n_fft.bit_length() - 2


def stft(rows: int, order: str, clips: Tensor, window: Tensor, hop: int, pad: int) -> Tensor:
    """As the function of a backend, in blocks of so many frames."""
    n_fft, (n, n_samples) = len(window), clips.shape
    n_frames = 1 + (n_samples + 2 * pad - n_fft) // hop
    X = torch.full((n, n_frames, n_fft // 2 + 1), torch.nan, dtype=torch.complex64)
    tensors = {"y": clips, "window": window, "turns": turns(n_fft, window.device), "X": X}
    sizes = {"n_clips": n, "n_samples": n_samples, "n_frames": n_frames, "hop": hop, "pad": pad}
    problem = Stft(**{k: x.data_ptr() for k, x in tensors.items()}, **sizes, log_points=log_points(n_fft))
    call("emulate_stft", problem, n_fft // 2, rows, order)
    return X


def decode(
    rows: int,
    order: str,
    X: Tensor,
    mask: tuple[Tensor, Tensor, Tensor, bool, float] | None,
    window: Tensor,
    hop: int,
    start: int,
    length: int,
) -> Tensor:
    """As the function of a backend, with W, H, weights, log, eps, or as `istft` without."""
    n_fft = len(window)
    y = torch.full((len(X), length), torch.nan)
    tensors = {"X": X, "window": window, "turns": turns(n_fft, window.device), "y": y}
    sizes = {"n_clips": len(X), "n_frames": X.shape[1], "X_stride": X.stride(0), "hop": hop, "start": start}
    if mask is not None:
        W, H, weights, log, eps = mask
        tensors |= {"W": W.T.contiguous(), "H": H, "weights": weights}
        sizes |= {"K": W.shape[1], "H_stride": H.stride(0), "weights_stride": weights.stride(0), "log": log}
        sizes |= {"eps": eps}
    pointers = {k: x.data_ptr() for k, x in tensors.items()}
    problem = Decode(**pointers, **sizes, length=length, log_points=log_points(n_fft))
    call("emulate_decode", problem, n_fft // 2, rows, order)
    return y
