"""Seeds of methods that draw random numbers."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def content_seed(y: NDArray[np.float32]) -> int:
    """Return a seed of 64 bits that depends on the samples (N,) only, so that a batch equals single recordings."""
    return int.from_bytes(hashlib.blake2b(y.tobytes(), digest_size=8).digest(), "big")
