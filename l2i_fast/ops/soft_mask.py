"""From activations to the masked spectrum, or straight to audio."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np

from l2i_fast.arguments import one_of, positive_float32
from l2i_fast.arrays import LARGEST, Array, ArrayT, Device, Float32, detached, like, needs_gradient, to_float32
from l2i_fast.backends.dispatch import device_of, serving
from l2i_fast.backends.native import in_range
from l2i_fast.forks import importing
from l2i_fast.ops.framing import Synthesis, Window
from l2i_fast.ops.operands import frame_major, public, spread, target
from l2i_fast.settings import DOMAINS, Domain


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
    the magnitude itself, ``|Y| = m |X|``, and in the domain "wiener" as a Wiener filter between what the weighted
    components explain and the rest, ``|Y| = m^4 / (m^4 + (1 - m)^4) |X|`` (Liutkus and Badeau, ICASSP 2015, with
    exponent 4, since W H models a logarithm, which grows about as the root of a magnitude). Y keeps the phase of X.

    Parameters
    ----------
    X : array or tensor, complex, shape (..., F, T)
        Spectrum.
    W : array or tensor, shape (F, K)
        Dictionary, non-negative.
    H : array or tensor, shape (..., K, T)
        Activations, non-negative. The transposed view of a frame-major (..., T, K) array is not copied.
    weights : array or tensor, shape (K,) or (..., K)
        Weight of each component, in [0, 1].
    domain : {"log", "magnitude", "wiener"}
        How the mask acts on the magnitude.
    eps : float
        Positive; added to the denominator.
    out : same kind as X, complex64, shape (..., F, T), optional
        Array to fill and return: X itself, which is overwritten, or one with memory of its own, laid out as in
        `stft`. CPU only, and only if nothing requires grad.

    Returns
    -------
    Y : same kind as X, complex64, shape (..., F, T)
        The leading dimensions of X, H and weights are broadcast: several rows of weights for one X give
        several spectra. Frames are contiguous in memory. If H or weights require grad, autograd can differentiate
        Y by them, once; X and W are constants.

    Raises
    ------
    ValueError
        For shapes that do not fit, negative or non-finite W or H, W and H so large that ``W H`` might leave float32,
        weights outside [0, 1], X or W that require grad, or an `out` that `stft` would refuse. Values of tensors on a
        GPU are not checked.
    """
    mask = _operands(X, W, H, weights, domain, eps)
    tracked = needs_gradient(H, weights)
    into = target(out, X, mask.lead, mask.inner, np.complex64, mask.given, mask.device, tracked=tracked, in_place="X")
    run = partial(serving("soft_mask", mask.device, K=mask.K), *mask.operands)
    if tracked:

        def gradient(dY: Any) -> Any:
            operands = _operands(X, W, H, weights, domain, eps).operands
            return serving("soft_mask_gradient", mask.device)(*operands, dY)

        tracked_rows: Any = _tracked(mask, run, gradient)
        return cast("ArrayT", tracked_rows.mT)
    rows = run() if into is None else run(into)
    return like(public(rows, mask.lead), X) if out is None else out


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
        Array to fill and return, with memory of its own. CPU only, and only if nothing requires grad.

    Returns
    -------
    y : same kind as X, float32, shape (..., length)
        Samples. If H or weights require grad, autograd can differentiate y by them, once; X and W are constants.
    """
    mask = _operands(X, W, H, weights, domain, eps)
    synthesis = Synthesis(mask.operands[0].shape, hop_length, win_length, n_fft, window, center, length, mask.device)
    tracked = needs_gradient(H, weights)
    into = target(out, X, mask.lead, (synthesis.length,), np.float32, mask.given, mask.device, tracked=tracked)
    sizes = synthesis.n_fft, mask.K
    run = partial(serving("decode", mask.device, *sizes), *mask.operands, *synthesis.operands, synthesis.length)
    if tracked:

        def gradient(dy: Any) -> Any:
            operands = _operands(X, W, H, weights, domain, eps).operands
            return serving("decode_gradient", mask.device, *sizes)(*operands, *synthesis.operands, dy)

        return cast("ArrayT", _tracked(mask, run, gradient))
    samples = run() if into is None else run(into)
    return like(samples.reshape(*mask.lead, synthesis.length), X) if out is None else out


@dataclass(frozen=True)
class _Mask:
    """Checked operands with one leading dimension; its stride is 0 for an operand that all clips share."""

    #: X (B, T, F), W (F, K), H (B, T, K), weights (B, K), the domain, and eps.
    operands: tuple[Any, Any, Any, Any, str, float]
    device: Device
    lead: tuple[int, ...]
    given: dict[str, Any]  # by the caller

    @property
    def inner(self) -> tuple[int, int]:
        """Bins and frames."""
        _, n_frames, n_bins = self.operands[0].shape
        return n_bins, n_frames

    @property
    def K(self) -> int:
        """Number of components."""
        return int(self.operands[1].shape[1])


def _operands(X: Any, W: Any, H: Any, weights: Any, domain: str, eps: float) -> _Mask:
    given = {"X": X, "W": W, "H": H, "weights": weights}
    device = device_of(**given)
    check_mask(domain, eps)
    rows, lead = frame_major(X, "X", device)
    n_frames, n_bins = rows.shape[1:]
    W, H, weights = (
        to_float32(W, "W", device),
        to_float32(detached(H), "H", device),
        to_float32(detached(weights), "weights", device),
    )
    shared = _common_lead((*lead, n_bins, n_frames), tuple(W.shape), tuple(H.shape), tuple(weights.shape))
    if device is None:  # values on a device are not checked, since that would wait for it
        # Products of such numbers and their sums are float32; others are looked at more closely.
        if not (in_range(W, low=0, high=1e15) and in_range(H, low=0, high=1e15)):
            _check_factors(W, H)
        if not in_range(weights, low=0, high=1):
            raise ValueError("weights holds numbers outside [0, 1] or NaN, but all must lie in [0, 1]")
    else:
        W = W.contiguous()
    operands = (
        spread(rows.reshape(*lead, n_frames, n_bins), 2, shared),
        W,
        spread(H.swapaxes(-1, -2), 2, shared),
        spread(weights, 1, shared),
        domain,
        float(eps),
    )
    return _Mask(operands, device, shared, given)


def _tracked(mask: _Mask, answer: Any, gradient: Any) -> Any:
    # The answer as a tensor that autograd can differentiate; backends on the host take NumPy arrays. The gradient views
    # the tensors anew, since torch may have moved them in the meantime.
    with importing:
        from l2i_fast.ops.autograd import tracked

    on_host = mask.device is None
    return tracked(tuple(mask.given.values()), mask.lead, answer, lambda d: gradient(d.numpy() if on_host else d))


def _check_factors(W: Float32, H: Float32) -> None:
    for name, values in (("W", W), ("H", H)):
        if not in_range(values, low=0):
            raise ValueError(f"{name} holds negative numbers, NaN or infinity, but must be non-negative and finite")
    peaks, K = [float(values.max(initial=0)) for values in (W, H)], W.shape[1]
    if not peaks[0] * peaks[1] * K <= LARGEST:
        raise ValueError(
            f"W and H hold up to {peaks[0]:g} and {peaks[1]:g}, but sums of K={K} products must not exceed {LARGEST:g}"
        )


def check_mask(domain: str, eps: float) -> None:
    """Check that `domain` is known and `eps` in range."""
    one_of(domain, "domain", DOMAINS)
    positive_float32(eps, "eps")


def _common_lead(
    X: tuple[int, ...], W: tuple[int, ...], H: tuple[int, ...], weights: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the broadcast leading dimensions of operands of these shapes, or raise if they do not fit."""
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
