"""Arrays as text for the page: deflated, in base64, read back by ``unpack`` in engine.js.

Numbers are split into planes of bytes, lowest byte first, since high bytes resemble one another and so compress well.
Samples are integers, coded as the error of a polynomial prediction of order 0 to 2 (Robinson: Shorten. Cambridge
University, 1994, section 3.2).
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def pack_floats(x: Float32) -> dict[str, Any]:
    """Return an array of float32 in packed form, in C order and without its shape; no bit changes."""
    planes = np.ascontiguousarray(x, "<f4").view(np.uint8).reshape(-1, 4).T
    return {"kind": "float32", "length": x.size, "data": _deflated(planes)}


def pack_samples(y: Float32, exact: bool = False) -> dict[str, Any]:
    """Return samples (N,) in packed form, as integers and their scale.

    Samples of a 16-bit recording stay as they are. Others have 16 bits below their peak, or 24, as many as the mantissa
    of float32, if they are to be `exact`.
    """
    values = y.astype(np.float64)
    bits, scale = 16, 1 / 32768
    if np.any(values >= 1) or np.any(values < -1) or np.any(np.rint(values / scale) != values / scale):
        bits = 24 if exact else 16
        scale = float(np.abs(values).max()) / (2 ** (bits - 1) - 1)
    integers = np.rint(values / scale).astype(np.int64)
    orders = [_wrapped(np.diff(integers, order, prepend=np.zeros(order, np.int64)), bits) for order in range(3)]
    order = int(np.argmin([np.abs(errors).sum() for errors in orders]))
    codes = (orders[order] << 1) ^ (orders[order] >> 63)  # small errors of both signs become small codes
    planes = codes.astype("<u4").view(np.uint8).reshape(-1, 4).T[: bits // 8]
    return {"kind": f"int{bits}", "length": y.size, "scale": scale, "order": order, "data": _deflated(planes)}


def _wrapped(x: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Return integers modulo 2**bits, from -2**(bits-1) on."""
    half = 1 << (bits - 1)
    wrapped: NDArray[np.int64] = (x + half) % (2 * half) - half
    return wrapped


def _deflated(planes: NDArray[np.uint8]) -> str:
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()
