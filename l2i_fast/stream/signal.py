"""One live signal between the audio engine and the networks."""

from __future__ import annotations

import traceback
import warnings
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from l2i_fast import forks
from l2i_fast.arrays import Float32
from l2i_fast.backends.native import StreamEngine
from l2i_fast.networks.incremental import State
from l2i_fast.stream.refresh import Refresh, StreamStatistics
from l2i_fast.stream.unique import Unique


@dataclass(eq=False)
class Progress:
    """The networks' progress in a signal, and the signal's level.

    Attributes
    ----------
    held : float
        The scale in force; 0 before the first sound.
    state : State or None
        State of incremental networks.
    fed : int
        Frames that the networks have read.
    """

    held: float = 0.0
    state: State | None = None
    fed: int = 0

    @property
    def scale(self) -> float:
        """Divisor of the samples."""
        return self.held or 1.0


class Claim(NamedTuple):
    """A refresh to be made: of a signal, up to a frame."""

    signal: Signal
    progress: Progress
    frame: int


class Signal:
    """The engine of a live signal, the refresh that is due next, and the latest answer of the networks.

    Samples are pushed in one thread; the networks may run in another.

    Parameters
    ----------
    engine : StreamEngine
    every : int
        Frames from one refresh to the next.

    Attributes
    ----------
    engine : StreamEngine
    due : int
        Frame of the next refresh.
    latest : Refresh or None
        Latest answer, replaced as a whole; None before the first.
    error : Exception or None
        Latest exception of the networks; the audio continues with the weights it had.
    """

    def __init__(self, engine: StreamEngine, every: int) -> None:
        self.engine = engine
        self.due = every
        self.latest: Refresh | None = None
        self.error: Exception | None = None
        self._every = every
        self._counts = StreamStatistics()  # hops: those of earlier signals
        self._progress = Progress()
        self._warned = False
        # Held while an answer is published or a new signal begins, never while samples are pushed.
        self._lock = forks.lock(forks.SIGNAL)
        self.begin(0)

    @property
    def statistics(self) -> StreamStatistics:
        """Counts so far."""
        return replace(self._counts, hops=self._counts.hops + self.engine.hops)

    @property
    def frames_until_due(self) -> int:
        """Frames until the next refresh is due; 0 or less if it is."""
        return self.due - self.engine.hops

    def begin(self, hops: int) -> None:
        """Begin a new signal, after one of `hops` frames; it is silent until the first refresh."""
        with self._lock:
            self.engine.publish(np.zeros_like(self.engine.activations()), 1.0)
            self.engine.reset()
            self._counts.hops += hops
            self.due = self._every
            self._progress = Progress()

    def reset(self) -> None:
        """Discard the signal and its latest answer, and begin a new one."""
        self.begin(self.engine.hops)
        self.latest = None

    def frames_at_end(self) -> int:
        """Return the number of frames that the signal has if it ends now."""
        return self.engine.hops + self.engine.frames_in(0, True)

    def claim(self) -> Claim:
        """Take the refresh that is due."""
        with self._lock:
            hops = self.engine.hops
            missed = max(0, (hops - self.due) // self._every)
            self._counts.overruns += missed
            self.due += (missed + 1) * self._every
            return Claim(self, self._progress, hops)

    def fail(self, error: Exception) -> None:
        """Count a failure of the networks, and keep the exception, with its traceback as a note."""
        self._counts.failures += 1
        error.add_note("".join(traceback.format_exception(error)).rstrip())
        error.__cause__ = error.__context__ = None
        self.error = error.with_traceback(None)  # frames would keep the stream alive

    def warn(self) -> None:
        """Warn once, in the thread that pushes samples, that the networks have failed."""
        if self.error is not None and not self._warned:
            self._warned = True
            warnings.warn(
                f"the network failed, and the audio goes on with the components it had: {self.error!r}",
                RuntimeWarning,
                stacklevel=3,
            )

    def publish(self, answer: Refresh, progress: Progress) -> None:
        """Fade the audio over to an answer, unless a new signal has begun since the claim."""
        weights = np.zeros_like(answer.relevance)
        weights[list(answer.components)] = 1
        with self._lock:
            if progress is self._progress:
                self.engine.publish(weights, answer.scale, answer.start)
                self.latest = answer
                self._counts.refreshes += 1


class StreamBase(Unique):
    """Base of streams: properties that report on their signal."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal

    @property
    def latest(self) -> Refresh | None:
        """Latest answer of the networks, replaced as a whole; None before the first refresh."""
        return self._signal.latest

    @property
    def error(self) -> Exception | None:
        """Latest exception of the networks, its traceback as a note; the audio continues with the weights it had."""
        return self._signal.error

    @property
    def latency(self) -> int:
        """Samples by which the output lags behind the input: one frame."""
        return self._signal.engine.latency

    @property
    def prediction(self) -> tuple[str, ...]:
        """The predicted classes, most probable first; empty before the first refresh."""
        latest = self._signal.latest
        return latest.prediction if latest else ()

    @property
    def relevance(self) -> NDArray[np.float32]:
        """Relevance of each component (K,): see `Refresh`; zeros before the first refresh."""
        latest = self._signal.latest
        return latest.relevance if latest else np.zeros_like(self.activations)

    @property
    def activations(self) -> Float32:
        """Activations of the newest frame (K,)."""
        return self._signal.engine.activations()

    @property
    def statistics(self) -> StreamStatistics:
        """Counts so far."""
        return self._signal.statistics
