"""Streams of networks that hear windows of samples: their answers are those of the same samples at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from l2i_fast.model import L2I

from ..helpers import refused, relative
from ..model.test_wrapping import RATE, model_of, small


@pytest.fixture(scope="module")
def model() -> L2I:
    return model_of(small())


def noise(rng: np.random.Generator, seconds: float) -> np.ndarray:
    level = np.repeat(rng.uniform(0.01, 0.3, 1 + round(seconds * 10)), RATE // 10)[: round(seconds * RATE)]
    return (rng.standard_normal(len(level)) * level).astype(np.float32)


@pytest.mark.parametrize("window", [0.3, 1.0])
def test_answers_are_those_of_the_newest_samples(model: L2I, window: float, rng: np.random.Generator) -> None:
    y = noise(rng, 4)
    stream = model.stream(mode="synchronous", window=window, refresh=0.2)
    hop, seen = model.analysis.hop_length, 0
    for start in range(0, len(y), 700):
        stream.push(y[start : start + 700])
        one = stream.latest
        if one is None or one.frame == seen:
            continue
        seen = one.frame
        heard = y[max(0, seen - round(window * RATE / hop)) * hop : seen * hop]
        np.testing.assert_allclose(one.probabilities, model.network.classify([heard])[0], atol=1e-5)
        with torch.inference_mode():
            _, _, z, _ = model.hear(torch.from_numpy(heard)[None], len(heard) // hop)
        target = model.classes.index(one.prediction[0])
        np.testing.assert_allclose(one.relevance, model.relevance(z[0], target), atol=1e-4)
    assert seen > 200


def test_a_pool_hears_what_streams_hear(model: L2I, rng: np.random.Generator) -> None:
    y = np.stack([noise(rng, 2) for _ in range(3)])
    settings = {"mode": "synchronous", "window": 1.0, "refresh": 0.2}
    pool = model.stream_pool(3, **settings)
    together = np.concatenate([pool.push(part) for part in np.split(y, [5000, 9000], 1)], 1)
    for one, answer in zip(y, together, strict=True):
        assert relative(answer, model.stream(**settings).push(one)) < 1e-4
    assert bool(together.any())


def test_other_rates_and_wrong_settings(model: L2I, rng: np.random.Generator) -> None:
    y = noise(rng, 2)
    with model.stream(44100, mode="synchronous", window=1.0) as stream:
        assert stream.push(np.repeat(y, 5), last=True).size == 5 * y.size + stream.latency
        assert stream.latest is not None
    with refused(ValueError, "incremental is True, but the network is a WindowedNetwork, and only ..."):
        model.stream(incremental=True)
