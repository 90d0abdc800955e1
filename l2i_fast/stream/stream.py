"""A model listening to one live signal."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from l2i_fast.arrays import Array, Float32, positive_int
from l2i_fast.stream.decoder import mono
from l2i_fast.stream.hearing import Hearing, Refresh

if TYPE_CHECKING:
    from l2i_fast.model import L2I

Mode = Literal["realtime", "synchronous"]


@dataclass(frozen=True)
class StreamStatistics:
    """What has happened in a stream.

    Attributes
    ----------
    hops : int
        Frames that were analysed.
    refreshes : int
        Times that the network has run.
    overruns : int
        Times that it was left out, being still busy with the time before.
    failures : int
        Times that it raised an exception.
    """

    hops: int
    refreshes: int
    overruns: int
    failures: int


class Stream:
    """Sound in, its interpretation out, while it happens; made by `L2I.stream`.

    What comes out are the components that matter for what the classifier hears, masked out of the input with the
    input's own phase, `latency` samples after the input. The networks listen to the newest `window` seconds, every
    `refresh` seconds; until they have for the first time, nothing is known and the output is silence. Their answers
    fade in over four hops. Activations are those of `StreamDecoder`. Levels: what `interpret` divides by is the peak
    of a clip, and here the peak of the window, held until the window gets louder or falls below half of it.

    Parameters
    ----------
    model : L2I
    samplerate : int, optional
        Hz; must be the model's.
    channels : int
        Of the blocks; they are averaged, as `interpret` does.
    refresh : float
        Seconds from one run of the networks to the next.
    n_iter : int
        Updates of the activations of each frame.
    targets, threshold, top_k, domain
        As in `L2I.interpret`.
    mode : {"realtime", "synchronous"}
        With "realtime" the networks run in a thread of their own, and `push` never waits for them: what is heard
        depends on how fast they are. With "synchronous" they run within `push`, each time that enough samples have
        come in: the same signal gives the same bits, whatever the blocks.
    window : float
        Seconds of sound that the networks hear each time; less at the beginning.

    Raises
    ------
    ValueError, TypeError
        For a setting out of range, an unknown class, another rate than the model's.
    """

    def __init__(
        self,
        model: L2I,
        samplerate: int | None = None,
        channels: int = 1,
        refresh: float = 0.25,
        n_iter: int = 10,
        targets: int | str | Iterable[int | str] | None = None,
        threshold: float | None = None,
        top_k: int | EllipsisType | None = ...,
        domain: str | None = None,
        mode: Mode = "realtime",
        window: float = 5.0,
    ) -> None:
        if samplerate is not None and samplerate != model.sample_rate:
            raise ValueError(f"samplerate is {samplerate}, but this model hears {model.sample_rate} Hz")
        if mode not in ("realtime", "synchronous"):
            raise ValueError(f"mode is {mode!r}, but must be 'realtime' or 'synchronous'")
        self.sample_rate = model.sample_rate
        self.channels = positive_int(channels, "channels")
        self.refresh = refresh
        self.mode = mode
        #: What the network found last, replaced as a whole; None before the first refresh.
        self.latest: Refresh | None = None
        #: What the network raised last; the audio goes on with the weights it had.
        self.error: Exception | None = None
        self._hearing = Hearing(model, refresh, window, n_iter, targets, threshold, top_k, domain)
        self._ear = self._hearing.new_ear()
        self._engine = self._ear.engine
        self._due = self._hearing.every
        self._counts = {"refreshes": 0, "overruns": 0, "failures": 0}
        self._past = 0  # hops of the signals before
        self._warned = False
        self._closed = threading.Event()
        # Held while an answer is published or a new signal begins, never while samples are pushed.
        self._change = threading.Lock()
        self._signal = 0
        self._worker: threading.Thread | None = None

    # ---- what is known

    @property
    def latency(self) -> int:
        """Samples by which the output lags behind the input: one frame."""
        return self._engine.latency

    @property
    def prediction(self) -> tuple[str, ...]:
        """The classes decided on, most probable first; none before the first refresh."""
        return self.latest.prediction if self.latest else ()

    @property
    def relevance(self) -> NDArray[np.float32]:
        """Of each component (K,): see `Refresh`; zeros before the first refresh."""
        return self.latest.relevance if self.latest else np.zeros_like(self.activations)

    @property
    def activations(self) -> Float32:
        """Of the newest frame (K,)."""
        return self._engine.activations()

    @property
    def statistics(self) -> StreamStatistics:
        """What has happened so far."""
        return StreamStatistics(hops=self._past + self._engine.hops, **self._counts)

    # ---- audio

    def push(self, block: Array, last: bool = False) -> Float32:
        """Take a block of the signal and give back as many samples of its interpretation.

        Parameters
        ----------
        block : array, shape (m,) or (m, channels)
            Samples; floating, or integer PCM, which is scaled to [-1, 1). Any number of them, none included.
        last : bool
            The signal ends with this block: the `latency` samples still to come are given back, too, and the next
            push begins a new signal.

        Returns
        -------
        y : float32, shape (m,), or (m + latency,) with `last`
            The first `latency` samples of a signal are zeros.

        Raises
        ------
        TypeError, ValueError
            For samples of another dtype or shape, NaN or infinity. Nothing of the block is taken then, and the stream
            can be used on. ValueError after `close`.
        """
        if self._closed.is_set():
            raise ValueError("the stream is closed")
        samples = mono(block, self.channels)
        if self.mode == "synchronous":
            y = self._in_turns(samples.size, lambda at, until: self._engine.push(samples[at:], until))
        else:
            if self._worker is None:
                self._start()
            y = self._engine.push(samples)
        if self.error is not None and not self._warned:
            self._warned = True
            warnings.warn(
                f"the network failed, and the audio goes on with the components it had: {self.error!r}",
                RuntimeWarning,
                stacklevel=2,
            )
        return np.concatenate((y, self.flush())) if last else y

    def flush(self) -> Float32:
        """End the signal: the `latency` samples still to come. The next push begins a new one."""
        if self._closed.is_set():
            raise ValueError("the stream is closed")
        hops = self._engine.hops + self._engine.frames_in(0, True)
        if self.mode == "synchronous":
            y = self._in_turns(self.latency, lambda _, until: self._engine.finish(until))
        else:
            y = self._engine.finish()
        self._begin(hops)
        return y

    def reset(self) -> None:
        """Forget the signal and what was heard of it, and begin a new one."""
        self._begin(self._engine.hops)
        self.latest = None

    def close(self) -> None:
        """End the stream: the network stops, and push is refused from now on."""
        self._closed.set()
        if self._worker is not None:
            self._worker.join()
            self._worker = None

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _in_turns(self, n: int, run: Callable[[int, int], Float32]) -> Float32:
        """Let the engine run up to each refresh, and the network at it, until `n` samples have come out."""
        parts, done = [], 0
        while True:
            parts.append(run(done, self._due))
            done += parts[-1].size
            if self._engine.hops == self._due:
                self._hear(self._due, self._signal)
                self._due += self._hearing.every
            if done == n:
                return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _begin(self, hops: int) -> None:
        with self._change:
            self._past += hops
            self._ear.forget()
            self._signal += 1
            self._due = self._hearing.every

    # ---- the network

    def _hear(self, frame: int, signal: int) -> None:
        try:
            (answer,) = self._hearing.hear([self._ear], [frame])
        except Exception as error:
            self._counts["failures"] += 1
            self.error = error
            return
        with self._change:
            if answer is None or signal != self._signal:
                return  # a new signal has begun
            self._hearing.publish(self._ear, answer)
            self.latest = answer
            self._counts["refreshes"] += 1

    def _start(self) -> None:
        self._worker = threading.Thread(target=self._listen, name="l2i-stream", daemon=True)
        self._worker.start()

    def _listen(self) -> None:
        every, hop = self._hearing.every, self._hearing.model.analysis.hop_length / self.sample_rate
        torch.get_num_threads()  # sets this thread up; the limit below would be lost otherwise
        with threadpool_limits(1, user_api="openmp"):  # the other cores belong to the audio
            while not self._closed.is_set():
                with self._change:
                    hops, signal = self._engine.hops, self._signal
                    missed = (hops - self._due) // every
                    if missed >= 0:
                        self._counts["overruns"] += missed
                        self._due += (missed + 1) * every
                if missed >= 0:
                    self._hear(hops, signal)
                else:
                    self._closed.wait(min(max((self._due - hops) * hop / 2, 0.002), 0.1))
