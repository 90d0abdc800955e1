"""How alike two masks are, for sanity checks: explanations of a network with random weights must differ."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.stats import spearmanr

Float32 = NDArray[np.float32]


class Similarity(NamedTuple):
    """Likeness of two masks (Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018).

    Attributes
    ----------
    spearman : float
        Rank correlation of the bins, -1 to 1; 1 if both masks are constant, and NaN if one is.
    ssim : float
        Structural similarity (Wang et al., 2004), -1 to 1.
    """

    spearman: float
    ssim: float


def similarity(one: Float32, other: Float32) -> Similarity:
    """Return how alike two masks (F, T) of values from 0 to 1 are."""
    constant = [bool(np.ptp(mask) == 0) for mask in (one, other)]
    if any(constant):
        rho = 1.0 if all(constant) else float("nan")
    else:
        found: Any = spearmanr(one, other, axis=None)
        rho = float(found.statistic)
    return Similarity(rho, ssim(one, other))


def ssim(one: Float32, other: Float32, size: int = 7) -> float:
    """Return the mean structural similarity over windows of `size` bins, for values from 0 to 1."""
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    mean_a, mean_b = uniform_filter(a, size), uniform_filter(b, size)
    variance_a, variance_b = uniform_filter(a * a, size) - mean_a**2, uniform_filter(b * b, size) - mean_b**2
    shared = uniform_filter(a * b, size) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    structure = (2 * shared + 0.03**2) / (variance_a + variance_b + 0.03**2)
    return float((luminance * structure).mean())
