"""How exact the matrix products of the multiplicative updates on the CPU are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

Precision = Literal["float32", "bf16x3", "bf16x2", "bf16"]

#: Terms of bfloat16 that stand for a float32 factor; 0 multiplies float32 itself.
_TERMS = {"float32": 0, "bf16x3": 3, "bf16x2": 2, "bf16": 1}
_precision: Precision = "float32"


def set_cpu_precision(precision: Precision) -> None:
    """Choose the matrix products of multiplicative updates on the CPU, in the whole process; sums stay float32.

    It holds for `NMF`, `learn_dictionary`, `learn_dictionary_online` and `activations` with ``solver="mu"``, from
    their next call on. Everything else, other solvers too, computes in float32 as before.

    Parameters
    ----------
    precision : {"float32", "bf16x3", "bf16x2", "bf16"}
        "float32" is the default. The others split each factor into three, two or one terms of bfloat16 and multiply
        those: six products for float32's accuracy, three for about 17 bits, one for about 8; docs/nmf.md states the
        errors. They are meant for processors that multiply bfloat16 faster: three and two terms for AMX, one for AMX
        or AVX-512 BF16. Elsewhere the answers are the same to within these errors, but slower than in float32.

    Raises
    ------
    ValueError
        For another precision.
    """
    global _precision
    if precision not in get_args(Precision):
        raise ValueError(f"precision is {precision!r}, but must be one of {', '.join(get_args(Precision))}")
    _precision = precision


def get_cpu_precision() -> Precision:
    """Return what `set_cpu_precision` chose."""
    return _precision


@contextmanager
def at_precision(precision: Precision) -> Iterator[None]:
    """Set the precision for a while."""
    before = _precision
    set_cpu_precision(precision)
    try:
        yield
    finally:
        set_cpu_precision(before)


def n_terms() -> int:
    """Terms of bfloat16 in place of a float32 factor; 0 for float32 itself."""
    return _TERMS[_precision]
