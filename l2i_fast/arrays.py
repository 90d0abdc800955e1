"""Arrays of NumPy and tensors of torch, treated alike.

Operations on the CPU work on NumPy arrays: a tensor there becomes one without a copy, and the answer to it becomes a
tensor again, also without a copy. Tensors on another device, or on the CPU where L2I_BACKEND names a backend for
tensors, stay tensors. Where it matters, `device` tells the two apart: None for NumPy arrays, otherwise the device.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Array: TypeAlias = "NDArray[Any] | torch.Tensor"
ArrayT = TypeVar("ArrayT", NDArray[Any], "torch.Tensor")
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Complex64 = NDArray[np.complex64]
#: The device of tensors, None for NumPy arrays.
Device: TypeAlias = "torch.device | None"

#: The smallest normal and the largest float32.
TINY, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

#: More than any array holds: sizes up to this can be added and multiplied by one another in 64 bits.
LONGEST = 2**40

_PCM_BITS = {"int8": 8, "int16": 16, "int32": 32}


def is_tensor(x: Any) -> bool:
    """Tell whether `x` is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def needs_gradient(*arrays: Any) -> bool:
    """Tell whether autograd is to compute the gradient of one of these arrays."""
    return any(is_tensor(x) and x.requires_grad for x in arrays) and sys.modules["torch"].is_grad_enabled()


def detached(x: Any) -> Any:
    """Return `x` without its autograd history."""
    return x.detach() if is_tensor(x) else x


def namespace(x: Any) -> Any:
    """Return the module, torch or NumPy, whose functions take `x`."""
    return sys.modules["torch"] if is_tensor(x) else np


def double(x: Any) -> Any:
    """Return `x` in float64, in the same library and on the same device."""
    return x.double() if is_tensor(x) else x.astype(np.float64)


def contiguous(x: Any) -> Any:
    """Return `x` in C order, without a copy if it is already."""
    return x.contiguous() if is_tensor(x) else np.ascontiguousarray(x)


def host(x: Any) -> Any:
    """Return `x` as a NumPy array; waits for the device that a tensor is on."""
    return on_host(x).numpy() if is_tensor(x) else x


def on_host(x: Any) -> Any:
    """Return a tensor without its autograd history on the CPU, which waits for its device, and all else as it is."""
    return x.detach().cpu() if is_tensor(x) and not x.is_meta else x


def placed(array: NDArray[Any], x: Any) -> Any:
    """Return `array` in the library of `x`, on its device."""
    return sys.modules["torch"].as_tensor(array, device=x.device) if is_tensor(x) else array


def constant(array: Float32, device: Device) -> Any:
    """Return a small float32 vector where operands with this `device` are; copies to a device are kept."""
    return array if device is None else _constant(array.tobytes(), device)


@lru_cache(maxsize=64)
def _constant(values: bytes, device: torch.device) -> torch.Tensor:
    import torch

    with torch.inference_mode(False):  # kept beyond the caller's mode
        return torch.frombuffer(bytearray(values), dtype=torch.float32).to(device)


def to_numpy(x: Any, name: str) -> NDArray[Any]:
    """Return `x` as a NumPy array, which shares memory with arrays, CPU tensors and buffers.

    Parameters
    ----------
    x : array-like
        An array, a tensor, numbers in lists, or any object with a buffer, `__array__` or `__dlpack__`.
    name : str
        Name of the argument, for errors.

    Raises
    ------
    TypeError
        For anything else, and for tensors that are sparse, nested or quantised.
    ValueError
        For a tensor on another device, or one that requires grad, and for an array of which values are masked.
    """
    if type(x) is np.ndarray:
        return x
    if not is_tensor(x):
        return _read(unmasked(x, name), name)
    if x.device.type != "cpu":
        raise ValueError(f"{name} is on {x.device}, but must be on the CPU here: pass {name}.cpu()")
    torch = sys.modules["torch"]
    x = _plain(x, name)
    if x.dtype is torch.complex32:
        x = x.cfloat()
    elif x.is_floating_point() and x.dtype not in (torch.float16, torch.float32, torch.float64):
        x = x.float()  # NumPy has neither bfloat16 nor shorter numbers
    try:
        array: NDArray[Any] = x.numpy()
    except RuntimeError as error:  # a subclass, or a tensor within one of torch's transforms of functions
        raise TypeError(f"{name} is {type(x).__name__} without memory to read, but a plain tensor is needed") from error
    return array


