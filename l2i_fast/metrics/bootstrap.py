"""Confidence intervals by the bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l2i_fast.arguments import integer, number

Statistic = Callable[[NDArray[np.float64]], float]


class Interval(NamedTuple):
    """An estimate with the bounds of its confidence interval.

    Attributes
    ----------
    estimate, low, high : float
        NaN without values.
    n : int
        Number of values.
    """

    estimate: float
    low: float
    high: float
    n: int


def interval(
    values: ArrayLike,
    statistic: Statistic = np.mean,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    groups: Sequence[Any] | None = None,
) -> Interval:
    """Return a statistic of values with its percentile interval (Efron and Tibshirani, 1993, section 13.3).

    Parameters
    ----------
    values : array (N,)
        NaN, the value of a score that is not defined, is left out.
    statistic : callable
        From values (M,) to a number.
    level : float
        Probability that the interval covers, between 0 and 1.
    n_resamples : int
    seed : int
    groups : sequence of N hashables, optional
        Values of one group, such as those of one recording, are drawn together.

    Raises
    ------
    ValueError
        Another number of groups than of values, or a level out of range.
    """
    x = np.asarray(values, np.float64)
    if groups is not None and len(groups) != len(x):
        raise ValueError(f"groups has length {len(groups)}, but one for each of {len(x)} values is needed")
    level, n_resamples = number(level, "level", 0, 1), integer(n_resamples, "n_resamples")
    defined = ~np.isnan(x)
    x = x[defined]
    if not len(x):
        return Interval(np.nan, np.nan, np.nan, 0)
    rng = np.random.default_rng(integer(seed, "seed", 0))
    names = range(len(x)) if groups is None else [g for g, keep in zip(groups, defined, strict=True) if keep]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    member = np.array([numbers[name] for name in names])
    if statistic is np.mean:
        drawn = _means(x, member, len(numbers), n_resamples, rng)
    elif statistic is np.median and len(numbers) == len(x):
        drawn = np.median(x[rng.integers(len(x), size=(n_resamples, len(x)))], axis=1)
    else:
        members = [x[member == i] for i in range(len(numbers))]
        picks = rng.integers(len(members), size=(n_resamples, len(members)))
        drawn = np.array([statistic(np.concatenate([members[i] for i in pick])) for pick in picks])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(x)), float(low), float(high), len(x))


def _means(
    x: NDArray[np.float64], member: NDArray[np.intp], n_groups: int, n_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    sums = np.bincount(member, x, n_groups)
    counts = np.bincount(member, minlength=n_groups)
    picks = rng.integers(n_groups, size=(n_resamples, n_groups))
    means: NDArray[np.float64] = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    return means
