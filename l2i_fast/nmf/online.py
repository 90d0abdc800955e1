"""Sparse dictionaries learnt from blocks of frames, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from l2i_fast.arguments import function_or_none, generator_of, integer, is_several, number, shown
from l2i_fast.arrays import Float64, double, is_tensor, like, namespace, placed
from l2i_fast.backends.threads import one_blas_thread
from l2i_fast.defaults import default_settings
from l2i_fast.nmf.checks import at_safe_scale, frames_of
from l2i_fast.nmf.components import (
    EPS,
    LOWEST_PEAK,
    energy_of,
    initial,
    keep_unused,
    norms,
    power,
    replace_useless,
    unit_column_sums,
    vanished,
    warn_of_vanishing,
)
from l2i_fast.nmf.factorize import Factorization, beta_of


@default_settings()
@one_blas_thread()
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
    """Learn a sparse dictionary from blocks of frames, one after another, for archives larger than memory.

    The model is that of `learn_dictionary`. Only the sums that the update of W needs are kept of earlier blocks, and
    each new block multiplies their weight by `forget` (A. Lefevre, F. Bach and C. Fevotte, "Online algorithms for
    nonnegative matrix factorization with the Itakura-Saito divergence", WASPAA 2011).

    Parameters
    ----------
    blocks : iterable of arrays (F, T_i)
        Non-negative spectrograms, each in memory only while in use; blocks of a few thousand frames from shuffled
        clips work well. Silent frames are left out, silent blocks skipped; at the beginning also blocks so quiet that
        `sparsity` leaves them no activations. If `n_epochs` is above 1, a list or another iterable that can be iterated
        again.
    n_components, beta_loss, sparsity, random_state, max_cosine
        See `learn_dictionary`; useless components are replaced during the first three quarters of the epochs.
    n_epochs : int
        Number of passes over the blocks.
    n_updates : int
        Updates of H and W on each block.
    forget : float
        Factor, from 0 to below 1, on the weight of earlier blocks at each new one.
    callback : callable, optional
        Called as ``callback(epoch, n_blocks)`` after each block with the epoch, from 1 on, and the number of blocks
        of that epoch so far.

    Returns
    -------
    W : array (F, K), float32
        In the library of the blocks, NumPy or torch.

    Raises
    ------
    ValueError
        For negative, non-finite or only silent input, blocks that differ in F, parameters out of range.

    Warns
    -----
    RuntimeWarning
        If `sparsity` is too large to learn from the blocks: see `learn_dictionary`.
    """
    n_components, n_epochs = integer(n_components, "n_components"), integer(n_epochs, "n_epochs")
    n_updates, max_cosine = integer(n_updates, "n_updates"), number(max_cosine, "max_cosine", 0, 1)
    sparsity, forget = number(sparsity, "sparsity", 0), number(forget, "forget", 0)
    function_or_none(callback, "callback")
    if forget >= 1:
        raise ValueError(f"forget is {forget}, but must be below 1")
    if not is_several(blocks):
        raise TypeError(f"blocks is {shown(blocks)}, but must be an iterable of spectrograms")
    if n_epochs > 1 and isinstance(blocks, Iterator):
        raise ValueError("blocks is an iterator, which ends after one epoch, but n_epochs is above 1: pass a list")
    beta = beta_of(beta_loss)
    rng = generator_of(random_state, "random_state")
    W: Any = None
    kind: Any = None
    learnt = False
    past, energy = np.zeros((2, 0, 0)), np.zeros(n_components)
    for epoch in range(1, n_epochs + 1):
        for n_blocks, block in enumerate(blocks, 1):
            V = frames_of(block, "each block")
            V = V[(V > 0).any(1)]
            if len(V):
                if W is not None and V.shape[1] != len(W):
                    raise ValueError(f"each block has {V.shape[1]} bins, but {len(W)} as in the first is needed")
                V, peak = at_safe_scale(V, LOWEST_PEAK)
                if learnt:
                    start = float(V.mean()) / max(float(W.mean()) * n_components, EPS)
                    H = placed(np.full((len(V), n_components), start, np.float32), V)
                else:
                    W, H = initial(V, n_components, rng)
                    past, kind = placed(np.zeros((2, *W.shape)), V), block
                f = Factorization(V, W, H, beta)
                l1, scale = sparsity * power(peak, 1 - beta), power(peak, beta)
                f.update_H(n_updates, l1=l1)
                present = energy_of(H)
                learnt = learnt or not vanished(f, present)
                if learnt:
                    past, energy = forget * past, forget * energy + present * peak
                    if epoch <= max(1, 0.75 * n_epochs):
                        replaced = replace_useless(f, max_cosine, energy)
                        past[..., replaced] = 0
                        energy[replaced] = energy.mean()
                    past = _learn_block(f, l1, n_updates, past / scale) * scale
            if callback is not None:
                callback(epoch, n_blocks)
    if W is None:
        raise ValueError("blocks is silent, but at least one frame with sound is needed")
    if not learnt:
        warn_of_vanishing(sparsity)
    return W if is_tensor(W) else like(W, kind)


def _learn_block(f: Factorization, l1: float, n_updates: int, past: Float64) -> Float64:
    """Update W in place from a block and the sums of earlier ones; return the sums of all."""
    present = past
    for _ in range(n_updates):
        f.update_H_and_gather(2, l1=l1)
        W = double(f.W)
        grow, shrink = unit_column_sums(W, f.numerator, f.full_denominator())
        # The quotient of these two is W after the update, so the sums of blocks can be added.
        present = past + namespace(W).stack((W * grow, shrink))
        updated = keep_unused(W, present[0] / (present[1] + EPS), present[1])
        norm = norms(updated)
        f.W[...] = updated / norm
    present[0] /= norm
    return present
