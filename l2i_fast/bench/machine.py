"""The machine that the figures were measured on, and its ceilings."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from threadpoolctl import threadpool_info

from l2i_fast.backends.native import cpu_features, peak_flops, read_bandwidth
from l2i_fast.backends.threads import get_num_threads, set_num_threads
from l2i_fast.system import processor

#: Bytes of the arrays, for each thread, whose reading is timed, and seconds that one measurement takes.
ARRAYS = 1 << 18, 1 << 22, 1 << 28
_SECONDS = 0.05


def describe() -> dict[str, Any]:
    """Describe the processor: its name, CPU path, BLAS, versions and date."""
    import scipy.linalg  # noqa: F401  loads the BLAS of SciPy

    machine = {"processor": processor(), "path": cpu_features()["path"], "blas": blas()}
    return machine | versions("numpy", "scipy", "torch", "scikit-learn", "librosa", "torchnmf")


def versions(*names: str) -> dict[str, Any]:
    """Return the versions of Python, of this package and of others, and the date."""
    known = {"python": platform.python_version()} | {name: _version(name) for name in ("l2i_fast", *names)}
    return {"versions": known, "date": time.strftime("%Y-%m-%d")}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def blas() -> str:
    """Return library, version and kernels of the BLAS libraries that are loaded, "unknown" if none is recognised."""
    libraries = [
        f"{info['internal_api']} {info['version']} {info.get('architecture', '')}".rstrip()
        for info in threadpool_info()
        if info["user_api"] == "blas"
    ]
    return ", ".join(sorted(set(libraries))) or "unknown"


def size_text(n_bytes: int) -> str:
    """Write a power of two of bytes."""
    return f"{n_bytes >> 20} MiB" if n_bytes >= 1 << 20 else f"{n_bytes >> 10} KiB"


@dataclass(frozen=True)
class Ceilings:
    """The most that a machine reaches: operations, and bytes, a second.

    On the CPU, float32 operations with all operands in registers, and bytes read from arrays of `ARRAYS`. On a GPU,
    matrix products, and the bytes that a copy of a large array reads and writes.
    """

    threads: int  # of the CPU; 0 on a GPU
    flops: float
    bandwidths: list[float]
    products: str = ""  # precision of the matrix products on a GPU: "float32" or "tf32"

    def bandwidth(self, n_bytes: float) -> float:
        """Return bytes a second for a number of bytes: the rate of the smallest array that holds a thread's share."""
        rates = zip(ARRAYS, self.bandwidths, strict=False)
        return next((rate for size, rate in rates if n_bytes / self.threads <= size), self.bandwidths[-1])

    def floor(self, flops: float, n_bytes: float) -> float:
        """Return the least time in s: that of the operations or that of the bytes, whichever is longer."""
        return max(flops / self.flops, n_bytes / self.bandwidth(n_bytes))


def measure_ceilings(n_threads: int) -> Ceilings:
    """Measure the ceilings of the CPU path in use, in less than half a second."""
    before = get_num_threads()
    set_num_threads(n_threads)
    try:
        rates = [read_bandwidth(size, _SECONDS) for size in ARRAYS]
        return Ceilings(n_threads, peak_flops(_SECONDS), rates)
    finally:
        set_num_threads(before)
