"""A model listening to one live signal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np

from l2i_fast.arrays import Array, Float32, positive_int
from l2i_fast.audio import check_rate
from l2i_fast.stream.decoder import mono, require_finite
from l2i_fast.stream.hearing import Ear, Hearing, StreamSettings, Worker
from l2i_fast.stream.rates import Rates

if TYPE_CHECKING:
    from l2i_fast.model import L2I

Mode = Literal["realtime", "synchronous"]


class Stream(Ear):
    """Sound in, its interpretation out, while it happens; made by `L2I.stream`.

    What comes out are the components that matter for what the classifier hears, masked out of the input with the
    input's own phase, `latency` samples after the input. The networks listen to the newest `window` seconds, every
    `refresh` seconds; until they have for the first time, nothing is known and the output is silence. Their answers
    fade in over four hops. Activations are found as by `StreamDecoder`, each frame's updates beginning with what the
    interpreter found of late. Levels: what `interpret` divides by is the peak
    of a clip, and here the peak of the window, held until the window gets louder or falls below half of it.

    Parameters
    ----------
    model : L2I
    samplerate : int, optional
        Of what goes in and comes out, in Hz; the model's by default. Another one is converted in blocks, there and
        back, which adds to the latency.
    channels : int
        Of the blocks; they are averaged, as `interpret` does.
    mode : {"realtime", "synchronous"}
        With "realtime" the networks run in a thread of their own, and `push` never waits for them: what is heard
        depends on how fast they are. With "synchronous" they run within `push`, each time that enough samples have
        come in: the same signal gives the same bits, whatever the blocks.
    **settings
        refresh, n_iter, targets, threshold, top_k, domain, window, incremental: see `StreamSettings`.

    Raises
    ------
    ValueError, TypeError
        For a setting out of range or unknown, or a class that the model does not know.
    """

    def __init__(
        self,
        model: L2I,
        samplerate: int | None = None,
        channels: int = 1,
        mode: Mode = "realtime",
        **settings: Unpack[StreamSettings],
    ) -> None:
        check_mode(mode)
        self.sample_rate = model.sample_rate if samplerate is None else check_rate("samplerate", samplerate)
        self._rates: Rates | None = None
        if self.sample_rate != model.sample_rate:
            self._rates = Rates(self.sample_rate, model.sample_rate, model.analysis.n_fft)
        super().__init__(Hearing(model, **settings))
        self.channels = positive_int(channels, "channels")
        self.mode = mode
        self._worker = Worker(self._hearing, self, lambda stream: (stream,), "stream")

    @property
    def latency(self) -> int:
        """Samples by which the output lags behind the input: one frame, and more where the rate is converted."""
        return self._rates.latency if self._rates else super().latency

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

        Warns
        -----
        RuntimeWarning
            Once, if the network has raised an exception: the audio goes on with the components it had.
        """
        self._worker.check_open()
        y: Float32 | None = None
        if self.mode == "realtime":
            self._worker.start()
        if self._rates:
            samples = mono(block, self.channels)
            require_finite(samples)
            y = self._rates.from_model(self._push(self._rates.to_model(samples)), samples.size)
        elif self.mode == "realtime" and self.channels == 1:
            # The engine takes what it can take as it is, and answers with None to what has to be converted.
            y = self._engine.push(block)
        if y is None:
            y = self._push(mono(block, self.channels))
        self._warn()
        return np.concatenate((y, self.flush())) if last else y

    def flush(self) -> Float32:
        """End the signal: the `latency` samples still to come. The next push begins a new one."""
        self._worker.check_open()
        y = self._push(self._rates.to_model(np.empty(0, np.float32), last=True)) if self._rates else None
        n_frames = self._end()
        if self.mode == "synchronous":
            tail = self._in_turns(super().latency, lambda _, until: self._engine.finish(until))
        else:
            tail = self._engine.finish()
        if self._rates:
            tail = self._rates.finish(tail if y is None else np.concatenate((y, tail)))
        self._begin(n_frames)
        return tail

    def reset(self) -> None:
        """Forget the signal and what was heard of it, and begin a new one."""
        self._begin(self._engine.hops)
        self.latest = None

    def close(self) -> None:
        """End the stream: the network stops, and push is refused from now on."""
        self._worker.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _push(self, samples: Float32) -> Float32:
        if self.mode == "synchronous":
            return self._in_turns(samples.size, lambda at, until: self._engine.push(samples[at:], until))
        y: Float32 = self._engine.push(samples)
        return y

    def _begin(self, hops: int) -> None:
        super()._begin(hops)
        if self._rates:
            self._rates.begin()

    def _in_turns(self, n: int, run: Callable[[int, int], Float32]) -> Float32:
        """Let the engine run up to each refresh, and the network at it, until `n` samples have come out."""
        parts, done = [], 0
        while True:
            parts.append(run(done, self._due))
            done += parts[-1].size
            if self._wait() == 0:
                self._hearing.refresh([self])
            if done == n:
                return parts[0] if len(parts) == 1 else np.concatenate(parts)


def check_mode(mode: str) -> None:
    """Refuse an unknown mode."""
    if mode not in ("realtime", "synchronous"):
        raise ValueError(f"mode is {mode!r}, but must be 'realtime' or 'synchronous'")
