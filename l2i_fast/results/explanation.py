"""The explanation of one class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why the network gave one class its probability.

    Attributes
    ----------
    target : int
        Index of the explained class.
    label : str
        Its name.
    probability : float
        Its probability by the network, 0 to 1.
    supported : bool
        False if no component supports the class; `relevance` is then zero and `audio` silent.
    relevance : ndarray, shape (K,), float32
        Signed relevance of each component, ``r_k = z_k theta_ck / max_j(z_j theta_cj)``; the largest is 1.
    components : tuple of int
        The selected components, most relevant first.
    audio : ndarray, shape (N,), float32
        The interpretation: the part of the input that the selected components hold, as long as the input.
    """

    target: int
    label: str
    probability: float
    supported: bool
    relevance: NDArray[np.float32]
    components: tuple[int, ...]
    audio: NDArray[np.float32]
