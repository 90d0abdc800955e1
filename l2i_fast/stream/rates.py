"""Resampling in blocks, for streams at another rate than their model's."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from l2i_fast.arrays import Float32


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
    """

    def __init__(self, rate: int, model_rate: int, delay: int) -> None:
        self._rates, self._delay = (rate, model_rate), delay
        #: Samples by which the output lags behind the input.
        self.latency = _latency(rate, model_rate, delay)
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
        converted: Float32 = self._inward.resample_chunk(samples, last=last)
        return converted

    def from_model(self, samples: Float32, n: int) -> Float32:
        """Take output of the model and return the next `n` samples at the signal's rate."""
        self._take(samples, last=False)
        return self._give(n)

    def finish(self, samples: Float32) -> Float32:
        """Take the end of the model's output and return the remaining samples: as many as went in, all in all."""
        self._take(samples, last=True)
        missing = max(0, self._owed - self._waiting.size)
        self._waiting = np.concatenate((self._waiting, np.zeros(missing, np.float32)))
        return self._give(self._owed)

    def _take(self, samples: Float32, last: bool) -> None:
        dropped = min(self._early, samples.size)
        self._early -= dropped
        self._waiting = np.concatenate((self._waiting, self._outward.resample_chunk(samples[dropped:], last=last)))

    def _give(self, n: int) -> Float32:
        given, self._waiting = self._waiting[:n], self._waiting[n:]
        self._owed -= n
        return given


def _resampler(orig_sr: int, target_sr: int):  # type: ignore[no-untyped-def]
    import soxr

    return soxr.ResampleStream(orig_sr, target_sr, 1, dtype="float32", quality="HQ")


@lru_cache(maxsize=16)
def _latency(rate: int, model_rate: int, delay: int) -> int:
    """Return the largest number of missing samples, found by trying: soxr's stages have blocks of their own."""
    step, seconds = 32, 2
    inward, outward = _resampler(rate, model_rate), _resampler(model_rate, rate)
    silence = np.zeros(step, np.float32)
    missing = most = 0
    for _ in range(seconds * rate // step):
        samples = inward.resample_chunk(silence)
        dropped = min(delay, samples.size)
        delay -= dropped
        missing += step - outward.resample_chunk(samples[dropped:]).size
        most = max(most, missing)
    return most + step