def unmasked(x: Any, name: str) -> Any:
    """Return `x`, and the values of a masked array if no value is masked.

    Raises
    ------
    ValueError
        If a value is masked.
    """
    masked = np.ma.MaskedArray
    if not isinstance(x, masked) and not (isinstance(x, list | tuple) and any(isinstance(part, masked) for part in x)):
        return x
    values = np.ma.asarray(x) if isinstance(x, masked) else np.ma.stack(x)
    if n := int(np.ma.getmaskarray(values).sum()):
        raise ValueError(f"{name} has {n} masked values, but all values are needed: pass {name}.filled(...)")
    return values.data


def _read(x: Any, name: str) -> NDArray[Any]:
    reason = f"{name} is {type(x).__name__}, but an array of numbers or a tensor is needed"
    try:
        only_dlpack = hasattr(x, "__dlpack__") and not hasattr(x, "__array__")
        array: NDArray[Any] = np.from_dlpack(x) if only_dlpack else np.asarray(x)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:  # ragged lists, memory of another device
        raise TypeError(reason) from error
    if array.dtype.kind not in "biufc" and not isinstance(x, np.ndarray):
        raise TypeError(reason)
    return array


def _plain(x: torch.Tensor, name: str) -> torch.Tensor:
    # Dense, and without conjugation and negation still to be done.
    if x.layout is not sys.modules["torch"].strided or x.is_nested or x.is_quantized:
        kind = "quantised" if x.is_quantized else "nested" if x.is_nested else str(x.layout).removeprefix("torch.")
        raise TypeError(f"{name} is a {kind} tensor, but a dense one is needed")
    if x.requires_grad:
        raise ValueError(f"{name} requires grad, which is not supported here: pass {name}.detach()")
    return x.resolve_conj().resolve_neg()


def taken(x: Any, name: str, device: Device = None) -> Any:
    """Return an operand as the operations take it: as a NumPy array, or with a `device` as the tensor that it is.

    Raises
    ------
    TypeError, ValueError
        As in `to_numpy`; on a device, tensors there are taken.
    """
    return to_numpy(x, name) if device is None else _plain(x, name)


def to_float32(x: Any, name: str, device: Device = None) -> Any:
    """Return real numbers as float32, without a copy if they are float32 already.

    Raises
    ------
    TypeError
        For complex numbers, booleans and objects.
    """
    array = taken(x, name, device)
    if device is not None:
        if array.is_complex() or array.dtype is sys.modules["torch"].bool:
            raise TypeError(f"{name} has dtype {array.dtype}, but real numbers are needed")
        return array.float()
    if array.dtype == np.float32 and array.flags.aligned:
        return array
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} has dtype {array.dtype}, but real numbers are needed")
    with np.errstate(over="ignore", under="ignore"):  # too large for float32 is infinity, which the callers refuse
        return np.require(array, np.float32, "A")


def to_complex64(x: Any, name: str, device: Device = None) -> Any:
    """Return complex numbers as complex64, without a copy if they are complex64 already.

    Raises
    ------
    TypeError
        For real numbers.
    """
    array = taken(x, name, device)
    if device is None and array.dtype == np.complex64 and array.flags.aligned:
        return array
    if not (array.is_complex() if device is not None else array.dtype.kind == "c"):
        raise TypeError(f"{name} has dtype {array.dtype}, but a complex spectrum is needed")
    if device is not None:
        return array.cfloat()
    with np.errstate(over="ignore", under="ignore"):
        return np.require(array, np.complex64, "A")


def from_pcm(array: Any, name: str) -> Any:
    """Return floating samples as they are, and integer PCM scaled to [-1, 1), uint8 centred at 128.

    Raises
    ------
    TypeError
        For any other dtype, such as int64, whose full scale is unknown.
    """
    tensor = is_tensor(array)
    if array.is_floating_point() if tensor else array.dtype.kind == "f":
        return array
    dtype = str(array.dtype).removeprefix("torch.") if tensor else array.dtype.name
    if dtype == "uint8":
        return ((array.float() if tensor else array.astype(np.float32)) - 128) / 128
    if (bits := _PCM_BITS.get(dtype)) is not None:
        if tensor:
            return array.float() * 2.0 ** (1 - bits)
        return np.ldexp(array.astype(np.float32 if bits <= 16 else np.float64), 1 - bits)
    raise TypeError(f"{name} has dtype {array.dtype}, but floating samples or int8, int16, int32, uint8 PCM are needed")


def like(array: Any, x: ArrayT) -> ArrayT:
    """Return an answer as the kind of array that `x` is, sharing its memory."""
    wrap = is_tensor(x) and not is_tensor(array)
    return cast("ArrayT", sys.modules["torch"].from_numpy(array) if wrap else array)
