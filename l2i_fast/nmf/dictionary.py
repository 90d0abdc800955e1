"""Learn a sparse dictionary of spectral components, and find the activations of a fixed one.

Both minimise ``D_beta(V | W H) + sparsity * sum(H)`` by multiplicative updates. The dictionary keeps columns of unit L2
norm, by the update of J. Le Roux, F. Weninger and J. R. Hershey, "Sparse NMF - half-baked or well done?" (MERL
TR2015-023, 2015), section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from l2i_fast.arrays import Float32, double, host, in_range, is_tensor, like, namespace, on_device, placed, to_float32
from l2i_fast.nmf.factorize import Callback, Factorization, Float64, beta_of, factorization, update_H_only

#: Added to denominators.
_EPS = 1e-9
#: Peaks of V between which products of float32 neither overflow nor vanish.
_SAFE_PEAKS = 1e-6, 1e6


# The threads of NumPy's BLAS spin for a while after each product, in the way of ours.
@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]
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
    nearly parallel to another one, are replaced by the frames that are explained worst.

    Parameters
    ----------
    clips_or_V : array (F, T), or a sequence of arrays (F, T_i)
        Non-negative (log-magnitude) spectrograms; silent frames are left out. Frame-major memory is not copied.
    n_components : int
        K, at least 1.
    beta_loss : float or {"frobenius", "kullback-leibler", "itakura-saito"}
        The divergence: 2, 1, 0 or any real beta.
    sparsity : float
        Weight of the L1 penalty on H, at least 0.
    max_iter : int
        Multiplicative updates of H and W.
    random_state : int
        Seed of the initial values: the same seed gives the same dictionary.
    max_cosine : float
        Components more alike than this cosine count as duplicates; 1 turns the replacement of duplicates off.
    known : array (F, K0), optional
        Components that are there already, of noise say, and stay as they are but for their norm; `n_components` more
        are learnt beside them.
    tol : float
        In the last quarter of the run, stop once an iteration lowers the objective by less than `tol` times itself.
    callback : callable, optional
        Called as ``callback(iteration, max_iter, objective)`` after each iteration; the objective is what the
        iteration's H reached with the dictionary before it.

    Returns
    -------
    W : array (F, K0 + K), float32
        NumPy, or torch if a tensor (or a sequence of tensors) came in; known components first.

    Raises
    ------
    ValueError
        Negative, non-finite or only silent input; shapes that do not fit; sizes or parameters out of range.
    """
    _at_least(1, n_components=n_components, max_iter=max_iter)
    _at_least(0, sparsity=sparsity, tol=tol)
    beta = beta_of(beta_loss)
    V = _sounding_frames(clips_or_V)
    V, peak = _at_safe_scale(V)
    sparsity *= peak ** (1 - beta)
    rng = np.random.default_rng(random_state)
    stay = _known_components(known, V.shape[1])
    W, H = _start(V, n_components, rng, stay)
    stay = placed(stay, V)
    fixed = np.arange(W.shape[1]) < stay.shape[1]
    f = factorization(V, W, H, beta)
    measure = tol > 0 or callback is not None
    before = objective = np.inf
    for iteration in range(1, max_iter + 1):
        divergence = f.update_H_and_gather(l1=sparsity, measure=measure)
        if measure:
            objective = (divergence + sparsity * float(double(H.sum(0)).sum())) * peak**beta
        _update_unit_columns(f)
        W[:, fixed] = stay
        exploring = iteration < 0.75 * max_iter
        if exploring and iteration % 10 == 0:
            _replace_useless(f, max_cosine, _energy(H), fixed)
        if callback is not None:
            callback(iteration, max_iter, objective)
        if tol > 0 and not exploring and before - objective < tol * objective:
            break
        before = objective
    W[W < 1e-7] = 0  # nothing audible, and denormals slow every later product
    _normalize(W)
    W[:, fixed] = stay
    return W if is_tensor(W) else like(W, clips_or_V[0] if isinstance(clips_or_V, Sequence) else clips_or_V)


