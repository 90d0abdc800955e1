"""Products at a chosen precision, and logarithm and exponential near 0, for all Triton kernels.

A product's PRECISION is "tf32x3" (three TF32 tensor-core products, float32's accuracy), "ieee" (float32 multiply-adds
without tensor cores), "tf32" (11 bits) or "bf16" (8 bits); sums are always float32.
"""

import triton
import triton.language as tl

#: Whether Triton interprets: its bfloat16 products are wrong then, so rounded float32 takes their place.
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """Return acc + a b for float32 blocks (M, K) and (K, N)."""
    if PRECISION != "bf16":
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    elif INTERPRETED:
        acc = tl.dot(a.to(tl.bfloat16).to(tl.float32), b.to(tl.bfloat16).to(tl.float32), acc)
    else:
        acc = tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16), acc)
    return acc


@triton.jit
def split(a, PRECISION: tl.constexpr):
    """Split a float32 block into the parts (high, low) that `dot_parts` multiplies.

    For "tf32x3", high is a rounded to 11 bits and low the rest, so that high + low = a. Finite numbers only: `dot` also
    handles others, with more instructions, and splits a block again in each product.
    """
    if PRECISION == "tf32x3":
        high = ((a.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
        low = a - high
    elif PRECISION == "bf16":
        high = a.to(tl.bfloat16)
        if INTERPRETED:
            high = high.to(tl.float32)
        low = high
    else:
        high = a
        low = a
    return high, low


@triton.jit
def dot_parts(a, a_low, b, b_low, acc, PRECISION: tl.constexpr):
    """Return acc + a b for the parts of blocks (M, K) and (K, N); "tf32x3" omits the product of the low parts."""
    if PRECISION == "tf32x3":
        acc = tl.dot(a_low, b, acc, input_precision="tf32")
        acc = tl.dot(a, b_low, acc, input_precision="tf32")
        acc = tl.dot(a, b, acc, input_precision="tf32")
    elif PRECISION == "bf16":
        acc = tl.dot(a, b, acc)
    else:
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    return acc


@triton.jit
def log1p(a):
    """Return log(1 + a) for 0 <= a <= 1.2e38, within 2 ulp, as in kernels/cpu/vmath.h.

    1 + a rounds to 2^e m with m in [sqrt(1/2), sqrt(2)); f = (1 + a) 2^-e - 1 is rounded once, and a minimax polynomial
    gives (log(1 + f) - f + f^2 / 2) / f^3.
    """
    e = ((a + 1.0).to(tl.int32, bitcast=True) - 0x3F3504F3) >> 23
    down = ((127 - e) << 23).to(tl.float32, bitcast=True)
    f = a * down + (down - 1.0)
    p = f * 0.0698070228 - 0.114945464
    p = p * f + 0.116890714
    p = p * f - 0.124240376
    p = p * f + 0.142485514
    p = p * f - 0.166678503
    p = p * f + 0.200007305
    p = p * f - 0.24999997
    p = p * f + 0.333333313
    n = e.to(tl.float32)
    square = f * f
    tail = square * f * p + n * -2.12194440e-4 - 0.5 * square
    return (f + tail) + n * 0.693359375


@triton.jit
def expm1(x):
    """Return exp(x) - 1 for x >= 0, to a few ulp; below 0.5 by its Taylor polynomial, with a remainder under 1e-9."""
    p = 1.0 / 40320 + x * (1.0 / 362880)
    p = 1.0 / 5040 + x * p
    p = 1.0 / 720 + x * p
    p = 1.0 / 120 + x * p
    p = 1.0 / 24 + x * p
    p = 1.0 / 6 + x * p
    p = 0.5 + x * p
    return tl.where(x < 0.5, x + x * x * p, tl.exp2(x * 1.4426950408889634) - 1.0)
