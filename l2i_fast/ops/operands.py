"""Operands and answers of the operations: frame-major rows, broadcasting, and the caller's `out`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2i_fast.arrays import Device, contiguous, detached, is_tensor, namespace, to_complex64, to_numpy


def frame_major(X: Any, name: str = "X", device: Device = None) -> tuple[Any, tuple[int, ...]]:
    """Return a spectrum (..., F, T) as its frame-major rows (B, T, F), complex64, and the leading shape."""
    spectrum = to_complex64(X, name, device)
    if spectrum.ndim < 2:
        raise ValueError(f"{name} has shape {tuple(spectrum.shape)}, but (..., bins, frames) is needed")
    lead, (n_bins, n_frames) = tuple(spectrum.shape[:-2]), spectrum.shape[-2:]
    rows = contiguous(spectrum.swapaxes(-1, -2)).reshape(math.prod(lead), n_frames, n_bins)
    return rows, lead


def public(rows: Any, lead: tuple[int, ...]) -> Any:
    """Return frame-major rows (B, T, F) as the public view (..., F, T)."""
    return rows.reshape(*lead, *rows.shape[1:]).swapaxes(-1, -2)


def spread(array: Any, n_inner: int, lead: tuple[int, ...]) -> Any:
    """Broadcast the outer dimensions to `lead` and make them one; an operand that all clips share is not copied."""
    outer, inner = tuple(array.shape[: array.ndim - n_inner]), tuple(array.shape[array.ndim - n_inner :])
    if is_tensor(array):
        array = array.contiguous()
    if outer == lead:
        return array.reshape(math.prod(lead), *inner)
    if math.prod(outer) == 1:
        return namespace(array).broadcast_to(array.reshape(inner), (math.prod(lead), *inner))
    return namespace(array).broadcast_to(array, (*lead, *inner)).reshape(math.prod(lead), *inner)


def target(
    out: Any,
    x: Any,
    lead: tuple[int, ...],
    inner: tuple[int, ...],
    dtype: type[np.generic],
    inputs: Mapping[str, Any],
    device: Device = None,
    *,
    tracked: bool = False,
    in_place: str = "",
    name: str = "out",
) -> NDArray[Any] | None:
    """Return the memory of a caller's `out` as the operations fill it, or None if no `out` is given.

    Parameters
    ----------
    out : array or tensor or None
        The caller's argument.
    x : array or tensor
        The operand whose kind the answer has.
    lead, inner, dtype
        The answer's leading dimensions, the others, and its dtype: (F, T) is frame-major in memory, (N,) are samples.
    inputs
        The operands that the operation reads, by name, as the caller gave them.
    device, tracked
        On a device, and where autograd tracks H or the weights, an operation allocates its answer.
    in_place : str
        Name of the input that may be `out` itself.

    Returns
    -------
    Array (B, T, F) or (B, N) without gaps, or None.

    Raises
    ------
    TypeError, ValueError
        For any other kind, dtype, shape or layout, memory that is shared with inputs, a tensor that requires grad, and
        operations that cannot fill an `out`.
    """
    if out is None:
        return None
    if device is not None:
        raise ValueError(f"{name} is given, but operations on a GPU allocate their answers: leave it out")
    if tracked:
        raise ValueError(
            f"{name} is given, but H or weights require grad: leave it out, or call within torch.no_grad()"
        )
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
    if tensor:  # autograd notices if it has kept what is overwritten
        library.autograd.graph.increment_version(out)
    return memory.reshape(math.prod(lead), *memory.shape[len(lead) :])


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    # Whether both are the same view of the same memory.
    return one.ctypes.data == other.ctypes.data and (one.shape, one.strides) == (other.shape, other.strides)
