"""A model listening to many live signals at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from l2i_fast.arrays import Array, Float32
from l2i_fast.stream.decoder import mono
from l2i_fast.stream.hearing import Ear, Hearing, StreamSettings, Worker
from l2i_fast.stream.stream import Mode, check_mode

if TYPE_CHECKING:
    from l2i_fast.model import L2I


class PooledStream(Ear):
    """One of the signals of a `StreamPool`; it leaves the pool with `leave`."""

    def __init__(self, pool: StreamPool) -> None:
        super().__init__(pool._hearing)
        self._pool: StreamPool | None = pool

    def leave(self) -> Float32:
        """End the signal and leave the pool: the `latency` samples still to come."""
        if self._pool is None:
            raise ValueError("the stream has left its pool")
        pool, self._pool = self._pool, None
        return pool._remove(self)

    def reset(self) -> None:
        """Forget the signal and what was heard of it, and begin a new one."""
        if self._pool is None:
            raise ValueError("the stream has left its pool")
        with self._pool._turn:
            self._begin(self._engine.hops)
            self.latest = None


class StreamPool:
    """Independent signals that are advanced together; made by `L2I.stream_pool`.

    Each is what a `Stream` with the same settings would be (its sums are added up in another order, so they differ by
    rounding, and not with who else is in the pool), for less: all share each pass over the dictionary, and the
    networks hear as many at a time as are due together. All methods may be called from several threads.

    Parameters
    ----------
    model : L2I
    n : int
        Streams that the pool begins with; more may join.
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
        check_mode(mode)
        if samplerate is not None and samplerate != model.sample_rate:
            raise ValueError(f"samplerate is {samplerate}, but a pool of this model takes {model.sample_rate} Hz only")
        self._hearing = Hearing(model, **settings)
        self.sample_rate = model.sample_rate
        self.mode = mode
        self._engine = self._hearing.plan.pool()
        self._streams: tuple[PooledStream, ...] = ()
        self._turn = threading.Lock()
        self._worker = Worker(self._hearing, self, lambda pool: pool.streams, "pool")
        if n < 0:
            raise ValueError(f"n is {n}, but must be at least 0")
        for _ in range(n):
            self.join()

    @property
    def streams(self) -> tuple[PooledStream, ...]:
        """Those that are in the pool, in the order in which they joined."""
        return self._streams

    @property
    def latency(self) -> int:
        """Samples by which each output lags behind its input: one frame."""
        return self._hearing.model.analysis.n_fft

    def join(self) -> PooledStream:
        """Add a stream, whose signal begins with what is pushed next."""
        with self._turn:
            self._worker.check_open()
            stream = PooledStream(self)
            self._streams = (*self._streams, stream)
            return stream

    def push(self, blocks: Array | Sequence[Array] | Mapping[PooledStream, Array]) -> Any:
        """Take a block of each signal and give back as many samples of its interpretation.

        Parameters
        ----------
        blocks : array (n, m), sequence of n arrays, or mapping from streams of the pool to arrays
            A block of samples (m,) for each of `streams`, or for those that are named; lengths may differ.

        Returns
        -------
        Of the same form: float32 (n, m), a list of n arrays, or a mapping.

        Raises
        ------
        TypeError, ValueError
            For a number of blocks that is not that of the streams, a stream that is not in the pool, or samples that
            `Stream.push` refuses. Nothing of any block is taken then.

        Warns
        -----
        RuntimeWarning
            Once a stream, if the network has raised an exception: its audio goes on with the components it had.
        """
        with self._turn:
            self._worker.check_open()
            if isinstance(blocks, Mapping):
                for stream in blocks:
                    if getattr(stream, "_pool", None) is not self:
                        raise ValueError(f"blocks names {stream!r}, which is not in this pool")
                return dict(zip(blocks, self._push(list(blocks), list(blocks.values())), strict=True))
            if len(blocks) != len(self._streams):
                raise ValueError(f"blocks has {len(blocks)} rows, but the pool has {len(self._streams)} streams")
            if isinstance(blocks, np.ndarray) and blocks.dtype == np.float32 and blocks.ndim == 2:
                frames = 1 + blocks.shape[1] // self._hearing.model.analysis.hop_length  # at most, of this push
                if self.mode == "realtime" or all(stream._wait() > frames for stream in self._streams):
                    return self._push_rows(np.ascontiguousarray(blocks))
            answers = self._push(self._streams, list(blocks))
            return answers if isinstance(blocks, Sequence) else np.stack(answers) if answers else np.empty((0, 0))

    def close(self) -> None:
        """End all streams: the networks stop, and push is refused from now on."""
        self._worker.close()

    def __enter__(self) -> StreamPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _push(self, streams: Sequence[PooledStream], blocks: Sequence[Array]) -> list[Float32]:
        samples = [mono(block) for block in blocks]
        if self.mode == "realtime":
            self._worker.start()
        parts: list[list[Float32]] = [[] for _ in streams]
        left = list(range(len(streams)))
        while left:
            synchronous = self.mode == "synchronous"
            untils = [streams[i]._due if synchronous else -1 for i in left]
            answers = self._engine.push([streams[i]._engine for i in left], [samples[i] for i in left], untils)
            for i, answer in zip(left, answers, strict=True):
                parts[i].append(answer)
                samples[i] = samples[i][answer.size :]
            if synchronous and (due := [streams[i] for i in left if streams[i]._wait() == 0]):
                self._hearing.refresh(due)
            left = [i for i in left if samples[i].size]
        for stream in streams:
            stream._warn()
        return [one[0] if len(one) == 1 else np.concatenate(one) for one in parts]

    def _push_rows(self, blocks: Float32) -> Float32:
        """Samples (n, m) in and out, without a list in between, where no network has to run before the end."""
        if self.mode == "realtime":
            self._worker.start()
        answer: Float32 = self._engine.push([stream._engine for stream in self._streams], blocks)
        for stream in self._streams:
            stream._warn()
        return answer

    def _remove(self, stream: PooledStream) -> Float32:
        with self._turn:
            self._streams = tuple(one for one in self._streams if one is not stream)
            parts: list[Float32] = []
            while sum(part.size for part in parts) < stream.latency:
                until = stream._due if self.mode == "synchronous" else -1
                parts += self._engine.push([stream._engine], [None], [until])
                if self.mode == "synchronous" and stream._wait() == 0:
                    self._hearing.refresh([stream])
            return np.concatenate(parts)
