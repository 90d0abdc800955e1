"""Conversion of rates in blocks, with a delay in between in place of a model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from l2i_fast.stream.rates import Rates

from ..helpers import refused

Samples = NDArray[np.float32]
#: The usual rates, and ratios for which soxr has one stage that works in blocks, two, and stages of half the rate.
RATES = st.one_of(
    st.sampled_from([1000, 6000, 8000, 11025, 16000, 22050, 48000, 96000, 192000, 384000]), st.integers(500, 200_000)
)
SIZES = st.lists(st.one_of(st.integers(1, 64), st.integers(1, 30_000)), min_size=1, max_size=6)


class Delayed:
    """Returns a signal at the rate of a stream after a trip through another rate, delayed there by `delay` samples."""

    def __init__(self, rate: int, model_rate: int, delay: int) -> None:
        self.rates = Rates(rate, model_rate, delay)
        self._delay = delay
        self._held = np.zeros(delay, np.float32)

    def push(self, block: Samples) -> Samples:
        self._held = np.concatenate((self._held, self.rates.to_model(block)))
        n = len(self._held) - self._delay
        late, self._held = self._held[:n], self._held[n:]
        return self.rates.from_model(late, len(block))

    def flush(self) -> Samples:
        return self.rates.finish(np.concatenate((self._held, self.rates.to_model(np.empty(0, np.float32), last=True))))


def blocks_of(y: Samples, sizes: Iterator[int]) -> Iterator[Samples]:
    at = 0
    while at < len(y):
        size = next(sizes)
        yield y[at : at + size]
        at += size


def there_and_back(y: Samples, rate: int, model_rate: int) -> Samples:
    """The whole signal converted at once, as many samples as it has: rounding may add or take some at its end."""
    back = soxr.resample(soxr.resample(y, rate, model_rate), model_rate, rate)[: len(y)]
    return np.pad(back, (0, len(y) - len(back)))


@settings(max_examples=25, deadline=None)
@given(rate=RATES, delay=st.integers(0, 3000), sizes=SIZES, seed=st.integers(0, 1000))
def test_any_blocks_give_the_signal_converted_at_once(rate: int, delay: int, sizes: list[int], seed: int) -> None:
    y = np.random.default_rng(seed).standard_normal(40_000).astype(np.float32)
    stream = Delayed(rate, 44100, delay)
    latency = stream.rates.latency
    out = []
    for block in blocks_of(y, cycle(sizes)):
        out.append(stream.push(block))
        assert len(out[-1]) == len(block)
    rest = stream.flush()
    assert len(rest) == latency
    answer = np.concatenate((*out, rest))
    assert not answer[:latency].any()
    np.testing.assert_array_equal(answer[latency:], there_and_back(y, rate, 44100))


@pytest.mark.parametrize("rate", [1000, 8000, 9_999, 11025, 44_056, 48000, 192_000])
def test_no_sample_is_missing_in_a_long_signal(rate: int, rng: np.random.Generator) -> None:
    """A constant: a zero in place of a sample that has not come yet would show."""
    ones = np.ones(8192, np.float32)
    stream = Delayed(rate, 44100, 1024)
    begins = 2 * stream.rates.latency  # the resamplers' ringing at the beginning is over
    total = 0
    while total < min(600 * rate, 5_000_000):
        y = stream.push(ones[: rng.integers(1, 1000 if rng.random() < 0.9 else 8192)])
        total += len(y)
        if total - len(y) > begins:
            assert np.abs(y - 1).max() < 1e-3


@pytest.mark.parametrize(("rate", "milliseconds"), [(48000, 64), (16000, 122), (11025, 192), (8000, 259)])
def test_the_latency_is_that_of_the_documents(rate: int, milliseconds: int) -> None:
    assert round(1000 * Rates(rate, 44100, 1024).latency / rate) == milliseconds


def test_a_click_comes_after_the_latency() -> None:
    for rate in (8000, 11025, 48000, 96000):
        click = np.zeros(rate, np.float32)
        click[rate // 3] = 1
        stream = Delayed(rate, 44100, 1024)
        answer = np.concatenate((stream.push(click), stream.flush()))
        assert np.abs(answer).argmax() == stream.rates.latency + rate // 3


def test_a_new_signal_begins_anew(rng: np.random.Generator) -> None:
    y = rng.standard_normal(20_000).astype(np.float32)
    stream = Delayed(11025, 44100, 0)
    first = np.concatenate((stream.push(y), stream.flush()))
    stream.rates.begin()
    np.testing.assert_array_equal(np.concatenate((stream.push(y), stream.flush())), first)


def test_rates_too_far_apart_are_refused() -> None:
    for rate in (1, 44, 44_100_001, 2_000_000_000):
        with refused(ValueError, f"samplerate is {rate}, but must be from 45 to 44100000 for a model of 44100 Hz"):
            Rates(rate, 44100, 1024)
    assert Rates(45, 44100, 1024).latency > 45
