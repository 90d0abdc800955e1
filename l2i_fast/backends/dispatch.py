"""Which backend serves an operation on tensors, and how exact its matrix products are.

A backend is a module of functions on tensors, named and shaped as those of `l2i_fast._core`: `with_cuda` (CUDA C++, if
the library was built), `with_triton`, and `with_torch` (plain torch, on any device). What serves by default is the
first of them that has the operation and can run; the environment variable L2I_BACKEND names one for all, for
comparison, and tensors on the CPU go through it, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, get_args

import torch

from l2i_fast.arrays import is_tensor

Backend = Literal["cuda", "triton", "torch"]
Precision = Literal["float32", "tf32", "bf16"]

#: How the kernels are told: three TF32 products give float32's accuracy on tensor cores.
_PRODUCTS = {"float32": "tf32x3", "tf32": "tf32", "bf16": "bf16"}
_precision: Precision = "float32"


def set_gpu_precision(precision: Precision) -> None:
    """Choose how exact the matrix products of Triton's kernels are; sums are float32 in any case.

    Parameters
    ----------
    precision : {"float32", "tf32", "bf16"}
        "float32", the default, keeps the accuracy that docs/design.md states. "tf32" rounds operands to 11 significant
        bits, "bf16" to 8; docs/gpu.md states what that costs in accuracy. STFT and inverse stay float32. Convolutions
        of a model are float32 at "float32", and otherwise what `torch.backends.cudnn.conv.fp32_precision` says.
    """
    global _precision
    if precision not in get_args(Precision):
        raise ValueError(f"precision is {precision!r}, but must be one of {', '.join(get_args(Precision))}")
    _precision = precision


def get_gpu_precision() -> Precision:
    """Return what `set_gpu_precision` chose."""
    return _precision


def products() -> str:
    """How a kernel multiplies matrices at the precision in force: its constant PRECISION."""
    return _PRODUCTS[_precision]


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Keep cuDNN from rounding operands to TF32, as it does by default, at the precision "float32"."""
    setting = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = setting.fp32_precision
    if _precision == "float32":
        setting.fp32_precision = "ieee"
    try:
        yield
    finally:
        setting.fp32_precision = before


def forced() -> Backend | None:
    """Return the backend that L2I_BACKEND names.

    Raises
    ------
    ValueError
        L2I_BACKEND names none that there is.
    """
    name = os.environ.get("L2I_BACKEND") or None
    if name is not None and name not in get_args(Backend):
        raise ValueError(f"L2I_BACKEND is {name!r}, but must be one of {', '.join(get_args(Backend))}")
    return name  # type: ignore[return-value]


def missing(backend: Backend, device: torch.device) -> str:
    """Say what a backend lacks to run on a device; nothing if it can."""
    if backend == "torch":
        return ""
    if backend == "triton":
        try:
            import triton
        except ImportError as error:
            return f"Triton cannot be imported ({error})"
        if device.type != "cuda" and not triton.knobs.runtime.interpret:
            return f"Triton runs on a GPU, not on {device}, unless TRITON_INTERPRET=1 is set before it is imported"
        if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
            return "its kernels need a GPU of compute capability 8.0 or newer"
        return ""
    library = _cuda_library()
    if isinstance(library, str):
        return library
    if device.type != "cuda":
        return f"the CUDA library runs on a GPU, not on {device}"
    there, reason = library
    return "" if there else f"the CUDA library cannot run here ({reason})"


@cache
def _cuda_library() -> str | tuple[bool, str]:
    # Why there is none, or what it says of itself: asked once, since every call of an operation looks.
    try:
        answer: tuple[bool, str] = import_module("l2i_fast._cuda").available()
    except ImportError as error:
        return f"the CUDA library was not built with this installation ({error})"
    return answer


def serving(operation: str, device: torch.device) -> Callable[..., Any]:
    """Return the function of the backend that serves `operation` on `device`.

    Raises
    ------
    RuntimeError
        The backend that L2I_BACKEND names lacks something, or has no such operation.
    """
    wanted = forced()
    for backend in (wanted,) if wanted else get_args(Backend):
        reason = missing(backend, device)
        function = None if reason else getattr(module(backend), operation, None)
        if function is not None:
            return function  # type: ignore[no-any-return]
    raise RuntimeError(f"L2I_BACKEND is {wanted}, but " + (reason or f"that backend has no {operation}"))


def module(backend: Backend) -> ModuleType:
    """Return a backend's functions; `missing` says beforehand whether it can run."""
    return import_module(f"l2i_fast.backends.{backend}")


def find_device(name: str | torch.device) -> torch.device:
    """Return the device of this name: "cpu", "cuda" or "cuda:1".

    Raises
    ------
    ValueError
        No such device is here.
    """
    device = torch.device(name) if str(name).split(":")[0] in ("cpu", "cuda") else None
    if device is None:
        raise ValueError(f"device is {str(name)!r}, but must be 'cpu', 'cuda' or 'cuda:' and a number")
    n = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= n:
        why = f"torch finds {n} GPUs" if torch.backends.cuda.is_built() else "torch has no CUDA"
        raise ValueError(f"device is {str(name)!r}, but {why}; `l2i doctor` tells more")
    return device


def device_of(**arrays: Any) -> torch.device:
    """Return the one device that all of some tensors are on.

    Raises
    ------
    TypeError
        One of them is not a tensor.
    ValueError
        They are on several devices, or on one that nothing here runs on.
    """
    name, x = max(arrays.items(), key=lambda item: is_tensor(item[1]) and 1 + (item[1].device.type != "cpu"))
    for other, y in arrays.items():
        if not is_tensor(y):
            raise TypeError(f"{other} is {type(y).__name__}, but {name} is on {x.device}: a tensor there is needed")
        if y.device != x.device:
            raise ValueError(f"{other} is on {y.device}, but {name} is on {x.device}: all must be on one device")
    device: torch.device = x.device
    if device.type not in ("cuda", "cpu"):
        raise ValueError(f"{name} is on {device}, but only the CPU and CUDA devices are supported: pass {name}.cpu()")
    return device
