"""Theta: from activations over time to the interpreter's own logits, linear in one number for each component."""

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
        """Return pooled activations z (B, K) and logits (B, C) of activations `H` (B, K, T)."""
        z = self.pool(H, self.scores(H))
        return z, self.out(z)

    def scores(self, H: Tensor) -> Tensor:
        """Return the scores (B, T), whose softmax over time weighs the frames, of activations `H` (B, K, T)."""
        h = self.dropout(H.transpose(1, 2))
        scores: Tensor = self.w(torch.tanh(self.P(h)) * torch.relu(self.Q(h))).squeeze(2)
        return scores

    def pool(self, H: Tensor, scores: Tensor) -> Tensor:
        """Return pooled activations z (B, K) of activations `H` (B, K, T) and their `scores` (B, T)."""
        return (H @ scores.softmax(dim=1)[..., None]).squeeze(2)


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
        """Return pooled activations z (B, K) and logits (B, C) of activations `H` (B, K, T)."""
        z = self.pool(H)
        return z, self.out(self.dropout(z))

    def pool(self, H: Tensor) -> Tensor:
        """Return pooled activations z (B, K) of activations `H` (B, K, T)."""
        return H.amax(dim=2)
