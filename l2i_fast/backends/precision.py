"""The precision of matrix products, on the CPU and on GPUs; sums are float32 or better in any case."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from l2i_fast import forks
from l2i_fast.arguments import one_of

if TYPE_CHECKING:
    import torch

CpuPrecision = Literal["float32", "bf16x3", "bf16x2", "bf16"]
GpuPrecision = Literal["float32", "tf32", "bf16"]

T = TypeVar("T")

_cpu: CpuPrecision = "float32"
_gpu: GpuPrecision = "float32"

# Runs of exact convolutions that are under way, and the setting that they found.
_lock = forks.lock()
_exact_runs, _before = 0, ""


def set_cpu_precision(precision: CpuPrecision) -> None:
    """Set the precision of the matrix products in multiplicative updates on the CPU, for the whole process.

    It applies to `NMF`, `learn_dictionary`, `learn_dictionary_online` and `activations` with ``solver="mu"``, from
    their next call on. Everything else, other solvers included, computes in float32.

    Parameters
    ----------
    precision : {"float32", "bf16x3", "bf16x2", "bf16"}
        "float32" is the default. The others split each factor into three, two or one terms of bfloat16 and multiply
        those: six products for the accuracy of float32, three for about 17 bits, one for about 8; docs/nmf.md states
        the errors. They are meant for processors that multiply bfloat16 faster: three and two terms for AMX, one for
        AMX or AVX-512 BF16. Elsewhere the answers are the same to within these errors, but slower than in float32.

    Raises
    ------
    ValueError
        For another precision.
    """
    global _cpu
    _cpu = _checked(precision, CpuPrecision)


def get_cpu_precision() -> CpuPrecision:
    """Return the precision that `set_cpu_precision` chose."""
    return _cpu


def set_gpu_precision(precision: GpuPrecision) -> None:
    """Set the precision of the matrix products in Triton kernels, for the whole process.

    Parameters
    ----------
    precision : {"float32", "tf32", "bf16"}
        "float32", the default, keeps the accuracy that docs/design.md states. "tf32" rounds operands to 11 significant
        bits, "bf16" to 8; docs/gpu.md states what that costs in accuracy. STFT and inverse stay float32. Convolutions
        of a model are float32 at "float32", and otherwise follow `torch.backends.cudnn.conv.fp32_precision`.

    Raises
    ------
    ValueError
        For another precision.
    """
    global _gpu
    _gpu = _checked(precision, GpuPrecision)


def get_gpu_precision() -> GpuPrecision:
    """Return the precision that `set_gpu_precision` chose."""
    return _gpu


@contextmanager
def at_cpu_precision(precision: CpuPrecision) -> Iterator[None]:
    """Set the precision on the CPU for the duration of a context."""
    before = _cpu
    set_cpu_precision(precision)
    try:
        yield
    finally:
        set_cpu_precision(before)


@contextmanager
def exact_convolutions(device: torch.device) -> Iterator[None]:
    """Keep cuDNN from rounding operands to TF32, as it does by default, unless another precision is chosen.

    The setting is that of the process: the first thread sets it, and the last one restores it.
    """
    global _exact_runs, _before
    if device.type != "cuda" or _gpu != "float32":
        yield
        return
    import torch

    setting = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    with _lock:
        if not _exact_runs:
            _before, setting.fp32_precision = setting.fp32_precision, "ieee"
        _exact_runs += 1
    try:
        yield
    finally:
        with _lock:
            _exact_runs -= 1
            if not _exact_runs:
                setting.fp32_precision = _before


def _checked(precision: T, allowed: object) -> T:
    one_of(precision, "precision", get_args(allowed))
    return precision
