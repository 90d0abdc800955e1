"""How concise explanations are, by Quantus (Hedström et al., JMLR 2023)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from l2i_fast.recording import import_optional
from l2i_fast.results import Result
from l2i_fast.results.masking import kept_magnitude, log_magnitude


class Complexity(NamedTuple):
    """Conciseness of an attribution over the bins.

    Attributes
    ----------
    sparseness : float
        Gini index over the bins (Chalasani et al., ICML 2020): 0 if all are equal, towards 1 if one holds everything.
    complexity : float
        Entropy in nats of the shares of the bins (Bhatt et al., IJCAI 2020): 0 to log(F T); lower is more concise.
    """

    sparseness: float
    complexity: float


def complexity(result: Result) -> Complexity:
    """Return the conciseness of what the first explanation of a result keeps, its log magnitude; NaN for silence.

    Raises
    ------
    ImportError
        If Quantus is not installed.
    """
    V = log_magnitude(result.input, result.settings)
    return _score(kept_magnitude(result.mask(), V, result.settings["domain"]))


def published_complexity(result: Result) -> Complexity:
    """Return the conciseness of the mask itself, as SpeechBrain's recipe computes it; NaN for a mask of zeros.

    A mask is not concise for a recording that is: where nothing sounds, it may take any value.

    Raises
    ------
    ImportError
        If Quantus is not installed.
    """
    return _score(result.mask())


def _score(attribution: NDArray[np.float32]) -> Complexity:
    quantus: Any = import_optional("quantus", "score sparseness and complexity")
    x = attribution.astype(np.float64).ravel()
    if not x.any():
        return Complexity(np.nan, np.nan)
    x /= x.max()  # as Quantus does by default; its constants of 1e-7 and 1e-12 are relative to that
    sparseness, entropy = (
        float(metric(disable_warnings=True).evaluate_batch(x[None], x[None].copy())[0])  # changes its argument
        for metric in (quantus.Sparseness, quantus.Complexity)
    )
    return Complexity(sparseness, entropy)
