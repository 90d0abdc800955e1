"""How closely a method's own classifier follows the network."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, precision_recall_curve


def rank(own: ArrayLike, target: int) -> int:
    """Return how many classes a method's own probabilities (C,) put before the network's class; 0 is agreement.

    Of equal probabilities the first comes first, as in argmax: a method that finds nothing does not agree by it. The
    fidelity top-k is the share of recordings with a rank below k (Parekh et al., NeurIPS 2022).
    """
    p = np.asarray(own)
    return int((p > p[target]).sum() + (p[:target] == p[target]).sum())


class Multilabel(NamedTuple):
    """Agreement with a network that may decide on several classes.

    Attributes
    ----------
    macro, micro : float
        Area under the precision-recall curve: mean over the classes, and over all decisions together.
    max_f1 : float
        Largest F1 of all decisions together, over all thresholds.
    n_classes : int
        Classes that the network decides on at least once; the others are left out of `macro`.
    """

    macro: float
    micro: float
    max_f1: float
    n_classes: int


def multilabel(own: ArrayLike, decided: ArrayLike) -> Multilabel:
    """Compare a method's own probabilities (N, C) with the network's decisions (N, C), 0 or 1.

    Without any positive decision the figures are NaN.
    """
    p, y = np.asarray(own, np.float64), np.asarray(decided, bool)
    held = y.any(axis=0)
    if not held.any():
        return Multilabel(np.nan, np.nan, np.nan, 0)
    macro = float(average_precision_score(y[:, held], p[:, held], average="macro"))
    micro = float(average_precision_score(y.ravel(), p.ravel()))
    precision, recall, _ = precision_recall_curve(y.ravel(), p.ravel())
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    return Multilabel(macro, micro, float(f1.max()), int(held.sum()))
