"""Non-negative matrix factorisation of tensors that `l2i_fast.gpu` serves, by multiplicative updates.

Frame-major, as in `l2i_fast.nmf.factorize`: V (T, F), H (T, K), and W (F, K), so that ``V ~ H W'``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from l2i_fast.backends.dispatch import device_of, serving
from l2i_fast.ops.device_operations import to_float32
from l2i_fast.backends.torch import FLOOR, exponent
from l2i_fast.nmf.dictionary import check_fit, check_lengths
from l2i_fast.nmf.factorize import Factorization


class DeviceFactorization(Factorization):
    """`Factorization` of tensors on one device; W and H are changed in place, V and the mask are contiguous."""

    def __init__(self, V: Any, W: Any, H: Any, beta: float, mask: Any = None) -> None:
        super().__init__(V, W, H, beta, mask)
        self.device = device_of(V=V, W=W, H=H, **({} if mask is None else {"mask": mask}))

    def update_H(self, n: int = 1, *, method: str = "mu", l1: float = 0.0, l2: float = 0.0) -> None:
        """Update H `n` times with W fixed."""
        check_solver(method)
        serving("nmf_update_H", self.device)(self.V, self.mask, self.W, self.H, self.beta, l1, l2, n)

    def update_H_and_gather(
        self, n: int = 1, *, method: str = "mu", l1: float = 0.0, l2: float = 0.0, measure: bool = False
    ) -> float:
        """Update H `n` times, then take the sums that `update_W` needs; the divergence too, if `measure`."""
        if n:
            self.update_H(n, method=method, l1=l1, l2=l2)
        gather = serving("nmf_gather", self.device)
        self.numerator, self.denominator = gather(self.V, self.mask, self.W, self.H, self.beta)
        return self.divergence() if measure else 0.0

    def update_W(self, n: int = 1, *, method: str = "mu", l1: float = 0.0, l2: float = 0.0, fixed: Any = None) -> None:
        """Update W from the sums of the last pass; components where `fixed` holds stay."""
        check_solver(method)
        W: Any = self.W
        for _ in range(n):
            new = updated(W, self.numerator, self.full_denominator(), self.beta, l1, l2)
            W.copy_(new if fixed is None else torch.where(torch.as_tensor(fixed, device=self.device), W, new))

    def full_denominator(self) -> Any:
        """The denominator of the update of W, (F, K), from the sums of the last pass and the present W."""
        return full_denominator(self.W, self.numerator, self.denominator, self.full)

    def divergence(self) -> float:
        """Return D_beta(V | H W'), for which the device is waited for."""
        return float(serving("nmf_divergence", self.device)(self.V, self.mask, self.W, self.H, self.beta))


def full_denominator(W: Any, numerator: Any, denominator: Any, full: bool) -> Any:
    """The denominator (F, K) of the update of W from that of `nmf_gather`: H'H, sums of H or, if `full`, itself."""
    if denominator.ndim == 1:
        return denominator.expand(numerator.shape)
    return denominator if full else W.double() @ denominator


def updated(W: Any, numerator: Any, denominator: Any, beta: float, l1: float = 0.0, l2: float = 0.0) -> Any:
    """W (F, K) after a multiplicative update, in float64 (Fevotte and Idier, 2011, table 2)."""
    down = denominator + l1 + l2 * W
    return W * (numerator / torch.where(down == 0, FLOOR, down)) ** exponent(beta)


def activations(
    V: Any,
    W: Any,
    beta: float,
    n_iter: int,
    H0: Any = None,
    sparsity: float = 0.0,
    solver: str = "mu",
    lengths: Any = None,
) -> Tensor:
    """`l2i_fast.activations` of spectrograms (..., F, T); values are not checked, nor brought to another scale."""
    check_solver(solver)
    given = {} if H0 is None else {"H0": H0}
    device = device_of(V=V, W=W, **given)
    v, w = to_float32(V, "V"), to_float32(W, "W").contiguous()
    lead, (F, T), K = check_fit(tuple(v.shape), tuple(w.shape)), v.shape[-2:], w.shape[1]
    B = math.prod(lead)
    rows = v.mT.reshape(B, T, F).contiguous()
    if H0 is None:
        h = torch.ones((B, T, K), device=device)
    else:
        if H0.shape != (*lead, K, T):
            raise ValueError(f"H0 must have shape {(*lead, K, T)}, got {tuple(H0.shape)}")
        h = to_float32(H0, "H0").mT.reshape(B, T, K).clone(memory_format=torch.contiguous_format)
    update = serving("nmf_update_H", device)
    if lengths is None:
        update(rows.flatten(0, 1), None, w, h.flatten(0, 1), beta, sparsity, 0.0, n_iter)
    else:
        n_frames = torch.as_tensor(lengths, device=device)
        check_lengths(n_frames, lead)
        n_frames = n_frames.reshape(-1).int()
        h *= (torch.arange(T, device=device) < n_frames[:, None])[..., None]
        update(rows, None, w, h, beta, sparsity, 0.0, n_iter, n_frames)
    return h.reshape(*lead, T, K).mT


def non_negative(x: Any, name: str) -> Tensor:
    """Return `x` as float32; that its numbers are finite and at least 0 is looked up on the device and waited for."""
    device_of(**{name: x})
    tensor = to_float32(x, name)
    if tensor.numel() and not bool(((tensor >= 0) & (tensor < math.inf)).all()):
        raise ValueError(f"{name} must be finite and non-negative, its least value is {float(tensor.min()):g}")
    return tensor


def check_solver(solver: str) -> None:
    """Refuse a solver that no backend of a GPU has."""
    if solver != "mu":
        raise ValueError(f"solver is {solver!r}, but tensors on a device have 'mu' only: pass them with .cpu()")
