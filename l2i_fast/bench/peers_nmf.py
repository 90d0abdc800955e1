"""Non-negative matrix factorisation by other libraries at their best settings.

All work on float32: V (T, F), W (F, K) and H (T, K), ``V ~ H W'``. `xp` is the library, numpy or torch, which name
the functions that are needed alike. `Iteration` and `Activations` reuse preallocated buffers and work in slices of
frames that stay in the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from l2i_fast.arrays import Float32


class _Sliced:
    frames: int  # in a slice

    def __init__(self, xp: Any, V: Float32, W: Float32, H: Float32, beta: float) -> None:
        own = np.array if xp is np else lambda x: xp.from_numpy(np.array(x))
        self.xp, self.beta = xp, beta
        self.V, self.W, self.H = own(V), own(W), own(H)
        (T, F), K = V.shape, W.shape[1]
        rows = min(self.frames, T)
        self.slices = [slice(t, min(t + rows, T)) for t in range(0, T, rows)]
        self.wide = [xp.empty((rows, F), dtype=xp.float32) for _ in range(1 if beta == 1 else 2 if beta == 0 else 0)]
        self.narrow = [xp.empty((rows, K), dtype=xp.float32) for _ in range(2)]

    def ratios(self, v: Any, h: Any) -> tuple[Any, Any]:
        """Return V (W H)^(beta - 2) and (W H)^(beta - 1) of a slice; the latter is None for beta 1."""
        xp, up = self.xp, self.wide[0][: len(v)]
        xp.matmul(h, self.W.T, out=up)
        if self.beta == 1:
            return xp.divide(v, up, out=up), None
        down = self.wide[1][: len(v)]
        xp.reciprocal(up, out=down)
        xp.multiply(v, down, out=up)
        up *= down
        return up, down

    def update_H(self, v: Any, h: Any, shrink: Any) -> None:
        """Update a slice of H; `shrink` is W'W for beta 2, the sums of W for beta 1."""
        xp = self.xp
        grow, against = self.narrow[0][: len(v)], self.narrow[1][: len(v)]
        if self.beta == 2:
            xp.matmul(v, self.W, out=grow)
            xp.matmul(h, shrink, out=against)
            grow /= against
        else:
            up, down = self.ratios(v, h)
            xp.matmul(up, self.W, out=grow)
            if self.beta == 1:
                grow /= shrink
            else:
                xp.matmul(down, self.W, out=against)
                grow /= against
                xp.sqrt(grow, out=grow)
        h *= grow

    def shrink(self) -> Any:
        """Return the part of the denominators that all frames share."""
        return self.W.T @ self.W if self.beta == 2 else self.W.sum(0)


class Iteration(_Sliced):
    """Updates H and W once in each call and returns both; beta is 2, 1 or 0."""

    frames = 432

    def __init__(self, xp: Any, V: Float32, W: Float32, H: Float32, beta: float) -> None:
        super().__init__(xp, V, W, H, beta)
        self.sums = [xp.empty(W.shape, dtype=xp.float32) for _ in range(3)]

    def __call__(self) -> tuple[Float32, Float32]:
        """Update H, then W, in one pass over the frames."""
        xp, shrink = self.xp, self.shrink()
        grow, against, part = self.sums
        grow[...] = 0
        against[...] = 0
        for s in self.slices:
            v, h = self.V[s], self.H[s]
            self.update_H(v, h, shrink)
            up, down = (v, None) if self.beta == 2 else self.ratios(v, h)
            grow += xp.matmul(up.T, h, out=part)
            if down is not None:
                against += xp.matmul(down.T, h, out=part)
        if self.beta == 2:
            xp.matmul(self.W, self.H.T @ self.H, out=against)
        elif self.beta == 1:
            against += self.H.sum(0)
        grow /= against
        if self.beta == 0:
            xp.sqrt(grow, out=grow)
        self.W *= grow
        return np.asarray(self.H), np.asarray(self.W)


class Activations(_Sliced):
    """Updates H `n_iter` times in each call, starting from ones with W fixed, and returns H (T, K)."""

    frames = 216

    def __init__(self, xp: Any, V: Float32, W: Float32, beta: float, n_iter: int) -> None:
        super().__init__(xp, V, W, np.ones((len(V), W.shape[1]), np.float32), beta)
        self.n_iter = n_iter

    def __call__(self) -> Float32:
        """Update one slice after the other."""
        xp, shrink = self.xp, self.shrink()
        self.H[...] = 1
        for s in self.slices:
            v, h = self.V[s], self.H[s]
            if self.beta == 2:  # V W stays the same
                grow, against = self.narrow[0][: len(v)], self.narrow[1][: len(v)]
                xp.matmul(v, self.W, out=grow)
                for _ in range(self.n_iter):
                    xp.divide(grow, xp.matmul(h, shrink, out=against), out=against)
                    h *= against
            else:
                for _ in range(self.n_iter):
                    self.update_H(v, h, shrink)
        return np.asarray(self.H)


class ByDifference:
    """An iteration of an estimator that also does other work, timed as the difference of 1 iteration and 6."""

    def __init__(self, run: Callable[[int], Any]) -> None:
        self.run = run

    def __call__(self) -> Any:
        """Return the answer after one iteration."""
        return self.run(1)

    def seconds(self) -> float:
        """Return the seconds of one iteration, which disturbances may also make too short."""
        times = [time.perf_counter()]
        for n in (1, 6):
            self.run(n)
            times.append(time.perf_counter())
        return (times[2] - 2 * times[1] + times[0]) / 5


def scikit_learn(V: Float32, W: Float32, H: Float32, beta: float) -> Callable[[int], tuple[Float32, Float32]]:
    """Return scikit-learn's multiplicative updates, `n` of them from W and H on; its W is our H."""
    from sklearn.decomposition import NMF

    def run(n: int) -> tuple[Float32, Float32]:
        estimator = NMF(W.shape[1], init="custom", solver="mu", beta_loss=beta, tol=0, max_iter=n)
        activations = estimator.fit_transform(V, W=H.copy(), H=W.T.copy())
        return activations, estimator.components_.T

    return run


def torchnmf(V: Float32, W: Float32, H: Float32, beta: float) -> Callable[[int], tuple[Float32, Float32]]:
    """Return torchnmf's updates by autograd, `n` of them. Its W, which it updates first, is our H."""
    import torch
    from torchnmf.nmf import NMF

    columns = torch.from_numpy(V.T.copy())

    def run(n: int) -> tuple[Float32, Float32]:
        model = NMF(W=torch.from_numpy(H.copy()), H=torch.from_numpy(W.copy()))
        model.fit(columns, beta=beta, tol=0, max_iter=n)
        return model.W.detach().numpy(), model.H.detach().numpy()

    return run
