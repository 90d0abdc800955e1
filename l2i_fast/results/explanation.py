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
    relevance : ndarray, shape (R,), float32
        Signed relevance of each component, ``r_k = z_k theta_ck / max_j(z_j theta_cj)``; the largest is 1. Methods
        without components have that of their attributes (FLINT) or blocks (SLIME), or none (R = 0).
    components : tuple of int
        The selected ones, most relevant first.
    audio : ndarray, shape (N,), float32
        The interpretation: the part of the input that the selected components hold, as long as the input.
    mask : ndarray, shape (F, T), float32, or None
        The mask of a method without a dictionary; None where the selected components make it: see `Result.mask`.
    """

    target: int
    label: str
    probability: float
    supported: bool
    relevance: NDArray[np.float32]
    components: tuple[int, ...]
    audio: NDArray[np.float32]
    mask: NDArray[np.float32] | None = None