@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]
def learn_dictionary_online(
    blocks: Iterable[Any],
    n_components: int = 100,
    beta_loss: float | str = "frobenius",
    sparsity: float = 0.8,
    n_epochs: int = 1,
    n_updates: int = 20,
    forget: float = 0.5,
    random_state: int = 0,
    max_cosine: float = 0.95,
    callback: Callable[[int, int], None] | None = None,
) -> Any:
    """Learn a sparse dictionary from blocks of frames, one after another: for archives larger than memory.

    The model is that of `learn_dictionary`. Of the blocks gone by only the sums remain that the update of W needs,
    each new block weighing them down by `forget` (A. Lefevre, F. Bach and C. Fevotte, "Online algorithms for
    nonnegative matrix factorization with the Itakura-Saito divergence", WASPAA 2011).

    Parameters
    ----------
    blocks : iterable of arrays (F, T_i)
        Non-negative spectrograms, each in memory only while it is learnt from; a few thousand frames each are a good
        size, shuffled clips better than one recording. Silent frames are left out, blocks of silence skipped.
        A list or another iterable that starts anew each time, if `n_epochs` is above 1.
    n_components, beta_loss, sparsity, random_state, max_cosine
        See `learn_dictionary`; useless components are replaced during the first three quarters of the epochs.
    n_epochs : int
        How often to go through the blocks.
    n_updates : int
        Updates of H and W on each block.
    forget : float
        Weight, from 0 to below 1, that what came before keeps at each block.
    callback : callable, optional
        Called as ``callback(epoch, n_blocks)`` after each block with the epoch, from 1 on, and the blocks in it so far.

    Returns
    -------
    W : array (F, K), float32
        Of the blocks' kind, NumPy or torch.

    Raises
    ------
    ValueError
        Negative, non-finite or only silent input, blocks that differ in F, parameters out of range.
    """
    _at_least(1, n_components=n_components, n_epochs=n_epochs, n_updates=n_updates)
    _at_least(0, sparsity=sparsity, forget=forget)
    if forget >= 1:
        raise ValueError(f"forget must be below 1, got {forget}")
    if n_epochs > 1 and isinstance(blocks, Iterator):
        raise ValueError("blocks is an iterator, which ends after one epoch: pass a list, or n_epochs=1")
    beta = beta_of(beta_loss)
    rng = np.random.default_rng(random_state)
    W: Float32 | None = None
    peak = 1.0
    kind: Any = None
    past, energy = np.zeros((2, 0, 0)), np.zeros(n_components)
    for epoch in range(1, n_epochs + 1):
        for n_blocks, block in enumerate(blocks, 1):
            V = _frames(block, "each block")
            V = V[_sounding(V)]
            if len(V):
                if W is None:
                    V, peak = _at_safe_scale(V)
                    W, H = _start(V, n_components, rng)
                    past, kind = placed(np.zeros((2, *W.shape)), V), block
                elif V.shape[1] != len(W):
                    raise ValueError(f"blocks must agree in F, got {V.shape[1]} after {len(W)}")
                else:
                    V = V / float(peak)
                    start = float(V.mean()) / max(float(W.mean()) * n_components, _EPS)
                    H = placed(np.full((len(V), n_components), start, np.float32), V)
                f = factorization(V, W, H, beta)
                f.update_H(n_updates, l1=sparsity * peak ** (1 - beta))
                past, energy = forget * past, forget * energy + _energy(H)
                if epoch <= max(1, 0.75 * n_epochs):
                    replaced = _replace_useless(f, max_cosine, energy)
                    past[..., replaced] = 0
                    energy[replaced] = energy.mean()
                past = _learn_block(f, sparsity * peak ** (1 - beta), n_updates, past)
            if callback is not None:
                callback(epoch, n_blocks)
    if W is None:
        raise ValueError("blocks hold no frame that is not silent")
    return W if is_tensor(W) else like(W, kind)


