"""Checks of single arguments: numbers, flags, names and functions.

Each returns the argument as a plain Python value, or raises an error of the form "n_fft is 1, but must be at least 2".
"""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np

from l2i_fast.arrays import LARGEST, TINY

#: The largest integer that the native engine takes.
LARGEST_INT = 2**31 - 1

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


def integer(value: Any, name: str, least: int = 1, most: int = LARGEST_INT) -> int:
    """Return `value` as an int from `least` to `most`; Booleans are no integers.

    Raises
    ------
    TypeError
        For anything but an integer, 0-dimensional arrays and tensors included.
    ValueError
        For an integer out of range.
    """
    if type(value) is not int:
        value = _scalar(value)
        try:
            if isinstance(value, bool):
                raise TypeError
            value = operator.index(value)
        except TypeError:
            raise TypeError(f"{name} is {shown(value)}, but must be an integer") from None
    number: int = value
    if number < least:
        raise ValueError(f"{name} is {shown(number)}, but must be at least {least}")
    if number > most:
        raise ValueError(f"{name} is {shown(number)}, but must be at most {most}")
    return number


def number(value: Any, name: str, least: float = -math.inf, most: float = math.inf) -> float:
    """Return `value` as a finite float from `least` to `most`.

    Raises
    ------
    TypeError
        For anything but a real number, 0-dimensional arrays and tensors included; Booleans are no numbers.
    ValueError
        For NaN, infinity, and numbers out of range.
    """
    x: float = value if type(value) is float else _real(value, name)
    if least <= x <= most and -math.inf < x < math.inf:
        return x
    if not math.isfinite(x):
        raise ValueError(f"{name} is {shown(value)}, but must be finite")
    if x < least:
        raise ValueError(f"{name} is {shown(value)}, but must be at least {least:g}")
    raise ValueError(f"{name} is {shown(value)}, but must be at most {most:g}")


def positive_float32(value: Any, name: str) -> float:
    """Return `value` as a positive float that is a normal number as float32, too.

    Raises
    ------
    TypeError, ValueError
        For anything else.
    """
    x: float = value if type(value) is float else _real(value, name)
    if not TINY <= x <= LARGEST:
        raise ValueError(f"{name} is {shown(value)}, but must be positive, and a normal number as float32")
    return x


def flag(value: Any, name: str) -> bool:
    """Return `value`, True or False.

    Raises
    ------
    TypeError
        For anything else, also for 0 and 1.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {shown(value)}, but must be True or False")
    return bool(value)


def one_of(value: Any, name: str, allowed: Iterable[str]) -> str:
    """Return `value`, one of the `allowed` strings.

    Raises
    ------
    ValueError
        For anything else.
    """
    allowed = tuple(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} is {shown(value)}, but must be one of {', '.join(allowed)}")
    return value


def function_or_none(value: Any, name: str) -> None:
    """Check that `value` is callable or None.

    Raises
    ------
    TypeError
        If it is neither.
    """
    if value is not None and not callable(value):
        raise TypeError(f"{name} is {shown(value)}, but must be callable or None")


def generator_of(value: Any, name: str) -> np.random.Generator:
    """Return a generator of random numbers: `value` itself, one with this seed, or one without for None.

    Raises
    ------
    TypeError, ValueError
        For anything else.
    """
    if value is not None and not isinstance(value, np.random.Generator):
        value = integer(value, name, 0, 2**64 - 1)
    return np.random.default_rng(value)


def is_several(value: Any) -> bool:
    """Tell whether `value` can be iterated and is no text."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes) and getattr(value, "ndim", 1) != 0


def shown(value: Any) -> str:
    """Return `value` as errors show it: on one line, and shortened if it is long."""
    try:
        return " ".join(_short.repr(_scalar(value)).split())
    except ValueError:  # Python refuses to write it
        return "an integer of thousands of digits"


def _scalar(value: Any) -> Any:
    # Scalars of NumPy, 0-dimensional arrays and tensors as the Python values that they hold.
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _real(value: Any, name: str) -> float:
    x: Any = value if type(value) is int else _scalar(value)
    is_real = isinstance(x, Real) and not isinstance(x, bool)
    if not is_real:
        raise TypeError(f"{name} is {shown(value)}, but must be a number")
    try:
        return float(x)
    except OverflowError:  # an integer
        return math.inf if x > 0 else -math.inf
