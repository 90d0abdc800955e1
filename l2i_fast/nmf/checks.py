"""Checks of spectrograms, dictionaries and parameters of factorisations."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from l2i_fast.arguments import one_of
from l2i_fast.arrays import Device, contiguous, to_float32
from l2i_fast.backends.dispatch import device_of
from l2i_fast.backends.native import in_range

SOLVERS = ("mu", "hals", "newton")
#: Peaks of V between which products of float32 neither overflow nor vanish.
_SAFE_PEAKS = 1e-6, 1e6


def check_fit(V: tuple[int, ...], W: tuple[int, ...]) -> tuple[int, ...]:
    """Return the leading dimensions of spectrograms of this shape, or raise if a dictionary does not fit them."""
    if len(W) != 2 or 0 in W:
        raise ValueError(f"W has shape {W}, but (F, K) is needed")
    if len(V) < 2 or V[-2] != W[0]:
        raise ValueError(f"V has shape {V}, but (..., F, T) with F={W[0]} as in W is needed")
    return V[:-2]


def check_lengths(lengths: Any, lead: tuple[int, ...]) -> None:
    """Check that lengths, an array or a tensor, are integers, one for each clip."""
    if tuple(lengths.shape) != tuple(lead):
        raise ValueError(f"lengths has shape {tuple(lengths.shape)}, but {tuple(lead)} as V's clips is needed")
    if "int" not in str(lengths.dtype):
        raise TypeError(f"lengths has dtype {lengths.dtype}, but integers are needed")


def check_solver(solver: str, device: Device, allowed: Iterable[str] = SOLVERS) -> None:
    """Check that a solver is known, and that the backends on this device have it."""
    one_of(solver, "solver", allowed)
    if device is not None and solver != "mu":
        remedy = "unset L2I_BACKEND" if device.type == "cpu" else "pass them with .cpu()"
        raise ValueError(f"solver is {solver!r}, but backends on tensors have 'mu' only: {remedy}")


def non_negative(x: Any, name: str, device: Device = None) -> Any:
    """Return `x` as float32, finite and non-negative; waits for a device to check that."""
    array = to_float32(x, name, device)
    if device is None:
        if not in_range(array, low=0):
            raise _negative(name, float(array.min()) if in_range(array) else math.nan)
    elif array.numel() and not bool(((array >= 0) & (array < math.inf)).all()):
        raise _negative(name, float(array.min()))
    return array


def _negative(name: str, least: float) -> ValueError:
    found = f"{least:g}" if math.isfinite(least) else "NaN or infinity"
    return ValueError(f"{name} holds {found}, but must be finite and non-negative")


def frames_of(x: Any, name: str) -> Any:
    """Return the frames (T, F) of a non-negative spectrogram (F, T), contiguous, on the device that it is on."""
    array = non_negative(x, name, device_of(**{name: x}))
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {tuple(array.shape)}, but 2 dimensions are needed")
    return contiguous(array.T)


def at_safe_scale(rows: Any, lowest: float = _SAFE_PEAKS[0]) -> tuple[Any, float]:
    """Return `rows`, divided by their peak if products of float32 would overflow or vanish, and the divisor.

    Peaks below `lowest` count as too low.
    """
    peak = float(rows.max()) if len(rows) else 0.0
    if not peak or lowest <= peak <= _SAFE_PEAKS[1]:
        return rows, 1.0
    return rows / peak, peak