def _learn_block(f: Factorization, sparsity: float, n_updates: int, past: Float64) -> Float64:
    """Update W in place from a block and what the past left; return what both leave."""
    present = past
    for _ in range(n_updates):
        f.update_H_and_gather(2, l1=sparsity)
        W = double(f.W)
        grow, shrink = unit_column_sums(W, f.numerator, f.full_denominator())
        # The quotient of these two is W after the update: sums of several blocks can share it.
        present = past + namespace(W).stack((W * grow, shrink))
        updated = present[0] / (present[1] + _EPS)
        norm = _norms(updated)
        f.W[...] = updated / norm
    present[0] /= norm
    return present


def _known_components(known: Any, n_bins: int) -> Float32:
    """`known` with columns of unit norm; none if there are none."""
    if known is None:
        return np.empty((n_bins, 0), np.float32)
    W = _non_negative(host(known), "known")
    if W.ndim != 2 or len(W) != n_bins:
        raise ValueError(f"known must be (F, K0) with F = {n_bins} as in the spectrograms, got shape {W.shape}")
    norms = np.linalg.norm(W, axis=0)
    if not norms.all():
        raise ValueError("known holds a component that is zero everywhere")
    unit: Float32 = W / norms
    return unit


def _start(V: Any, K: int, rng: np.random.Generator, known: Float32 | None = None) -> tuple[Any, Any]:
    """Known components, then real frames, roughened so that equal ones do not stay equal; and random activations."""
    n_frames, n_bins = V.shape
    picks = rng.integers(n_frames, size=K)
    frames = np.ascontiguousarray(host(V[picks]).T)
    W = frames * (0.5 + rng.random((n_bins, K), dtype=np.float32)) + np.float32(1e-4)
    _normalize(W)
    if known is not None:
        W = np.hstack([known, W])
    K = W.shape[1]
    mean = float(double(V.mean(0)).mean())
    scale = mean / max(float(W.mean()) * K, _EPS)
    H = rng.random((n_frames, K), dtype=np.float32) * np.float32(2 * scale)
    return placed(W, V), placed(H, V)


def _normalize(W: Any) -> None:
    W /= _norms(W)


def _norms(W: Any) -> Any:
    """Norms of the columns, where they are not too small to divide by."""
    return ((W**2).sum(0) ** 0.5).clip(_EPS)


def _energy(H: Any) -> Float64:
    """Sums of the activations (T, K) of each component."""
    block = 4096
    sums: Float64 = sum(host(double(H[t : t + block].sum(0))) for t in range(0, len(H), block))
    return sums


def _update_unit_columns(f: Factorization) -> None:
    """Update W from the last pass, under the constraint of unit-norm columns (Le Roux et al., 2015, equation 12)."""
    W = double(f.W)
    grow, shrink = unit_column_sums(W, f.numerator, f.full_denominator())
    f.W[...] = W * (grow / (shrink + _EPS))
    _normalize(f.W)


def unit_column_sums(W: Any, numerator: Any, denominator: Any) -> tuple[Any, Any]:
    """What the two sums of the plain update become where the columns keep unit norm."""
    return (
        numerator + W * (W * denominator).sum(0),
        denominator + W * (W * numerator).sum(0),
    )


