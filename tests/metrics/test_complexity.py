"""Sparseness and complexity, against their formulas and Quantus itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import quantus
from numpy.typing import NDArray

import l2i_fast as l2i
from l2i_fast.metrics.complexity import complexity, published_complexity
from l2i_fast.settings import DOMAINS

from .support import result_of


def gini(x: NDArray[np.float64]) -> float:
    """By mean absolute differences of all pairs."""
    return float(np.abs(x[:, None] - x).mean() / (2 * x.mean()))


def entropy(x: NDArray[np.float64]) -> float:
    shares = x[x > 0] / x.sum()
    return float(-(shares * np.log(shares)).sum())


def spectrum(y: np.ndarray) -> NDArray[np.float64]:
    return np.abs(l2i.stft(y / np.abs(y).max(), n_fft=256, hop_length=64)).astype(np.float64)


@pytest.mark.parametrize("domain", DOMAINS)
def test_what_is_kept_is_scored(domain: str, rng: np.random.Generator) -> None:
    y, mask = rng.standard_normal(1000).astype(np.float32), rng.random((129, 16))
    A = spectrum(y)
    gain = mask**4 / (mask**4 + (1 - mask) ** 4) if domain == "wiener" else mask
    kept = (mask * np.log1p(A) if domain == "log" else np.log1p(gain * A)).ravel()
    found = complexity(result_of(y, mask, domain))
    assert found.sparseness == pytest.approx(gini(kept), abs=1e-5)
    assert found.complexity == pytest.approx(entropy(kept), abs=1e-5)


def test_the_published_scores_are_those_of_the_mask(rng: np.random.Generator) -> None:
    y, mask = rng.standard_normal(1000).astype(np.float32), rng.random((129, 16)) ** 4
    found = published_complexity(result_of(y, mask))
    assert found.sparseness == pytest.approx(gini(mask.ravel()), abs=1e-5)
    assert found.complexity == pytest.approx(entropy(mask.ravel()), abs=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_same_as_a_call_of_quantus(rng: np.random.Generator) -> None:
    mask = rng.random((129, 16)).astype(np.float32)
    batch = {"model": None, "x_batch": mask[None, None], "y_batch": np.zeros(1), "a_batch": mask[None, None].copy()}
    found = published_complexity(result_of(np.ones(1000, np.float32), mask))
    for metric, score in zip((quantus.Sparseness, quantus.Complexity), found, strict=True):
        (expected,) = metric(abs=True, disable_warnings=True, display_progressbar=False)(**batch, softmax=False)
        assert score == pytest.approx(float(expected), rel=1e-4)


def test_extremes() -> None:
    y = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    one = np.zeros((129, 16))
    one[5, 7] = 0.3
    assert published_complexity(result_of(y, one)) == pytest.approx((1, 0), abs=1e-3)
    assert published_complexity(result_of(y, np.float32(0.2))) == pytest.approx((0, math.log(129 * 16)), abs=1e-6)


def test_nothing_kept() -> None:
    silence, noise = np.zeros(2000, np.float32), np.ones(2000, np.float32)
    assert all(map(math.isnan, complexity(result_of(silence, np.float32(1)))))
    assert all(map(math.isnan, complexity(result_of(noise, np.float32(0)))))
    assert all(map(math.isnan, published_complexity(result_of(noise, np.float32(0)))))
