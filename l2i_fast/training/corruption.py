"""Corruptions of the clips that networks learn from: noise and other clips, added to the sound itself."""

from __future__ import annotations

import torch
from torch import Tensor

from l2i_fast.ops.stft import stft
from l2i_fast.settings import Analysis
from l2i_fast.training.config import DictionaryConfig, InterpreterConfig
from l2i_fast.training.features import Features

#: Steepest fall of coloured noise, in powers of the frequency: brown noise.
_STEEPEST = 2.0


def corrupted(
    features: Features, batch: Tensor, c: DictionaryConfig | InterpreterConfig, analysis: Analysis
) -> tuple[Tensor, Tensor]:
    """Return magnitudes |X| (B, T, F) of some clips, mixed and noisy, as configured, and the same without the noise."""
    if not (c.mixing or c.noise):
        A = features.magnitude(batch)
        return A, A
    y = add_clips(features.sound(batch), c.mixing, c.mixing_db)
    noisy = add_noise(y, c.noise, c.snr_db)
    A = magnitudes(noisy, analysis)
    changed = (noisy != y).any(1)
    quiet = A.clone()
    if changed.any():
        quiet[changed] = magnitudes(y[changed], analysis, peaks_of=noisy[changed])
    return A, quiet


def roll_each(x: Tensor) -> Tensor:
    """Rotate every item of `x` (B, T, ...) by a random time of its own."""
    n = x.shape[1]
    return torch.stack([one.roll(int(torch.randint(n, ())), 0) for one in x])


def add_noise(y: Tensor, share: float, snr_db: tuple[float, float]) -> Tensor:
    """Add noise to a share of the clips `y` (B, N), at random signal-to-noise ratios.

    Half of the noise is white, the power of the other half falls as the frequency to the power of 0 to -2.
    """
    noise = torch.randn(y.shape, dtype=torch.float32)
    slope = _STEEPEST * torch.rand(len(y), dtype=torch.float32) * (torch.rand(len(y)) < 0.5)
    coloured = slope.nonzero()[:, 0]
    if len(coloured):
        spectrum = torch.fft.rfft(noise[coloured])
        frequency = torch.arange(spectrum.shape[1], dtype=torch.float32).clamp(min=1)
        gain = frequency ** (-slope[coloured, None] / 2)
        gain[:, 0] = 0
        noise[coloured] = torch.fft.irfft(spectrum * gain, y.shape[1])
    return y + _level(y, noise, -_uniform(len(y), snr_db)) * _chosen(len(y), share) * noise


def add_clips(y: Tensor, share: float, level_db: tuple[float, float]) -> Tensor:
    """Add another of the clips `y` (B, N) to a share of them, at random levels relative to the clip."""
    other = y[torch.randperm(len(y))]
    return y + _level(y, other, _uniform(len(y), level_db)) * _chosen(len(y), share) * other


def magnitudes(y: Tensor, analysis: Analysis, peaks_of: Tensor | None = None) -> Tensor:
    """Return |X| (B, T, F) of clips `y` (B, N), scaled to their peaks, or those of others, as the front end does it."""
    heard = y if peaks_of is None else peaks_of
    peak = heard.abs().amax(1, keepdim=True)
    if analysis.peak == "signed":
        highest = heard.amax(1, keepdim=True)
        peak = torch.where(highest > 1e-6 * peak, highest, peak)
    scaled = y / torch.where(peak > 0, peak, 1)
    X = stft(scaled, n_fft=analysis.n_fft, hop_length=analysis.hop_length)
    re, im = X.real, X.imag  # abs() of complex numbers takes nine times as long
    return torch.addcmul(re.square(), im, im).sqrt().transpose(1, 2)


def _uniform(n: int, between: tuple[float, float]) -> Tensor:
    low, high = between
    return low + (high - low) * torch.rand(n, 1, dtype=torch.float32)


def _chosen(n: int, share: float) -> Tensor:
    return (torch.rand(n, 1, dtype=torch.float32) < share).float()


def _level(y: Tensor, added: Tensor, level_db: Tensor) -> Tensor:
    """Return the factors (B, 1) that bring `added` to levels relative to `y`; 0 where either is silent."""
    ours, theirs = (x.square().mean(1, keepdim=True).sqrt() for x in (y, added))
    return torch.where(theirs > 0, ours / theirs.clamp(min=1e-30) * 10 ** (level_db / 20), 0.0)
