"""The convolution that the networks are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Maps of fewer points than this are a matter of reading the weights once, which oneDNN would reorder first.
_POINTS = 16


class Conv2d(nn.Conv2d):
    """torch's Conv2d; inference on the CPU goes to oneDNN even where the map is small.

    Such as the newest columns of a stream: torch would take another way there, up to twice as slow.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` (B, channels, rows, columns)."""
        return convolve(x, self.weight, self.bias, self.padding, self.stride)  # type: ignore[arg-type]


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, ...], stride: tuple[int, ...] = (1, 1)
) -> Tensor:
    """`torch.nn.functional.conv2d`, in the way of `Conv2d`."""
    direct = x.is_cpu and x.dtype == torch.float32 and not torch.is_grad_enabled()
    if direct and x.shape[2] * x.shape[3] >= _POINTS and torch.backends.mkldnn.is_available():
        return torch.mkldnn_convolution(x, weight, bias, padding, stride, (1, 1), 1)
    return F.conv2d(x, weight, bias, stride, padding)
