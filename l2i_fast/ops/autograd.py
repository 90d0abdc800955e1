"""Gradients with respect to activations and weights, for torch's autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from l2i_fast.arrays import Float32, is_tensor

Answer = Callable[[], "NDArray[Any] | Tensor"]
Gradients = Callable[[Tensor], "tuple[Float32 | Tensor, Float32 | Tensor]"]


def tracked(operands: tuple[Any, Any, Any, Any], lead: tuple[int, ...], answer: Answer, gradients: Gradients) -> Tensor:
    """Return an operation's answer as a tensor that autograd can differentiate, once.

    Parameters
    ----------
    operands : X, W, H, weights
        As the caller gave them; gradients go to H and weights.
    lead : tuple of int
        Their leading dimensions, broadcast; one dimension of size B in what follows.
    answer : callable
        Computes the answer (B, ...).
    gradients : callable
        Computes, from the gradient of the answer, those of H (B, T, K) and weights (B, K).
    """
    result: Tensor = _Operation.apply(*operands, lead, answer, gradients)  # type: ignore[no-untyped-call]
    return result


class _Operation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *operands, lead, answer, gradients = inputs
        # Autograd raises if these are changed before the gradient is computed.
        ctx.save_for_backward(*(x for x in operands if is_tensor(x) and not x.is_inference()))
        ctx.lead, ctx.gradients = lead, gradients
        ctx.like = [(x.shape, x.dtype) if is_tensor(x) else None for x in operands[2:]]
        result = _tensor(answer())
        return result.reshape(*lead, *result.shape[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        _ = ctx.saved_tensors
        lead = ctx.lead
        d = gradient.resolve_conj().resolve_neg().reshape(math.prod(lead), *gradient.shape[len(lead) :]).contiguous()
        dH, dweights = map(_tensor, ctx.gradients(d))
        spread = dH.mT.reshape(*lead, *dH.mT.shape[1:]), dweights.reshape(*lead, *dweights.shape[1:])
        sums = [
            x.sum_to_size(like[0]).to(like[1]) if needed else None
            for x, like, needed in zip(spread, ctx.like, ctx.needs_input_grad[2:4], strict=True)
        ]
        return None, None, *sums, None, None, None


def _tensor(x: Any) -> Tensor:
    # torch.as_tensor would move an array to the caller's default device.
    return x if isinstance(x, Tensor) else torch.from_numpy(x)
