"""Log-mel features of magnitudes as a differentiable torch module, for training through a mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from l2i_fast.ops.log_mel import mel_filters
from l2i_fast.settings import Analysis


class LogMel(nn.Module):
    """``10 log10(max(mel(A), amin))`` of frame-major magnitudes; equals `l2i_fast.log_mel`."""

    filters: Tensor

    def __init__(self, analysis: Analysis) -> None:
        super().__init__()
        self.amin = analysis.amin
        bands = mel_filters(analysis.sample_rate, analysis.n_fft, analysis.n_mels, 0.0, None)
        self.register_buffer("filters", torch.from_numpy(bands.copy()), persistent=False)

    def forward(self, A: Tensor) -> Tensor:
        """Features (B, 1, T, n_mels) in dB of magnitudes `A` (B, T, F)."""
        return self.decibels(self.mel(A))

    def mel(self, A: Tensor) -> Tensor:
        """Mel magnitudes (B, T, n_mels), linear in `A` (B, T, F)."""
        return A @ self.filters

    def decibels(self, mel: Tensor) -> Tensor:
        """Features (B, 1, T, n_mels) in dB of mel magnitudes (B, T, n_mels)."""
        return (10 * torch.log10(mel.clamp(min=self.amin))).unsqueeze(1)
