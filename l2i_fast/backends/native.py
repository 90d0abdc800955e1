"""The native engine on the CPU: C++ kernels for AVX2, AVX-512 and AMX, on NumPy arrays.

Operands are checked, float32 or complex64, and frame-major: clips (B, N), spectra (B, T, F), activations (B, T, K),
weights (B, K), dictionary (F, K). Functions that take `out` fill it instead of new memory. The engine releases the GIL,
flushes denormals and works in the caller's thread and those that `l2i_fast.backends.threads` grants.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from l2i_fast.arrays import LARGEST, Device, Float32, Float64

try:
    from l2i_fast import _core
    from l2i_fast._core import (
        analyze,
        cpu_features,
        decode,
        decode_gradient,
        get_num_threads,
        istft,
        log_mel,
        nmf_divergence,
        nmf_newton_pass,
        nmf_newton_update,
        peak_flops,
        read_bandwidth,
        set_num_threads,
        soft_mask,
        soft_mask_gradient,
        stft,
    )
except ImportError as error:
    if "l2i_fast._core" not in sys.modules and not find_spec("l2i_fast._core"):
        folder = Path(__file__).parents[1]
        raise ImportError(
            f"the native module of l2i_fast is not in {folder}, but is needed: run Python outside of this folder if "
            "the package is installed, otherwise install it with pip"
        ) from None
    raise ImportError(f"the native module of l2i_fast does not load, but is needed: {error}") from error

__all__ = [
    "LOUDEST",
    "MelBands",
    "PoolEngine",
    "StreamEngine",
    "StreamEngines",
    "analyze",
    "cpu_features",
    "decode",
    "decode_gradient",
    "get_num_threads",
    "in_range",
    "istft",
    "log_mel",
    "mel_bands",
    "nmf_divergence",
    "nmf_newton_pass",
    "nmf_newton_update",
    "nmf_pass",
    "nmf_update_H",
    "nmf_update_W",
    "peak_flops",
    "read_bandwidth",
    "refuses",
    "set_num_threads",
    "soft_mask",
    "soft_mask_gradient",
    "stft",
    "takes_frames",
]

MelBands = _core.MelBands
#: The largest samples that transforms and streams take: spectra of louder ones might leave float32.
LOUDEST = _core.LOUDEST
StreamEngine = _core.Stream
PoolEngine = _core.StreamPool

#: Terms of bfloat16 that stand for a float32 factor at each precision; 0 multiplies float32 itself.
_TERMS = {"float32": 0, "bf16x3": 3, "bf16x2": 2, "bf16": 1}


def refuses(operation: str, device: Device, n_fft: int = 0, K: int = 0) -> str:
    """Say why the engine does not take a call, or return an empty string."""
    if device is not None:
        return f"the native engine takes NumPy arrays, not tensors on {device}"
    if n_fft and not takes_frames(n_fft):
        smallest, largest = _core.FFT_SIZES
        return f"the native engine takes frames of a power of two from {smallest} to {largest} samples, not of {n_fft}"
    return ""


def takes_frames(n_fft: int) -> bool:
    """Tell whether the engine transforms frames of this length."""
    smallest, largest = _core.FFT_SIZES
    return smallest <= n_fft <= largest and n_fft & (n_fft - 1) == 0


def in_range(x: Float32, low: float = -LARGEST, high: float = LARGEST) -> bool:
    """Tell whether all values are finite and between `low` and `high`."""
    return _core.in_range(x.ravel(order="K"), low, high)


def mel_bands(filters: Float32) -> MelBands:
    """Return mel filters (F, n_mels) as `log_mel` and `analyze` take them."""
    return MelBands(filters.T)


def nmf_update_H(
    V: Float32,
    mask: Float32 | None,
    W: Float32,
    H: Float32,
    beta: float,
    l1: float,
    l2: float,
    n: int,
    *,
    method: str = "mu",
    precision: str = "float32",
) -> None:
    """Update H (T, K) in V (T, F) ~ H W' n times in place, by multiplicative updates ("mu") or sweeps of "hals"."""
    terms = _TERMS[precision] if method == "mu" else 0
    _core.nmf_pass(V, mask, W, H, beta, method, l1, l2, n, None, None, False, terms)


def nmf_pass(
    V: Float32,
    mask: Float32 | None,
    W: Float32,
    H: Float32,
    beta: float,
    l1: float,
    l2: float,
    n: int,
    measure: bool,
    *,
    method: str = "mu",
    precision: str = "float32",
) -> tuple[Float64, Float64, float]:
    """Update H n times and sum over frames what the update of W needs, in one pass over V.

    Returns
    -------
    numerator : array (F, K), float64
    denominator : array, float64
        H'H (K, K) for beta 2 and the sums of H (K,) for beta 1, both without mask, otherwise (F, K).
    divergence : float
        D_beta(V | H W') of the new H and the present W if `measure`, otherwise 0.
    """
    F, K = W.shape
    numerator = np.empty((F, K))
    full = mask is not None or beta not in (1, 2)
    denominator = np.empty((F, K) if full else (K, K) if beta == 2 else (K,))
    terms = _TERMS[precision] if method == "mu" else 0
    d = _core.nmf_pass(V, mask, W, H, beta, method, l1, l2, n, numerator, denominator, measure, terms)
    return numerator, denominator, d


def nmf_update_W(
    W: Float32,
    numerator: Float64,
    denominator: Float64,
    masked: bool,
    beta: float,
    l1: float,
    l2: float,
    n: int,
    fixed: NDArray[np.bool_] | None,
    *,
    method: str = "mu",
) -> None:
    """Update W (F, K) n times in place from the sums of `nmf_pass`; components for which `fixed` (K,) holds stay."""
    _core.nmf_update(W, numerator, denominator, masked, beta, method, l1, l2, n, fixed)


class StreamEngines:
    """Makes the stateful engines of live signals that share a dictionary and its settings.

    Parameters
    ----------
    W : array (F, K), float32
        Dictionary, non-negative; frames have 2 (F - 1) samples, a length that `takes_frames` accepts.
    window : array (2 (F - 1),), float32
    hop, n_updates : int
        Samples between frames; multiplicative updates of the activations of each frame.
    domain : str
        How the mask acts on magnitudes: see `l2i_fast.soft_mask`.
    eps : float
        Added to the mask's denominator.
    lift : float
        Share of W' v that is added to activations that come with a mask, before they are updated.
    filters : array (F, n_mels), float32, optional
        Mel filters: with them an engine keeps the mel magnitudes of its latest frames.
    """

    def __init__(
        self,
        W: Float32,
        window: Float32,
        hop: int,
        n_updates: int,
        domain: str,
        eps: float,
        filters: Float32 | None = None,
        lift: float = 0.0,
    ) -> None:
        bands = None if filters is None else mel_bands(filters)
        self._plan = _core.StreamPlan(W, window, hop, n_updates, domain, eps, bands, lift)

    def stream(self, history: int = 0) -> StreamEngine:
        """Make the engine of one signal, which keeps the columns of its latest `history` frames."""
        return StreamEngine(self._plan, history)

    def pool(self) -> PoolEngine:
        """Make an engine that advances many signals together."""
        return PoolEngine(self._plan)
