"""Operations and bytes that any implementation of an operation takes.

A multiply-add counts as two operations, a logarithm or an exponential as `ELEMENTARY`, a quotient or a root as one.
The bytes are those of each input and output, once. T, F, K are numbers of frames, bins and components.
"""

from __future__ import annotations

import math

from l2i_fast.bench.problem import Problem

ELEMENTARY = 20
N_MELS = 128

#: Operations and bytes.
Work = tuple[float, float]


def fft_flops(n: int) -> float:
    """Operations of a real FFT of n points and of the window."""
    return 2.5 * n * math.log2(n) + n


def stft(p: Problem) -> Work:
    """The spectrum of samples."""
    T, F, _, _ = p.dims
    return T * fft_flops(p.n_fft), 4 * p.y.size + 8 * T * F


def istft(p: Problem) -> Work:
    """Samples from a spectrum."""
    flops, moved = stft(p)
    return flops + p.dims[0] * p.n_fft, moved


def log_mel(p: Problem, n_weights: int) -> Work:
    """Mel decibels of a spectrum, by filters with `n_weights` non-zero weights."""
    T, F, _, _ = p.dims
    return T * (4 * F + 2 * n_weights + ELEMENTARY * N_MELS), 8 * T * F + 4 * T * N_MELS


def analyze(p: Problem, n_weights: int) -> Work:
    """The spectrum of samples, its log magnitudes and mel decibels."""
    T, F, _, _ = p.dims
    spectrum, mel = stft(p), log_mel(p, n_weights)
    return spectrum[0] + mel[0] + T * ELEMENTARY * F, spectrum[1] + 4 * T * F + 4 * T * N_MELS


def soft_mask(p: Problem) -> Work:
    """Both products, magnitude, quotients, log1p, expm1, and the gain on both parts."""
    T, F, K, selected = p.dims
    return T * F * (2 * (K + selected) + 2 * ELEMENTARY + 10), 16 * T * F + 4 * K * (T + F)


def soft_mask_gradient(p: Problem) -> Work:
    """The mask again, and gradients of the activations and the weights."""
    T, F, K, _ = p.dims
    flops, moved = soft_mask(p)
    return 2 * flops + 4 * T * F * K, moved + 4 * K * (T + F)


def decode(p: Problem) -> Work:
    """Samples from the masked spectrum."""
    T, F, _, _ = p.dims
    mask, inverse = soft_mask(p), istft(p)
    return mask[0] + inverse[0], mask[1] - 8 * T * F + 4 * p.y.size


def nmf(T: int, F: int, K: int, beta: float) -> Work:
    """One multiplicative update of H and of W, for beta 2, 1 or 0.

    The products with V for all losses; then W H twice, or W'W and H'H and their products, which are small; for beta 0
    the denominators are products, too.
    """
    products = 4 * T * F * K * {2.0: 1, 1.0: 2, 0.0: 3}[beta]
    rest = 4 * K * K * (T + F) if beta == 2 else 2 * T * F * (2 if beta == 0 else 1)
    return products + rest, 4 * T * F + 8 * K * (T + F)


def activations(T: int, F: int, K: int, beta: float, n: int) -> Work:
    """Updates of the activations of a fixed dictionary, for beta 2 or 1."""
    flops = 2 * T * F * K + (2 * F + n * 2 * T) * K * K if beta == 2 else n * T * F * (4 * K + 1)
    return flops, 4 * T * F + 4 * K * (T + F)


def hop_flops(p: Problem, n_updates: int) -> float:
    """Operations of a hop of one stream, with updates of its activations or, for 0, with given ones."""
    T, F, K, _ = p.dims
    updates = 2 * K * (F + n_updates * K) if n_updates else 0
    return decode(p)[0] / T + fft_flops(p.n_fft) + updates
