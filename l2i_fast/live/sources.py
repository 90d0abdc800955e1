"""Sources of live sound: raw samples from a pipe, and recordings. `l2i_fast.live.devices` has the microphone.

A source gives mono samples block by block and never waits long, so that the session notices Ctrl-C. An error in the
sound is raised only after all samples before it were returned.
"""

from __future__ import annotations

import os
import select
import time
from abc import ABC, abstractmethod
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from l2i_fast.arrays import Float32, from_pcm
from l2i_fast.live.formats import FORMATS, RawFormat
from l2i_fast.recording import RecordingFile

#: Seconds that a source waits for sound before it returns without any.
WAIT = 0.1


class Source(ABC):
    """A source of mono sound.

    Attributes
    ----------
    name : str
        Its name in errors and on the display.
    rate : int
        Hz.
    duration : float or None
        Seconds in all, if known.
    can_wait : bool
        Whether sound that is not read at once stays available.
    lost : int
        Number of times that sound was lost before it could be read.
    latency : float
        Seconds from the sound to its samples, as far as known.
    """

    name: str
    rate: int
    duration: float | None = None
    can_wait = True
    lost = 0
    latency = 0.0
    _given = 0
    _fault: Exception | None = None

    @abstractmethod
    def _samples(self) -> NDArray[Any] | None:
        """Return new samples (m, channels), floating or PCM; m = 0 if none have come yet; None at the end."""

    def read(self) -> Float32 | None:
        """Return new samples (m,), the mean of the channels; empty if none have come yet; None at the end.

        Raises
        ------
        ValueError, OSError
            If the sound is invalid or breaks off. All samples before the fault were returned.
        """
        if self._fault:
            raise self._fault
        samples = self._samples()
        if samples is None:
            return None
        x = from_pcm(samples, self.name)
        with np.errstate(over="ignore", invalid="ignore"):  # values beyond float32 are rejected below
            y = np.ascontiguousarray(x[:, 0] if x.shape[1] == 1 else x.mean(axis=1), np.float32)
        finite = np.isfinite(y)
        if not finite.all():
            y = y[: int(finite.argmin())]
            self._fault = ValueError(f"{self.name} holds NaN or infinity at sample {self._given + len(y)}")
        self._given += len(y)
        return y

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Release the file or device."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RawInput(Source):
    """Raw samples from a pipe or a file descriptor, read as they arrive, at most one block at a time."""

    def __init__(self, file: BinaryIO, sample_format: RawFormat, rate: int, channels: int, block: int) -> None:
        self.name = "standard input"
        self.rate = rate
        self._descriptor = file.fileno()
        self._dtype = np.dtype(FORMATS[sample_format])
        self._channels = channels
        self._frame = self._dtype.itemsize * channels
        self._most = block * self._frame
        self._rest = b""
        self._kind = f"{sample_format}, {channels} channel{'s' if channels > 1 else ''}"

    def _samples(self) -> NDArray[Any] | None:
        data = b""
        if select.select([self._descriptor], [], [], WAIT)[0]:
            data = os.read(self._descriptor, self._most - len(self._rest))
            if not data and self._rest:
                left = f"{len(self._rest)} of {self._frame} bytes are left over ({self._kind})"
                raise ValueError(f"{self.name} ended in the middle of a sample: {left}")
            if not data:
                return None
        data = self._rest + data
        end = len(data) - len(data) % self._frame
        self._rest = data[end:]
        return np.frombuffer(data[:end], self._dtype).reshape(-1, self._channels)


class Recording(Source):
    """A recording, block by block; `paced` gives each block when its last sample has sounded."""

    def __init__(self, path: str | os.PathLike[str], block: int, paced: bool) -> None:
        self._file = RecordingFile(path)
        self.name = self._file.name
        self.rate = self._file.rate
        self.duration = None if self._file.frames is None else self._file.frames / self.rate
        self._block = block
        self._paced = paced
        self._start: float | None = None

    def _samples(self) -> NDArray[Any] | None:
        if self._paced:
            now = time.monotonic()
            self._start = now if self._start is None else self._start
            due = self._start + (self._given + self._block) / self.rate
            time.sleep(min(max(due - now, 0), WAIT))
            if due - now > WAIT:
                return np.empty((0, 1), np.float32)
        samples = self._file.read(self._block)
        return samples if len(samples) else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()
