"""Theta: from activations over time to the interpreter's own logits, linear in one number a component."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ThetaAttention(nn.Module):
    """Pools with attention over time, then a linear layer without bias (Theta-ATT).

    The weight of frame t is the softmax over time of ``w . (tanh(P h_t) * relu(Q h_t))``.

    Parameters
    ----------
    n_components, n_classes : int
        K and C.
    units : int
        Rows of P and Q.
    dropout : float
        Dropout on the input of the attention only: 0.4 for one label, 0 for several in the paper.
    """

    def __init__(self, n_components: int, n_classes: int, units: int = 256, dropout: float = 0.4) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.P = nn.Linear(n_components, units)
        self.Q = nn.Linear(n_components, units)
        self.w = nn.Linear(units, 1)
        self.out = nn.Linear(n_components, n_classes, bias=False)

    def forward(self, H: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled activations z (B, K) and logits (B, C) of activations `H` (B, K, T)."""
        h = self.dropout(H.transpose(1, 2))
        attention = self.w(torch.tanh(self.P(h)) * torch.relu(self.Q(h))).softmax(dim=1)
        z = (H @ attention).squeeze(2)
        return z, self.out(z)


class ThetaMax(nn.Module):
    """Takes the maximum over time, then a linear layer without bias (Theta-MAX).

    Parameters
    ----------
    n_components, n_classes : int
        K and C.
    dropout : float
        Dropout on the input of the linear layer.
    """

    def __init__(self, n_components: int, n_classes: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(n_components, n_classes, bias=False)

    def forward(self, H: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled activations z (B, K) and logits (B, C) of activations `H` (B, K, T)."""
        z = H.amax(dim=2)
        return z, self.out(self.dropout(z))
