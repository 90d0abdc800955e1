"""Sound on its way through a stream: where it comes from, where it goes, and the loop between the two.

Sources give blocks of mono samples and never wait long, so that the loop sees Ctrl-C; sinks take them. What a source
finds wrong is raised only after everything before it was given: no sample is lost before a fault. Microphone and
speaker are in `l2i_fast.devices`.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from l2i_fast.arrays import from_pcm
from l2i_fast.files import whole

if TYPE_CHECKING:
    from l2i_fast.stream import Stream

Audio = NDArray[np.float32]

#: Seconds that a source waits for sound before it answers that there is none yet.
WAIT = 0.1

#: Raw samples by the names that ffmpeg gives them.
FORMATS = {"s16le": "<i2", "s32le": "<i4", "f32le": "<f4", "f64le": "<f8"}


_MOST = 0xFFFFFFFF  # what a WAV file's 32 bits can count


# ---- where sound comes from


class Source(ABC):
    """Where sound comes from.

    Attributes
    ----------
    name : str
        What errors and the view call it.
    rate : int
        Hz.
    lost : int
        How often sound was lost before it came here.
    latency : float
        Seconds that sound takes to come here, as far as that is known.
    """

    name: str
    rate: int
    lost = 0
    latency = 0.0
    _given = 0
    _fault: Exception | None = None

    @abstractmethod
    def _samples(self) -> NDArray[Any] | None:
        """Return new samples (m, channels), floating or PCM; m = 0 if there are none yet; None at the end."""

    def read(self) -> Audio | None:
        """Return new samples (m,), channels averaged; empty if there are none yet; None at the end.

        Raises
        ------
        ValueError, OSError
            The sound is broken or breaks off. All samples before the fault were returned.
        """
        if self._fault:
            raise self._fault
        samples = self._samples()
        if samples is None:
            return None
        x = from_pcm(samples, self.name)
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is refused below
            y = np.ascontiguousarray(x[:, 0] if x.shape[1] == 1 else x.mean(axis=1), np.float32)
        finite = np.isfinite(y)
        if not finite.all():
            y = y[: int(finite.argmin())]
            self._fault = ValueError(f"{self.name} holds NaN or infinity at sample {self._given + len(y)}")
        self._given += len(y)
        return y

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Let go of what the source holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RawInput(Source):
    """Raw samples from a pipe or a file descriptor, taken as they come, at most a block at a time."""

    def __init__(self, file: BinaryIO, sample_format: str, rate: int, channels: int, block: int) -> None:
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
    """A file that libsndfile reads, block by block; `paced` gives each block when its last sample has sounded."""

    def __init__(self, path: str | os.PathLike[str], block: int, paced: bool) -> None:
        self.name = str(path)
        self._block = block
        self._paced = paced
        self._start: float | None = None
        if not os.path.exists(path):
            raise FileNotFoundError(f"there is no file {path}")
        if os.path.isdir(path):
            raise ValueError(f"{path} is a folder, not a recording")
        import soundfile

        try:
            self._file = soundfile.SoundFile(path)
        except (RuntimeError, TypeError) as error:  # TypeError: headerless formats
            raise ValueError(f"{path} cannot be read as audio: {error}") from error
        self.rate = int(self._file.samplerate)
        #: Seconds.
        self.duration = self._file.frames / self.rate

    def _samples(self) -> NDArray[Any] | None:
        if self._paced:
            now = time.monotonic()
            self._start = now if self._start is None else self._start
            due = self._start + (self._given + self._block) / self.rate
            time.sleep(min(max(due - now, 0), WAIT))
            if due - now > WAIT:
                return np.empty((0, 1), np.float32)
        try:
            samples: NDArray[np.float32] = self._file.read(self._block, dtype="float32", always_2d=True)
        except RuntimeError as error:
            raise ValueError(f"{self.name} cannot be read on: {error}") from error
        return samples if len(samples) else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


# ---- where it goes


class Sink(ABC):
    """Where sound goes.

    Attributes
    ----------
    name : str
        What errors and the view call it.
    rate : int
        Hz.
    lost : int
        How often it had no sound to play, or more than it could.
    latency : float
        Seconds until what is written is heard, as far as that is known.
    kept : str
        What there is of it in the end, in words; empty where nothing stays.
    """

    name: str
    rate: int
    lost = 0
    latency = 0.0
    kept = ""

    @abstractmethod
    def write(self, y: Audio) -> None:
        """Take samples (m,)."""

    def close(self) -> None:  # noqa: B027 - a pipe has nothing to complete
        """Complete what was written."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RawOutput(Sink):
    """Raw mono samples to a pipe or file; integers are rounded, and clipped at full scale."""

    def __init__(self, file: BinaryIO, sample_format: str, rate: int) -> None:
        self.name = "standard output"
        self.rate = rate
        self._file = file
        self._dtype = np.dtype(FORMATS[sample_format])

    def write(self, y: Audio) -> None:
        """Take samples (m,)."""
        if self._dtype.kind == "i":
            full = 2.0 ** (8 * self._dtype.itemsize - 1)
            y = np.clip(np.rint(y.astype(np.float64) * full), -full, full - 1)
        self._file.write(y.astype(self._dtype).tobytes())
        self._file.flush()


