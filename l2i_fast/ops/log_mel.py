"""The mel spectrogram in decibels, with librosa's mel filters."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from l2i_fast.arguments import integer, number, positive_float32
from l2i_fast.arrays import LARGEST, ArrayT, Device, Float32, Float64, like, namespace, taken
from l2i_fast.backends import native
from l2i_fast.backends.dispatch import device_of, serving
from l2i_fast.defaults import default_settings
from l2i_fast.ops.framing import Window
from l2i_fast.ops.operands import frame_major, public, target
from l2i_fast.ops.stft import stft


def log_mel(
    X_or_y: ArrayT,
    sr: float = 44100,
    n_mels: int = 128,
    n_fft: int = 1024,
    hop_length: int = 512,
    win_length: int | None = None,
    window: Window = "hann",
    center: bool = True,
    pad_mode: str = "constant",
    fmin: float = 0.0,
    fmax: float | None = None,
    amin: float = 1e-10,
    top_db: float | None = None,
    *,
    out: ArrayT | None = None,
) -> ArrayT:
    """Mel spectrogram in decibels: ``10 log10(max(amin, mel @ |X|))``.

    The mel filters are those of `librosa.filters.mel` and sum magnitudes, not powers, as in the classifier's
    recipe; the logarithm is that of `librosa.power_to_db` with a reference of 1.

    Parameters
    ----------
    X_or_y : array or tensor
        Complex spectrum (..., n_fft // 2 + 1, T), or real samples (..., N), which are transformed by `stft` first.
    sr : float
        Sampling rate in Hz.
    n_mels : int
        Number of bands between `fmin` and `fmax` (Hz; half of `sr` if not given).
    n_fft, hop_length, win_length, window, center, pad_mode
        As in `stft`; all but `n_fft` apply to samples only.
    amin : float
        Lower bound of the values whose logarithm is taken.
    top_db : float, optional
        Raise all values of a clip to at least its maximum less this.
    out : same kind, float32, shape (..., n_mels, T), optional
        Array to fill and return, with memory of its own, laid out as in `stft`. CPU only.

    Returns
    -------
    M : same kind, float32, shape (..., n_mels, T)
        Decibels; frames are contiguous in memory.

    Raises
    ------
    ValueError, TypeError
        As in `stft`; for a setting that is not a finite number or out of range; for `fmin` that is not below `fmax`.
    """
    settings = Mel(sr, n_mels, fmin, fmax, amin, top_db)
    device = device_of(X_or_y=X_or_y)
    X: Any = taken(X_or_y, "X_or_y", device)
    if not (X.dtype.kind == "c" if device is None else X.is_complex()):
        X = stft(X, n_fft, hop_length, win_length, window, center, pad_mode)
    rows, lead = frame_major(X, "X", device)
    n_fft = integer(n_fft, "n_fft")
    if rows.shape[2] != n_fft // 2 + 1:
        raise ValueError(f"X has {rows.shape[2]} bins, but n_fft={n_fft} has {n_fft // 2 + 1}")
    bands = settings.bands(n_fft, device)
    into = target(out, X_or_y, lead, (settings.n_mels, rows.shape[1]), np.float32, {"X_or_y": X_or_y}, device)
    run = serving("log_mel", device)
    mel = run(rows, bands, settings.amin) if into is None else run(rows, bands, settings.amin, into)
    settings.limit(mel)
    return like(public(mel, lead), X_or_y) if out is None else out


class Mel:
    """Checked settings of a mel spectrogram."""

    def __init__(
        self, sr: float, n_mels: int, fmin: float, fmax: float | None, amin: float, top_db: float | None
    ) -> None:
        self.sr, self.n_mels = number(sr, "sr", 1), integer(n_mels, "n_mels")
        self.fmin = number(fmin, "fmin", 0)
        self.fmax = self.sr / 2 if fmax is None else number(fmax, "fmax")
        if self.fmin >= self.fmax:
            top = "half of sr" if fmax is None else "fmax"
            raise ValueError(f"fmin is {self.fmin:g}, but must be less than {top}, {self.fmax:g}")
        self.amin = positive_float32(amin, "amin")
        self.top_db = None if top_db is None else number(top_db, "top_db", 0)

    def bands(self, n_fft: int, device: Device) -> Any:
        """Return the mel filters as the backends take them."""
        return mel_bands(self.sr, n_fft, self.n_mels, self.fmin, self.fmax, device)

    def limit(self, mel: Any) -> None:
        """Raise the decibels (B, T, M) in place to at least each clip's maximum less `top_db`."""
        if self.top_db is not None and all(mel.shape):
            xp = namespace(mel)
            xp.maximum(
                mel, xp.amax(mel, axis=(1, 2), keepdims=True) - float(np.float32(min(self.top_db, LARGEST))), out=mel
            )


#: Slaney's mel scale: linear below 1000 Hz, with this step, and logarithmic above, 27 steps for a factor of 6.4.
_HZ_OF_A_MEL, _CORNER, _LOG_STEP = 200 / 3, 1000.0, np.log(6.4) / 27


@lru_cache(maxsize=8)
@default_settings()
def mel_filters(sr: float, n_fft: int, n_mels: int, fmin: float, fmax: float) -> Float32:
    """Return the filters of `librosa.filters.mel` as (n_fft // 2 + 1, n_mels).

    Triangles of equal area between neighbouring points of Slaney's mel scale (M. Slaney, "Auditory Toolbox", Technical
    Report 1998-010, Interval Research, 1998). librosa itself is not imported: it compiles functions with Numba on
    import, which fails for users without a folder to write to.
    """
    low, high = _mel_of_hz(np.array([fmin, fmax]))
    points = _hz_of_mel(np.linspace(low, high, n_mels + 2))
    if not (np.diff(points) > 1e-12 * fmax).all():
        raise ValueError(f"fmin is {fmin:g}, but must be further below fmax, {fmax:g}, for {n_mels} bands")
    ramps, widths = points[:, None] - np.fft.rfftfreq(n_fft, 1 / sr), np.diff(points)[:, None]
    triangles = np.maximum(0, np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:])).astype(np.float32)
    triangles *= (2 / (points[2:] - points[:-2]))[:, None]
    filters: Float32 = np.ascontiguousarray(triangles.T)
    filters.flags.writeable = False
    return filters


def _mel_of_hz(hz: Float64) -> Float64:
    above = _CORNER / _HZ_OF_A_MEL + np.log(np.maximum(hz, _CORNER) / _CORNER) / _LOG_STEP
    return np.where(hz >= _CORNER, above, hz / _HZ_OF_A_MEL)


def _hz_of_mel(mel: Float64) -> Float64:
    corner = _CORNER / _HZ_OF_A_MEL
    above = _CORNER * np.exp(_LOG_STEP * (np.maximum(mel, corner) - corner))
    return np.where(mel >= corner, above, mel * _HZ_OF_A_MEL)


@lru_cache(maxsize=8)
def mel_bands(sr: float, n_fft: int, n_mels: int, fmin: float, fmax: float, device: Device) -> Any:
    """Return `mel_filters` as the backends on the host, or on a device, take them."""
    filters = mel_filters(sr, n_fft, n_mels, fmin, fmax)
    if device is None:
        return native.mel_bands(filters)
    import torch

    with torch.inference_mode(False):  # kept beyond the caller's mode
        return torch.tensor(filters, device=device)
