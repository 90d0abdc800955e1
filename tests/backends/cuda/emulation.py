"""Run the kernels of kernels/cuda on the CPU, in place of the library l2i_fast._cuda.

emulate.cpp is compiled once for the tests, and called through ctypes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import l2i_fast
from l2i_fast.backends import cuda as with_cuda

ROOT = Path(__file__).parents[3]
#: Orders in which the threads of a block run.
ORDERS = ["forward", "backward", "shuffled"]
#: The numbers of streams or frames of a block for which kernels exist.
STREAM_ROWS, FRAME_ROWS = (8, 4, 2, 1), (16, 8, 4)


def _structure(name: str, text: str) -> type[ctypes.Structure]:
    """A C structure of pointers (p), long long (l), int (i) and float (f) members: "p:name name; l:name"."""
    kinds = {"p": ctypes.c_void_p, "l": ctypes.c_longlong, "i": ctypes.c_int, "f": ctypes.c_float}
    members = [(member, kinds[part[0]]) for part in text.split("; ") for member in part[2:].split()]
    return type(name, (ctypes.Structure,), {"_fields_": members})


Streams = _structure(
    "Streams",
    "p:by_bins by_components gram window norms twiddles hops input sums h weights start scale has_start fading "
    "next_weights next_start next_scale next_has_start fresh; l:n hop K; i:log_points n_updates domain; f:eps",
)
Stft = _structure("Stft", "p:y window twiddles X; l:n_clips n_samples n_frames hop pad; i:log_points")
Decode = _structure(
    "Decode",
    "p:X W H weights window twiddles y; l:n_clips n_frames X_stride K H_stride weights_stride hop start length; "
    "i:log_points domain; f:eps",
)


def programs() -> ctypes.CDLL:
    """The compiled programs; without a compiler the test is skipped, but fails in CI."""
    loaded, reason = _compiled()
    if loaded is None and reason == _NO_COMPILER and not os.environ.get("CI"):
        pytest.skip(reason)
    assert loaded is not None, reason
    return loaded


_NO_COMPILER = "no C++ compiler"


@lru_cache(maxsize=1)
def _compiled() -> tuple[ctypes.CDLL | None, str]:
    compiler = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    if compiler is None:
        return None, _NO_COMPILER
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "emulate.so"
        options = ["-O2", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{ROOT}/kernels/cuda"]
        source = str(Path(__file__).parent / "emulate.cpp")
        result = subprocess.run([compiler, *options, source, "-o", str(target)], capture_output=True, text=True)
        if result.returncode != 0:
            return None, result.stderr
        loaded = ctypes.CDLL(str(target))
    for structure in (Streams, Stft, Decode):
        assert getattr(loaded, f"size_of_{structure.__name__.lower()}")() == ctypes.sizeof(structure)
    return loaded, ""


class Library:
    """The functions of l2i_fast._cuda, with at most `rows` rows in a block, whose threads run in an order."""

    def __init__(self, rows: int, order: str) -> None:
        self.rows, self.order = rows, order
        self.launches = 0

    def available(self) -> tuple[bool, str]:
        return True, ""

    def fits(self, n_fft: int, K: int, streams: bool) -> bool:
        return n_fft in [2**log for log in range(5, 14)]

    def Tick(self, **members: Any) -> Callable[[int, int, int, int], None]:
        def tick(blocks: int, H: int, out: int, stream: int) -> None:
            assert stream == 0
            where = (ctypes.c_void_p(x) for x in (blocks, H, out))
            self._run(Streams, "emulate_tick", STREAM_ROWS, dict(members), *where)

        return tick

    def stft(self, *, stream: int, **members: Any) -> None:
        self._run(Stft, "emulate_stft", FRAME_ROWS, members)

    def decode(self, *, stream: int, **members: Any) -> None:
        self._run(Decode, "emulate_decode", FRAME_ROWS, members)

    def _run(
        self,
        structure: type[ctypes.Structure],
        function: str,
        candidates: tuple[int, ...],
        members: dict[str, Any],
        *arguments: Any,
    ) -> None:
        points = members.pop("n_fft") // 2
        assert set(members) | {"log_points"} == {name for name, _ in structure._fields_}
        rows = next(r for r in candidates if r <= self.rows)
        turns = np.arange(programs().threads_of(points), dtype=np.int32)
        if self.order == "backward":
            turns = turns[::-1].copy()
        if self.order == "shuffled":
            np.random.default_rng().shuffle(turns)
        problem = structure(**members, log_points=points.bit_length() - 1)
        block = turns.ctypes.data_as(ctypes.c_void_p)
        in_memory = getattr(programs(), function)(ctypes.byref(problem), rows, block, len(turns), *arguments)
        assert in_memory, "a thread wrote beyond the shared memory"
        self.launches += 1


def install(patch: pytest.MonkeyPatch, rows: int, order: str) -> Library:
    """Replace CUDA's functions by emulations on tensors of the CPU."""
    library = Library(rows, order)
    patch.setitem(sys.modules, "l2i_fast._cuda", library)
    patch.setattr(l2i_fast, "_cuda", library, raising=False)
    patch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    patch.setattr(with_cuda, "_stream", lambda device: 0)

    def refuses(operation: str, device: torch.device, n_fft: int = 0, K: int = 0) -> str:
        takes = not n_fft or library.fits(n_fft, K, operation == "ticker")
        return "" if takes else f"the CUDA library does not take frames of {n_fft} samples"

    patch.setattr(with_cuda, "refuses", refuses)
    patch.setenv("L2I_BACKEND", "cuda")
    return library
