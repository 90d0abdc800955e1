"""Psi: from the classifier's hidden maps to the activations of the dictionary over time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2i_fast.arguments import flag, integer, number, shown
from l2i_fast.networks.convolution import Conv1d, Conv2d


class Psi(nn.Module):
    """The interpreter network of Parekh et al. (NeurIPS 2022).

    Reads three maps of the classifier, each coarser by 2 in time and frequency than the one before, and returns
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
    streamable : bool
        Interpolate on the fixed grid of the classifier's poolings, 32 frames a column of c6, for any length of the
        clip; up to 31 frames behind the last column repeat it. The activations of a frame then depend on its
        surroundings only, so that a stream can continue from its state. False is the paper's network: the first and the
        last column are stretched to the ends of the clip.
    """

    def __init__(
        self,
        hidden_channels: Sequence[int],
        n_components: int,
        rows: int = 16,
        width: float = 1.0,
        streamable: bool = False,
    ) -> None:
        super().__init__()
        self.streamable, self.rows = flag(streamable, "streamable"), integer(rows, "rows", 4)
        if rows % 4:
            raise ValueError(f"rows is {rows}, but must be a multiple of 4")
        c4, c5, c6 = self.channels = channels_of(hidden_channels)
        width = number(width, "width", 0.01, 4)
        narrow, wide = max(8, round(128 * width)), max(8, round(256 * width))
        self.a = Conv2d(c5, wide, 3, padding=1)
        self.b = Conv2d(c6, narrow, 3, padding=1)
        self.c = Conv2d(c4, narrow, (4, 1), stride=(4, 1))
        self.merge = Conv2d(wide + 2 * narrow, wide, 3, padding=1)
        self.fold = Conv2d(wide, wide, (rows // 4, 1))
        self.first = Conv1d(wide, n_components, 5, padding=2)
        self.second = Conv1d(n_components, n_components, 5, padding=2)

    def forward(self, maps: Sequence[Tensor], n_frames: int) -> Tensor:
        """Return activations H (B, K, T) for maps c4, c5, c6, each (B, channels, time, frequency); T = `n_frames`."""
        _check_maps(maps, self.channels, self.rows)
        c4, c5, c6 = (m.transpose(2, 3).contiguous(memory_format=torch.channels_last) for m in maps)
        n = c6.shape[3]
        branches = (self.branch5(c5[..., : 2 * n]), self.branch6(c6), self.branch4(c4[..., : 4 * n]))
        return self.to_frames(self.join(torch.cat(branches, dim=1)), n_frames)

    # The parts of `forward`, which l2i_fast.networks.incremental uses, too. All maps are (B, channels, frequency,
    # time); times are in columns N of c6.

    def branch5(self, c5: Tensor) -> Tensor:
        """From c5, 2 N columns, to 4 N columns of a quarter of c4's rows."""
        return F.avg_pool2d(torch.relu(self.a(self._up(c5))), (2, 1))

    def branch6(self, c6: Tensor) -> Tensor:
        """From c6, N columns, to 4 N columns."""
        return self._up(torch.relu(self.b(self._up(c6))))

    def branch4(self, c4: Tensor) -> Tensor:
        """From c4, 4 N columns, to as many."""
        return torch.relu(self.c(c4))

    def join(self, x: Tensor) -> Tensor:
        """From the three branches, stacked, 4 N columns, to 8 N columns of one row."""
        folded: Tensor = self.fold(torch.relu(self.merge(self._up(x))))
        return folded

    def to_frames(self, x: Tensor, n_frames: int) -> Tensor:
        """From `join`'s 8 N columns to activations (B, K, T).

        The paper folds the rows after the interpolation that begins here; both are linear, and this order is cheaper.
        """
        x = torch.relu(self._up(x))
        if self.streamable:
            x = F.pad(self._up(x), (0, n_frames - 2 * x.shape[3], 0, 0), mode="replicate")
        else:
            x = F.interpolate(x, size=(1, n_frames), mode="bilinear", align_corners=True)
        return torch.relu(self.second(torch.relu(self.first(x)))).squeeze(2)

    def _up(self, x: Tensor) -> Tensor:
        """Double the time axis (the last one) of `x` by linear interpolation.

        On the grid, column 2 i is ``(x[i - 1] + 3 x[i]) / 4`` and column 2 i + 1 ``(3 x[i] + x[i + 1]) / 4``, the same
        at any place of the signal; the outermost columns are repeated beyond the ends.
        """
        size = (x.shape[2], 2 * x.shape[3])
        return F.interpolate(x, size=size, mode="bilinear", align_corners=not self.streamable)


def channels_of(hidden_channels: Sequence[int]) -> tuple[int, ...]:
    """Return the channels of three maps as ints, or raise an error that names what they are."""
    if not isinstance(hidden_channels, Sequence):
        raise TypeError(f"hidden_channels is {shown(hidden_channels)}, but must be a list of three integers")
    if len(hidden_channels) != 3:
        n = len(hidden_channels)
        raise ValueError(f"hidden_channels has length {n}, but one for each of three maps is needed")
    return tuple(integer(c, f"hidden_channels[{i}]") for i, c in enumerate(hidden_channels))


def _check_maps(maps: Sequence[Tensor], channels: Sequence[int], rows: int) -> None:
    if len(maps) != 3:
        raise ValueError(f"maps has length {len(maps)}, but one for each of three maps is needed")
    n = maps[2].shape[2]
    for i, (x, c) in enumerate(zip(maps, channels, strict=True)):
        finer = 4 >> i  # than c6, in time and frequency
        if (x.shape[1], x.shape[3]) != (c, rows * finer // 4) or x.shape[2] < n * finer:
            needed = f"({len(x)}, {c}, {n * finer} or more, {rows * finer // 4})"
            raise ValueError(f"maps[{i}] has shape {tuple(x.shape)}, but {needed} is needed")
