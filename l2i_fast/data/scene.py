"""Synthetic recordings for the demo, by simple physical models of everyday sounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
from scipy import signal

from l2i_fast.arguments import generator_of, one_of
from l2i_fast.audio import check_rate, scale_to_peak
from l2i_fast.data.corruptions import mix_at_level

Audio = npt.NDArray[np.float32]
Generator = np.random.Generator


def demo_scene(kind: str = "clock_tick", seed: int = 0, sr: int = 44100) -> Audio:
    """Make a recording with one sound in front and a softer one behind.

    Parameters
    ----------
    kind : str
        The sound in front, one of `SCENES`: each also names the sound behind it and its level in dB.
    seed : int
        Different seeds give different recordings of the same kind.
    sr : int
        Rate in Hz, at least 8,000.

    Returns
    -------
    y : float32, shape (5 * sr,)
        Its peak is 0.9.
    """
    one_of(kind, "kind", SCENES)
    if check_rate("sr", sr) < 8000:
        raise ValueError(f"sr is {sr}, but must be at least 8000 Hz")
    rng = generator_of(seed, "seed")
    behind, level_db = SCENES[kind]
    front = SOUNDS[kind](sr, 5.0, rng)
    mixed, _ = scale_to_peak(mix_at_level(front, SOUNDS[behind](sr, 5.0, rng), level_db))
    return np.float32(0.9) * mixed


def clock_tick(sr: int, seconds: float, rng: Generator) -> Audio:
    """A mechanical clock: alternating tick and tock, each a few clicks of the escapement ringing in the case."""
    y = np.zeros(round(seconds * sr))
    period = rng.uniform(0.25, 0.5)  # seconds from tick to tock
    voices = [_resonance(sr, rng.uniform(300, 8000, 8), rng.uniform(0.003, 0.025, 8), rng) for _ in range(2)]
    # The wheel hits the pallet, slides and locks: clicks some milliseconds apart, the last the strongest.
    clicks = [(0.0, 0.4), (rng.uniform(0.004, 0.008), 0.25), (rng.uniform(0.010, 0.018), 1.0)]
    for i, start in enumerate(np.arange(rng.uniform(0, period), seconds, period)):
        for delay, strength in clicks:
            _add(y, voices[i % 2] * strength * (1.0, 0.6)[i % 2], round((start + delay) * sr))
    return _finish(y + 1e-3 * np.abs(y).max() * _noise(len(y), sr, rng, 50, 4000))


def rain(sr: int, seconds: float, rng: Generator) -> Audio:
    """Steady rain: the hiss of countless drops, and single ones nearby whose bubbles ring."""
    n = round(seconds * sr)
    y = _noise(n, sr, rng, 100, 16000, slope=-1.5)
    for start in _poisson(60, seconds, rng):
        drop = _resonance(sr, rng.uniform(1000, 9000, 2), rng.uniform(0.001, 0.004, 2), rng)
        _add(y, drop * rng.lognormal(-0.2, 0.7), round(start * sr))
    return _finish(y)


def helicopter(sr: int, seconds: float, rng: Generator) -> Audio:
    """A helicopter: blade slap at 10 to 20 beats a second over the roar of the turbine."""
    n = round(seconds * sr)
    t = np.arange(n) / sr
    phase = 2 * np.pi * rng.uniform(11, 18) * t + 0.3 * np.sin(2 * np.pi * 0.4 * t)
    slap = np.exp(3 * (np.cos(phase) - 1))  # a pulse per blade
    drift = 1 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.1, 0.2) * t + rng.uniform(0, 6))  # coming and going
    low, roar = _noise(n, sr, rng, 30, 500, slope=-4), _noise(n, sr, rng, 100, 4000, slope=-5)
    return _finish(drift * ((0.4 + slap) * low + (1 + slap) * 0.35 * roar))


def chainsaw(sr: int, seconds: float, rng: Generator) -> Audio:
    """A chainsaw: exhaust pulses of a small two-stroke engine under changing load, and the teeth's noise."""
    n = round(seconds * sr)
    t = np.arange(n) / sr
    load = 1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.2, 0.5) * t + rng.uniform(0, 6))
    wobble = 1 + 0.01 * _noise(n, sr, rng, 2, 20)
    phase = np.cumsum(rng.uniform(90, 130) * load * wobble) / sr
    firing = np.exp(-8 * (phase % 1)) * (1 + 0.3 * rng.standard_normal(int(phase[-1]) + 1)[phase.astype(int)])
    exhaust = signal.lfilter(*signal.butter(2, [100 / (sr / 2), 3500 / (sr / 2)], "band"), firing)
    exhaust /= exhaust.std()
    teeth = _noise(n, sr, rng, 300, 14000, slope=-2) * (0.6 + 0.4 * np.exp(-4 * (phase % 1)))
    return _finish(load**4 * (exhaust + 0.7 * teeth))


def sea_waves(sr: int, seconds: float, rng: Generator) -> Audio:
    """Surf: noise that swells, breaks brighter and runs out, wave after wave."""
    n = round(seconds * sr)
    t = np.arange(n) / sr
    swell = np.zeros(n)
    for start in np.arange(rng.uniform(-2, 0), seconds, rng.uniform(2.5, 4.0)):
        since = np.maximum(t - start, 0)
        swell += since**2 * np.exp(-since / 0.5)
    swell /= swell.max()
    deep, foam = _noise(n, sr, rng, 200, 2500, slope=-3), _noise(n, sr, rng, 400, 8000, slope=-3)
    return _finish((0.35 + swell) * deep + (0.15 + 1.2 * swell**2) * foam)


