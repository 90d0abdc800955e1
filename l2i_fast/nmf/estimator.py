"""NMF as an estimator, in the manner of scikit-learn's.

scikit-learn factorises ``X ~ W H`` with a sample in each row of X; here W and H are called activations and
components. Inside, the same problem is ``V ~ H W'``, the longer side of X being the frames (`factorize`).
"""

from __future__ import annotations

import math
import time
import warnings
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from l2i_fast.arguments import function_or_none, integer, number, one_of
from l2i_fast.arrays import LARGEST, TINY, Float32, host, is_tensor, on_host, placed, to_numpy, unmasked
from l2i_fast.backends.dispatch import device_of
from l2i_fast.defaults import default_settings
from l2i_fast.nmf.checks import check_solver
from l2i_fast.nmf.factorize import Callback, beta_of, factorize
from l2i_fast.nmf.initialize import initialize

Floats = NDArray[Any]
_INITS = ("random", "nndsvd", "nndsvda", "nndsvdar", "custom")
#: The solvers' names, scikit-learn's "cd" among them, and what `factorize` calls them.
_SOLVERS = {"mu": "mu", "cd": "hals", "hals": "hals", "newton": "newton"}


class NMF(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Non-negative matrix factorisation ``X ~ W H``, with the parameters, attributes and meaning of scikit-learn's.

    Minimises, over non-negative W (n_samples, K) and H (K, n_features),

        D_beta(X | W H) + n_features alpha_W (l1_ratio sum(W) + (1 - l1_ratio)/2 |W|^2)
                        + n_samples  alpha_H (l1_ratio sum(H) + (1 - l1_ratio)/2 |H|^2)

    where D_beta is the beta divergence (C. Fevotte and J. Idier, "Algorithms for nonnegative matrix factorization with
    the beta-divergence", Neural Computation 23(9), 2011). All arithmetic is in float32.

    Parameters
    ----------
    n_components : int, "auto" or None
        K, at least 1. "auto" and None: the number of features, but "auto" takes the size of the H given with
        ``init="custom"``.
    init : {None, "random", "nndsvd", "nndsvda", "nndsvdar", "custom"}
        Initial values, the same as scikit-learn's for the same `random_state`. None: "nndsvda" where K is at most
        min(n_samples, n_features), otherwise "random". "custom": the W and H given to `fit`.
    solver : {"mu", "newton", "cd", "hals"}
        "mu": multiplicative updates, for every divergence. "cd", also called "hals": coordinate descent, component
        after component, for "frobenius" only. "newton": second-order steps, for every divergence; each takes up to
        twice the time of a multiplicative update, and far fewer are needed.
    beta_loss : float or {"frobenius", "kullback-leibler", "itakura-saito"}
        Any real beta; the names are those of 2, 1 and 0. X must be positive if beta is 0 or less.
    tol : float
        Stops when ten iterations lowered the error, ``sqrt(2 D_beta)``, by less than `tol` times that of the initial
        values. 0: all iterations are done.
    max_iter : int
        Largest number of iterations; each updates W, then H.
    random_state : int, numpy.random.RandomState or None
        Source of the random initial values.
    alpha_W, alpha_H : float
        Weights of the penalties, at least 0. "same": `alpha_H` is `alpha_W`.
    l1_ratio : float
        Share of the L1 penalty in each, from 0 to 1; the rest is L2.
    verbose : int
        Above 0, the error is printed whenever the stopping rule computes it.
    callback : callable, optional
        Called after each iteration as ``callback(iteration, max_iter, objective)``; the objective, D_beta, is None
        unless it was computed.

    Attributes
    ----------
    components_ : ndarray (n_components_, n_features_in_), float32
        H, the dictionary if samples are frames.
    n_components_ : int
        K.
    reconstruction_err_ : float
        ``sqrt(2 D_beta(X | W H))``; for "frobenius" the Frobenius norm of X - W H.
    n_iter_ : int
        Iterations done.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of str
        Their names, if X had any.

    Examples
    --------
    >>> import numpy as np, l2i_fast as l2i
    >>> X = np.array([[1, 1], [2, 1], [3, 1.2], [4, 1], [5, 0.8], [6, 1]])
    >>> nmf = l2i.NMF(n_components=2, init="random", random_state=0)
    >>> W = nmf.fit_transform(X)
    >>> H = nmf.components_
    """

    def __init__(
        self,
        n_components: int | Literal["auto"] | None = "auto",
        *,
        init: str | None = None,
        solver: str = "mu",
        beta_loss: float | str = "frobenius",
        tol: float = 1e-4,
        max_iter: int = 200,
        random_state: int | np.random.RandomState | None = None,
        alpha_W: float = 0.0,
        alpha_H: float | Literal["same"] = "same",
        l1_ratio: float = 0.0,
        verbose: int = 0,
        callback: Callback | None = None,
    ) -> None:
        self.n_components = n_components
        self.init = init
        self.solver = solver
        self.beta_loss = beta_loss
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.alpha_W = alpha_W
        self.alpha_H = alpha_H
        self.l1_ratio = l1_ratio
        self.verbose = verbose
        self.callback = callback

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        W: ArrayLike | None = None,
        H: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> Self:
        """Learn the components of X; see `fit_transform`."""
        self.fit_transform(X, W=W, H=H, mask=mask)
        return self

    @default_settings()
    def fit_transform(
        self,
        X: ArrayLike,
        y: Any = None,
        W: ArrayLike | None = None,
        H: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> Any:
        """Learn the components of X and return the activations W.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Non-negative and dense.
        y : ignored
        W, H : array-like (n_samples, K) and (K, n_features), optional
            Initial values, used with ``init="custom"`` only. They are not written to.
        mask : array-like (n_samples, n_features), optional
            Weight of each entry in the divergence, at least 0. Where it is 0 the entry is missing, and X may hold
            anything, NaN too. Not with solver "cd".

        Returns
        -------
        W : ndarray (n_samples, K), float32, or the output of `set_output`; a tensor on the same device if X is on a GPU

        Raises
        ------
        ValueError
            For parameters out of range, X negative, not finite or a masked array with masked values (see `mask`), zeros
            in X with beta 0 or less, and shapes that do not fit.
        TypeError
            For parameters of the wrong type and sparse X.
        """
        place, X = _place_of(X), _as_sklearn_takes(X, "X")
        beta = self._check_parameters(place)
        X, weights = self._check_data(X, mask, reset=True)
        scale = _scale_of(X, beta)
        X, root = _divided(X, scale), math.sqrt(scale)
        if self.init == "custom":
            W, H = (matrix / root for matrix in _custom(W, H, X.shape, self.n_components))
        else:
            if W is not None or H is not None:
                warnings.warn("W and H are ignored unless init='custom'", RuntimeWarning, stacklevel=3)
            named = self.n_components is None or _is_named(self.n_components, "auto")
            K = X.shape[1] if named else integer(self.n_components, "n_components")
            W, H = initialize(X, K, self.init, self._seed())
        if self.init == "nndsvd" and self.solver == "mu":
            message = "multiplicative updates keep the zeros of init='nndsvd': 'nndsvda' or 'nndsvdar' has none"
            warnings.warn(message, UserWarning, stacklevel=3)
        W, H, self.n_iter_, objective = self._factorize(X, W, H, beta, weights, root, root, place)
        self.reconstruction_err_ = math.sqrt(2 * objective)
        self.components_ = H
        self.n_components_ = len(H)
        return W

    @default_settings()
    def transform(self, X: ArrayLike, mask: ArrayLike | None = None) -> Any:
        """Return the activations W of the learnt components in X.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Non-negative and dense.
        mask : array-like (n_samples, n_features), optional
            See `fit_transform`.

        Returns
        -------
        W : ndarray (n_samples, K), float32, or the output of `set_output`; a tensor on the same device if X is on a GPU

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError, TypeError
            See `fit_transform`.
        """
        check_is_fitted(self)
        place, X = _place_of(X), _as_sklearn_takes(X, "X")
        beta = self._check_parameters(place)
        X, weights = self._check_data(X, mask, reset=False)
        H = self.components_
        scale, scale_H = _scale_of(X, beta), _scale_of(H, beta)
        X, H = _divided(X, scale), _divided(H, scale_H)
        # Multiplicative updates would stay at zero, where coordinate descent starts best.
        start = 0.0 if _SOLVERS[self.solver] == "hals" else math.sqrt(X.mean() / len(H))
        W = np.full((len(X), len(H)), start, np.float32)
        return self._factorize(X, W, H, beta, weights, scale / scale_H, scale_H, place, update_H=False)[0]

    @default_settings()
    def inverse_transform(self, X: ArrayLike) -> Any:
        """Return the model W H of activations W, here named X as in scikit-learn.

        Parameters
        ----------
        X : array-like (n_samples, K)

        Returns
        -------
        X_original : ndarray (n_samples, n_features), float32
        """
        check_is_fitted(self)
        place, W = _place_of(X), check_array(_as_sklearn_takes(X, "X"), dtype=np.float32)
        if W.shape[1] != self.n_components_:
            raise ValueError(f"X has {W.shape[1]} columns, but must have n_components_ = {self.n_components_}")
        product: Float32 = W @ self.components_
        return product if place is None else placed(product, place)

    def _factorize(
        self,
        X: Floats,
        W: Floats,
        H: Floats,
        beta: float,
        weights: Floats | None,
        scale_W: float,
        scale_H: float,
        place: Any = None,
        update_H: bool = True,
    ) -> tuple[Any, Float32, int, float]:
        """Return W, H, the iterations and D_beta at the scale of the data, for X, W and H divided by theirs.

        The iterations run where `place` is, a tensor, and W goes back there.
        """
        scale = scale_W * scale_H
        if abs(beta * math.log10(scale)) > 300:
            raise ValueError(f"beta_loss is {beta:g}, but X around {scale:.0e} then leaves the range of float64")
        unit = scale**beta
        alpha_H = self.alpha_W if self.alpha_H == "same" else self.alpha_H
        activations, dictionary = np.array(W, np.float32, order="C"), np.array(H.T, np.float32, order="C")

        def penalties(size: int, alpha: float, scale: float) -> tuple[float, float]:
            return size * alpha * self.l1_ratio * scale / unit, size * alpha * (1 - self.l1_ratio) * scale**2 / unit

        sides = [
            (activations, *penalties(X.shape[1], self.alpha_W, scale_W)),
            (dictionary, *penalties(X.shape[0], alpha_H, scale_H)),
        ]
        # The longer side of X becomes the frames. Either way scikit-learn updates the samples' side first.
        wide = update_H and len(X) < X.shape[1]
        if wide:
            X, weights = X.T, None if weights is None else weights.T
            sides.reverse()
        V = np.require(X, np.float32, ["C", "A"])
        if beta <= 0 and V.min() < TINY:
            raise ValueError(
                "X holds zeros, or values that vanish in float32, but must be positive where beta_loss <= 0"
            )
        (frames, l1_H, l2_H), (bins, l1_W, l2_W) = sides
        operands = (V, bins, frames, None if weights is None else np.require(weights, requirements=["C", "A"]))
        there = operands if place is None else tuple(None if x is None else placed(x, place) for x in operands)
        n_iter, objective = factorize(
            *there[:3],
            beta=beta,
            solver=_SOLVERS[self.solver],
            l1_W=l1_W,
            l2_W=l2_W,
            l1_H=l1_H,
            l2_H=l2_H,
            max_iter=self.max_iter,
            tol=self.tol,
            update_W=update_H,
            W_first=wide,
            mask=there[3],
            callback=self._reporter(unit),
        )
        if self.tol > 0 and n_iter == self.max_iter:
            message = f"stopped after max_iter = {n_iter} iterations, before the error had settled to within tol"
            warnings.warn(message, ConvergenceWarning, stacklevel=4)
        if place is not None:
            bins[...], frames[...] = host(there[1]), host(there[2])
        activations *= np.float32(scale_W)
        dictionary *= np.float32(scale_H)
        W = activations if place is None else placed(activations, place)
        return W, dictionary.T, n_iter, max(objective, 0) * unit

    def _reporter(self, unit: float) -> Callback | None:
        """Return the callback, with objectives in `unit` and the output of `verbose`."""
        if self.callback is None and not self.verbose:
            return None
        start = time.perf_counter()

        def report(iteration: int, max_iter: int, objective: float | None) -> None:
            if objective is not None:
                objective = max(objective, 0) * unit
                if self.verbose:
                    seconds = time.perf_counter() - start
                    print(f"iteration {iteration} of {max_iter}: error {math.sqrt(2 * objective):g}, {seconds:.2f} s")
            if self.callback is not None:
                self.callback(iteration, max_iter, objective)

        return report

    def _check_parameters(self, place: Any) -> float:
        """Check the parameters, for the tensor `place` or None, and return beta."""
        if self.n_components is not None and not _is_named(self.n_components, "auto"):
            integer(self.n_components, "n_components")
        integer(self.max_iter, "max_iter")
        if self.init is not None:
            one_of(self.init, "init", _INITS)
        check_solver(self.solver, None if place is None else place.device, _SOLVERS)
        for name, most in (("tol", math.inf), ("alpha_W", math.inf), ("alpha_H", math.inf), ("l1_ratio", 1.0)):
            if name != "alpha_H" or not _is_named(self.alpha_H, "same"):
                number(getattr(self, name), name, 0, most)
        function_or_none(self.callback, "callback")
        if not isinstance(self.verbose, bool):
            integer(self.verbose, "verbose", 0)
        self._seed()
        beta = beta_of(self.beta_loss)
        if _SOLVERS[self.solver] == "hals" and beta != 2:
            raise ValueError(f"beta_loss is {self.beta_loss!r}, but solver {self.solver!r} minimises 'frobenius' only")
        return beta

    def _seed(self) -> int | np.random.RandomState | None:
        if isinstance(self.random_state, np.random.RandomState | None):
            return self.random_state
        return integer(self.random_state, "random_state", 0, 2**32 - 1)

    def _check_data(self, X: Any, mask: Any, reset: bool) -> tuple[Floats, Floats | None]:
        """Return X as float32 or float64 with missing entries filled in, and the weights of its entries."""
        dtypes = [np.float64, np.float32]
        if mask is None:
            return validate_data(self, X, dtype=dtypes, reset=reset, ensure_non_negative=True), None
        if _SOLVERS[self.solver] == "hals":
            raise ValueError(f"mask cannot be combined with solver {self.solver!r}, only with 'mu' and 'newton'")
        X = validate_data(self, X, dtype=dtypes, reset=reset, ensure_all_finite=False)
        weights = check_array(
            _as_sklearn_takes(mask, "mask"), dtype=np.float32, ensure_non_negative=True, input_name="mask"
        )
        if weights.shape != X.shape:
            raise ValueError(f"mask has shape {weights.shape}, but {X.shape} as X is needed")
        total = weights.sum(dtype=np.float64)
        if not total:
            raise ValueError("mask is 0 everywhere, but some entries must not be missing")
        X = np.where(weights > 0, X, 0)
        check_array(X, input_name="X", ensure_non_negative=True)
        # Missing entries matter to the initial values only, for which they are the average.
        return np.where(weights > 0, X, (weights * X).sum(dtype=np.float64) / total).astype(
            X.dtype, copy=False
        ), weights

    @property
    def _n_features_out(self) -> int:
        """Columns of what `transform` returns, for `get_feature_names_out`."""
        return len(self.components_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _place_of(X: Any) -> Any:
    """Return X if it is a tensor that a device serves, otherwise None."""
    return X if device_of(X=X) is not None else None


def _as_sklearn_takes(x: Any, name: str) -> Any:
    """Return tensors, masked arrays and what only speaks DLPack as arrays; leave the rest to scikit-learn's checks."""
    if is_tensor(x) or (hasattr(x, "__dlpack__") and not hasattr(x, "__array__")):
        return to_numpy(on_host(x), name)
    return unmasked(x, name)


def _is_named(value: Any, name: str) -> bool:
    return isinstance(value, str) and value == name


def _custom(W: Any, H: Any, shape: tuple[int, int], n_components: Any) -> tuple[Floats, Floats]:
    """Return the caller's initial W and H."""
    if W is None or H is None:
        raise ValueError("init is 'custom', but W or H is missing: both are needed")
    if n_components is None:
        n_components = shape[1]
    start = []
    for name, matrix in (("W", W), ("H", H)):
        array = check_array(
            _as_sklearn_takes(matrix, name), dtype=[np.float64, np.float32], ensure_non_negative=True, input_name=name
        )
        if not array.any():
            raise ValueError(f"{name} is zero everywhere, but some entries must be positive")
        start.append(array)
    K = len(start[1]) if _is_named(n_components, "auto") else int(n_components)
    for name, array, wanted in zip("WH", start, ((shape[0], K), (K, shape[1])), strict=True):
        if array.shape != wanted:
            raise ValueError(f"{name} has shape {array.shape}, but {wanted} is needed")
    return start[0], start[1]


def _scale_of(X: Floats, beta: float) -> float:
    """Return the power of 4 to divide by so that powers and sums of float32 neither overflow nor vanish; usually 1."""
    peak = float(X.max())
    if peak > LARGEST:
        raise ValueError(f"X holds {peak:g}, but must fit into float32")
    limit = 10 ** (6 / max(1, abs(beta) / 2))
    if peak == 0 or 1 / limit <= peak <= limit:
        return 1.0
    return 4.0 ** max(math.frexp(peak)[1] // 2, -100)


def _divided(X: Floats, scale: float) -> Floats:
    # The scale itself may be a denormal number in float32, and flushed to zero.
    return X if scale == 1 else np.ldexp(X, -int(math.log2(scale)))
