"""What kind of array came in, its float32 or complex64 view, and an answer of the same kind.

NumPy arrays are the one currency inside the package. A torch CPU tensor becomes one without a copy, and the
answer to it becomes a tensor again, also without a copy.
"""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from l2i_fast import _core

if TYPE_CHECKING:
    import torch

Array: TypeAlias = "NDArray[Any] | torch.Tensor"
ArrayT = TypeVar("ArrayT", NDArray[Any], "torch.Tensor")
Float32 = NDArray[np.float32]
Complex64 = NDArray[np.complex64]

#: The smallest normal and the largest float32.
TINY, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

#: Why an operation cannot fill an `out`.
ON_DEVICE = "operations on a GPU allocate what they return: leave it out"
TRACKED = "H or weights require grad: leave it out, or call within torch.no_grad()"

_PCM = {"int8": 8, "int16": 16, "int32": 32}


def is_tensor(x: Any) -> bool:
    """Tell whether `x` is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def on_device(*arrays: Any) -> bool:
    """Tell whether `l2i_fast.gpu` serves: for tensors that are not on the CPU, or where L2I_BACKEND names a backend."""
    tensors = [x for x in arrays if is_tensor(x)]
    return any(x.device.type != "cpu" for x in tensors) or (bool(tensors) and bool(os.environ.get("L2I_BACKEND")))


def needs_gradient(*arrays: Any) -> bool:
    """Tell whether one of them is a tensor that autograd is to go back to."""
    return any(is_tensor(x) and x.requires_grad for x in arrays) and sys.modules["torch"].is_grad_enabled()


def detached(x: Any) -> Any:
    """Return `x` without autograd's memory of where it comes from."""
    return x.detach() if is_tensor(x) else x


def namespace(x: Any) -> Any:
    """Return the module, torch or NumPy, whose functions take `x`."""
    return sys.modules["torch"] if is_tensor(x) else np


def double(x: Any) -> Any:
    """Return `x` in float64, of its kind and where it is."""
    return x.double() if is_tensor(x) else x.astype(np.float64)


def host(x: Any) -> Any:
    """Return `x` as a NumPy array; what is on a device is waited for."""
    return x.detach().cpu().numpy() if is_tensor(x) else x


def placed(array: NDArray[Any], x: Any) -> Any:
    """Return `array` as the kind of array that `x` is, and where `x` is."""
    return sys.modules["torch"].as_tensor(array, device=x.device) if is_tensor(x) else array


def to_numpy(x: Any, name: str) -> NDArray[Any]:
    """Return `x` as a NumPy array; a torch CPU tensor is not copied.

    Raises
    ------
    ValueError
        For a tensor on another device, or one that requires grad.
    """
    if not is_tensor(x):
        return np.asarray(x)
    if x.device.type != "cpu":
        raise ValueError(f"{name} is on {x.device}, but must be on the CPU here: pass {name}.cpu()")
    if x.requires_grad:
        raise ValueError(f"{name} requires grad, which is not supported here: pass {name}.detach()")
    x = x.resolve_conj().resolve_neg()
    if str(x.dtype) in ("torch.bfloat16", "torch.complex32"):
        x = x.cfloat() if x.is_complex() else x.float()
    array: NDArray[Any] = x.numpy()
    return array


def like(array: NDArray[Any], x: ArrayT) -> ArrayT:
    """Return `array` as the kind of array that `x` is."""
    return cast("ArrayT", sys.modules["torch"].from_numpy(array) if is_tensor(x) else array)


