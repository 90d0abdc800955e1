"""Streams that the native engine advances together: as exact as alone, and independent of each other."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from l2i_fast.arrays import Float32
from l2i_fast.backends.native import StreamEngines
from l2i_fast.stream.decoder import stream_engines

from ..helpers import refused

#: More than two full tiles of the widest vectors, and some.
MANY = 70


def make_engines(
    rng: np.random.Generator, n_fft: int = 256, hop: int = 100, K: int = 13, domain: str = "log", n_mels: int = 0
) -> StreamEngines:
    W = (rng.random((n_fft // 2 + 1, K)) ** 4).astype(np.float32)
    centres, width = rng.integers(0, len(W), (n_mels, 1)), rng.integers(0, 9, (n_mels, 1))
    filters = np.where(abs(np.arange(len(W)) - centres) < width, rng.random((n_mels, len(W))), 0)
    bands = filters.T.astype(np.float32) if n_mels else None
    # Not Hann: where its last frame fades out alone, rounding would be divided by almost zero.
    W /= np.linalg.norm(W, axis=0)
    return stream_engines(W, hop, 10, domain, window="hamming", filters=bands, lift=0.02)


def random_mask(rng: np.random.Generator, K: int) -> tuple[Float32, float, Float32 | None]:
    """Weights of some components, most of them zero, a scale, and a start of some components, or none."""
    weights = rng.random(K) * (rng.random(K) < 0.4)
    start = (rng.random(K) * (rng.random(K) < 0.7)).astype(np.float32) if rng.random() < 0.5 else None
    return weights.astype(np.float32), float(rng.uniform(0.1, 2)), start


def noise(rng: np.random.Generator, n: int) -> Float32:
    return (rng.standard_normal(n) * rng.uniform(0.1, 1)).astype(np.float32)


def assert_close(actual: Sequence[Float32], expected: Sequence[Float32]) -> None:
    assert [one.shape for one in actual] == [one.shape for one in expected]
    pairs = [(one.ravel(), other.ravel()) for one, other in zip(actual, expected, strict=True)]
    # A few samples may all be near zero: they are judged together.
    long, few = [pair for pair in pairs if pair[0].size >= 64], [pair for pair in pairs if pair[0].size < 64]
    for one, other in (*long, *([tuple(map(np.concatenate, zip(*few, strict=True)))] if few else [])):
        # Output that is almost silent beside the input holds the rounding of the input.
        assert np.linalg.norm(one - other) <= 1e-5 * max(np.linalg.norm(other), 0.03 * np.sqrt(one.size))


@pytest.mark.parametrize(
    ("n_fft", "hop", "K", "domain"),
    [
        (32, 8, 1, "log"),
        (64, 64, 5, "magnitude"),
        (256, 100, 13, "wiener"),
        (1024, 512, 100, "log"),
        (4096, 1000, 33, "log"),
    ],
)
@pytest.mark.parametrize("n", [1, 5, 16, 17, MANY])
def test_agrees_with_single_streams(
    rng: np.random.Generator, cpu_path: str, n: int, n_fft: int, hop: int, K: int, domain: str
) -> None:
    """Each stream has its own block sizes, phase, weights, scale and end."""
    engines = make_engines(rng, n_fft, hop, K, domain, n_mels=20)
    alone, together = ([engines.stream(50) for _ in range(n)] for _ in range(2))
    pool = engines.pool()
    outs: tuple[list[list[Float32]], ...] = tuple([[] for _ in range(n)] for _ in range(2))
    for _ in range(6):
        for i in np.flatnonzero(rng.random(n) < 0.5):
            mask = random_mask(rng, K)
            alone[i].publish(*mask)
            together[i].publish(*mask)
        blocks = [noise(rng, rng.integers(0, 3 * n_fft)) for _ in range(n)]
        answers = pool.push(together, blocks)
        for i in range(n):
            outs[0][i].append(answers[i])
            outs[1][i].append(alone[i].push(blocks[i]))
        assert [one.hops for one in together] == [one.hops for one in alone]
        leaving = np.flatnonzero(rng.random(n) < 0.3)
        for i, answer in zip(leaving, pool.push([together[i] for i in leaving], [None] * leaving.size), strict=True):
            outs[0][i].append(answer)
            outs[1][i].append(alone[i].finish())
        for one, other in zip(together, alone, strict=True):
            assert_close([one.activations()], [other.activations()])
            first, many = max(0, one.hops - 20), min(one.hops, 20)
            columns, expected = one.columns(first, many), other.columns(first, many)
            assert columns is not None
            assert expected is not None
            assert_close([columns], [expected])
    assert_close(*([np.concatenate(one) for one in out] for out in outs))


def test_other_streams_do_not_change_a_bit(rng: np.random.Generator, cpu_path: str) -> None:
    """Neither the order and number of streams matter, nor the blocks, nor streams that come and go."""
    K = 13
    engines = make_engines(rng, K=K)
    pool = engines.pool()
    signals, masks = (
        [noise(rng, rng.integers(500, 3000)) for _ in range(MANY)],
        [random_mask(rng, K) for _ in range(MANY)],
    )

    def run(names: Sequence[int], longest: int) -> dict[int, Float32]:
        streams = {i: engines.stream() for i in names}
        for i, stream in streams.items():
            stream.publish(*masks[i])
        out: dict[int, list[Float32]] = {i: [] for i in names}
        taken = dict.fromkeys(names, 0)
        while taken:
            some = [i for i in rng.permutation(list(taken)) if rng.random() < 0.7]
            ends = [taken[i] == signals[i].size for i in some]
            blocks = [signals[i][taken[i] :][: rng.integers(0, longest)] for i in some]
            answers = pool.push(
                [streams[i] for i in some], [None if end else one for end, one in zip(ends, blocks, strict=True)]
            )
            for i, end, block, answer in zip(some, ends, blocks, answers, strict=True):
                out[i].append(answer)
                taken[i] += block.size
                if end:
                    del taken[i]
        return {i: np.concatenate(one) for i, one in out.items()}

    whole = run(range(MANY), 400)
    for names in ([3], list(range(20)), list(range(40, MANY)), range(MANY)):
        for i, one in run(names, 2000).items():
            assert np.array_equal(one, whole[i])


def test_until_stops_after_that_frame(rng: np.random.Generator, cpu_path: str) -> None:
    engines = make_engines(rng)
    alone, together = ([engines.stream() for _ in range(MANY)] for _ in range(2))
    pool = engines.pool()
    for _ in range(4):
        blocks = [noise(rng, rng.integers(0, 1500)) for _ in range(MANY)]
        until = [stream.hops + int(rng.integers(-1, 8)) for stream in alone]
        answers = pool.push(together, blocks, until)
        assert_close(answers, [s.push(b, u) for s, b, u in zip(alone, blocks, until, strict=True)])
    assert any(answer.size < block.size for answer, block in zip(answers, blocks, strict=True))
    for _ in range(2):
        until = [stream.hops + 1 for stream in alone]
        answers = pool.push(together, [None] * MANY, until)
        assert_close(answers, [s.finish(u) for s, u in zip(alone, until, strict=True)])
    assert_close(pool.push(together, [None] * MANY), [s.finish() for s in alone])


def test_streams_move_between_pools(rng: np.random.Generator) -> None:
    engines = make_engines(rng)
    pools = [engines.pool() for _ in range(2)]
    alone, moving = engines.stream(), engines.stream()
    answers, expected = [], []
    for i in range(9):
        block = noise(rng, 777)
        answers.append(moving.push(block) if i % 3 == 2 else pools[i % 3].push([moving], [block])[0])
        expected.append(alone.push(block))
    assert_close([np.concatenate(answers)], [np.concatenate(expected)])


def test_silent_beside_loud(rng: np.random.Generator, cpu_path: str) -> None:
    """A stream without weights gives silence, and weights of zero take nothing from a loud neighbour."""
    engines = make_engines(rng, K=4)
    streams = [engines.stream() for _ in range(3)]
    streams[0].publish(np.zeros(4, np.float32), 1.0)
    streams[1].publish(np.array([0, 1, 0, 1], np.float32), 1.0)
    pool = engines.pool()
    x = noise(rng, 3000)
    silence, partial, _ = pool.push(streams, [x, x, np.full(3000, 1e30, np.float32)])
    assert not silence.any()
    alone = engines.stream()
    alone.publish(np.array([0, 1, 0, 1], np.float32), 1.0)
    assert_close([partial], [alone.push(x)])


def test_no_streams_and_no_samples(rng: np.random.Generator) -> None:
    engines = make_engines(rng)
    pool = engines.pool()
    assert pool.push([], []) == []
    stream = engines.stream()
    (answer,) = pool.push([stream], [np.empty(0, np.float32)])
    assert answer.shape == (0,)
    assert stream.hops == 0
    assert pool.push([], np.empty((0, 5), np.float32)).shape == (0, 5)


def test_rows_of_an_array(rng: np.random.Generator) -> None:
    """The answer has rows with the bits that a list of blocks gives, for any strides of the rows."""
    engines = make_engines(rng)
    pool = engines.pool()
    some, others = ([engines.stream() for _ in range(MANY)] for _ in range(2))
    x = np.stack([noise(rng, 2000) for _ in range(MANY)])
    for rows in (x, x[::-1], x[:, 100:900]):
        assert np.array_equal(pool.push(some, rows), np.stack(pool.push(others, list(rows))))
    with refused(ValueError, "blocks must be contiguous in its last dimension"):
        pool.push(some, x[:, ::2])
    with refused(ValueError, "until must be None unless blocks is a list"):
        pool.push(some, x, [1] * MANY)  # type: ignore[call-overload]
    x[3, 9] = np.inf
    with refused(ValueError, "stream 3: block holds NaN or infinity (first at sample 9), but ..."):
        pool.push(some, x)


def test_bad_input_names_the_stream_and_leaves_all_unchanged(rng: np.random.Generator) -> None:
    engines = make_engines(rng)
    pool, streams, expected = engines.pool(), *([engines.stream() for _ in range(3)] for _ in range(2))
    good = [noise(rng, 300) for _ in range(3)]
    poisoned = good[1].copy()
    poisoned[17] = np.nan
    with refused(ValueError, "stream 1: block holds NaN or infinity (first at sample 17), but ..."):
        pool.push(streams, [good[0], poisoned, good[2]])
    with refused(TypeError, "stream 2: samples must be an aligned array of 1 dimensions and dtype float32"):
        pool.push(streams, [good[0], good[1], good[2].astype(np.float64)])  # type: ignore[list-item]
    with refused(TypeError, "stream 1: samples must be an array"):
        pool.push(streams, [good[0], good[1].tolist(), good[2]])  # type: ignore[list-item]
    with refused(ValueError, "stream 0: samples must be contiguous in its last dimension"):
        pool.push(streams[:1], [good[0][::2]])
    with refused(ValueError, "stream 2: this stream is already in use, but takes one call at a time"):
        pool.push([streams[0], streams[1], streams[0]], good)
    with refused(ValueError, "stream 1: must have the plan of this pool"):
        pool.push([streams[0], make_engines(rng).stream()], good[:2])
    with refused(TypeError, "stream 0: must be a Stream"):
        pool.push([None], good[:1])  # type: ignore[list-item]
    with refused(ValueError, "blocks and until must have an entry for each stream"):
        pool.push(streams, good[:2])
    with refused(ValueError, "blocks and until must have an entry for each stream"):
        pool.push(streams, good, [1, 2])
    answers = pool.push(streams, good)
    assert_close(answers, [stream.push(block) for stream, block in zip(expected, good, strict=True)])


def test_one_push_at_a_time(rng: np.random.Generator) -> None:
    engines = make_engines(rng, 1024, 128, 100)
    stream, pool = engines.stream(), engines.pool()
    long = noise(rng, 2_000_000)
    refused = []
    for attempt in (lambda: stream.push(long[:1]), lambda: pool.push([engines.stream()], [long[:1]])):
        worker = threading.Thread(target=pool.push, args=([stream], [long]))
        worker.start()
        while worker.is_alive():
            try:
                attempt()
            except ValueError as error:
                refused.append(str(error))
                break
        worker.join()
    assert refused == [f"this {what} is already in use, but takes one call at a time" for what in ("stream", "pool")]