class WavFile(Sink):
    """A WAV file of float32 that grows under a temporary name and is put in its place, complete, by `close`.

    Parameters
    ----------
    path : path-like
        A missing folder is made; a file that is there already is replaced.
    rate : int
        Hz.
    skip : int
        So many samples at the beginning are left out: those that a stream needs to get going.
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

    def write(self, y: Audio) -> None:
        """Take samples (m,)."""
        skipped = min(self._skip, len(y))
        self._skip -= skipped
        data = memoryview(y[skipped:].astype("<f4").tobytes())
        while data:  # a disk that runs full takes a part first
            n = self._file.write(data)
            self._bytes += n
            data = data[n:]

    def close(self) -> None:
        """Say in the header how much it is, and put the file in its place."""
        with self._open:
            n_samples = self._bytes // 4  # where the disk ran full, a part of one more may be there
            header = wav_header(self.rate, n_samples)
            self._file.truncate(len(header) + 4 * n_samples)
            self._file.seek(0)
            self._file.write(header)
        self.kept = f"{n_samples / self.rate:.1f} s are in {self.name}"


def wav_header(rate: int, n_samples: int) -> bytes:
    """Return what stands before `n_samples` of float32, mono; beyond 4 GiB it is that of RF64 (EBU Tech 3306)."""
    size = 4 * n_samples
    form = struct.pack("<4sIHHIIHHH", b"fmt ", 18, 3, 1, rate, 4 * rate, 4, 32, 0)
    form += struct.pack("<4sII", b"fact", 4, min(n_samples, _MOST))
    riff = 4 + 36 + len(form) + 8 + size
    if riff <= _MOST:  # there is room for 64-bit sizes in any case: nobody knows how long it will be
        head = struct.pack("<4sI4s4sI28x", b"RIFF", riff, b"WAVE", b"JUNK", 28)
    else:
        head = struct.pack("<4sI4s4sIQQQI", b"RF64", _MOST, b"WAVE", b"ds64", 28, riff, size, n_samples, 0)
    return head + form + struct.pack("<4sI", b"data", min(size, _MOST))


# ---- between the two


class Level:
    """The highest level since it was last asked for."""

    def __init__(self) -> None:
        self._peak = 0.0

    def add(self, y: Audio) -> None:
        """Hear samples (m,)."""
        if len(y):
            self._peak = max(self._peak, float(y.max()), -float(y.min()))

    def take(self) -> float:
        """Return the peak, 1 being full scale, and begin anew."""
        peak, self._peak = self._peak, 0.0
        return peak


class Session:
    """Sound on its way from a source through a stream to a sink, and what there is to tell about it.

    Attributes
    ----------
    source, stream, sink
        What it goes through. The stream has the source's rate; for a sink of another one its output is resampled.
    block : int
        Samples that are taken at a time.
    heard : int
        Samples taken from the source.
    input, output : Level
        Levels of what goes into the stream and of what comes out.
    """

    def __init__(self, source: Source, stream: Stream, sink: Sink, block: int) -> None:
        self.source = source
        self.stream = stream
        self.sink = sink
        self.block = block
        self.heard = 0
        self.input = Level()
        self.output = Level()
        self._written = 0
        self._held = 0.0
        self._resampler: Any = None
        if sink.rate != stream.sample_rate:
            import soxr

            self._resampler = soxr.ResampleStream(stream.sample_rate, sink.rate, 1, dtype="float32", quality="HQ")

    @property
    def seconds(self) -> float:
        """How much was heard."""
        return self.heard / self.stream.sample_rate

    @property
    def latency(self) -> dict[str, float]:
        """Where the delay between sound and interpretation comes from: seconds by cause."""
        return {
            "stream": self.stream.latency / self.stream.sample_rate,
            "block": self.block / self.stream.sample_rate,
            "resampling": self._held,
            "devices": self.source.latency + self.sink.latency,
        }

    @property
    def lost(self) -> int:
        """How often sound was lost on the way in or out."""
        return self.source.lost + self.sink.lost

    def run(self, stopped: Callable[[], bool]) -> None:
        """Go on until the source ends, `stopped` says so, or something fails; what was heard is written in any case.

        Raises
        ------
        ValueError, OSError
            What the source or the sink raised; after a fault of the source everything before it has been written.
        """
        fault: Exception | None = None
        while not stopped():
            try:
                y = self.source.read()
            except (ValueError, OSError) as error:
                fault = error
                break
            if y is None:
                break
            if len(y):
                self._push(y)
        self._write(self.stream.flush(), last=True)
        if fault:
            raise fault

    def _push(self, y: Audio) -> None:
        self.heard += len(y)
        self.input.add(y)
        self._write(self.stream.push(y))
        # soxr hands out what it has in portions: the longest wait is the delay.
        self._held = max(self._held, self.seconds - self._written / self.sink.rate)

    def _write(self, y: Audio, last: bool = False) -> None:
        self.output.add(y)
        if self._resampler:
            y = np.asarray(self._resampler.resample_chunk(y, last=last), np.float32)
        self._written += len(y)
        self.sink.write(y)


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C (and SIGTERM) into an answer to the question that this gives; a second one interrupts at once."""
    wanted = False

    def note(number: int, frame: Any) -> None:
        nonlocal wanted
        if wanted:
            raise KeyboardInterrupt
        wanted = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: wanted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
