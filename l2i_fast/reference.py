"""Slow, readable float64 versions of the fast operations, which the tests compare with.

Shapes are the public ones without leading dimensions: spectra (F, T), dictionaries (F, K), activations (K, T).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]
Complex128 = NDArray[np.complex128]


def stft(y: ArrayLike, window: ArrayLike, hop_length: int, center: bool = True) -> Complex128:
    """Return the spectrum (F, T) of samples (N,); the window (n_fft,) gives the frame length."""
    w = np.asarray(window, np.float64)
    samples = np.asarray(y, np.float64)
    if center:
        samples = np.pad(samples, w.size // 2)
    starts = range(0, samples.size - w.size + 1, hop_length)
    return np.stack([np.fft.rfft(w * samples[s : s + w.size]) for s in starts], axis=1)


def istft(X: ArrayLike, window: ArrayLike, hop_length: int, center: bool = True, length: int | None = None) -> Float64:
    """Return the samples (length,) of a spectrum (F, T)."""
    w = np.asarray(window, np.float64)
    spectrum = np.asarray(X, np.complex128)
    pad = w.size // 2 if center else 0
    total = w.size + hop_length * (spectrum.shape[1] - 1)
    if length is None:
        length = total - 2 * pad
    y, squares = np.zeros(max(total, pad + length)), np.zeros(max(total, pad + length))
    for t, column in enumerate(spectrum.T):
        frame = slice(t * hop_length, t * hop_length + w.size)
        y[frame] += w * np.fft.irfft(column, w.size)
        squares[frame] += w**2
    audible = squares > np.finfo(np.float32).tiny
    y[audible] /= squares[audible]
    return y[pad : pad + length]


def log_mel(X: ArrayLike, bands: ArrayLike, amin: float = 1e-10, top_db: float | None = None) -> Float64:
    """Return the mel spectrogram (M, T) in decibels of a spectrum (F, T) for mel filters (M, F)."""
    mel = np.asarray(bands, np.float64) @ np.abs(np.asarray(X, np.complex128))
    decibels = 10 * np.log10(np.maximum(amin, mel))
    return decibels if top_db is None else np.maximum(decibels, decibels.max() - top_db)


def soft_mask(
    X: ArrayLike, W: ArrayLike, H: ArrayLike, weights: ArrayLike, domain: str = "log", eps: float = 1e-6
) -> Complex128:
    """Return the part of a spectrum (F, T) that the components weighted by (K,) explain."""
    spectrum = np.asarray(X, np.complex128)
    spectra, activations = np.asarray(W, np.float64), np.asarray(H, np.float64)
    parts = np.einsum("fk,kt->kft", spectra, activations)
    mask = np.einsum("k,kft->ft", np.asarray(weights, np.float64), parts) / (eps + parts.sum(0))
    gain: Float64 = mask
    if domain == "log":
        magnitude = np.abs(spectrum)
        silent = magnitude == 0
        gain = np.where(silent, mask, np.expm1(mask * np.log1p(magnitude)) / np.where(silent, 1, magnitude))
    masked: Complex128 = gain * spectrum
    return masked


def decode(
    X: ArrayLike,
    W: ArrayLike,
    H: ArrayLike,
    weights: ArrayLike,
    window: ArrayLike,
    hop_length: int,
    domain: str = "log",
    eps: float = 1e-6,
    center: bool = True,
    length: int | None = None,
) -> Float64:
    """Return the audio (length,) of the weighted components."""
    return istft(soft_mask(X, W, H, weights, domain, eps), window, hop_length, center, length)


def beta_divergence(V: ArrayLike, WH: ArrayLike, beta: float) -> float:
    """Return the sum of the beta divergence between V and its model W H (Fevotte and Idier, 2011, equation 3)."""
    v, m = np.asarray(V, np.float64), np.asarray(WH, np.float64)
    if beta == 0:
        return float(np.sum(v / m - np.log(v / m) - 1))
    if beta == 1:
        return float(np.sum(np.where(v > 0, v * np.log(np.where(v > 0, v, 1) / m), 0) - v + m))
    return float(np.sum((v**beta + (beta - 1) * m**beta - beta * v * m ** (beta - 1)) / (beta * (beta - 1))))


def activations(V: ArrayLike, W: ArrayLike, beta: float, n_iter: int, sparsity: float = 0.0) -> Float64:
    """Return the activations (K, T) of V (F, T) after multiplicative updates that start at 1."""
    v, w = np.asarray(V, np.float64), np.asarray(W, np.float64)
    h = np.ones((w.shape[1], v.shape[1]))
    gamma = 1 / (2 - beta) if beta < 1 else 1 / (beta - 1) if beta > 2 else 1.0
    for _ in range(n_iter):
        model = w @ h
        h = h * ((w.T @ (v * model ** (beta - 2))) / (w.T @ model ** (beta - 1) + sparsity)) ** gamma
    return h