def crackling_fire(sr: int, seconds: float, rng: Generator) -> Audio:
    """A wood fire: the flames' low rumble and hiss, and crackles at random, a few of them loud."""
    n = round(seconds * sr)
    y = _noise(n, sr, rng, 20, 250, slope=-4) + 0.12 * _noise(n, sr, rng, 500, 15000, slope=-1)
    for start in _poisson(25, seconds, rng):
        crack = _resonance(sr, rng.uniform(800, 12000, 5), rng.uniform(0.0004, 0.003, 5), rng)
        _add(y, crack * rng.lognormal(0.3, 1.0), round(start * sr))
    return _finish(y)


def dog(sr: int, seconds: float, rng: Generator) -> Audio:
    """A barking dog: short glottal bursts, rising then falling in pitch, through the formants of a muzzle."""
    y = np.zeros(round(seconds * sr))
    pitch, formants = rng.uniform(450, 700), (rng.uniform(700, 1100), rng.uniform(1500, 2200), 3500.0)
    start = rng.uniform(0.1, 0.5)
    while start < seconds - 0.3:
        t = np.arange(round(rng.uniform(0.14, 0.2) * sr)) / sr
        shape = t / t[-1]
        phase = np.cumsum(pitch * rng.uniform(0.9, 1.1) * (0.75 + 0.5 * np.sin(np.pi * shape**0.7))) / sr
        source = signal.sawtooth(2 * np.pi * phase) + 0.7 * rng.standard_normal(len(t))
        source = signal.lfilter(*signal.butter(1, 2000, fs=sr), source)
        voice = np.zeros(len(t))
        for gain, formant in zip((1.0, 0.6, 0.25), formants, strict=True):
            voice += gain * signal.lfilter(*signal.iirpeak(formant, 4, fs=sr), source)
        _add(y, voice * np.minimum(shape / 0.25, 1) ** 2 * np.minimum((1 - shape) / 0.5, 1), round(start * sr))
        start += rng.choice([0.5, 1.2, 2.5])
    t = np.arange(round(0.4 * sr)) / sr
    room = rng.standard_normal(len(t)) * np.exp(-t / 0.06) / np.sqrt(0.03 * sr)
    return _finish(y + 0.5 * signal.fftconvolve(y, room)[: len(y)])


SOUNDS: dict[str, Callable[[int, float, Generator], Audio]] = {
    "chainsaw": chainsaw,
    "clock_tick": clock_tick,
    "crackling_fire": crackling_fire,
    "dog": dog,
    "helicopter": helicopter,
    "rain": rain,
    "sea_waves": sea_waves,
}

# The sound in front: the sound behind, and its level relative to the front in dB.
SCENES: dict[str, tuple[str, float]] = {
    "clock_tick": ("rain", -20.0),
    "rain": ("clock_tick", -15.0),
    "helicopter": ("clock_tick", -25.0),
    "chainsaw": ("sea_waves", -20.0),
    "sea_waves": ("clock_tick", -25.0),
    "crackling_fire": ("sea_waves", -20.0),
    "dog": ("rain", -45.0),
}


def _resonance(sr: int, hertz: Iterable[float], decay: Iterable[float], rng: Generator) -> npt.NDArray[np.float64]:
    """Sum damped oscillations of given frequencies and decay times (s); partials above 0.45 sr stay out."""
    decays = list(decay)
    t = np.arange(round(7 * max(decays) * sr)) / sr
    y = np.zeros(len(t))
    for f, tau in zip(hertz, decays, strict=True):
        if f < 0.45 * sr:
            y += rng.uniform(0.4, 1) * np.exp(-t / tau) * np.sin(2 * np.pi * f * t + rng.uniform(0, 2 * np.pi))
    return y


def _noise(n: int, sr: int, rng: Generator, low: float, high: float, slope: float = 0.0) -> npt.NDArray[np.float64]:
    """Gaussian noise of RMS 1 from `low` to `high` Hz (12 dB an octave beyond), tilted by `slope` dB an octave."""
    hertz = np.fft.rfftfreq(n, 1 / sr)
    edges = np.hypot(1, (low / np.maximum(hertz, 1e-3)) ** 2) * np.hypot(1, (hertz / high) ** 2)
    tilt = np.maximum(hertz, low) ** (slope / 6.02)
    y = np.fft.irfft(tilt / edges * np.fft.rfft(rng.standard_normal(n)), n)
    return np.asarray(y / y.std())


def _poisson(rate: float, seconds: float, rng: Generator) -> npt.NDArray[np.float64]:
    """Moments (s) of independent events, `rate` a second."""
    return rng.uniform(0, seconds, rng.poisson(rate * seconds))


def _add(y: npt.NDArray[np.float64], event: npt.NDArray[np.float64], start: int) -> None:
    part = event[: max(0, len(y) - start)]
    y[start : start + len(part)] += part


def _finish(y: npt.NDArray[np.float64]) -> Audio:
    return scale_to_peak(y)[0]
