"""The native engine on the CPU: C++ kernels for AVX2, AVX-512 and AMX, on NumPy arrays.

Operands are checked, contiguous, float32 or complex64, and frame-major: clips (B, N), spectra (B, T, F), activations
(B, T, K), weights (B, K), dictionary (F, K). The engine releases the GIL, flushes denormals and works in the caller's
thread and those that `l2i_fast.backends.threads` grants.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from l2i_fast import _core
from l2i_fast._core import cpu_features, in_range, peak_flops, read_bandwidth

__all__ = [
    "PoolEngine",
    "StreamEngine",
    "StreamEngines",
    "cpu_features",
    "in_range",
    "peak_flops",
    "read_bandwidth",
    "takes_frames",
]

Float32 = NDArray[np.float32]
StreamEngine = _core.Stream
PoolEngine = _core.StreamPool


def takes_frames(n_fft: int) -> bool:
    """Tell whether the engine transforms frames of this length: powers of two from 32 to 65536."""
    smallest, largest = _core.FFT_SIZES
    return smallest <= n_fft <= largest and n_fft & (n_fft - 1) == 0


class StreamEngines:
    """Makes the stateful engines of live signals that share a dictionary and its settings.

    Parameters
    ----------
    W : array (F, K), float32
        Dictionary, non-negative; frames have 2 (F - 1) samples, a length that `takes_frames` accepts.
    window : array (2 (F - 1),), float32
    hop, n_updates : int
        Samples between frames; multiplicative updates of the activations of each frame.
    log : bool
        Whether the mask acts on logarithmic magnitudes.
    eps : float
        Added to the mask's denominator.
    filters : array (F, n_mels), float32, optional
        Mel filters: with them an engine keeps the mel magnitudes of its latest frames.
    """

    def __init__(
        self,
        W: Float32,
        window: Float32,
        hop: int,
        n_updates: int,
        log: bool,
        eps: float,
        filters: Float32 | None = None,
    ) -> None:
        bands = None if filters is None else _core.MelBands(filters.T)
        self._plan = _core.StreamPlan(W, window, hop, n_updates, log, eps, bands)

    def stream(self, history: int = 0) -> StreamEngine:
        """Make the engine of one signal, which keeps the mel magnitudes of its latest `history` frames."""
        return StreamEngine(self._plan, history)

    def pool(self) -> PoolEngine:
        """Make an engine that advances many signals together."""
        return PoolEngine(self._plan)
