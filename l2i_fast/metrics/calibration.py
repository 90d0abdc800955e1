"""Whether the probabilities of a network are to be trusted."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from l2i_fast.arguments import integer


def calibration_error(confidence: ArrayLike, correct: ArrayLike, n_bins: int = 15) -> float:
    """Return the expected calibration error (Guo et al., ICML 2017).

    Over bins of equal width of the confidence, ``sum_b n_b / N |accuracy_b - confidence_b|``.

    Parameters
    ----------
    confidence : array (N,)
        Probability of the predicted class of each recording.
    correct : array (N,)
        Whether the prediction is right.
    n_bins : int
    """
    p, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if not len(p):
        return float("nan")
    n_bins = integer(n_bins, "n_bins")
    bins = np.minimum((p * n_bins).astype(np.intp), n_bins - 1)
    gap = np.bincount(bins, right - p, n_bins)
    return float(np.abs(gap).sum() / len(p))
