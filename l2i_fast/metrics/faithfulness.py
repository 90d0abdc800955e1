"""How far the explained class depends on what an explanation keeps.

With p the probability of the explained class c for the recording and o that for the part that is kept, the scores are
those of Paissan, Della Libera, Ravanelli and Subakan (L-MAC, ICML 2024, arXiv 2403.13086), one for each
explanation; tables show their means, AI, AD and AG times 100.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l2i_fast.metrics.judging import Judgement

Float64 = NDArray[np.float64]
#: The constant that keeps the published denominators from 0.
_EPS = 1e-10


def average_increase(p: ArrayLike, o: ArrayLike) -> Float64:
    """Return 1 where the part that is kept raises the probability, ``p < o``, else 0."""
    return (np.asarray(p) < np.asarray(o)).astype(np.float64)


def average_drop(p: ArrayLike, o: ArrayLike) -> Float64:
    """Return the share of the probability that is lost, ``max(0, p - o) / p``; 0 where p is 0."""
    before, after = np.asarray(p, np.float64), np.asarray(o, np.float64)
    return np.divide(np.maximum(0, before - after), before, out=np.zeros_like(before), where=before > 0)


def average_gain(p: ArrayLike, o: ArrayLike) -> Float64:
    """Return the share of the doubt that is removed, ``max(0, o - p) / (1 - p)``; 0 where p is 1 and leaves no room."""
    before, after = np.asarray(p, np.float64), np.asarray(o, np.float64)
    return np.divide(np.maximum(0, after - before), 1 - before, out=np.zeros_like(before), where=before < 1)


def faithfulness(p: ArrayLike, removed: ArrayLike) -> Float64:
    """Return the drop of the probability when the explanation is removed, ``p - p(masked out)``: FF."""
    return np.asarray(p, np.float64) - np.asarray(removed, np.float64)


def scores(judgement: Judgement) -> dict[str, float]:
    """Return AI, AD, AG, FF and Fid-In of one explanation, for the class that it explains.

    Fid-In is 1 if the class that is most probable in the kept part is the one that is most probable in the recording.
    """
    c = judgement.target
    p, o, removed = (float(x[c]) for x in (judgement.before, judgement.kept, judgement.removed))
    return {
        "AI": float(average_increase(p, o)),
        "AD": float(average_drop(p, o)),
        "AG": float(average_gain(p, o)),
        "FF": float(faithfulness(p, removed)),
        "Fid-In": float(judgement.kept.argmax() == judgement.before.argmax()),
    }


def published_scores(judgement: Judgement, has_components: bool) -> dict[str, float]:
    """Return the same scores by the arithmetic of SpeechBrain's recipe (recipes/ESC50/interpret), its faults included.

    The class is the most probable one of the recording. AD takes the softmax of probabilities, so that it cannot exceed
    ``1 - 1 / e``, or 63 %; AD and AG have 1e-10 in their denominators; Fid-In of methods with components (L2I) compares
    with class 0, since the recipe takes the argmax over a single column of labels.

    Parameters
    ----------
    judgement : Judgement
        By `l2i_fast.metrics.judging.judge_published`.
    has_components : bool
        See `l2i_fast.metrics.judging.has_components`.
    """
    c = int(judgement.before.argmax())
    p, o, removed = (float(x[c]) for x in (judgement.before, judgement.kept, judgement.removed))
    twice_p, twice_o = (_softmax(x)[c] for x in (judgement.before, judgement.kept))
    expected = 0 if has_components else c
    return {
        "AI": float(p < o),
        "AD": max(0.0, twice_p - twice_o) / (twice_p + _EPS),
        "AG": max(0.0, o - p) / (1 - p + _EPS),
        "FF": p - removed,
        "Fid-In": float(judgement.kept.argmax() == expected),
    }


def _softmax(x: ArrayLike) -> list[float]:
    e = np.exp(np.asarray(x, np.float64))
    return [float(v) for v in e / e.sum()]
