"""Audio input and output: reading, writing, resampling and peak scaling.

Signals are mono float32, full scale +-1. `soundfile` and `soxr` are imported where they are used, so the package works
without them as long as nothing has to be decoded or resampled.
"""

from __future__ import annotations

import importlib
import math
import os
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from l2i_fast.arrays import from_pcm
from l2i_fast.files import as_path, write_whole

__all__ = [
    "as_mono_float32",
    "check_rate",
    "read_audio",
    "resample",
    "scale_to_peak",
    "write_audio",
]

Audio = npt.NDArray[np.float32]

_BLOCK = 1 << 20  # frames decoded at a time, so that long stereo files never lie in memory as a whole


def read_audio(source: Any, sr: int | None = None) -> tuple[Audio, int]:
    """Read a recording as mono float32.

    Parameters
    ----------
    source : path-like or (samples, rate)
        A file that libsndfile reads (WAV, FLAC, OGG, MP3, AIFF and others), or samples, NumPy or torch, of
        shape (N,) or (N, channels), with their rate in Hz. Integer PCM of b bits is divided by 2**(b-1);
        uint8 is (x - 128) / 128.
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
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is not audio, or the audio is empty or holds NaN or infinity.
    ImportError
        If soundfile or soxr is needed and not installed.
    """
    if isinstance(source, (str, os.PathLike)):
        y, rate = _decode(Path(source))
    elif isinstance(source, (tuple, list)) and len(source) == 2:
        y, rate = as_mono_float32(source[0]), check_rate("the rate in source", source[1])
    else:
        raise TypeError(f"source is {type(source).__name__}, but must be a path or (samples, rate)")
    if sr is None or check_rate("sr", sr) == rate:
        return y, rate
    return resample(y, rate, sr), int(sr)


def as_mono_float32(samples: Any, name: str = "samples") -> Audio:
    """Convert samples to mono float32.

    Parameters
    ----------
    samples : array, shape (N,) or (N, channels)
        NumPy, torch or anything NumPy understands; floating, or PCM as int8, int16, int32 or uint8.
    name : str
        Name of the argument, for errors.

    Returns
    -------
    y : float32, shape (N,), contiguous
        The mean of the channels; the same memory if nothing has to change.

    Raises
    ------
    TypeError
        For a dtype that is neither floating nor PCM.
    ValueError
        For another shape, no samples, NaN or infinity.
    """
    x = _to_numpy(samples)
    if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[1] > max(8, x.shape[0])):
        raise ValueError(f"{name} has shape {x.shape}, but (N,) or (N, channels) is needed")
    if x.size == 0:
        raise ValueError(f"{name} is empty, but at least one sample is needed")
    x = from_pcm(x, name)
    with np.errstate(over="ignore", invalid="ignore"):  # overflow is refused below as infinite
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
    x = _to_numpy(samples)
    if not np.issubdtype(x.dtype, np.floating):
        raise TypeError(f"samples has dtype {x.dtype}, but floating samples are needed")
    if x.ndim not in (1, 2) or x.size == 0:
        raise ValueError(f"samples has shape {x.shape}, but (N,) or (N, channels) with at least one sample is needed")
    x = x.astype(np.float32, copy=False)
    if not np.isfinite(x).all():
        raise ValueError("samples holds NaN or infinity, but finite samples are needed")
    if (ending, subtype) == (".wav", "FLOAT"):
        # libsndfile writes the time of day into float WAV files; SciPy's bytes are reproducible.
        from scipy.io import wavfile

        write_whole(path, lambda part: wavfile.write(part, rate, x))
        return path
    soundfile = _needed("soundfile", f"write {path.name}")
    try:
        write_whole(path, lambda part: soundfile.write(part, x, rate, subtype=subtype))
    except (RuntimeError, ValueError) as error:
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
    soxr = _needed("soxr", f"resample from {orig_sr} to {target_sr} Hz")
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
    return (y / np.float64(scale)).astype(np.float32), scale


def check_rate(name: str, value: Any) -> int:
    """Return a sample rate as an int, or raise an error that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {type(value).__name__}, but must be a number of Hz")
    if not math.isfinite(value) or value != int(value) or value < 1:
        raise ValueError(f"{name} is {value}, but must be a whole, positive number of Hz")
    return int(value)


def _to_numpy(samples: Any) -> npt.NDArray[Any]:
    if hasattr(samples, "detach"):  # torch, without importing it
        samples = samples.detach().cpu()
        samples = samples.float() if samples.is_floating_point() else samples  # NumPy has no bfloat16
    return np.asarray(samples)


def _decode(path: Path) -> tuple[Audio, int]:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, but must be a recording")
    soundfile = _needed("soundfile", f"read {path.name}")
    try:
        with soundfile.SoundFile(path) as file:
            rate = int(file.samplerate)
            blocks = [b.mean(axis=1) for b in file.blocks(_BLOCK, dtype="float32", always_2d=True)]
    except (RuntimeError, TypeError, ValueError) as error:  # TypeError: headerless formats
        raise ValueError(f"{path} cannot be read as audio: {soundfile_reason(error)}") from error
    return as_mono_float32(np.concatenate(blocks) if blocks else np.empty(0), str(path)), rate


def soundfile_reason(error: Exception) -> str:
    """Return why soundfile failed, without the file's name, which may be that of a temporary file."""
    return str(getattr(error, "error_string", error)).rstrip(".")


def _needed(module: str, purpose: str) -> ModuleType:
    """Import an optional module, or raise ImportError with the purpose that needs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is needed to {purpose}; install it with: pip install {module}") from error
