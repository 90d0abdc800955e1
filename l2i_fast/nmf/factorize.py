"""The iterations of non-negative matrix factorisation, ``V ~ W H``, on frame-major arrays.

Rows are frames: V (T, F), H (T, K), and W (F, K), so that ``V ~ H W'``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2i_fast.arguments import number, shown
from l2i_fast.arrays import LARGEST, double, is_tensor, namespace
from l2i_fast.backends.dispatch import serving_backend
from l2i_fast.backends.precision import CpuPrecision, get_cpu_precision
from l2i_fast.nmf.checks import check_solver
from l2i_fast.nmf.newton import N_GENTLE, Newton

#: Called after each iteration with its number, the largest number, and the objective if it was computed.
Callback = Callable[[int, int, "float | None"], None]

LOSSES = {"frobenius": 2.0, "kullback-leibler": 1.0, "itakura-saito": 0.0}


def beta_of(beta_loss: float | str) -> float:
    """Return the exponent beta, a float32, of a loss given by scikit-learn's name or as a number."""
    if isinstance(beta_loss, str):
        if beta_loss not in LOSSES:
            allowed = ", ".join(sorted(LOSSES))
            raise ValueError(f"beta_loss is {shown(beta_loss)}, but must be a number or one of {allowed}")
        return LOSSES[beta_loss]
    return float(np.float32(number(beta_loss, "beta_loss", -LARGEST, LARGEST)))  # as the kernels take it


class Factorization:
    """V, W and H of a factorisation, and passes over the frames, which change W and H in place.

    One backend serves all passes, at the precision that was set when this object was made.

    Parameters
    ----------
    V : array or tensor (T, F), float32
        Non-negative, rows contiguous.
    W : array or tensor (F, K), float32, C order
    H : array or tensor (T, K), float32, rows contiguous
    beta : float
    mask : array or tensor (T, F), float32, optional
        Weights of the entries of V, at least 0; where 0, V may hold anything.

    Attributes
    ----------
    numerator, denominator : array or tensor, float64
        Sums of the last `update_H_and_gather`, from which `update_W` follows.
    """

    def __init__(self, V: Any, W: Any, H: Any, beta: float, mask: Any = None) -> None:
        self.V, self.W, self.H, self.beta, self.mask = V, W, H, beta, mask
        self.device = V.device if is_tensor(V) else None
        self.full = mask is not None or beta not in (1, 2)
        self.numerator: Any = None
        #: H'H for the Euclidean loss, the sums of H for Kullback-Leibler, otherwise of the numerator's shape.
        self.denominator: Any = None
        self._backend = serving_backend("nmf_pass", self.device, K=W.shape[1])
        #: Of multiplicative updates on the CPU; other methods compute in float32.
        self.precision: CpuPrecision = get_cpu_precision()

    def _options(self, method: str) -> dict[str, str]:
        # Backends on tensors have multiplicative updates only, and one precision for all.
        return {} if self.device is not None else {"method": method, "precision": self.precision}

    def update_H(self, n: int = 1, *, method: str = "mu", l1: float = 0.0, l2: float = 0.0) -> None:
        """Update H `n` times with W fixed."""
        update = self._backend.nmf_update_H
        update(self.V, self.mask, self.W, self.H, self.beta, l1, l2, n, **self._options(method))

    def update_H_and_gather(
        self, n: int = 1, *, method: str = "mu", l1: float = 0.0, l2: float = 0.0, measure: bool = False
    ) -> float:
        """Update H `n` times and compute the sums that `update_W` needs.

        Returns the divergence of V from the new H and the present W if `measure`, otherwise 0.
        """
        operands = self.V, self.mask, self.W, self.H, self.beta, l1, l2, n, measure
        self.numerator, self.denominator, d = self._backend.nmf_pass(*operands, **self._options(method))
        return float(d)

    def update_W(
        self,
        n: int = 1,
        *,
        method: str = "mu",
        l1: float = 0.0,
        l2: float = 0.0,
        fixed: NDArray[np.bool_] | None = None,
    ) -> None:
        """Update W from the sums of the last pass; components for which `fixed` (K,) holds stay."""
        sums, masked = (self.numerator, self.denominator), self.mask is not None
        options = {} if self.device is not None else {"method": method}
        self._backend.nmf_update_W(self.W, *sums, masked, self.beta, l1, l2, n, fixed, **options)

    def full_denominator(self) -> Any:
        """Return the denominator (F, K) of the update of W, from the sums of the last pass and the present W."""
        if self.denominator.ndim == 1:
            return namespace(self.denominator).broadcast_to(self.denominator, self.numerator.shape)
        return self.denominator if self.full else double(self.W) @ self.denominator

    def divergence(self) -> float:
        """Return D_beta(V | H W'), entry by entry; waits for a device."""
        return float(self._backend.nmf_divergence(self.V, self.mask, self.W, self.H, self.beta))


