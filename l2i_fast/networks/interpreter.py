"""The interpreter: Psi, Theta and the frozen dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from l2i_fast.arguments import integer, number, one_of, shown
from l2i_fast.networks.general_psi import GeneralPsi
from l2i_fast.networks.psi import Psi
from l2i_fast.networks.theta import ThetaAttention, ThetaMax

#: Share of W' V that is added to Psi's activations before they are fitted to V.
UNEXPLAINED = 0.02
_TINY = 1e-20

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
        See `Psi`; a list of rows, one for each map, makes a `GeneralPsi`, which has no `streamable`.
    updates : int
        Multiplicative updates that fit Psi's activations to the spectrogram before they are decoded: see `fit`.
    dropout : float, optional
        See `ThetaAttention` and `ThetaMax`, whose defaults apply where it is None.
    """

    def __init__(
        self,
        dictionary: Tensor,
        n_classes: int,
        hidden_channels: Sequence[int],
        theta: str = "attention",
        rows: int | Sequence[int] = 16,
        width: float = 1.0,
        dropout: float | None = None,
        streamable: bool = False,
        updates: int = 0,
    ) -> None:
        super().__init__()
        _check_dictionary(dictionary)
        one_of(theta, "theta", sorted(THETAS))
        n_classes = integer(n_classes, "n_classes")
        if dropout is not None:
            dropout = number(dropout, "dropout", 0, 1)
        n_components = dictionary.shape[1]
        self.psi: Psi | GeneralPsi
        if isinstance(rows, Sequence):
            self.psi = GeneralPsi(hidden_channels, n_components, rows, width)
        else:
            self.psi = Psi(hidden_channels, n_components, rows, width, streamable)
        #: The arguments, except the dictionary, that build this interpreter again.
        self.config: dict[str, Any] = {
            "n_classes": n_classes,
            "hidden_channels": list(self.psi.channels),
            "theta": theta,
            "rows": list(self.psi.rows) if isinstance(self.psi, GeneralPsi) else rows,
            "width": width,
            "dropout": dropout,
            "streamable": streamable,
            "updates": updates,
        }
        self.updates = integer(updates, "updates", 0)
        self.dictionary = nn.Parameter(dictionary, requires_grad=False)
        options = {} if dropout is None else {"dropout": dropout}
        self.theta = THETAS[theta](n_components, n_classes, **options)
        self.float()  # whatever the default dtype is

    def forward(self, maps: Sequence[Tensor], n_frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return activations H (B, K, T), pooled activations z (B, K) and logits (B, C); T is `n_frames`."""
        H = self.psi(maps, n_frames)
        z, logits = self.theta(H)
        return H, z, logits

    def fit(self, H: Tensor, V: Tensor) -> Tensor:
        """Fit Psi's activations `H` (B, K, T) to the log magnitude `V` (B, F, T): those that are decoded.

        `updates` multiplicative updates ``H <- H (W' V) / (W' W H)`` (Euclidean loss; Lee and Seung, 2001) from
        ``H + 0.02 W' V``. Psi sees a few frames at once; the updates bring the spectrogram's own resolution, and let
        components that the classifier does not use claim what Psi leaves unexplained. Differentiable; a model decodes
        with `l2i_fast.activations`, which computes the same.
        """
        if not self.updates:
            return H
        W = self.dictionary
        numerator, gram = V.transpose(1, 2) @ W, W.T @ W
        h = H.transpose(1, 2) + UNEXPLAINED * numerator
        for _ in range(self.updates):
            # Numbers that are not normal would take a hundred times as long.
            h = (h * numerator / (h @ gram).clamp(min=_TINY)).clamp(min=_TINY)
        return h.transpose(1, 2)

    def relevance(self, z: Tensor, target: Tensor, least: float = torch.finfo(torch.float32).tiny) -> Tensor:
        """Return relevances r (B, K) of the components for classes `target` (B,), from pooled activations `z` (B, K).

        ``r_k = z_k theta_ck / max_j (z_j theta_cj)``: 1 for the most relevant component; all zero where no product is
        positive, which means that nothing supports the class (Parekh et al., section 3.3). The largest product counts
        as `least` at least.
        """
        product = z * self.theta.out.weight[target]
        largest = product.amax(dim=1, keepdim=True)
        return torch.where(largest > 0, product / largest.clamp(min=least), 0.0)


def _check_dictionary(dictionary: Tensor) -> None:
    if not isinstance(dictionary, Tensor):
        raise TypeError(f"dictionary is {shown(dictionary)}, but a tensor (F, K) is needed")
    if not dictionary.is_floating_point():
        raise TypeError(f"dictionary has dtype {dictionary.dtype}, but floating numbers are needed")
    if dictionary.ndim != 2 or 0 in dictionary.shape:
        raise ValueError(f"dictionary has shape {tuple(dictionary.shape)}, but (F, K) is needed")
    if not bool(((dictionary >= 0) & (dictionary < torch.inf)).all()):
        raise ValueError("dictionary holds negative numbers, NaN or infinity, but must be non-negative and finite")
