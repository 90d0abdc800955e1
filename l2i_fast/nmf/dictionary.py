"""Sparse dictionaries of spectral components, by multiplicative updates that keep columns at unit norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from l2i_fast.arguments import function_or_none, generator_of, integer, number
from l2i_fast.arrays import Float32, double, is_tensor, like, namespace, on_host, placed
from l2i_fast.backends.threads import one_blas_thread
from l2i_fast.defaults import default_settings
from l2i_fast.nmf.checks import at_safe_scale, frames_of, non_negative
from l2i_fast.nmf.components import (
    EPS,
    LOWEST_PEAK,
    energy_of,
    initial,
    keep_unused,
    normalize,
    power,
    replace_useless,
    unit_column_sums,
    vanished,
    warn_of_vanishing,
)
from l2i_fast.nmf.factorize import Callback, Factorization, beta_of


@default_settings()
@one_blas_thread()
def learn_dictionary(
    clips_or_V: Any,
    n_components: int = 100,
    beta_loss: float | str = "frobenius",
    sparsity: float = 0.8,
    max_iter: int = 150,
    random_state: int = 0,
    max_cosine: float = 0.95,
    known: Any = None,
    tol: float = 0.0,
    callback: Callback | None = None,
) -> Any:
    """Learn a sparse dictionary of spectral components with unit-norm columns.

    Minimises ``D_beta(V | W H) + sparsity * sum(H)`` over non-negative W and H, columns of W of unit L2 norm
    (Le Roux et al., 2015, section 4). During the first three quarters of the run, components that are hardly used, or
    nearly parallel to another one, are re-seeded from the frames with the largest error. A component whose activations
    vanish later keeps its last spectrum.

    Parameters
    ----------
    clips_or_V : array (F, T), or a sequence of arrays (F, T_i)
        Non-negative (log-magnitude) spectrograms; silent frames are left out. Frame-major memory is not copied.
    n_components : int
        K, at least 1.
    beta_loss : float or {"frobenius", "kullback-leibler", "itakura-saito"}
        The divergence: 2, 1, 0 or any real beta.
    sparsity : float
        Weight of the L1 penalty on H, at least 0. It has the unit of ``V ** (beta - 1)``: a recording that is less loud
        needs a smaller weight if beta is above 1. For beta 2, frames whose L2 norm is below it get no activations.
    max_iter : int
        Multiplicative updates of H and W.
    random_state : int
        Seed of the initial values: the same seed gives the same dictionary.
    max_cosine : float
        Pairs of components above this cosine count as duplicates; 1 turns the replacement of duplicates off.
    known : array (F, K0), optional
        Fixed components, of noise for example, which are only normalised; `n_components` more are learnt beside
        them.
    tol : float
        In the last quarter of the run, stop once an iteration lowers the objective by less than `tol` times itself.
    callback : callable, optional
        Called as ``callback(iteration, max_iter, objective)`` after each iteration; the objective is that of the
        iteration's H with the dictionary of the iteration before.

    Returns
    -------
    W : array (F, K0 + K), float32
        NumPy, or torch for a tensor or a sequence of tensors; known components first.

    Raises
    ------
    ValueError
        For negative, non-finite or only silent input; shapes that do not fit; sizes or parameters out of range.

    Warns
    -----
    RuntimeWarning
        If `sparsity` is so large that W H is less than a thousandth of V. The components, which have unit norm, then
        say little about V.
    """
    n_components, max_iter = integer(n_components, "n_components"), integer(max_iter, "max_iter")
    sparsity, max_cosine, tol = (
        number(sparsity, "sparsity", 0),
        number(max_cosine, "max_cosine", 0, 1),
        number(tol, "tol", 0),
    )
    function_or_none(callback, "callback")
    beta = beta_of(beta_loss)
    V = _sounding_frames(clips_or_V)
    V, peak = at_safe_scale(V, LOWEST_PEAK)
    l1 = sparsity * power(peak, 1 - beta)
    rng = generator_of(random_state, "random_state")
    stay = _known_components(known, V.shape[1])
    W, H = initial(V, n_components, rng, stay)
    stay = placed(stay, V)
    fixed = np.arange(W.shape[1]) < stay.shape[1]
    f = Factorization(V, W, H, beta)
    measure = tol > 0 or callback is not None
    before = objective = np.inf
    for iteration in range(1, max_iter + 1):
        divergence = f.update_H_and_gather(l1=l1, measure=measure)
        if measure:
            objective = (divergence + l1 * float(double(H.sum(0)).sum())) * power(peak, beta)
        _update_unit_columns(f)
        W[:, fixed] = stay
        exploring = iteration < 0.75 * max_iter
        if exploring and iteration % 10 == 0:
            replace_useless(f, max_cosine, energy_of(H), fixed)
        if callback is not None:
            callback(iteration, max_iter, objective)
        if tol > 0 and not exploring and before - objective < tol * objective:
            break
        before = objective
    if vanished(f, energy_of(H)):
        warn_of_vanishing(sparsity)
    W[W < 1e-7] = 0  # inaudible, and denormals slow every later product
    normalize(W)
    W[:, fixed] = stay
    return W if is_tensor(W) else like(W, clips_or_V[0] if _are_clips(clips_or_V) else clips_or_V)


def _update_unit_columns(f: Factorization) -> None:
    """Update W from the last pass, under the constraint of unit-norm columns (Le Roux et al., 2015, equation 12)."""
    W = double(f.W)
    grow, shrink = unit_column_sums(W, f.numerator, f.full_denominator())
    f.W[...] = keep_unused(W, W * (grow / (shrink + EPS)), shrink)
    normalize(f.W)


def _known_components(known: Any, n_bins: int) -> Float32:
    """Return `known` with columns of unit norm; (F, 0) for None."""
    if known is None:
        return np.empty((n_bins, 0), np.float32)
    W = non_negative(on_host(known), "known")
    if W.ndim != 2 or len(W) != n_bins:
        raise ValueError(f"known has shape {W.shape}, but (F, K0) with F={n_bins} as in the spectrograms is needed")
    W = np.ldexp(W, -np.frexp(W.max(0))[1])  # squares may leave float32
    norms = np.linalg.norm(W, axis=0)
    if not norms.all():
        raise ValueError("known holds a component that is zero everywhere, but each needs a positive entry")
    unit: Float32 = W / norms
    return unit


def _are_clips(clips_or_V: Any) -> bool:
    return isinstance(clips_or_V, Sequence) and not isinstance(clips_or_V, memoryview)


def _sounding_frames(clips_or_V: Any) -> Any:
    """Return the frames (T, F) of a matrix (F, T) or of a sequence of them, without silent ones."""
    if _are_clips(clips_or_V):
        if not clips_or_V:
            raise ValueError("clips_or_V is an empty sequence, but at least one spectrogram is needed")
        parts = [frames_of(v, "each spectrogram") for v in clips_or_V]
        if len(bins := {p.shape[1] for p in parts}) > 1:
            raise ValueError(f"the spectrograms have {' and '.join(map(str, sorted(bins)))} bins, but must agree in F")
        V = namespace(parts[0]).concatenate(parts)
    else:
        V = frames_of(clips_or_V, "V")
    # Silence (a tenth of ESC-10) adds nothing and costs as much as sound.
    sounding = (V > 0).any(1)
    if not sounding.any():
        raise ValueError("V is silent, but at least one frame with sound is needed")
    return V if sounding.all() else V[sounding]
