"""From activations to the masked spectrum, or straight to audio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from l2i_fast.arrays import ArrayT, Complex64, Float32, like, to_float32
from l2i_fast.stft import Synthesis, Window, _public, frame_major

Domain = Literal["log", "magnitude"]


def soft_mask(
    X: ArrayT,
    W: ArrayT,
    H: ArrayT,
    weights: ArrayT,
    domain: Domain = "log",
    eps: float = 1e-6,
) -> ArrayT:
    """Keep the part of a spectrum that the weighted components explain.

    The mask is ``m = W (weights * H) / (eps + W H)``. In the domain "log" it acts on the logarithmic magnitude,
    ``|Y| = expm1(m log1p(|X|))`` (Parekh et al., arXiv 2202.11479, section 3.3), in the domain "magnitude" on the
    magnitude itself, ``|Y| = m |X|``. Y keeps the phase of X.

    Parameters
    ----------
    X : array or tensor, complex, shape (..., F, T)
        Spectrum.
    W : array or tensor, shape (F, K)
        Dictionary, non-negative.
    H : array or tensor, shape (..., K, T)
        Activations, non-negative. The transposed view of a frame-major (..., T, K) array is as good.
    weights : array or tensor, shape (K,) or (..., K)
        How much of each component to keep, in [0, 1].
    domain : {"log", "magnitude"}
        What the mask multiplies.
    eps : float
        Positive; added to the denominator.

    Returns
    -------
    Y : same kind as X, complex64, shape (..., F, T)
        The leading dimensions of X, H and weights are broadcast: several rows of weights for one X give several
        spectra. Frames are contiguous in memory.

    Raises
    ------
    ValueError
        For shapes that do not fit, negative or non-finite W or H, weights outside [0, 1].
    """
    job = _Job(X, W, H, weights, domain, eps)
    return like(_public(job.masked(), job.lead), X)


def decode(
    X: ArrayT,
    W: ArrayT,
    H: ArrayT,
    weights: ArrayT,
    hop_length: int = 512,
    domain: Domain = "log",
    length: int | None = None,
    eps: float = 1e-6,
    win_length: int | None = None,
    n_fft: int | None = None,
    window: Window = "hann",
    center: bool = True,
) -> ArrayT:
    """Audio of the weighted components: `soft_mask` and `istft` in one pass.

    Parameters
    ----------
    X, W, H, weights, domain, eps
        As in `soft_mask`.
    hop_length, win_length, n_fft, window, center, length
        As in `istft`.

    Returns
    -------
    y : same kind as X, float32, shape (..., length)
        Samples.
    """
    job = _Job(X, W, H, weights, domain, eps)
    shape = (job.size, *job.X.shape[1:])
    synthesis = Synthesis(shape, hop_length, win_length, n_fft, window, center, length)
    return like(synthesis(job.masked()).reshape(*job.lead, synthesis.length), X)


@dataclass
class _Job:
    """Checked operands, with one leading dimension."""

    X: Complex64
    W: Float32
    H: Float32
    weights: Float32
    lead: tuple[int, ...]
    log: bool
    eps: float

    def __init__(self, X: Any, W: Any, H: Any, weights: Any, domain: str, eps: float) -> None:
        if domain not in ("log", "magnitude"):
            raise ValueError(f"domain is {domain!r}, but must be 'log' or 'magnitude'")
        self.log = domain == "log"
        self.eps = float(eps)
        if not np.finfo(np.float32).tiny <= self.eps < np.inf:
            raise ValueError(f"eps is {eps}, but must be positive, finite and normal in float32")
        X_rows, X_lead = frame_major(X)
        _, n_frames, n_bins = X_rows.shape
        self.W = to_float32(W, "W")
        if self.W.ndim != 2 or self.W.shape[0] != n_bins or self.W.shape[1] == 0:
            raise ValueError(f"W has shape {self.W.shape}, but (F={n_bins}, K>=1) is needed to fit X")
        K = self.W.shape[1]
        H_array = to_float32(H, "H")
        if H_array.ndim < 2 or H_array.shape[-2:] != (K, n_frames):
            raise ValueError(f"H has shape {H_array.shape}, but (..., K={K}, T={n_frames}) is needed")
        weights_array = to_float32(weights, "weights")
        if weights_array.ndim < 1 or weights_array.shape[-1] != K:
            raise ValueError(f"weights has shape {weights_array.shape}, but (..., K={K}) is needed")
        for name, values, top in (
            ("W", self.W, np.inf),
            ("H", H_array, np.inf),
            ("weights", weights_array, 1.0),
        ):
            if not ((values >= 0) & (values <= top) & (values < np.inf)).all():
                allowed = "lie in [0, 1]" if name == "weights" else "be finite and not negative"
                raise ValueError(f"{name} must {allowed} everywhere")
        try:
            self.lead = np.broadcast_shapes(X_lead, H_array.shape[:-2], weights_array.shape[:-1])
        except ValueError:
            raise ValueError(
                f"the leading dimensions of X {X_lead}, H {H_array.shape[:-2]} and weights "
                f"{weights_array.shape[:-1]} do not fit each other"
            ) from None
        self.size = int(np.prod(self.lead))
        self.X = self._spread(X_rows.reshape(*X_lead, n_frames, n_bins), 2)
        self.H = self._spread(H_array.swapaxes(-1, -2), 2)
        self.weights = self._spread(weights_array, 1)

    def _spread(self, array: Any, keep: int) -> Any:
        # One leading dimension, of stride 0 where the operand is shared.
        tail = array.shape[array.ndim - keep :]
        if array.size == int(np.prod(tail)) and self.size:
            return np.broadcast_to(array.reshape(1, *tail), (self.size, *tail))
        return np.broadcast_to(array, (*self.lead, *tail)).reshape(self.size, *tail)

    def masked(self) -> Complex64:
        out = np.empty((self.size, *self.X.shape[1:]), np.complex64)
        for b in range(self.size):
            X, H = self.X[b], self.H[b]
            mask = (H * self.weights[b]) @ self.W.T / (np.float32(self.eps) + H @ self.W.T)
            magnitude = np.abs(X)
            gain = mask
            if self.log:
                with np.errstate(invalid="ignore"):
                    gain = np.where(magnitude > 0, np.expm1(mask * np.log1p(magnitude)) / magnitude, mask)
            out[b] = X * gain
        return out