def target(
    out: Any,
    x: Any,
    lead: tuple[int, ...],
    inner: tuple[int, ...],
    dtype: type[np.generic],
    inputs: Mapping[str, Any],
    in_place: str = "",
    name: str = "out",
) -> NDArray[Any] | None:
    """Return the memory of a caller's `out` as the operations fill it; None where no `out` is given.

    Parameters
    ----------
    out : array or tensor or None
        What the caller gave.
    x : array or tensor
        The answer is of its kind.
    lead, inner, dtype
        The answer's leading dimensions, the others, and its dtype: (F, T) is frame-major in memory, (N,) are samples.
    inputs
        What the operation reads, by name, as the caller gave it.
    in_place : str
        The input that may be `out` itself.

    Returns
    -------
    Array (B, T, F) or (B, N) without gaps, or None.

    Raises
    ------
    TypeError, ValueError
        For any other kind, dtype, shape or layout, memory that is shared with inputs, or a tensor that requires grad.
    """
    if out is None:
        return None
    tensor, library, wanted = is_tensor(x), namespace(x), dtype.__name__
    kind = library.Tensor if tensor else library.ndarray
    if not isinstance(out, kind):
        raise TypeError(f"{name} is {type(out).__name__}, but {kind.__name__} is needed, as the answer is one")
    if tensor and out.device.type != "cpu":
        raise ValueError(f"{name} is on {out.device}, but must be on the CPU, as the answer is")
    if out.dtype != getattr(library, wanted):
        raise TypeError(f"{name} has dtype {out.dtype}, but {wanted} is needed")
    if tuple(out.shape) != (*lead, *inner):
        raise ValueError(f"{name} has shape {tuple(out.shape)}, but {(*lead, *inner)} is needed")
    lazy = tensor and (out.is_conj() or out.is_neg())
    array = to_numpy(out, name)
    memory = array.swapaxes(-1, -2) if len(inner) == 2 else array
    if lazy or not (memory.flags.c_contiguous and memory.flags.aligned):
        fitting = f"{library.__name__}.empty({memory.shape}, dtype={library.__name__}.{wanted})"
        fitting += (".mT" if tensor else ".swapaxes(-1, -2)") * (len(inner) - 1)
        raise ValueError(f"{name} is not laid out as an answer is: pass an earlier answer, or {fitting}")
    if not memory.flags.writeable:
        raise ValueError(f"{name} is read-only, but must be writeable")
    for key, given in inputs.items():
        other = to_numpy(detached(given), key)
        if np.shares_memory(array, other) and not (key == in_place and _same(array, other)):
            raise ValueError(f"{name} shares memory with {key}, but must have memory of its own")
    if tensor:  # autograd notices, where it has kept what is overwritten
        library.autograd.graph.increment_version(out)
    return memory.reshape(math.prod(lead), *memory.shape[len(lead) :])


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    # Whether both are the same view of the same memory.
    return one.ctypes.data == other.ctypes.data and (one.shape, one.strides) == (other.shape, other.strides)


def without_out(out: Any, reason: str) -> None:
    """Refuse an `out` where an operation cannot fill it."""
    if out is not None:
        raise ValueError(f"out is given, but {reason}")


def to_float32(x: Any, name: str) -> Float32:
    """Return real numbers as float32, without a copy where they are float32 already."""
    array = to_numpy(x, name)
    if array.dtype == np.float32 and array.flags.aligned:
        return array
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} has dtype {array.dtype}, but real numbers are needed")
    with np.errstate(over="ignore"):  # too large for float32 becomes infinity, which the callers refuse
        return np.require(array, np.float32, "A")


def to_complex64(x: Any, name: str) -> Complex64:
    """Return complex numbers as complex64, without a copy where they are complex64 already."""
    array = to_numpy(x, name)
    if array.dtype == np.complex64 and array.flags.aligned:
        return array
    if array.dtype.kind != "c":
        raise TypeError(f"{name} has dtype {array.dtype}, but a complex spectrum is needed")
    with np.errstate(over="ignore"):
        return np.require(array, np.complex64, "A")


def to_audio(y: Any, name: str = "y") -> Float32:
    """Return samples as float32 (..., N); integer PCM is scaled to [-1, 1), uint8 being centred at 128.

    Raises
    ------
    TypeError
        For samples that are neither floating nor int8, int16, int32 or uint8.
    ValueError
        For no samples, NaN or infinity.
    """
    array = to_numpy(y, name)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"{name} has shape {array.shape}, but at least one sample is needed")
    array = from_pcm(array, name)
    audio = to_float32(array, name)
    if not in_range(audio):
        raise ValueError(f"{name} holds NaN or infinity, but finite samples are needed")
    return audio


def in_range(x: Float32, low: float = -LARGEST, high: float = LARGEST) -> bool:
    """Whether all values are finite and between `low` and `high`."""
    return _core.in_range(x.ravel(order="K"), low, high)


def from_pcm(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return floating samples as they are, and integer PCM scaled to [-1, 1), uint8 being centred at 128.

    Raises
    ------
    TypeError
        For any other dtype: of int64, say, nobody knows what full scale is.
    """
    if array.dtype.kind == "f":
        return array
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128) / 128
    if (bits := _PCM.get(array.dtype.name)) is not None:
        scaled: NDArray[Any] = np.ldexp(array.astype(np.float32 if bits <= 16 else np.float64), 1 - bits)
        return scaled
    raise TypeError(f"{name} has dtype {array.dtype}, but floating samples or int8, int16, int32, uint8 PCM are needed")


def positive_int(value: Any, name: str) -> int:
    """Return `value` as an int of at least 1."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, but an integer is needed") from None
    if number < 1:
        raise ValueError(f"{name} is {number}, but must be at least 1")
    return number
