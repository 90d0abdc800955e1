"""Streams of many live signals at once."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack, get_args

import numpy as np

from l2i_fast import forks
from l2i_fast.arguments import integer, one_of
from l2i_fast.arrays import Array, Float32, is_tensor, to_numpy
from l2i_fast.audio import check_rate
from l2i_fast.stream.decoder import mono
from l2i_fast.stream.hearing import Hearing
from l2i_fast.stream.refresh import StreamSettings
from l2i_fast.stream.signal import Signal, StreamBase
from l2i_fast.stream.stream import Mode
from l2i_fast.stream.unique import Unique
from l2i_fast.stream.worker import Worker

if TYPE_CHECKING:
    from l2i_fast.model import L2I


class PooledStream(StreamBase):
    """One of the signals of a `StreamPool`, made by `StreamPool.join`; it leaves the pool with `leave`."""

    def __init__(self, pool: StreamPool, signal: Signal) -> None:
        super().__init__(signal)
        self._pool: weakref.ref[StreamPool] | None = weakref.ref(pool)  # the pool holds its streams

    def leave(self) -> Float32:
        """End the signal, leave the pool and return the last `latency` samples."""
        pool, self._pool = self._joined(), None
        return pool.remove(self)

    def reset(self) -> None:
        """Discard the signal and its latest answer, and begin a new one."""
        self._joined().reset(self)

    def _joined(self) -> StreamPool:
        pool = self._pool() if self._pool else None
        if pool is None:
            raise ValueError("the stream has left its pool, or the pool is gone")
        return pool


class StreamPool(Unique):
    """Independent signals that are advanced together; made by `L2I.stream_pool`.

    Each is equal to a `Stream` with the same settings up to rounding (sums are added in another order), whichever
    other signals the pool has, and cheaper: all share each pass over the dictionary, and the networks process together
    the signals that are due together. All methods may be called from several threads.

    Parameters
    ----------
    model : L2I
    n : int
        Number of streams that the pool begins with; more may join.
    samplerate : int, optional
        Hz; must be the model's.
    mode
        As in `Stream`.
    **settings
        See `StreamSettings`.
    """

    def __init__(
        self,
        model: L2I,
        n: int = 0,
        samplerate: int | None = None,
        mode: Mode = "realtime",
        **settings: Unpack[StreamSettings],
    ) -> None:
        self.mode = one_of(mode, "mode", get_args(Mode))
        n = integer(n, "n", 0)
        if samplerate is not None and check_rate("samplerate", samplerate) != model.sample_rate:
            raise ValueError(f"samplerate is {samplerate}, but a pool of this model takes {model.sample_rate} Hz only")
        self._hearing = Hearing(model, **settings)
        self.sample_rate = model.sample_rate
        self._engine = self._hearing.new_pool()
        # Replaced as a whole, so that the worker can read it without the lock.
        self._signals: Mapping[PooledStream, Signal] = {}
        self._lock = forks.lock(forks.CALL)
        self._worker = Worker(self._hearing, self, lambda pool: tuple(pool._signals.values()), "pool")
        for _ in range(n):
            self.join()

    @property
    def streams(self) -> tuple[PooledStream, ...]:
        """Streams of the pool, in the order in which they joined."""
        return tuple(self._signals)

    @property
    def latency(self) -> int:
        """Samples by which each output lags behind its input: one frame."""
        return self._hearing.model.analysis.n_fft

    def join(self) -> PooledStream:
        """Add a stream, whose signal begins with the next push."""
        with self._lock:
            self._worker.check_open()
            signal = self._hearing.new_signal()
            stream = PooledStream(self, signal)
            self._signals = {**self._signals, stream: signal}
            return stream

    def remove(self, stream: PooledStream) -> Float32:
        """End the signal of a stream, take it out of the pool and return its last `latency` samples."""
        with self._lock:
            signal = self._signal_of(stream, "stream")
            self._signals = {one: its for one, its in self._signals.items() if one is not stream}
            synchronous = self.mode == "synchronous"
            parts: list[Float32] = []
            while sum(part.size for part in parts) < signal.engine.latency:
                parts += self._engine.push([signal.engine], [None], [signal.due if synchronous else -1])
                if synchronous and signal.frames_until_due == 0:
                    self._hearing.refresh([signal])
            return np.concatenate(parts)

    def reset(self, stream: PooledStream) -> None:
        """Discard the signal of a stream and its latest answer, and begin a new one."""
        with self._lock:
            self._signal_of(stream, "stream").reset()

    def _signal_of(self, stream: PooledStream, name: str) -> Signal:
        if stream not in self._signals:
            raise ValueError(f"{name} names a stream that is not in this pool, but only its own streams take part")
        return self._signals[stream]

    def push(self, blocks: Array | Sequence[Array] | Mapping[PooledStream, Array]) -> Any:
        """Take a block of each signal and return the same number of samples of its interpretation.

        Parameters
        ----------
        blocks : array (n, m), sequence of n arrays, or mapping from streams of the pool to arrays
            A block of samples (m,) for each of `streams`, or for the named ones; lengths may differ.

        Returns
        -------
        Of the same form: float32 (n, m), a list of n arrays, or a mapping.

        Raises
        ------
        TypeError, ValueError
            For a number of blocks that is not that of the streams, a stream that is not in the pool, or samples for
            which `Stream.push` raises. All blocks are then ignored.

        Warns
        -----
        RuntimeWarning
            Once for each stream, if the networks have raised an exception: its audio continues with the components it
            had.
        """
        with self._lock:
            self._worker.check_open()
            if isinstance(blocks, Mapping):
                named = [self._signal_of(stream, "blocks") for stream in blocks]
                return dict(zip(blocks, self._push(named, list(blocks.values())), strict=True))
            signals = list(self._signals.values())
            if not isinstance(blocks, list | tuple | np.ndarray) and not is_tensor(blocks):
                blocks = to_numpy(blocks, "blocks")
            if np.ndim(blocks) == 0 and not isinstance(blocks, list | tuple):
                raise ValueError("blocks is a single number, but a block for each stream is needed")
            if len(blocks) != len(signals):
                raise ValueError(f"blocks has {len(blocks)} rows, but the pool has {len(signals)} streams")
            if type(blocks) is np.ndarray and blocks.dtype == np.float32 and blocks.ndim == 2:
                frames = 1 + blocks.shape[1] // self._hearing.model.analysis.hop_length  # at most, of this push
                if self.mode == "realtime" or all(signal.frames_until_due > frames for signal in signals):
                    return self._push_rows(signals, np.ascontiguousarray(blocks))
            answers = self._push(signals, list(blocks))
            return answers if isinstance(blocks, Sequence) else np.stack(answers) if answers else np.empty((0, 0))

    def close(self) -> None:
        """End all streams: the networks stop, and later pushes raise."""
        self._worker.close()

    def __enter__(self) -> StreamPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _push(self, signals: Sequence[Signal], blocks: Sequence[Array]) -> list[Float32]:
        samples = [mono(block) for block in blocks]
        if self.mode == "realtime":
            self._worker.start()
        parts: list[list[Float32]] = [[] for _ in signals]
        left = list(range(len(signals)))
        while left:
            synchronous = self.mode == "synchronous"
            untils = [signals[i].due if synchronous else -1 for i in left]
            answers = self._engine.push([signals[i].engine for i in left], [samples[i] for i in left], untils)
            for i, answer in zip(left, answers, strict=True):
                parts[i].append(answer)
                samples[i] = samples[i][answer.size :]
            if synchronous and (due := [signals[i] for i in left if signals[i].frames_until_due == 0]):
                self._hearing.refresh(due)
            left = [i for i in left if samples[i].size]
        for signal in signals:
            if signal.error is not None:
                signal.warn()
        return [one[0] if len(one) == 1 else np.concatenate(one) for one in parts]

    def _push_rows(self, signals: Sequence[Signal], blocks: Float32) -> Float32:
        """Push samples (n, m) without a list in between, where no network has to run before the end."""
        if self.mode == "realtime":
            self._worker.start()
        answer: Float32 = self._engine.push([signal.engine for signal in signals], blocks)
        for signal in signals:
            if signal.error is not None:
                signal.warn()
        return answer
