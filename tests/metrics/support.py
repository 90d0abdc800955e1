"""Results with known masks."""

from __future__ import annotations

import numpy as np

import l2i_fast as l2i
from l2i_fast.results import Explanation, Result
from l2i_fast.results.masking import apply_mask


def result_of(y: np.ndarray, mask: np.ndarray, domain: str = "magnitude") -> Result:
    """A result at 8 kHz whose first explanation has this mask, over 129 bins and a frame for every 64 samples."""
    settings = {"n_fft": 256, "hop_length": 64, "peak": "absolute", "domain": domain}
    shape = l2i.stft(y, n_fft=256, hop_length=64).shape
    mask = np.broadcast_to(np.asarray(mask, np.float32), shape)
    empty = np.zeros(0, np.float32)
    explanation = Explanation(0, "a", 1.0, True, empty, (), apply_mask(y, mask, settings), mask)
    return Result(
        source="samples",
        sample_rate=8000,
        input=y,
        labels=("a",),
        probabilities=np.ones(1, np.float32),
        prediction=("a",),
        activations=np.zeros((0, shape[1]), np.float32),
        dictionary=np.zeros((shape[0], 0), np.float32),
        explanations=[explanation],
        settings=settings,
    )
