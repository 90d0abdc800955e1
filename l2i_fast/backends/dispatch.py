"""The choice of the backend that serves a call.

A backend is a module of functions on checked, frame-major operands that have the same names and parameters in each:
`native` and `scipy` on NumPy arrays, `cuda`, `triton` and `torch` on tensors. Its function `refuses` says why it does
not take a call: a size, a device, a library that is missing. The first backend of `ORDER` that has the operation and
does not refuse serves. The environment variable L2I_BACKEND names one backend instead, for comparison; tensors on the
CPU go through it, too, and a call that it does not take is an error. Choices are logged at level DEBUG by the logger
``l2i_fast.backends``.
"""

from __future__ import annotations

import logging
import os
import re
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from l2i_fast.arguments import shown
from l2i_fast.arrays import Device, is_tensor
from l2i_fast.forks import importing

if TYPE_CHECKING:
    import torch

#: Backends on NumPy arrays, and backends on tensors, in order of preference. The last of each takes every size.
HOST, DEVICE = ("native", "scipy"), ("cuda", "triton", "torch")
NAMES = (*HOST, *DEVICE)

_log = logging.getLogger("l2i_fast.backends")


class BackendError(RuntimeError):
    """The backend that L2I_BACKEND names does not take a call."""


def forced_backend() -> str | None:
    """Return the backend that L2I_BACKEND names, if any.

    Raises
    ------
    ValueError
        If L2I_BACKEND names no known backend.
    """
    name = os.environ.get("L2I_BACKEND")
    if name and name not in NAMES:
        raise ValueError(f"L2I_BACKEND is {name!r}, but must be one of {', '.join(NAMES)}")
    return name or None


@cache
def backend(name: str) -> ModuleType:
    """Return the module of a backend."""
    with importing:
        return import_module(f"l2i_fast.backends.{name}")


def serving_backend(operation: str, device: Device, n_fft: int = 0, K: int = 0) -> ModuleType:
    """Return the backend that serves an operation.

    Parameters
    ----------
    operation : str
        Name of the function.
    device : torch.device or None
        Of the operands; None for NumPy arrays.
    n_fft : int
        Frame length of a transform, 0 for operations without one.
    K : int
        Number of components, 0 for operations without them.

    Raises
    ------
    BackendError
        If the backend that L2I_BACKEND names does not take the call; the message says why.
    """
    among: tuple[str, ...] = HOST if device is None else DEVICE
    forced = forced_backend()
    if forced is not None and (device is not None or forced in among):
        among = (forced,)
    reason = ""
    for name in among:
        module = backend(name)
        reason = module.refuses(operation, device, n_fft, K)
        if not reason and not hasattr(module, operation):
            reason = f"this backend has no {operation}"
        if not reason:
            if _log.isEnabledFor(logging.DEBUG):
                _log.debug("%s on %s (n_fft %d, K %d): %s", operation, device or "the host", n_fft, K, name)
            return module
        _log.debug(
            "%s on %s (n_fft %d, K %d): not %s, since %s", operation, device or "the host", n_fft, K, name, reason
        )
    raise BackendError(f"L2I_BACKEND is {forced}, but {reason}")


def serving(operation: str, device: Device, n_fft: int = 0, K: int = 0) -> Any:
    """Return the function of the backend that serves an operation: see `serving_backend`."""
    return getattr(serving_backend(operation, device, n_fft, K), operation)


def device_of(**arrays: Any) -> Device:
    """Return the device of the operands of a call: None if NumPy arrays serve, otherwise that of the tensors.

    NumPy arrays serve for NumPy arrays and, unless L2I_BACKEND names a backend on tensors, for tensors on the CPU.

    Raises
    ------
    TypeError
        If one of them is a tensor on a device and another one is no tensor.
    ValueError
        If they are on several devices, or on one that no backend supports.
    """
    name, device = "", cast("Device", None)
    for other, x in arrays.items():
        if is_tensor(x) and (device is None or (device.type == "cpu" != x.device.type)):
            name, device = other, x.device
    if device is None or (device.type == "cpu" and forced_backend() not in DEVICE):
        return None
    for other, x in arrays.items():
        if not is_tensor(x):
            raise TypeError(f"{other} is {type(x).__name__}, but {name} is on {device}: a tensor there is needed")
        if x.device != device:
            raise ValueError(f"{other} is on {x.device}, but {name} is on {device}: all must be on one device")
    if device.type not in ("cuda", "cpu"):
        raise ValueError(f"{name} is on {device}, but only the CPU and CUDA devices are supported: pass {name}.cpu()")
    return device


def find_device(name: str | torch.device) -> torch.device:
    """Return the device of this name: "cpu", "cuda" or "cuda:1".

    Raises
    ------
    ValueError
        If no such device is present.
    """
    import torch

    text = str(name) if isinstance(name, str | torch.device) else ""
    if not re.fullmatch(r"cpu(:0)?|cuda(:(0|[1-9][0-9]?))?", text):
        raise ValueError(f"device is {shown(text or name)}, but must be 'cpu', 'cuda' or 'cuda:' and a number")
    device = torch.device(name)
    n = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= n:
        why = f"torch finds {n} GPUs" if torch.backends.cuda.is_built() else "torch has no CUDA"
        raise ValueError(f"device is {str(name)!r}, but {why}; `l2i doctor` tells more")
    return device
