"""Newton steps for ``V ~ H W'`` and every beta divergence: far fewer passes over V than multiplicative updates need.

A frame's step minimises a quadratic model of its objective over ``h + step >= 0``, by coordinate descent. The model's
gradient ``W'R`` and the diagonal of its Hessian, ``d = (W o W)'Q``, are the frame's own, with

    R = M^(beta-2) (M - V)                                   first derivative of the divergence at the model M = H W'
    Q = M^(beta-3) max((beta-1) M + (2-beta) V, M)           second, but at least what it is on average at a good fit

and off the diagonal it has the correlations of ``W' diag(a) W``, ``a = mean_t(M)^(beta-2)``, which all frames share:
a single K x K matrix. Each frame scales its Hessian by a damping of its own, which grows after a step that
was too long. Rows of W step in the same way.

A pass that does not lower the objective is undone, and W steps again, with more damping.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from l2i_fast.arrays import Float32, Float64
from l2i_fast.backends import native

#: Gradient by W (F, K), the diagonal of its Hessian (F, K), and the weighted Gram matrix of H (K, K).
Sums = tuple[Float64, Float64, Float64]

#: Multiplicative passes before the first step: steps from zeros and distant starts end in poor minima.
N_GENTLE = 2
_MORE_DAMPING, _LESS_DAMPING, _LEAST_DAMPING = 4.0, 0.6, 0.7
#: Lower bound of the means of the model, as a share of their mean.
_LEAST_MEAN = 1e-5


class Newton:
    """The state of the steps: dampings, and the best W and H so far with the sums for W's next step.

    Parameters
    ----------
    V, W, H, beta, mask
        As in `l2i_fast.nmf.factorize.Factorization`; W and H change in place.
    l1_W, l2_W, l1_H, l2_H : float
        Penalties.
    fixed : array (K,), bool, optional
        Components of W that stay.
    """

    def __init__(
        self,
        V: Float32,
        W: Float32,
        H: Float32,
        beta: float,
        mask: Float32 | None = None,
        *,
        l1_W: float = 0.0,
        l2_W: float = 0.0,
        l1_H: float = 0.0,
        l2_H: float = 0.0,
        fixed: NDArray[np.bool_] | None = None,
    ) -> None:
        self.V, self.W, self.H, self.beta, self.mask = V, W, H, beta, mask
        self.l1_W, self.l2_W, self.l1_H, self.l2_H, self.fixed = l1_W, l2_W, l1_H, l2_H, fixed
        F, K = W.shape
        self._sums: Sums = np.empty((F, K)), np.empty((F, K)), np.empty((K, K))
        self._damping = np.ones(len(V), np.float32)
        self._damping_W = 1.0
        self._best: tuple[float, float] | None = None
        self._best_W, self._best_H = np.empty_like(W), np.empty_like(H)
        self._best_sums: Sums = np.empty((F, K)), np.empty((F, K)), np.empty((K, K))

    def step(self, update_H: bool = True) -> float:
        """Step H, then W, and return the divergence at the best W and H so far, which `finish` puts in place."""
        divergence = self._pass(self._sums, int(update_H))
        objective = divergence + self._penalties()
        if self._best is None or objective <= self._best[0] * (1 + 1e-7):
            self._best = objective, divergence
            self._copy((self.W, self.H, *self._sums), (self._best_W, self._best_H, *self._best_sums))
            self._damping_W = max(_LESS_DAMPING * self._damping_W, _LEAST_DAMPING)
        else:
            self._copy((self._best_W, self._best_H, *self._best_sums), (self.W, self.H, *self._sums))
            self._damping_W *= _MORE_DAMPING
        native.nmf_newton_update(self.W, *self._sums, self._damping_W, self.l1_W, self.l2_W, self.fixed)
        if update_H and self.fixed is None and not any((self.l1_W, self.l2_W, self.l1_H, self.l2_H)):
            self._share_scale()
        return self._best[1]

    def step_H(self, n: int = 1) -> None:
        """Step H alone `n` times, with W fixed."""
        self._pass((None, None, None), n)

    def finish(self) -> None:
        """Put the best W and H in place, if `step` has been called."""
        if self._best:
            self._copy((self._best_W, self._best_H), (self.W, self.H))

    def _pass(self, sums: Sums | tuple[None, None, None], n: int = 1) -> float:
        means = self.W @ self.H.mean(axis=0, dtype=np.float64)
        least = max(_LEAST_MEAN * float(means.mean()), float(np.finfo(np.float32).tiny))
        weights = (np.maximum(means, least) / max(float(means.mean()), least)) ** (self.beta - 2)
        return native.nmf_newton_pass(
            self.V, self.mask, self.W, self.H, self.beta, self.l1_H, self.l2_H, n,
            self._damping, weights.astype(np.float32), least, *sums,
        )  # fmt: skip

    def _penalties(self) -> float:
        total = 0.0
        for x, l1, l2 in ((self.W, self.l1_W, self.l2_W), (self.H, self.l1_H, self.l2_H)):
            if l1 or l2:
                total += l1 * float(x.sum(dtype=np.float64)) + l2 / 2 * float(np.square(x, dtype=np.float64).sum())
        return total

    def _share_scale(self) -> None:
        """Scale the columns of W to a sum of 1, without which hardly used ones would drift."""
        scale = self.W.sum(axis=0)
        scale[scale == 0] = 1
        self.W /= scale
        self.H *= scale

    @staticmethod
    def _copy(source: tuple[NDArray[np.generic], ...], target: tuple[NDArray[np.generic], ...]) -> None:
        for a, b in zip(source, target, strict=True):
            b[...] = a
