"""Sources of live sound."""

import time

import soundfile

from l2i_fast.live.sources import Recording

from .support import RATE, noise


def test_real_speed_is_real(place, rng):
    soundfile.write("in.wav", noise(rng, RATE), RATE)
    source = Recording("in.wav", 512, paced=True)
    begin, samples, waits = time.monotonic(), 0, 0
    with source:
        while (y := source.read()) is not None:
            samples += len(y)
            elapsed = time.monotonic() - begin
            assert samples / RATE <= elapsed + 1e-3
            waits += 1
    assert samples == RATE
    assert elapsed > 0.95
