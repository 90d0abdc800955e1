"""A model listening to one live signal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Unpack, get_args

import numpy as np

from l2i_fast.arguments import flag, integer, one_of
from l2i_fast.arrays import Array, Float32
from l2i_fast.audio import check_rate
from l2i_fast.stream.decoder import mono, require_finite
from l2i_fast.stream.hearing import Hearing
from l2i_fast.stream.rates import Rates
from l2i_fast.stream.refresh import StreamSettings
from l2i_fast.stream.signal import StreamBase
from l2i_fast.stream.worker import Worker

if TYPE_CHECKING:
    from l2i_fast.model import L2I

Mode = Literal["realtime", "synchronous"]


class Stream(StreamBase):
    """Interprets a live signal as it arrives; made by `L2I.stream`.

    The output consists of the components that matter for the classifier's decision, masked out of the input with the
    input's own phase, `latency` samples after the input. The networks read the newest `window` seconds, every
    `refresh` seconds; before their first answer the output is silence. Answers fade in over four hops. Activations are
    computed as by `StreamDecoder`; each frame's updates begin with the mean of the interpreter's latest activations.
    `interpret` divides a clip by its peak; a stream divides by the peak of the window, held until the window gets
    louder or falls below half of it.

    Parameters
    ----------
    model : L2I
    samplerate : int, optional
        Rate of input and output in Hz; the model's by default. Another rate, up to 1000 times higher or lower, is
        converted in blocks, there and back, which adds to the latency.
    channels : int
        Channels of the blocks; they are averaged, as `interpret` does.
    mode : {"realtime", "synchronous"}
        With "realtime" the networks run in a thread of their own, and `push` never waits for them: the output depends
        on their speed. With "synchronous" they run within `push` as soon as a refresh is due: the same signal gives
        the same bits for any blocks.
    **settings
        refresh, n_iter, targets, threshold, top_k, domain, window, incremental: see `StreamSettings`.

    Raises
    ------
    ValueError, TypeError
        For a setting out of range or unknown, or an unknown class.
    """

    def __init__(
        self,
        model: L2I,
        samplerate: int | None = None,
        channels: int = 1,
        mode: Mode = "realtime",
        **settings: Unpack[StreamSettings],
    ) -> None:
        self.mode = one_of(mode, "mode", get_args(Mode))
        self.sample_rate = model.sample_rate if samplerate is None else check_rate("samplerate", samplerate)
        self._rates: Rates | None = None
        if self.sample_rate != model.sample_rate:
            self._rates = Rates(self.sample_rate, model.sample_rate, model.analysis.n_fft)
        self._hearing = Hearing(model, **settings)
        super().__init__(self._hearing.new_signal())
        self._engine = self._signal.engine
        self.channels = integer(channels, "channels")
        self._worker = Worker(self._hearing, self, lambda stream: (stream._signal,), "stream")

    @property
    def latency(self) -> int:
        """Samples by which the output lags behind the input: one frame, and more where the rate is converted."""
        return self._rates.latency if self._rates else super().latency

    def push(self, block: Array, last: bool = False) -> Float32:
        """Take a block of the signal and return the same number of samples of its interpretation.

        Parameters
        ----------
        block : array, shape (m,) or (m, channels)
            Any number of samples; floating, or integer PCM, which is scaled to [-1, 1).
        last : bool
            The signal ends with this block: the last `latency` samples are returned, too, and the next push begins a
            new signal.

        Returns
        -------
        y : float32, shape (m,), or (m + latency,) with `last`
            The first `latency` samples of a signal are zeros.

        Raises
        ------
        TypeError, ValueError
            For samples of another dtype or shape, NaN or infinity. The block is then ignored as a whole, and the stream
            continues with the next. ValueError after `close`.

        Warns
        -----
        RuntimeWarning
            Once, if the networks have raised an exception: the audio continues with the components it had.
        """
        self._worker.check_open()
        if last is not False:
            last = flag(last, "last")
        y: Float32 | None = None
        if self.mode == "realtime":
            self._worker.start()
        if self._rates:
            samples = mono(block, self.channels)
            require_finite(samples)
            try:
                y = self._rates.from_model(self._push(self._rates.to_model(samples)), samples.size)
            except BaseException:  # a signal's handler raised: the conversion cannot be taken back
                self.reset()
                raise
        elif self.mode == "realtime" and self.channels == 1:
            # The engine returns None if the block has to be converted first.
            y = self._engine.push(block)
        if y is None:
            y = self._push(mono(block, self.channels))
        self._signal.warn()
        return np.concatenate((y, self.flush())) if last else y

    def flush(self) -> Float32:
        """End the signal and return its last `latency` samples. The next push begins a new one."""
        self._worker.check_open()
        y = self._push(self._rates.to_model(np.empty(0, np.float32), last=True)) if self._rates else None
        n_frames = self._signal.frames_at_end()
        if self.mode == "synchronous":
            tail = self._alternate(self._engine.latency, lambda _, until: self._engine.finish(until))
        else:
            tail = self._engine.finish()
        if self._rates:
            tail = self._rates.finish(tail if y is None else np.concatenate((y, tail)))
        self._signal.begin(n_frames)
        self._begin_rates()
        return tail

    def reset(self) -> None:
        """Discard the signal and its latest answer, and begin a new one."""
        self._signal.reset()
        self._begin_rates()

    def close(self) -> None:
        """End the stream: the networks stop, and later pushes raise."""
        self._worker.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _push(self, samples: Float32) -> Float32:
        if self.mode == "synchronous":
            return self._alternate(samples.size, lambda at, until: self._engine.push(samples[at:], until))
        y: Float32 = self._engine.push(samples)
        return y

    def _begin_rates(self) -> None:
        if self._rates:
            self._rates.begin()

    def _alternate(self, n: int, run: Callable[[int, int], Float32]) -> Float32:
        """Run the engine up to each refresh, and the networks at it, until `n` samples have come out."""
        parts, done = [], 0
        while True:
            parts.append(run(done, self._signal.due))
            done += parts[-1].size
            if self._signal.frames_until_due == 0:
                self._hearing.refresh([self._signal])
            if done == n:
                return parts[0] if len(parts) == 1 else np.concatenate(parts)
