"""Convolutions of the networks."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)

#: For maps of fewer points, time goes into reading the weights once, which oneDNN would reorder first.
_POINTS = 16


class Conv2d(nn.Conv2d):
    """torch's Conv2d, with inference on the CPU by oneDNN for small maps, too.

    For small maps, such as the newest columns of a stream, torch takes another path, up to twice as slow.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` (B, channels, rows, columns)."""
        return _convolve(x, self.weight, self.bias, self.padding, self.stride)  # type: ignore[arg-type]


class Conv1d(nn.Conv1d):
    """torch's Conv1d for maps of one row, so that channels can be last in memory."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` (B, channels, 1, columns) along the columns."""
        return _convolve(x, self.weight.unsqueeze(2), self.bias, (0, *self.padding), (1, *self.stride))  # type: ignore[arg-type]


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int], stride: tuple[int, int]
) -> Tensor:
    direct = x.is_cpu and x.dtype == torch.float32 and not torch.is_grad_enabled()
    if direct and x.shape[2] * x.shape[3] >= _POINTS and torch.backends.mkldnn.is_available():
        return torch.mkldnn_convolution(x, weight, bias, padding, stride, (1, 1), 1)
    return F.conv2d(x, weight, bias, stride, padding)


def packed(module: ModuleT) -> ModuleT:
    """Return a copy of `module` for inference, with the weights of all layers in oneDNN's layout.

    For small maps, reordering them is a good part of the work. In sequences, a ReLU joins the layer before it. Linear
    layers are convolutions, too, so that a batch gets the same bits as each of its members alone. The copy is in
    evaluation mode, has none of the hooks of `module`, and does not follow later changes of it. Where torch lacks the
    operation, it is a plain copy.
    """
    weight = next(module.parameters(), None)
    if weight is None or not weight.is_cpu or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return copy.deepcopy(module).eval()
    twin = copy.copy(module)
    twin.training = False
    twin._forward_hooks = type(module._forward_hooks)()
    twin._modules = {}
    before = None
    for name, child in module.named_children():
        if isinstance(module, nn.Sequential) and isinstance(child, nn.Identity):
            continue  # the place of a folded batch normalisation
        if isinstance(module, nn.Sequential) and isinstance(child, nn.ReLU) and isinstance(before, _Packed):
            before.activation = "relu"
            continue
        twin._modules[name] = before = _packed_layer(child)
    return twin


def _packed_layer(layer: nn.Module) -> nn.Module:
    if isinstance(layer, Conv2d):
        return _Packed(layer.weight, layer.bias, layer.padding, layer.stride)  # type: ignore[arg-type]
    if isinstance(layer, Conv1d):
        return _Packed(layer.weight.unsqueeze(2), layer.bias, (0, *layer.padding), (1, *layer.stride))  # type: ignore[arg-type]
    if isinstance(layer, nn.Linear):
        return _PackedLinear(layer.weight[:, :, None, None], layer.bias, (0, 0), (1, 1))
    return packed(layer)


class _Packed(nn.Module):
    """A convolution by the operation that torch.compile uses on the CPU."""

    def __init__(self, weight: Tensor, bias: Tensor | None, padding: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.activation = "none"
        self._geometry = (list(padding), list(stride), [1, 1], 1)
        typical = [1, weight.shape[1], 16, 16]
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(weight.detach(), *self._geometry, typical)
        self._bias = bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, self._bias, *self._geometry, self.activation, [], ""
        )
        return y


class _PackedLinear(_Packed):
    """A linear layer as a convolution over one point."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (B, rows, in) to (B, rows, out)."""
        return super().forward(x.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
