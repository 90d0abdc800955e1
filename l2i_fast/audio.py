"""Audio input and output: reading, writing, resampling and peak scaling.

Signals are mono float32, full scale +-1. `soundfile` and `soxr` are imported where they are used, so the package works
without them as long as nothing has to be decoded or resampled.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from l2i_fast.arrays import from_pcm, on_host, to_numpy
from l2i_fast.defaults import default_settings
from l2i_fast.files import as_path, write_whole
from l2i_fast.forks import importing
from l2i_fast.recording import RecordingFile, check_rate, import_optional, soundfile_reason, writing_error

__all__ = [
    "Sound",
    "as_mono_float32",
    "check_rate",
    "read_audio",
    "read_sound",
    "resample",
    "scale_to_peak",
    "write_audio",
]

Audio = npt.NDArray[np.float32]
#: Samples of all channels to decode at a time, so that no recording lies in memory in all its channels.
_BLOCK = 1 << 16


class Sound(NamedTuple):
    """A recording as read by `read_sound`.

    Attributes
    ----------
    samples : float32, shape (N,)
        The mean of the channels.
    rate : int
        Rate of the samples in Hz.
    complete : bool
        False if the file ends before the length that its header states, or is damaged.
    """

    samples: Audio
    rate: int
    complete: bool


def read_audio(source: Any, sr: int | None = None) -> tuple[Audio, int]:
    """Read a recording as mono float32, to its end, whatever its header states.

    A file that ends before the length that its header states, or that is damaged, gives the samples up to there, and a
    `RuntimeWarning`.

    Parameters
    ----------
    source : path-like or (samples, rate)
        A file or pipe that libsndfile reads (WAV, FLAC, OGG, MP3, AIFF and others) or, with PyAV, FFmpeg (M4A, WMA and
        videos); a URL that fsspec knows, as text; or samples, NumPy or torch, of
        shape (N,) or (N, channels), with their rate in Hz. Integer PCM of b bits is divided by 2**(b-1);
        uint8 is (x - 128) / 128. Rates are 100 to 10 million Hz. A pipe is first copied to a temporary
        file.
    sr : int, optional
        Rate to resample the recording to, in Hz; its own rate by default.

    Returns
    -------
    y : float32, shape (N,)
        The mean of the channels. It shares memory with samples that need no conversion.
    sr : int
        The rate of y in Hz.

    Raises
    ------
    FileNotFoundError, OSError
        If the file does not exist, or cannot be read, for example without permission.
    ValueError
        If the file is not audio, or the audio is empty or holds NaN or infinity, or for a rate out of range.
    ImportError
        If soundfile or soxr is needed and not installed.
    """
    return read_sound(source, sr)[:2]


@default_settings()
def read_sound(source: Any, sr: int | None = None) -> Sound:
    """Read a recording as `read_audio` does, and tell whether it is complete."""
    complete = True
    if isinstance(source, (str, os.PathLike)):
        with RecordingFile(source) as file:
            rate, size = file.rate, max(1, _BLOCK // file.channels)
            blocks = []
            while len(block := file.read(size)):
                blocks.append(block.mean(axis=1))
        y, complete = as_mono_float32(np.concatenate(blocks) if blocks else np.empty(0), file.name), file.complete
    elif isinstance(source, (tuple, list)) and len(source) == 2:
        y, rate = as_mono_float32(source[0]), check_rate("the rate in source", source[1])
    else:
        raise TypeError(f"source is {type(source).__name__}, but must be a path or (samples, rate)")
    if sr is None or check_rate("sr", sr) == rate:
        return Sound(y, rate, complete)
    return Sound(resample(y, rate, sr), int(sr), complete)


def as_mono_float32(samples: Any, name: str = "samples") -> Audio:
    """Convert samples to mono float32.

    Parameters
    ----------
    samples : array, shape (N,) or (N, channels)
        NumPy, torch, or anything that NumPy converts to an array; floating, or PCM as int8, int16, int32 or uint8.
    name : str
        Name of the argument, for errors.

    Returns
    -------
    y : float32, shape (N,), contiguous
        The mean of the channels; the same memory if nothing has to change.

    Raises
    ------
    TypeError
        For a dtype that is neither floating nor PCM, and objects that are no arrays.
    ValueError
        For another shape, no samples, NaN, infinity or masked values.
    """
    x = to_numpy(on_host(samples), name)
    if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[1] > max(8, x.shape[0])):
        raise ValueError(f"{name} has shape {x.shape}, but (N,) or (N, channels) is needed")
    if x.size == 0:
        raise ValueError(f"{name} is empty, but at least one sample is needed")
    x = from_pcm(x, name)
    with np.errstate(all="ignore"):  # overflow is refused below as infinite
        if x.ndim == 2:
            x = x[:, 0] if x.shape[1] == 1 else x.mean(axis=1, dtype=np.result_type(x, np.float32))
        y = np.ascontiguousarray(x, dtype=np.float32)
    if not np.isfinite(y).all():
        first = int(np.argmin(np.isfinite(y)))
        raise ValueError(f"{name} holds NaN or infinity (first at sample {first}), but finite samples are needed")
    return y


def write_audio(path: str | os.PathLike[str], samples: Any, sr: int, subtype: str | None = None) -> Path:
    """Write samples to a WAV or FLAC file, whole or not at all. The same samples give the same bytes.

    Parameters
    ----------
    path : path-like
        Ends in .wav or .flac. A missing folder is made; an existing file is replaced, also behind a symbolic link.
    samples : array, shape (N,) or (N, channels)
        Floating samples. Integer subtypes hold +-1 and clip samples beyond.
    sr : int
        Rate in Hz.
    subtype : str, optional
        libsndfile's name of the encoding; by default FLOAT for WAV (lossless) and PCM_24 for FLAC.

    Returns
    -------
    path : Path
        The file written.
    """
    path = as_path("path", path)
    defaults = {".wav": "FLOAT", ".flac": "PCM_24"}
    ending = path.suffix.lower()
    if ending not in defaults:
        raise ValueError(f"path is {path.name!r}, but must end in .wav or .flac")
    subtype = subtype or defaults[ending]
    rate = check_rate("sr", sr)
    x = to_numpy(on_host(samples), "samples")
    if not np.issubdtype(x.dtype, np.floating):
        raise TypeError(f"samples has dtype {x.dtype}, but floating samples are needed")
    if x.ndim not in (1, 2) or x.size == 0:
        raise ValueError(f"samples has shape {x.shape}, but (N,) or (N, channels) with at least one sample is needed")
    x = x.astype(np.float32, copy=False)
    if not np.isfinite(x).all():
        raise ValueError("samples holds NaN or infinity, but finite samples are needed")
    try:
        if (ending, subtype) == (".wav", "FLOAT"):
            # libsndfile writes the time of day into float WAV files; SciPy's bytes are reproducible.
            with importing:
                from scipy.io import wavfile

            write_whole(path, lambda part: wavfile.write(part, rate, x))
        else:
            soundfile = import_optional("soundfile", f"write {path.name}")
            write_whole(path, lambda part: soundfile.write(os.fsencode(part), x, rate, subtype=subtype))
    except (RuntimeError, TypeError, ValueError, struct.error) as error:
        if lost := writing_error(path, error):
            raise lost from error
        what = f"{subtype} with shape {x.shape} at {rate} Hz"
        raise ValueError(f"{path} cannot be written as {what}: {soundfile_reason(error)}") from error
    return path


def resample(y: Any, orig_sr: int, target_sr: int) -> Audio:
    """Resample with soxr in high quality (HQ); deterministic.

    Parameters
    ----------
    y : array, shape (N,)
        Mono samples, as `as_mono_float32` takes them.
    orig_sr, target_sr : int
        Rates in Hz.

    Returns
    -------
    z : float32, shape (ceil(N * target_sr / orig_sr),)
        y is extended by silence beyond its ends. Equal rates return y unchanged.
    """
    signal = as_mono_float32(y, "y")
    orig_sr, target_sr = check_rate("orig_sr", orig_sr), check_rate("target_sr", target_sr)
    if orig_sr == target_sr:
        return signal
    soxr = import_optional("soxr", f"resample from {orig_sr} to {target_sr} Hz")
    length = -(-len(signal) * target_sr // orig_sr)
    # soxr rounds its length to the nearest; two more samples of silence at either rate reach the ceiling.
    padded = np.pad(signal, (0, 2 + 2 * orig_sr // target_sr))
    return np.ascontiguousarray(soxr.resample(padded, orig_sr, target_sr, quality="HQ")[:length], np.float32)


def scale_to_peak(y: Any, mode: Literal["absolute", "signed"] = "absolute") -> tuple[Audio, float]:
    """Divide by the peak, so that scaled * scale is y again.

    Parameters
    ----------
    y : array, shape (N,)
        Mono samples.
    mode : "absolute" or "signed"
        "absolute" divides by max(abs(y)). "signed" divides by max(y), as the paper's code does; where max(y)
        is below a millionth of the absolute peak (a signal without a positive part), it divides by that peak.

    Returns
    -------
    scaled : float32, shape (N,)
        Within +-1 for "absolute". Silence is returned unchanged.
    scale : float
        The divisor; 1 for silence.
    """
    y = as_mono_float32(y, "y")
    if mode not in ("absolute", "signed"):
        raise ValueError(f"mode is {mode!r}, but must be 'absolute' or 'signed'")
    highest, lowest = float(y.max()), float(y.min())
    peak = max(highest, -lowest)
    if peak == 0:
        return y, 1.0
    scale = highest if mode == "signed" and highest > 1e-6 * peak else peak
    with np.errstate(under="ignore"):
        return (y / np.float64(scale)).astype(np.float32), scale
