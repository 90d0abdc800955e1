"""Psi for the hidden maps of any network: of any number, any channels, and any steps in time and frequency."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2i_fast.arguments import integer, is_several, number, shown

#: Rows of a map that are told apart; finer ones are averaged.
ROWS = 8
#: Least deviation of a channel and row, relative to that of its map, and the farthest that a standardised value goes.
_LEAST, _FARTHEST = 0.1, 10.0


class GeneralPsi(nn.Module):
    """From hidden maps of any network to non-negative activations of K components.

    Each map is standardised and projected column by column, all are brought to the columns of the finest one, joined,
    interpolated to the frames of the spectrogram, and read by two convolutions over time, as in the paper's network
    (Parekh et al., NeurIPS 2022). The columns of a map divide the signal's duration evenly.

    Parameters
    ----------
    hidden_channels : sequence of int
        Channels of each map.
    n_components : int
        K.
    rows : sequence of int
        Frequency rows of each map; averaged to 8 if it has more.
    width : float
        Factor on the channels inside; 1 is 256.

    Attributes
    ----------
    mean, std : Tensor (n,)
        Of each channel and row of all maps, one map after another; see `standardize`.
    """

    #: A stream cannot continue from its state: see `Psi`.
    streamable = False

    def __init__(
        self, hidden_channels: Sequence[int], n_components: int, rows: Sequence[int], width: float = 1.0
    ) -> None:
        super().__init__()
        self.channels, self.rows = _several(hidden_channels, "hidden_channels"), _several(rows, "rows")
        if len(self.rows) != len(self.channels):
            n, needed = len(self.rows), len(self.channels)
            raise ValueError(f"rows has length {n}, but one number for each of {needed} maps is needed")
        inside = max(8, round(256 * number(width, "width", 0.01, 4)))
        sizes = [c * min(r, ROWS) for c, r in zip(self.channels, self.rows, strict=True)]
        self.register_buffer("mean", torch.zeros(sum(sizes)))
        self.register_buffer("std", torch.ones(sum(sizes)))
        self.reads = nn.ModuleList(nn.Conv1d(size, inside, 1) for size in sizes)
        self.merge = nn.Conv1d(inside * len(sizes), inside, 3, padding=1)
        self.first = nn.Conv1d(inside, n_components, 5, padding=2)
        self.second = nn.Conv1d(n_components, n_components, 5, padding=2)

    def forward(self, maps: Sequence[Tensor], n_frames: int) -> Tensor:
        """Return activations H (B, K, T) for maps, each (B, channels, time, frequency); T = `n_frames`."""
        finest = max(x.shape[2] for x in maps)
        parts = []
        for x, read in zip(self.standardized(maps), self.reads, strict=True):
            part = torch.relu(read(x))
            parts.append(part if part.shape[2] == finest else _resized(part, finest))
        joined = torch.relu(self.merge(torch.cat(parts, dim=1)))
        H: Tensor = torch.relu(self.second(torch.relu(self.first(_resized(joined, n_frames)))))
        return H

    def columns(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the columns (B, channels * rows, time) of maps (B, channels, time, frequency), as they are read."""
        if len(maps) != len(self.channels):
            raise ValueError(f"maps has length {len(maps)}, but one for each of {len(self.channels)} maps is needed")
        found = []
        for i, (x, c, r) in enumerate(zip(maps, self.channels, self.rows, strict=True)):
            if (x.shape[1], x.shape[3]) != (c, r):
                raise ValueError(f"maps[{i}] has shape {tuple(x.shape)}, but ({len(x)}, {c}, time, {r}) is needed")
            if r > ROWS:
                x = F.adaptive_avg_pool2d(x, (x.shape[2], ROWS))
            found.append(x.transpose(2, 3).flatten(1, 2))
        return found

    def standardized(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the columns of maps with mean 0 and deviation 1, as far as `standardize` has seen such maps."""
        columns = self.columns(maps)
        sizes = [x.shape[1] for x in columns]
        means, stds = self.mean.split(sizes), self.std.split(sizes)  # type: ignore[operator]
        return [
            ((x - m[:, None]) / s[:, None]).clamp(-_FARTHEST, _FARTHEST)
            for x, m, s in zip(columns, means, stds, strict=True)
        ]

    @torch.no_grad()
    def standardize(self, batches: Sequence[Sequence[Tensor]]) -> None:
        """Set mean and deviation to those of the columns of some batches of maps.

        What hardly varies there, as a ReLU that hardly ever opens, is enlarged at most ten times more than its map.
        """
        total = squares = torch.zeros(len(self.mean), dtype=torch.float64)  # type: ignore[arg-type]
        n = 0
        for maps in batches:
            columns = self.columns(maps)
            total = total + torch.cat([x.double().mean((0, 2)) for x in columns]) * len(columns[0])
            squares = squares + torch.cat([x.double().square().mean((0, 2)) for x in columns]) * len(columns[0])
            n += len(columns[0])
        mean = total / n
        std = (squares / n - mean.square()).clamp(min=0).sqrt()
        self.mean.copy_(mean)  # type: ignore[operator]
        sizes = [x.shape[1] for x in self.columns(batches[0])]
        least = torch.cat([_LEAST * part.square().mean().sqrt().expand(len(part)) for part in std.split(sizes)])
        self.std.copy_(torch.where(least > 0, std.maximum(least), 1.0))  # type: ignore[operator]


def _resized(x: Tensor, n: int) -> Tensor:
    """Return columns (B, channels, n) of columns `x`, interpolated linearly."""
    return F.interpolate(x, size=n, mode="linear", align_corners=False)


def _several(values: Sequence[int], name: str) -> tuple[int, ...]:
    if not is_several(values) or not values:
        raise TypeError(f"{name} is {shown(values)}, but must be a list of integers")
    return tuple(integer(value, f"{name}[{i}]") for i, value in enumerate(values))
