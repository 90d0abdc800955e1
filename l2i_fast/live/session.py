"""A session: the loop that carries sound from a source through a stream to a sink."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from l2i_fast.arrays import Float32
from l2i_fast.live.sinks import Sink
from l2i_fast.live.sources import Source

if TYPE_CHECKING:
    from l2i_fast.stream import Refresh, StreamStatistics


class LiveStream(Protocol):
    """The part of `l2i_fast.stream.Stream` that a session needs."""

    @property
    def sample_rate(self) -> int:
        """Rate of the samples in and out, in Hz."""

    @property
    def latency(self) -> int:
        """Samples by which the output lags behind the input."""

    @property
    def statistics(self) -> StreamStatistics:
        """Counts of hops, refreshes, overruns and failures."""

    @property
    def latest(self) -> Refresh | None:
        """The network's latest findings; None before the first refresh."""

    @property
    def error(self) -> Exception | None:
        """The network's latest exception."""

    def push(self, block: Float32) -> Float32:
        """Take samples (m,) and return as many of the interpretation."""

    def flush(self) -> Float32:
        """End the signal and return its last `latency` samples."""

    def close(self) -> None:
        """End the stream."""


class Level:
    """Peak meter: the highest level since the last reading."""

    def __init__(self) -> None:
        self._peak = 0.0

    def add(self, y: Float32) -> None:
        """Include samples (m,)."""
        if len(y):
            self._peak = max(self._peak, float(y.max()), -float(y.min()))

    def take(self) -> float:
        """Return the peak, 1 being full scale, and start again at 0."""
        peak, self._peak = self._peak, 0.0
        return peak


class Session:
    """Carries sound from a source through a stream to a sink, and counts and measures on the way.

    Attributes
    ----------
    source, stream, sink
        The parts it connects. The stream has the source's rate; its output is resampled for a sink of another rate.
    block : int
        Samples taken at a time.
    heard : int
        Samples taken from the source.
    input, output : Level
        Levels of the stream's input and output.
    after_block : callable
        Called after every block, by the thread that moves the sound.
    """

    def __init__(self, source: Source, stream: LiveStream, sink: Sink, block: int) -> None:
        self.source = source
        self.stream = stream
        self.sink = sink
        self.block = block
        self.heard = 0
        self.input = Level()
        self.output = Level()
        self.after_block: Callable[[], None] = lambda: None
        self._written = 0
        self._held = 0.0
        self._resampler: Any = None
        if sink.rate != stream.sample_rate:
            import soxr

            self._resampler = soxr.ResampleStream(stream.sample_rate, sink.rate, 1, dtype="float32", quality="HQ")

    @property
    def seconds(self) -> float:
        """Seconds taken from the source."""
        return self.heard / self.stream.sample_rate

    @property
    def latency(self) -> dict[str, float]:
        """Delay from the sound to its interpretation: seconds by cause."""
        return {
            "stream": self.stream.latency / self.stream.sample_rate,
            "block": self.block / self.stream.sample_rate,
            "resampling": self._held,
            "devices": self.source.latency + self.sink.latency,
        }

    @property
    def lost(self) -> int:
        """Number of times that sound was lost on the way in or out."""
        return self.source.lost + self.sink.lost

    def run(self, stopped: Callable[[], bool]) -> None:
        """Run until the source ends, `stopped` returns true or an error occurs; all sound taken is written in any case.

        Raises
        ------
        ValueError, OSError
            From the source or the sink; after a fault of the source everything before it has been written.
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

    def _push(self, y: Float32) -> None:
        self.heard += len(y)
        self.input.add(y)
        self._write(self.stream.push(y))
        # soxr returns samples in portions: the longest wait is the delay.
        self._held = max(self._held, self.seconds - self._written / self.sink.rate)
        self.after_block()

    def _write(self, y: Float32, last: bool = False) -> None:
        self.output.add(y)
        if self._resampler:
            y = np.asarray(self._resampler.resample_chunk(y, last=last), np.float32)
        self._written += len(y)
        self.sink.write(y)


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Give a function that returns whether Ctrl-C, SIGTERM or SIGHUP has come; Ctrl-C after that interrupts at once.

    Signals that the process ignores, as SIGHUP after nohup, remain ignored.
    """
    wanted = False

    def note(number: int, frame: Any) -> None:
        nonlocal wanted
        # A shell may send SIGHUP, and `timeout` SIGTERM, more than once.
        if wanted and number == signal.SIGINT:
            raise KeyboardInterrupt
        wanted = True

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: wanted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