def _replace_useless(
    f: Factorization, max_cosine: float, energy: Float64, fixed: NDArray[np.bool_] | None = None
) -> list[int]:
    """Point components of hardly any energy (K,) and duplicates, in place, at the frames with the largest error.

    Those that are `fixed` stay. Returns those that were replaced.
    """
    V, W, H = f.V, f.W, f.H
    stay = np.zeros(len(energy), np.bool_) if fixed is None else fixed
    useless = set(np.flatnonzero((energy < 1e-3 * energy.mean()) & ~stay).tolist())
    for i, j in np.argwhere(np.triu(host(W.T @ W), 1) > max_cosine).tolist():
        if i not in useless and j not in useless and not (stay[i] and stay[j]):
            kept, gone = (i, j) if stay[i] or (energy[i] >= energy[j] and not stay[j]) else (j, i)
            H[:, kept] += H[:, gone]
            useless.add(gone)
    if not useless:
        return []
    block = 4096
    error = np.concatenate(
        [host(((V[t : t + block] - H[t : t + block] @ W.T) ** 2).sum(1)) for t in range(0, len(V), block)]
    )
    # Worst frames far apart from one another, so that the new components differ.
    order = error.argsort()[::-1][:: max(1, len(error) // (50 * len(useless)))]
    for k, frame in zip(sorted(useless), order.tolist(), strict=False):
        residual = (V[frame] - W @ H[frame]).clip(0) + 1e-4
        W[:, k] = residual / _norms(residual)
        H[:, k] = H.mean()
    return sorted(useless)


def activations(
    V: Any,
    W: Any,
    beta_loss: float | str = "frobenius",
    n_iter: int = 50,
    H0: Any = None,
    sparsity: float = 0.0,
    solver: str = "mu",
    lengths: Any = None,
) -> Any:
    """Activations of a fixed dictionary: H that lowers ``D_beta(V | W H) + sparsity * sum(H)``.

    Parameters
    ----------
    V : array (..., F, T)
        Non-negative spectrograms. Frame-major memory, as `stft` returns it, is not copied.
    W : array (F, K)
        The dictionary.
    beta_loss : float or str
        See `learn_dictionary`.
    n_iter : int
        Updates, at least 0.
    H0 : array (..., K, T), optional
        Where to start; by default 1 everywhere. Zeros stay zero.
    sparsity : float
        Weight of the L1 penalty on H.
    solver : {"mu", "hals", "newton"}
        Multiplicative updates; coordinate descent, for "frobenius" only; or Newton steps, of which far fewer are needed
        (see `l2i_fast.nmf.newton`), but whose way, not their end, depends a little on the other frames.
    lengths : array (...), int, optional
        Frames of each clip, where shorter ones are filled up to T: what lies beyond is not looked at, and its
        activations are 0.

    Returns
    -------
    H : array (..., K, T), float32, of V's kind (NumPy or torch)
        Frames are contiguous in memory.

    Raises
    ------
    ValueError
        Negative or non-finite input, shapes that do not fit, n_iter or sparsity below 0.
    """
    beta = beta_of(beta_loss)
    _at_least(0, n_iter=n_iter, sparsity=sparsity)
    if on_device(V, W, H0):
        from l2i_fast.nmf.device import activations as on_gpu

        return on_gpu(V, W, beta, n_iter, H0, sparsity, solver, lengths)
    v, w = to_float32(V, "V"), np.ascontiguousarray(_non_negative(W, "W"))
    lead, (F, T), K = check_fit(v.shape, w.shape), v.shape[-2:], w.shape[1]
    rows, seen = v.swapaxes(-1, -2), _within(lengths, lead, T)
    rows = np.ascontiguousarray(_non_negative(rows if seen is None else rows[seen], "V")).reshape(-1, F)
    rows, peak = _at_safe_scale(rows)
    h = np.ones((*lead, T, K), np.float32)
    if H0 is not None:
        h0 = _non_negative(H0, "H0")
        if h0.shape != (*lead, K, T):
            raise ValueError(f"H0 must have shape {(*lead, K, T)}, got {h0.shape}")
        h[...] = h0.swapaxes(-1, -2) / np.float32(peak)
    used = h.reshape(-1, K) if seen is None else h[seen]
    update_H_only(Factorization(rows, w, used, beta), solver, n_iter, sparsity * peak ** (1 - beta))
    if seen is not None:
        h[...] = 0
        h[seen] = used
    if peak != 1:
        h *= np.float32(peak)
    return like(h.swapaxes(-1, -2), V)


def check_lengths(lengths: Any, lead: tuple[int, ...]) -> None:
    """Refuse lengths, an array or a tensor, that are not whole numbers, one for each clip."""
    if tuple(lengths.shape) != tuple(lead):
        raise ValueError(f"lengths has shape {tuple(lengths.shape)}, but {tuple(lead)} as V's clips is needed")
    if "int" not in str(lengths.dtype):
        raise TypeError(f"lengths has dtype {lengths.dtype}, but integers are needed")


def _within(lengths: Any, lead: tuple[int, ...], n_frames: int) -> NDArray[np.bool_] | None:
    """Which frames (..., T) are within clips of these lengths; None stands for all."""
    if lengths is None:
        return None
    n = np.asarray(host(lengths))
    check_lengths(n, lead)
    if n.size and not 0 <= n.min() <= n.max() <= n_frames:
        raise ValueError(f"lengths holds {n.min()} to {n.max()}, but must lie between 0 and T={n_frames}")
    within: NDArray[np.bool_] = np.arange(n_frames) < n[..., None]
    return within


def check_fit(V: tuple[int, ...], W: tuple[int, ...]) -> tuple[int, ...]:
    """Return the leading dimensions of spectrograms of this shape, or refuse a dictionary that does not fit them."""
    if len(W) != 2 or 0 in W:
        raise ValueError(f"W must be (F, K), got shape {W}")
    if len(V) < 2 or V[-2] != W[0]:
        raise ValueError(f"V must be (..., F, T) with F = {W[0]} as in W, got shape {V}")
    return V[:-2]


def _at_least(low: int, **values: float) -> None:
    for name, value in values.items():
        if not value >= low:
            raise ValueError(f"{name} must be at least {low}, got {value}")


def _non_negative(x: Any, name: str) -> Float32:
    array = to_float32(x, name)
    if not in_range(array, low=0):
        wrong = "it holds NaN or infinity" if not in_range(array) else f"its least value is {array.min():g}"
        raise ValueError(f"{name} must be finite and non-negative, {wrong}")
    return array


def _at_safe_scale(rows: Any) -> tuple[Any, float]:
    """`rows`, divided by their peak where products of float32 would overflow or vanish, and by what."""
    peak = float(rows.max()) if len(rows) else 0.0
    if not peak or _SAFE_PEAKS[0] <= peak <= _SAFE_PEAKS[1]:
        return rows, 1.0
    return rows / peak, peak


def _sounding_frames(clips_or_V: Any) -> Any:
    """Frames (T, F) of a matrix (F, T) or of a sequence of them, silent ones left out."""
    if isinstance(clips_or_V, Sequence):
        if not clips_or_V:
            raise ValueError("learn_dictionary needs at least one spectrogram, got an empty sequence")
        parts = [_frames(v, "each spectrogram") for v in clips_or_V]
        if len({p.shape[1] for p in parts}) > 1:
            raise ValueError(f"spectrograms must agree in F, got {sorted({p.shape[1] for p in parts})}")
        V = namespace(parts[0]).concatenate(parts)
    else:
        V = _frames(clips_or_V, "V")
    # Silence (a tenth of ESC-10) teaches nothing and costs as much as sound.
    sounding = _sounding(V)
    if not sounding.any():
        raise ValueError("V holds no frame that is not silent")
    return V if sounding.all() else V[sounding]


def _sounding(V: Any) -> Any:
    return (V > 0).any(1)


def _frames(x: Any, name: str) -> Any:
    """The frames (T, F) of a spectrogram (F, T), where it is."""
    if x_on_device := on_device(x):
        from l2i_fast.nmf.device import non_negative

        array: Any = non_negative(x, name)
    else:
        array = _non_negative(x, name)
    if array.ndim != 2:
        raise ValueError(f"{name} must have 2 dimensions, got shape {tuple(array.shape)}")
    return array.T.contiguous() if x_on_device else np.ascontiguousarray(array.T)
