"""Masks at equal shares of what is kept, since most scores can be bought by keeping more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from l2i_fast.arguments import number

Float32 = NDArray[np.float32]


def masks_at(mask: Float32, V: Float32, shares: Sequence[float]) -> list[Float32]:
    """Return masks that keep given shares of the log magnitude, by sweeping a threshold over a mask.

    Bins with the highest values are kept in full, those below the threshold removed. Bins with the value at which the
    share is reached are all kept by the same fraction, so that a constant mask becomes a constant share.

    Parameters
    ----------
    mask : ndarray (F, T)
    V : ndarray (F, T)
        Log magnitude.
    shares : sequence of float
        From 0 to 1.

    Returns
    -------
    list of ndarray (F, T), float32
        One for each share κ, with ``sum(m V) = κ sum(V)``: masks on the log magnitude.
    """
    values, level = np.unique(np.asarray(mask, np.float32), return_inverse=True)
    level = level.reshape(V.shape)
    held = np.bincount(level.ravel(), V.ravel().astype(np.float64), len(values))[::-1]  # from the highest value down
    above = np.concatenate(([0.0], np.cumsum(held)))
    found = []
    for share in shares:
        wanted = number(share, "shares", 0, 1) * above[-1]
        step = min(int(np.searchsorted(above[1:], wanted)), len(held) - 1)
        edge = len(values) - 1 - step
        fraction = (wanted - above[step]) / held[step] if held[step] else 0.0
        found.append(np.where(level > edge, 1.0, np.where(level == edge, fraction, 0.0)).astype(np.float32))
    return found
