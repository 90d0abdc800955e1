"""Front ends: from samples to the input of the audited network."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from l2i_fast.arguments import shown
from l2i_fast.arrays import ArrayT, Float32, is_tensor
from l2i_fast.backends.dispatch import device_of
from l2i_fast.ops.analyze import analyze
from l2i_fast.ops.log_mel import mel_filters
from l2i_fast.settings import Analysis


class FrontEnd(Protocol):
    """Interface of a front end: samples in, the network's input and an invertible spectrum out.

    Streams keep sums of each frame's magnitudes over `filters`, and turn them into features with `of_mel`.
    """

    @property
    def analysis(self) -> Analysis:
        """Rate, frame, hop and the other settings."""

    @property
    def silence(self) -> float:
        """Value of the features where nothing sounds; short inputs are padded with it."""

    @property
    def filters(self) -> Float32:
        """Filters (F, n_mels) that sum the magnitudes of a frame."""

    def analyze(self, y: Float32, device: torch.device) -> tuple[Any, Any, Tensor]:
        """Return spectra X and ``log(1 + |X|)`` (B, F, T), and features (B, 1, T, n_mels), of scaled signals (B, N)."""

    def of_mel(self, mel: ArrayT) -> ArrayT:
        """Return features of filtered magnitudes, of the same shape."""


class LogMel:
    """Mel magnitudes in decibels, ``10 log10(max(amin, |X| @ filters))``, as `l2i_fast.log_mel` has them.

    Parameters
    ----------
    analysis : Analysis
    """

    def __init__(self, analysis: Analysis) -> None:
        if not isinstance(analysis, Analysis):
            raise TypeError(f"analysis is {shown(analysis)}, but an Analysis is needed")
        self.analysis = analysis

    def __repr__(self) -> str:
        return f"LogMel({self.analysis})"

    @property
    def silence(self) -> float:
        """Decibels of silence."""
        return self.analysis.floor_db

    @property
    def filters(self) -> Float32:
        """Mel filters (F, n_mels)."""
        a = self.analysis
        return mel_filters(float(a.sample_rate), a.n_fft, a.n_mels, 0.0, a.sample_rate / 2)

    @cached_property
    def _filters(self) -> Tensor:
        with torch.inference_mode(False):  # kept beyond the caller's mode
            return torch.from_numpy(self.filters.copy())

    def analyze(self, y: Float32, device: torch.device) -> tuple[Any, Any, Tensor]:
        """Compute spectra and features of scaled signals in one pass.

        Parameters
        ----------
        y : ndarray (B, N), float32
        device : torch.device
            Where the operations run.

        Returns
        -------
        X : ndarray or, where a backend for tensors serves, Tensor (B, F, T), complex64
        V : ndarray or Tensor (B, F, T), float32
            ``log(1 + |X|)``.
        features : Tensor (B, 1, T, n_mels), float32
        """
        a = self.analysis
        samples: Any = torch.from_numpy(y).to(device)
        if device_of(samples=samples) is None:  # the native engine takes NumPy arrays
            samples = y
        X, V, M = analyze(samples, a.sample_rate, a.n_mels, a.n_fft, a.hop_length, amin=a.amin)
        return X, V, torch.as_tensor(M.swapaxes(-1, -2)).unsqueeze(1)

    def of_mel(self, mel: ArrayT) -> ArrayT:
        """Return decibels of mel magnitudes, of the same kind and shape; differentiable for tensors."""
        x: Any = mel
        amin = self.analysis.amin
        decibels: Any = (
            10 * torch.log10(x.clamp(min=amin)) if is_tensor(x) else 10 * np.log10(np.maximum(x, np.float32(amin)))
        )
        return decibels  # type: ignore[no-any-return]

    def mel(self, A: Tensor) -> Tensor:
        """Return mel magnitudes (B, T, n_mels), linear in magnitudes `A` (B, T, F)."""
        return A @ self._filters.to(A.device)

    def of_magnitude(self, A: Tensor) -> Tensor:
        """Return features (B, 1, T, n_mels) of magnitudes `A` (B, T, F); differentiable, for training."""
        return self.of_mel(self.mel(A)).unsqueeze(1)
