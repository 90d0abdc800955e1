"""Resampling in blocks, for streams at another rate than their model's."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from l2i_fast.arrays import Float32
from l2i_fast.forks import importing

#: Samples that soxr takes at a time: several of its own blocks at once would leave samples waiting for the next call.
_PORTION = 512
#: Largest ratio of the two rates: soxr holds about 900 samples at the lower rate back.
_MOST = 1000
#: Largest error of soxr's clock, which counts time in 2^-32 samples, and seconds for which the latency allows for it.
_CLOCK_ERROR, _LONGEST = 2**-32, 7 * 24 * 3600


class Rates:
    """Converts a signal to the model's rate and the model's output back, in blocks of any size.

    Resampling in blocks (soxr, high quality) holds a varying number of samples back. The output is preceded by as many
    zeros as are ever missing, so that each block returns as many samples as it has, and the output does not depend on
    the blocks.

    Parameters
    ----------
    rate, model_rate : int
        Hz.
    delay : int
        Samples at the model's rate by which the model's output lags behind its input.

    Raises
    ------
    ValueError
        For a rate that is more than 1000 times the other.
    """

    def __init__(self, rate: int, model_rate: int, delay: int) -> None:
        lowest, highest = math.ceil(model_rate / _MOST), model_rate * _MOST
        if not lowest <= rate <= highest:
            raise ValueError(
                f"samplerate is {rate}, but must be from {lowest} to {highest} for a model of {model_rate} Hz"
            )
        self._rates, self._delay = (rate, model_rate), delay
        held = (_held(rate, model_rate) + delay) * rate / model_rate + _held(model_rate, rate)
        late = 2 * _CLOCK_ERROR * _LONGEST * rate
        #: Samples by which the output lags behind the input.
        self.latency = math.ceil(held + late)
        self.begin()

    def begin(self) -> None:
        """Begin a new signal."""
        rate, model_rate = self._rates
        self._inward, self._outward = _resampler(rate, model_rate), _resampler(model_rate, rate)
        self._early = self._delay  # samples still to drop, so that output and input are in time
        self._waiting = np.zeros(self.latency, np.float32)
        self._owed = self.latency

    def to_model(self, samples: Float32, last: bool = False) -> Float32:
        """Return the signal at the model's rate, as far as it is determined; all of it after the `last` samples."""
        self._owed += samples.size
        return _resampled(self._inward, samples, last)

    def from_model(self, samples: Float32, n: int) -> Float32:
        """Take output of the model and return the next `n` samples at the signal's rate."""
        self._take(samples, last=False)
        return self._give(n)

    def finish(self, samples: Float32) -> Float32:
        """Take the end of the model's output and return the remaining samples: as many as went in, all in all."""
        self._take(samples, last=True)
        return self._give(self._owed)

    def _take(self, samples: Float32, last: bool) -> None:
        dropped = min(self._early, samples.size)
        self._early -= dropped
        self._waiting = np.concatenate((self._waiting, _resampled(self._outward, samples[dropped:], last)))

    def _give(self, n: int) -> Float32:
        given, self._waiting = self._waiting[:n], self._waiting[n:]
        self._owed -= n
        if given.size < n:  # by rounding at the end of a signal, or a sample after weeks
            given = np.concatenate((given, np.zeros(n - given.size, np.float32)))
        return given


def _resampler(orig_sr: int, target_sr: int):  # type: ignore[no-untyped-def]
    with importing:
        import soxr

    return soxr.ResampleStream(orig_sr, target_sr, 1, dtype="float32", quality="HQ")


def _resampled(resampler, samples: Float32, last: bool) -> Float32:  # type: ignore[no-untyped-def]
    starts = range(0, max(1, samples.size), _PORTION)
    portions = (samples[i : i + _PORTION] for i in starts)
    parts = [resampler.resample_chunk(x, last=last and i == starts[-1]) for i, x in zip(starts, portions, strict=True)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@lru_cache(maxsize=64)
def _held(orig_sr: int, target_sr: int) -> float:
    """Return a bound on the samples (at `target_sr`) that soxr ever holds back.

    soxr converts in stages, of which one works in blocks, and a second one if the rate rises more than fourfold; the
    others hold back the length of their filters. A block stage holds most back just before a block is complete, and
    each time the same. So with one, the wait for the first output is the bound. With two, the second one may happen to
    hold less back at that time: by less than its block, which divides all portions that come out.
    """
    n_portions = 8
    resampler = _resampler(orig_sr, target_sr)
    silence = np.zeros(max(1, orig_sr // target_sr), np.float32)
    taken, given, most = 0, 0, 0.0
    portions: list[int] = []
    while len(portions) < n_portions:
        taken += silence.size
        most = max(most, taken * target_sr / orig_sr - given)
        if n := resampler.resample_chunk(silence).size:
            portions.append(n)
            given += n
    block = math.gcd(*portions) if target_sr > 4 * orig_sr else 0
    return most + block + 1  # rounding
