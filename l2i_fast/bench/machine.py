"""What the figures were measured on, and its ceilings."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from threadpoolctl import threadpool_info

from l2i_fast import _core
from l2i_fast.backends.threads import get_num_threads, set_num_threads
from l2i_fast.cli.doctor import processor

#: Sizes of the arrays, for each thread, whose reading is timed; and how long that takes.
ARRAYS = 1 << 18, 1 << 22, 1 << 28
_SECONDS = 0.05


def describe() -> dict[str, Any]:
    """Processor, CPU path, versions, BLAS kernels and date."""
    import scipy.linalg  # noqa: F401  so that its BLAS is seen

    names = "l2i_fast", "numpy", "scipy", "torch", "scikit-learn", "librosa", "torchnmf"
    return {
        "processor": processor(),
        "path": _core.cpu_features()["path"],
        "versions": {"python": platform.python_version()} | {name: version(name) for name in names},
        "blas": blas(),
        "date": time.strftime("%Y-%m-%d"),
    }


def blas() -> str:
    """Library, version and kernels of the BLAS that NumPy uses, as far as can be seen."""
    found = [
        f"{info['internal_api']} {info['version']} {info.get('architecture', '')}".rstrip()
        for info in threadpool_info()
        if info["user_api"] == "blas"
    ]
    return ", ".join(sorted(set(found))) or "unknown"


def version(name: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def size_text(n_bytes: int) -> str:
    """Write a power of two of bytes."""
    return f"{n_bytes >> 20} MiB" if n_bytes >= 1 << 20 else f"{n_bytes >> 10} KiB"


@dataclass(frozen=True)
class Ceilings:
    """float32 operations a second with all operands in registers, and bytes a second read from arrays of `ARRAYS`."""

    threads: int
    flops: float
    bandwidths: list[float]

    def bandwidth(self, n_bytes: float) -> float:
        """Bytes a second where this many are at work: the smallest array that holds each thread's share tells."""
        return next(
            (rate for size, rate in zip(ARRAYS, self.bandwidths, strict=True) if n_bytes / self.threads <= size),
            self.bandwidths[-1],
        )

    def floor(self, flops: float, n_bytes: float) -> float:
        """The least time in seconds: for arithmetic or for moving, whichever takes longer."""
        return max(flops / self.flops, n_bytes / self.bandwidth(n_bytes))


def measure_ceilings(n_threads: int) -> Ceilings:
    """Measure the ceilings of the CPU path in use; less than half a second."""
    before = get_num_threads()
    set_num_threads(n_threads)
    try:
        return Ceilings(
            n_threads, _core.peak_flops(_SECONDS), [_core.read_bandwidth(size, _SECONDS) for size in ARRAYS]
        )
    finally:
        set_num_threads(before)
