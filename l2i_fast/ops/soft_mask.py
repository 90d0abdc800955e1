"""From activations to the masked spectrum, or straight to audio."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from l2i_fast import _core
from l2i_fast.arrays import (
    LARGEST,
    ON_DEVICE,
    TINY,
    TRACKED,
    Array,
    ArrayT,
    Complex64,
    Float32,
    detached,
    in_range,
    like,
    needs_gradient,
    on_device,
    target,
    to_float32,
    without_out,
)
from l2i_fast.ops.stft import Synthesis, Window, frame_major, is_native, public

Domain = Literal["log", "magnitude"]


def soft_mask(
    X: ArrayT,
    W: Array,
    H: Array,
    weights: Array,
    domain: Domain = "log",
    eps: float = 1e-6,
    *,
    out: ArrayT | None = None,
) -> ArrayT:
    """Keep the part of a spectrum that the weighted components explain.

    The mask is ``m = W (weights * H) / (eps + W H)``. In the domain "log" it acts on the logarithmic
    magnitude, ``|Y| = expm1(m log1p(|X|))`` (Parekh et al., arXiv 2202.11479), in the domain "magnitude" on
    the magnitude itself, ``|Y| = m |X|``. Y keeps the phase of X.

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
    out : same kind as X, complex64, shape (..., F, T), optional
        Array that is filled and returned: X itself, which is overwritten, or one with memory of its own, laid out as
        in `stft`. CPU only, and where nothing requires grad.

    Returns
    -------
    Y : same kind as X, complex64, shape (..., F, T)
        The leading dimensions of X, H and weights are broadcast: several rows of weights for one X give
        several spectra. Frames are contiguous in memory. Where H or weights require grad, Y is a tensor that
        autograd can go back to them from, once; X and W are constants.

    Raises
    ------
    ValueError
        For shapes that do not fit, negative or non-finite W or H, weights outside [0, 1], X or W that require
        grad, or an `out` that `stft` would refuse.
    """
    if on_device(X, W, H, weights):
        without_out(out, ON_DEVICE)
        from l2i_fast.ops import device_operations as operations

        return operations.soft_mask(X, W, H, weights, domain, eps)  # type: ignore[no-any-return]
    job = _operands(X, W, H, weights, domain, eps)
    if needs_gradient(H, weights):
        without_out(out, TRACKED)
        from l2i_fast.ops.autograd import tracked

        answer = partial(_core.soft_mask, *job.native)
        gradients = lambda d: _core.soft_mask_gradient(*job.native, d.numpy())  # noqa: E731
        tracked_rows: Any = tracked((X, W, H, weights), job.lead, answer, gradients)
        return cast("ArrayT", tracked_rows.mT)
    inputs = {"X": X, "W": W, "H": H, "weights": weights}
    rows = target(out, X, job.lead, job.X.shape[:0:-1], np.complex64, inputs, in_place="X")
    rows = _core.soft_mask(*job.native, rows)
    return like(public(rows, job.lead), X) if out is None else out


def decode(
    X: ArrayT,
    W: Array,
    H: Array,
    weights: Array,
    hop_length: int = 512,
    domain: Domain = "log",
    length: int | None = None,
    eps: float = 1e-6,
    win_length: int | None = None,
    n_fft: int | None = None,
    window: Window = "hann",
    center: bool = True,
    *,
    out: ArrayT | None = None,
) -> ArrayT:
    """Audio of the weighted components: `soft_mask` and `istft` in one pass.

    Parameters
    ----------
    X, W, H, weights, domain, eps
        As in `soft_mask`.
    hop_length, win_length, n_fft, window, center, length
        As in `istft`.
    out : same kind as X, float32, contiguous, shape (..., length), optional
        Array that is filled and returned, with memory of its own. CPU only, and where nothing requires grad.

    Returns
    -------
    y : same kind as X, float32, shape (..., length)
        Samples. Where H or weights require grad, y is a tensor that autograd can go back to them from, once;
        X and W are constants.
    """
    if on_device(X, W, H, weights):
        from l2i_fast.ops import device_operations as operations

        without_out(out, ON_DEVICE)
        settings = hop_length, domain, length, eps, win_length, n_fft, window, center
        return operations.decode(X, W, H, weights, *settings)  # type: ignore[no-any-return]
    job = _operands(X, W, H, weights, domain, eps)
    synthesis = Synthesis(job.X.shape, hop_length, win_length, n_fft, window, center, length)
    answer: Callable[..., Float32]  # of an array to fill, if there is one
    gradients: Callable[[Any], tuple[Float32, Float32]]
    if is_native(synthesis.window.size):
        frame = synthesis.window, synthesis.hop, synthesis.start
        answer = partial(_core.decode, *job.native, *frame, synthesis.length)
        gradients = lambda dy: _core.decode_gradient(*job.native, *frame, dy.numpy())  # noqa: E731
    else:
        answer = lambda out=None: synthesis(_core.soft_mask(*job.native), out)  # noqa: E731
        gradients = lambda dy: _core.soft_mask_gradient(*job.native, synthesis.adjoint(dy.numpy()))  # noqa: E731
    if needs_gradient(H, weights):
        without_out(out, TRACKED)
        from l2i_fast.ops.autograd import tracked

        tracked_samples: Any = tracked((X, W, H, weights), job.lead, answer, gradients)
        return cast("ArrayT", tracked_samples)
    inputs = {"X": X, "W": W, "H": H, "weights": weights}
    samples = answer(target(out, X, job.lead, (synthesis.length,), np.float32, inputs))
    return like(samples.reshape(*job.lead, synthesis.length), X) if out is None else out


@dataclass(frozen=True)
class _Operands:
    """Checked operands with one leading dimension; its stride is 0 where all clips share an operand."""

    X: Complex64  # B, T, F
    W: Float32  # F, K
    H: Float32  # B, T, K
    weights: Float32  # B, K
    log: bool
    eps: float
    lead: tuple[int, ...]

    @property
    def native(self) -> tuple[Complex64, Float32, Float32, Float32, bool, float]:
        return self.X, self.W, self.H, self.weights, self.log, self.eps


def _operands(X: Any, W: Any, H: Any, weights: Any, domain: str, eps: float) -> _Operands:
    check_mask(domain, eps)
    rows, lead = frame_major(X)
    n_frames, n_bins = rows.shape[1:]
    W, H, weights = to_float32(W, "W"), to_float32(detached(H), "H"), to_float32(detached(weights), "weights")
    shared = common_lead((*lead, n_bins, n_frames), W.shape, H.shape, weights.shape)
    for name, values in (("W", W), ("H", H)):
        if not in_range(values, low=0):
            raise ValueError(f"{name} holds negative numbers, NaN or infinity, but must be non-negative and finite")
    if not in_range(weights, low=0, high=1):
        raise ValueError("weights holds numbers outside [0, 1] or NaN, but all must lie in [0, 1]")
    return _Operands(
        X=_spread(rows.reshape(*lead, n_frames, n_bins), 2, shared),
        W=W,
        H=_spread(H.swapaxes(-1, -2), 2, shared),
        weights=_spread(weights, 1, shared),
        log=domain == "log",
        eps=float(eps),
        lead=shared,
    )


def check_mask(domain: str, eps: float) -> None:
    """Refuse an unknown domain, or an `eps` out of range."""
    if domain not in ("log", "magnitude"):
        raise ValueError(f"domain is {domain!r}, but must be 'log' or 'magnitude'")
    if not TINY <= eps <= LARGEST:
        raise ValueError(f"eps is {eps}, but must be positive, and a normal number as float32")


def common_lead(
    X: tuple[int, ...], W: tuple[int, ...], H: tuple[int, ...], weights: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the broadcast leading dimensions of operands of these shapes, or refuse what does not fit."""
    lead, (n_bins, n_frames) = X[:-2], X[-2:]
    if len(W) != 2 or W[0] != n_bins or W[1] == 0:
        raise ValueError(f"W has shape {W}, but (F, K) with F={n_bins} as in X is needed")
    K = W[1]
    if len(H) < 2 or H[-2:] != (K, n_frames):
        raise ValueError(f"H has shape {H}, but (..., K, T) with K={K} as in W, T={n_frames} as in X is needed")
    if len(weights) < 1 or weights[-1] != K:
        raise ValueError(f"weights has shape {weights}, but (K,) or (..., K) with K={K} as in W is needed")
    leads = lead, H[:-2], weights[:-1]
    try:
        return np.broadcast_shapes(*leads) if any(leads) else ()
    except ValueError:
        raise ValueError(
            f"X, H and weights have leading dimensions {lead}, {H[:-2]} and {weights[:-1]}, which cannot be broadcast"
        ) from None


def _spread(array: NDArray[Any], n_inner: int, lead: tuple[int, ...]) -> NDArray[Any]:
    """Broadcast the outer dimensions to `lead` and make them one; an operand that all clips share is not copied."""
    outer, inner = array.shape[: array.ndim - n_inner], array.shape[array.ndim - n_inner :]
    if outer == lead:
        return array.reshape(math.prod(lead), *inner)
    if math.prod(outer) == 1:
        return np.broadcast_to(array.reshape(inner), (math.prod(lead), *inner))
    return np.broadcast_to(array, (*lead, *inner)).reshape(-1, *inner)
