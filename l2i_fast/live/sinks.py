"""Sinks of live sound: raw samples to a pipe, and WAV files. `l2i_fast.live.devices` has the speaker."""

from __future__ import annotations

import os
import struct
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from l2i_fast.arrays import Float32
from l2i_fast.files import whole
from l2i_fast.live.formats import FORMATS, RawFormat

_MOST = 0xFFFFFFFF  # largest value of a 32-bit size in a WAV file


class Sink(ABC):
    """A sink of mono sound.

    Attributes
    ----------
    name : str
        Its name in errors and on the display.
    rate : int
        Hz.
    lost : int
        Number of times that it had no sound to play, or more than it could.
    latency : float
        Seconds from `write` to the sound, as far as known.
    kept : str
        A few words on what remains of the sound after `close`; empty if nothing does.
    """

    name: str
    rate: int
    lost = 0
    latency = 0.0
    kept = ""

    @abstractmethod
    def write(self, y: Float32) -> None:
        """Take samples (m,)."""

    def close(self) -> None:  # noqa: B027 - a pipe has nothing to complete
        """Complete the output."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RawOutput(Sink):
    """Raw mono samples to a pipe or file; integers are rounded, and clipped at full scale."""

    def __init__(self, file: BinaryIO, sample_format: RawFormat, rate: int) -> None:
        self.name = "standard output"
        self.rate = rate
        self._file = file
        self._dtype = np.dtype(FORMATS[sample_format])

    def write(self, y: Float32) -> None:
        """Take samples (m,)."""
        if self._dtype.kind == "i":
            full = 2.0 ** (8 * self._dtype.itemsize - 1)
            samples = np.clip(np.rint(y.astype(np.float64) * full), -full, full - 1).astype(self._dtype)
        else:
            samples = y.astype(self._dtype)
        self._file.write(samples.tobytes())
        self._file.flush()


class WavFile(Sink):
    """A float32 WAV file that grows under a temporary name; `close` completes it and renames it.

    Parameters
    ----------
    path : path-like
        A missing folder is created; an existing file is replaced.
    rate : int
        Hz.
    skip : int
        Number of samples to leave out at the beginning: the latency of a stream.
    """

    def __init__(self, path: str | os.PathLike[str], rate: int, skip: int = 0) -> None:
        self.name = str(path)
        self.rate = rate
        self._skip = skip
        self._bytes = 0
        with ExitStack() as stack:
            temporary = stack.enter_context(whole(Path(path)))
            self._file = stack.enter_context(open(temporary, "wb", buffering=0))
            self._file.write(wav_header(rate, 0))
            self._open = stack.pop_all()

    def write(self, y: Float32) -> None:
        """Take samples (m,)."""
        skipped = min(self._skip, len(y))
        self._skip -= skipped
        data = memoryview(y[skipped:].astype("<f4").tobytes())
        while data:  # a disk that runs full takes a part first
            n = self._file.write(data)
            self._bytes += n
            data = data[n:]

    def close(self) -> None:
        """Write the final sizes into the header and rename the file."""
        with self._open:
            n_samples = self._bytes // 4  # a full disk may have taken a part of one more
            header = wav_header(self.rate, n_samples)
            self._file.truncate(len(header) + 4 * n_samples)
            self._file.seek(0)
            self._file.write(header)
        self.kept = f"{n_samples / self.rate:.1f} s are in {self.name}"


def wav_header(rate: int, n_samples: int) -> bytes:
    """Return the header for `n_samples` of float32, mono; beyond 4 GiB it is that of RF64 (EBU Tech 3306)."""
    size = 4 * n_samples
    form = struct.pack("<4sIHHIIHHH", b"fmt ", 18, 3, 1, rate, 4 * rate, 4, 32, 0)
    form += struct.pack("<4sII", b"fact", 4, min(n_samples, _MOST))
    riff = 4 + 36 + len(form) + 8 + size
    if riff <= _MOST:  # the header reserves room for 64-bit sizes: the final length is unknown at first
        head = struct.pack("<4sI4s4sI28x", b"RIFF", riff, b"WAVE", b"JUNK", 28)
    else:
        head = struct.pack("<4sI4s4sIQQQI", b"RF64", _MOST, b"WAVE", b"ds64", 28, riff, size, n_samples, 0)
    return head + form + struct.pack("<4sI", b"data", min(size, _MOST))
