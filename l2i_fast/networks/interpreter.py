"""The interpreter: Psi, Theta and the frozen dictionary."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from l2i_fast.networks.psi import Psi
from l2i_fast.networks.theta import ThetaAttention, ThetaMax

THETAS = {"attention": ThetaAttention, "max": ThetaMax}


class Interpreter(nn.Module):
    """Reads hidden maps of a classifier; returns activations of the dictionary and logits of its own.

    Parameters
    ----------
    dictionary : Tensor (F, K)
        Non-negative spectral components with unit-norm columns. Frozen.
    n_classes : int
        C.
    hidden_channels : sequence of int
        Channels of the maps that Psi reads.
    theta : {"attention", "max"}
        How activations are pooled over time.
    rows, width, streamable
        See `Psi`.
    dropout : float, optional
        See `ThetaAttention` and `ThetaMax`, whose defaults apply where it is None.
    """

    def __init__(
        self,
        dictionary: Tensor,
        n_classes: int,
        hidden_channels: Sequence[int],
        theta: str = "attention",
        rows: int = 16,
        width: float = 1.0,
        dropout: float | None = None,
        streamable: bool = False,
    ) -> None:
        super().__init__()
        if theta not in THETAS:
            raise ValueError(f"theta is {theta!r}, but must be one of {', '.join(sorted(THETAS))}")
        #: The arguments, except the dictionary, that build this interpreter again.
        self.config = {
            "n_classes": n_classes,
            "hidden_channels": list(hidden_channels),
            "theta": theta,
            "rows": rows,
            "width": width,
            "dropout": dropout,
            "streamable": streamable,
        }
        n_components = dictionary.shape[1]
        self.dictionary = nn.Parameter(dictionary, requires_grad=False)
        self.psi = Psi(hidden_channels, n_components, rows, width, streamable)
        options = {} if dropout is None else {"dropout": dropout}
        self.theta = THETAS[theta](n_components, n_classes, **options)
        self.float()  # whatever the default dtype is

    def forward(self, maps: Sequence[Tensor], n_frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return activations H (B, K, T), pooled activations z (B, K) and logits (B, C); T is `n_frames`."""
        H = self.psi(maps, n_frames)
        z, logits = self.theta(H)
        return H, z, logits

    def relevance(self, z: Tensor, target: Tensor) -> Tensor:
        """Return relevances r (B, K) of the components for classes `target` (B,), from pooled activations `z` (B, K).

        ``r_k = z_k theta_ck / max_j (z_j theta_cj)``: 1 for the most relevant component; all zero where no product is
        positive, which means that nothing supports the class (Parekh et al., section 3.3).
        """
        product = z * self.theta.out.weight[target]
        largest = product.amax(dim=1, keepdim=True)
        return torch.where(largest > 0, product / largest.clamp(min=torch.finfo(z.dtype).tiny), 0.0)
