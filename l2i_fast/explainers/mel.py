"""Saliency on the network's mel bands, brought to the bins of the engine's STFT."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def bins_of_bands(mask: Float32, filters: Float32) -> Float32:
    """Return a mask over bins (..., F, T) from one over bands (..., T, M).

    A bin takes the mean of its bands, weighted by the filters (F, M); one without a band takes that of the nearest bin
    that has one.
    """
    bins: Float32 = np.einsum("...tm,fm->...ft", mask, shares_of_bands(filters), optimize=True).astype(np.float32)
    return bins.clip(0, 1)  # rounding may leave a mean above 1


def shares_of_bands(filters: Float32) -> Float32:
    """Return the share (F, M) of each band in the mean of a bin; those of a bin sum to 1: see `bins_of_bands`."""
    total = filters.sum(axis=1)
    held = np.flatnonzero(total > 0)
    nearest = held[np.abs(np.arange(len(total))[:, None] - held).argmin(axis=1)]
    shares: Float32 = (filters / np.where(total > 0, total, 1)[:, None])[nearest].astype(np.float32)
    return shares
