"""Mel filters as TensorFlow and Essentia have them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def mel_weights(n_mels: int, low: float, high: float, rate: float, n_fft: int) -> Tensor:
    """Return the weights of triangular filters, which are linear in mel (HTK's scale) rather than in Hz.

    Parameters
    ----------
    n_mels : int
    low, high : float
        Where the first filter begins and the last one ends, in Hz.
    rate : float
        Samples per second.
    n_fft : int

    Returns
    -------
    Tensor (n_fft // 2 + 1, n_mels), float32
        Each filter has a peak of 1.
    """

    def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1127 * np.log1p(hertz / 700))

    bins = mel(np.linspace(0, rate / 2, n_fft // 2 + 1))[:, None]
    first, last = mel(np.array([low, high]))
    edges = np.linspace(first, last, n_mels + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    weights = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clip(0)
    return torch.from_numpy(weights).float()