def update_H_only(f: Factorization, solver: str, n_iter: int, l1: float = 0.0, l2: float = 0.0) -> None:
    """Improve H with W fixed: without a stopping rule, each tile of frames does all its updates at once."""
    method, n_sweeps = _method_of(solver, f)
    n_plain = n_iter if method != "newton" else min(n_iter, N_GENTLE)
    f.update_H(n_plain * n_sweeps, method="mu" if method == "newton" else method, l1=l1, l2=l2)
    if n_plain < n_iter:
        Newton(f.V, f.W, f.H, f.beta, f.mask, l1_H=l1, l2_H=l2).step_H(n_iter - n_plain)


def _method_of(solver: str, f: Factorization) -> tuple[str, int]:
    """Return the method of a solver for this loss and its sweeps in an iteration; only "mu" has several precisions."""
    if solver == "newton":
        f.precision = "float32"  # of its first iterations, too, which are multiplicative
    if solver == "newton" and f.beta == 2 and f.mask is None:
        return "hals", 3
    return solver, 1


def factorize(
    V: Any,
    W: Any,
    H: Any,
    *,
    beta: float,
    solver: str = "mu",
    l1_W: float = 0.0,
    l2_W: float = 0.0,
    l1_H: float = 0.0,
    l2_H: float = 0.0,
    max_iter: int = 200,
    tol: float = 0.0,
    update_W: bool = True,
    update_H: bool = True,
    W_first: bool = False,
    mask: Any = None,
    fixed: NDArray[np.bool_] | None = None,
    callback: Callback | None = None,
) -> tuple[int, float]:
    """Improve ``V ~ H W'`` in place until `max_iter` or until the objective hardly falls.

    Minimises ``D_beta(V | H W') + l1_W sum(W) + l1_H sum(H) + l2_W/2 |W|^2 + l2_H/2 |H|^2``.

    Parameters
    ----------
    V, W, H, beta, mask
        As in `Factorization`.
    solver : {"mu", "hals", "newton"}
        Multiplicative updates (Fevotte and Idier, 2011); one sweep of coordinate descent (Cichocki and Phan, 2009),
        for beta 2 without mask; or Newton steps, which need the fewest iterations (`l2i_fast.nmf.newton`; for beta 2
        without mask three sweeps of coordinate descent take their place).
    tol : float
        scikit-learn's rule: every 10 iterations, stop if ``sqrt(2 D)`` fell by less than tol times its first value.
    update_W, update_H : bool
        False keeps the matrix fixed; one of them must change.
    W_first : bool
        Each iteration updates W before H; by default H goes first, with V read once for both.
    fixed : array (K,), bool, optional
        Components of W that stay fixed.
    callback : callable, optional
        See `Callback`.

    Returns
    -------
    n_iter : int
        Iterations done.
    divergence : float
        ``D_beta(V | H W')`` at the end.
    """
    if not (update_W or update_H):
        raise ValueError("update_W and update_H are both False, but one of W and H must change")
    f = Factorization(V, W, H, beta, mask)
    check_solver(solver, f.device)
    if not update_W and not tol and callback is None:
        update_H_only(f, solver, max_iter, l1_H, l2_H)
        return max_iter, f.divergence()
    method, n_sweeps = _method_of(solver, f)
    newton: Newton | None = None
    if method == "newton":
        newton = Newton(V, W, H, beta, mask, l1_W=l1_W, l2_W=l2_W, l1_H=l1_H, l2_H=l2_H, fixed=fixed)
        method = "mu"  # the first iterations
    first = before = np.sqrt(2 * max(f.divergence(), 0)) if tol > 0 else 0.0
    iteration = 0
    for iteration in range(1, max_iter + 1):
        known = None
        if newton and iteration > N_GENTLE:
            if update_W:
                known = newton.step(update_H)
            else:
                newton.step_H()
        elif not update_W:
            f.update_H(n_sweeps, method=method, l1=l1_H, l2=l2_H)
        elif W_first or not update_H:
            f.update_H_and_gather(0)
            f.update_W(n_sweeps, method=method, l1=l1_W, l2=l2_W, fixed=fixed)
            if update_H:
                f.update_H(n_sweeps, method=method, l1=l1_H, l2=l2_H)
        else:
            f.update_H_and_gather(n_sweeps, method=method, l1=l1_H, l2=l2_H)
            f.update_W(n_sweeps, method=method, l1=l1_W, l2=l2_W, fixed=fixed)
        checks = tol > 0 and iteration % 10 == 0
        if checks and known is None:
            known = f.divergence()
        if callback is not None:
            callback(iteration, max_iter, known)
        if checks and known is not None:
            after = np.sqrt(2 * max(known, 0))
            if before - after <= tol * first:
                break
            before = after
    if newton:
        newton.finish()
    return iteration, f.divergence()
