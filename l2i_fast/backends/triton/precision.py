"""How Triton's kernels multiply matrices."""

from __future__ import annotations

from l2i_fast.backends.precision import get_gpu_precision

#: Three TF32 products give the accuracy of float32 on tensor cores.
_PRODUCTS = {"float32": "tf32x3", "tf32": "tf32", "bf16": "bf16"}


def products() -> str:
    """Return the constant PRECISION of the kernels at the precision in force."""
    return _PRODUCTS[get_gpu_precision()]
