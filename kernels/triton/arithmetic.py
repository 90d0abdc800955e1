"""Products of a chosen precision, and logarithm and exponential near 0, for all Triton kernels.

A product's PRECISION is "tf32x3" (three TF32 tensor-core products, float32's accuracy), "ieee" (float32 multiply-adds
without tensor cores), "tf32" (11 bits) or "bf16" (8 bits); sums are always float32.
"""

import triton
import triton.language as tl

#: Whether Triton interprets: its products of bfloat16 go wrong there, so they are made of float32 that was rounded.
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """acc + a b, of float32 blocks (M, K) and (K, N)."""
    if PRECISION != "bf16":
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    elif INTERPRETED:
        acc = tl.dot(a.to(tl.bfloat16).to(tl.float32), b.to(tl.bfloat16).to(tl.float32), acc)
    else:
        acc = tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16), acc)
    return acc


@triton.jit
def log1p(a):
    """log(1 + a) for a >= 0, to a few ulp: what 1 + a rounds away is given back (D. Goldberg, 1991, theorem 4)."""
    u = 1.0 + a
    return tl.where(u == 1.0, a, tl.log(u) + (a - (u - 1.0)) / u)


@triton.jit
def expm1(x):
    """exp(x) - 1 for x >= 0, to a few ulp: below 0.5 by its Taylor polynomial, whose remainder is under 1e-9."""
    p = 1.0 / 40320 + x * (1.0 / 362880)
    p = 1.0 / 5040 + x * p
    p = 1.0 / 720 + x * p
    p = 1.0 / 120 + x * p
    p = 1.0 / 24 + x * p
    p = 1.0 / 6 + x * p
    p = 0.5 + x * p
    return tl.where(x < 0.5, x + x * x * p, tl.exp(x) - 1.0)
