"""What biologists and engineers measure in a sound, from its power spectrum over time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Power = NDArray[np.float32] | NDArray[np.float64]


class Measures(NamedTuple):
    """Measures of a sound; all but `level` are None for silence.

    Attributes
    ----------
    level : float
        Root mean square in dB relative to full scale, at least -200.
    peak_frequency : float
        Middle of the bin with the most energy, in Hz.
    centroid : float
        Mean frequency, weighted by energy, in Hz.
    low_frequency, high_frequency : float
        Frequencies below which 5 % and 95 % of the energy lie, in Hz: Raven's "Freq 5%" and "Freq 95%".
    bandwidth : float
        ``high_frequency - low_frequency``, Raven's "BW 90%".
    entropy : float
        Shannon entropy of the mean spectrum relative to that of a flat one, 0 to 1 (Sueur et al. 2008, eq. 5).
    duration : float
        Time from 5 % to 95 % of the energy in seconds: Raven's "Dur 90%".
    """

    level: float
    peak_frequency: float | None
    centroid: float | None
    low_frequency: float | None
    high_frequency: float | None
    bandwidth: float | None
    entropy: float | None
    duration: float | None


def measure(power: Power, sample_rate: int, n_fft: int, hop_length: int, scale: float = 1.0) -> Measures:
    """Measure a sound.

    Parameters
    ----------
    power : ndarray (F, T)
        Squared magnitudes of its STFT with a Hann window of `n_fft` samples.
    sample_rate : int
        Hz.
    n_fft, hop_length : int
        Samples.
    scale : float
        What the sound was divided by before the STFT.

    Returns
    -------
    Measures
    """
    x: NDArray[Any] = np.asarray(power, np.float64)
    sides = np.full(len(x), 2.0)  # the spectrum of a real signal is symmetric, but for its ends
    sides[0] = 1
    if n_fft % 2 == 0:
        sides[-1] = 1
    spectrum = sides * x.mean(axis=1)
    total = spectrum.sum()
    # Parseval: a frame's squared spectrum sums up to n_fft times its windowed squares, 3/8 of the squares for Hann.
    mean_square = total / (n_fft * n_fft * 0.375) * scale**2
    level = 10 * np.log10(max(mean_square, 1e-20))
    if total <= 0:
        return Measures(float(level), *[None] * 7)
    bin_width = sample_rate / n_fft
    frequencies = np.arange(len(x)) * bin_width
    share = spectrum / total
    low, high = np.clip((_quantiles(share) - 0.5) * bin_width, 0, sample_rate / 2)
    over_time = sides @ x
    begin, end = _quantiles(over_time / over_time.sum()) * hop_length / sample_rate
    positive = share[share > 0]
    return Measures(
        float(level),
        float(frequencies[np.argmax(spectrum)]),
        float(share @ frequencies),
        float(low),
        float(high),
        float(high - low),
        float(-(positive @ np.log(positive)) / np.log(len(x))),
        float(end - begin),
    )


def _quantiles(share: NDArray[Any]) -> NDArray[Any]:
    """Return where 5 % and 95 % of a distribution over equal cells lie, in cells from the beginning of the first."""
    edges = np.concatenate([[0.0], np.cumsum(share)])
    return np.interp([0.05, 0.95], edges, np.arange(len(edges)))
