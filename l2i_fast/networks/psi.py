"""Psi: from the classifier's hidden maps to the activations of the dictionary over time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def up(x: Tensor) -> Tensor:
    """Double the time axis (the last one) of `x` (B, C, rows, columns): bilinear, corners aligned."""
    return F.interpolate(x, size=(x.shape[2], 2 * x.shape[3]), mode="bilinear", align_corners=True)


class Psi(nn.Module):
    """The interpreter network of Parekh et al. (NeurIPS 2022).

    Reads three maps of the classifier, the later ones coarser by 2 in time and frequency each, and answers with
    non-negative activations of K components. Works for any number of frames; at 431 and 862 frames it is the
    fixed-length network of the paper.

    Parameters
    ----------
    hidden_channels : three ints
        Channels of the maps c4, c5 and c6 (128, 256, 512 in the paper).
    n_components : int
        K.
    rows : int
        Frequency rows of c4; c5 has half of them and c6 a quarter. 16 for 128 mel bands.
    width : float
        Factor on the channels inside; 1 is the paper's network.
    """

    def __init__(self, hidden_channels: Sequence[int], n_components: int, rows: int = 16, width: float = 1.0) -> None:
        super().__init__()
        c4, c5, c6 = hidden_channels
        narrow, wide = max(8, round(128 * width)), max(8, round(256 * width))
        self.a = nn.Conv2d(c5, wide, 3, padding=1)
        self.b = nn.Conv2d(c6, narrow, 3, padding=1)
        self.c = nn.Conv2d(c4, narrow, (4, 1), stride=(4, 1))
        self.merge = nn.Conv2d(wide + 2 * narrow, wide, 3, padding=1)
        self.fold = nn.Conv2d(wide, wide, (rows // 4, 1))
        self.first = nn.Conv1d(wide, n_components, 5, padding=2)
        self.second = nn.Conv1d(n_components, n_components, 5, padding=2)

    def forward(self, maps: Sequence[Tensor], n_frames: int) -> Tensor:
        """Activations H (B, K, T) from the maps c4, c5, c6, each (B, channels, time, frequency); T = `n_frames`."""
        c4, c5, c6 = (m.transpose(2, 3) for m in maps)
        n = c6.shape[3]
        a = torch.relu(self.a(up(c5[..., : 2 * n])))
        a = F.avg_pool2d(a, (2, 1))
        b = up(torch.relu(self.b(up(c6))))
        c = torch.relu(self.c(c4[..., : 4 * n]))
        x = up(torch.relu(self.merge(up(torch.cat((a, b, c), dim=1)))))
        x = torch.relu(self.fold(x)).squeeze(2)
        x = F.interpolate(x, size=n_frames, mode="linear", align_corners=True)
        return torch.relu(self.second(torch.relu(self.first(x))))
