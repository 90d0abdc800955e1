"""StreamDecoder against `decode` of the whole signal and float64 references, for any blocks, on every CPU path."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import get_window

import l2i_fast as l2i
from l2i_fast import _core, reference
from l2i_fast.data import Dataset
from l2i_fast.settings import DOMAINS
from l2i_fast.stream import StreamDecoder
from l2i_fast.stream.decoder import stream_engines

from ..helpers import refused, relative

Samples = NDArray[np.float32]

#: Frame length, hop, components: every remainder of lanes, hops that divide the frame and that do not.
SHAPES = [
    (32, 8, 3),
    (64, 20, 1),
    (128, 128, 17),
    (256, 100, 64),
    (512, 128, 80),
    (512, 64, 7),
    (1024, 512, 100),
    (1024, 256, 33),
    (1024, 1000, 12),
    (2048, 512, 131),
    (4096, 1024, 100),
]


def hann(n: int) -> NDArray[Any]:
    return np.asarray(get_window("hann", n).astype(np.float32))


def signal(rng: np.random.Generator, n: int) -> Samples:
    """Noise whose level goes up and down, with a silence."""
    y = rng.standard_normal(n) * np.exp(2 * np.sin(np.arange(n) / 700))
    y[n // 3 : n // 2] = 0
    return np.asarray(0.1 * y, np.float32)


def dictionary(rng: np.random.Generator, n_fft: int, K: int) -> Samples:
    return np.asarray(rng.uniform(0.01, 1, (n_fft // 2 + 1, K)), np.float32)


def soft(rng: np.random.Generator, K: int) -> Samples:
    """Weights, some of them 0."""
    weights = rng.random(K, np.float32) * (rng.random(K) < 0.5)
    weights[0] = 0.75
    return np.asarray(weights, np.float32)


def deliver(stream: StreamDecoder, y: Samples, sizes: Iterable[int], H: Samples | None = None) -> Samples:
    """The whole output for a signal in blocks of these sizes, repeated."""
    parts, at, frame, sizes = [], 0, 0, cycle(sizes)
    while at < y.size:
        block = y[at : at + next(sizes)]
        n = stream.frames_in(block.size)
        parts.append(stream.push(block, None if H is None else H[:, frame : frame + n]))
        assert parts[-1].dtype == np.float32
        assert parts[-1].shape == block.shape
        at, frame = at + block.size, frame + n
        assert stream.hops == frame
    parts.append(stream.push(y[:0], None if H is None else H[:, frame:], last=True))
    return np.concatenate(parts)


def lengths(n_fft: int, hop: int) -> list[int]:
    """No samples, less than a frame, and more, around the lengths that complete a frame."""
    return [0, 1, n_fft // 3, n_fft - 1, n_fft, 5 * hop, n_fft // 2 + 5 * hop - 1, n_fft // 2 + 5 * hop, 20 * hop + 7]


def held(n: int, n_fft: int, hop: int) -> NDArray[np.bool_]:
    """Samples with enough window energy: elsewhere a rounding error is divided by almost zero."""
    squares = np.zeros(n + 2 * n_fft)
    for t in range(1 + n // hop):
        squares[t * hop : t * hop + n_fft] += hann(n_fft) ** 2
    return np.asarray(squares[n_fft // 2 :][:n] > 0.01)


# ---- output


@pytest.mark.parametrize("sizes", [[1], [17], [512], [509], [44100], None])
def test_all_components_give_the_input_back(sizes: list[int] | None, rng: np.random.Generator, cpu_path: str) -> None:
    y = signal(rng, 60_000)
    stream = StreamDecoder(dictionary(rng, 1024, 100))
    out = deliver(stream, y, sizes or [*rng.integers(0, 3000, 100).tolist(), 1])
    assert stream.latency == 1024
    assert out.size == y.size + 1024
    assert not out[:1024].any()
    assert np.abs(out[1024:] - y).max() < 1e-5 * np.abs(y).max()


@pytest.mark.parametrize(("n_fft", "hop", "K"), [(n_fft, hop, K) for n_fft, hop, K in SHAPES if 2 * hop <= n_fft])
def test_a_recording_comes_back(n_fft: int, hop: int, K: int, esc10: Dataset, rng: np.random.Generator) -> None:
    y = esc10.audio(esc10.clips[7], 44100)
    stream = StreamDecoder(dictionary(rng, n_fft, K), hop, eps=1e-9)  # eps alone would take something away
    out = deliver(stream, y, rng.integers(1, 5000, 50).tolist())
    assert np.abs(out[n_fft:] - y).max() < 1e-5 * np.abs(y).max()


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(("n_fft", "hop", "K"), SHAPES)
def test_given_activations_are_decoded(
    n_fft: int, hop: int, K: int, domain: Any, rng: np.random.Generator, cpu_path: str
) -> None:
    W, weights = dictionary(rng, n_fft, K), soft(rng, K)
    stream = StreamDecoder(W, hop, domain=domain, eps=1e-3)
    stream.weights = weights
    for n in lengths(n_fft, hop):
        y = signal(rng, n)
        H = (rng.random((K, 1 + n // hop)) * (rng.random((K, 1 + n // hop)) < 0.7)).astype(np.float32)
        out = deliver(stream, y, [*rng.integers(0, 2 * hop, 20).tolist(), 1], H)
        assert out.shape == (n + n_fft,)
        assert not out[:n_fft].any()
        if n == 0:
            continue
        X = l2i.stft(y, n_fft, hop)
        whole = l2i.decode(X, W, H, weights, hop, domain, n, eps=1e-3)
        exact = reference.stream(y, W, hann(n_fft), hop, weights, H, domain=domain, eps=1e-3)[n_fft:]
        sound = np.flatnonzero(held(n, n_fft, hop))
        if exact[sound].any():
            assert relative(out[n_fft:][sound], whole[sound]) < 1e-5
            assert relative(out[n_fft:][sound], exact[sound]) < 1e-5


@pytest.mark.parametrize("n_iter", [1, 10, 30])
@pytest.mark.parametrize(("n_fft", "hop", "K"), SHAPES)
def test_updates_equal_the_reference(
    n_fft: int, hop: int, K: int, n_iter: int, rng: np.random.Generator, cpu_path: str
) -> None:
    W, weights, y = dictionary(rng, n_fft, K), soft(rng, K), signal(rng, n_fft + 30 * hop)
    stream = StreamDecoder(W, hop, n_iter)
    stream.weights, stream.scale = weights, 0.3
    out = [stream.push(y)]
    H = reference.stream_activations(np.log1p(np.abs(reference.stft(y, hann(n_fft), hop)) / 0.3), W, n_iter)
    assert relative(stream.activations, H[:, stream.hops - 1]) < 1e-4
    out.append(stream.flush())
    exact = reference.stream(y, W, hann(n_fft), hop, weights, n_iter=n_iter, scale=0.3)
    assert relative(np.concatenate(out), exact) < 1e-4


@pytest.mark.parametrize(("n_fft", "hop", "K"), SHAPES)
def test_updates_from_a_start_equal_the_reference(
    n_fft: int, hop: int, K: int, rng: np.random.Generator, cpu_path: str
) -> None:
    W, y = dictionary(rng, n_fft, K), signal(rng, n_fft + 12 * hop)
    start = rng.random(K).astype(np.float32)
    start[1::3] = 0  # stays so
    stream = StreamDecoder(W, hop, 3)
    stream.start = start
    V = np.log1p(np.abs(reference.stft(y, hann(n_fft), hop)))
    H = reference.stream_activations(V, W, 3, start)
    stream.push(y)
    assert relative(stream.activations, H[:, stream.hops - 1]) < 1e-4
    np.testing.assert_array_equal(stream.start, start)
    engine = stream_engines(W, hop, 3, "log", lift=0.02).stream()
    engine.publish(np.ones(K, np.float32), 1.0, start)
    engine.push(y)
    assert relative(engine.activations(), reference.stream_activations(V, W, 3, start, 0.02)[:, engine.hops - 1]) < 1e-4
    stream.start = None  # from here on, each frame starts from the previous one
    stream.reset()
    stream.push(y)
    assert relative(stream.activations, reference.stream_activations(V, W, 3)[:, stream.hops - 1]) < 1e-4


def test_a_start_fades_in(rng: np.random.Generator, cpu_path: str) -> None:
    """From one start to the other in equal steps."""
    W, y = dictionary(rng, 256, 20), signal(rng, 6000)
    first, second = rng.random(20), rng.random(20)
    V = np.log1p(np.abs(reference.stft(y, hann(256), 128)))
    stream = StreamDecoder(W, 128, 1)
    stream.start = first
    stream.push(y[:4096])
    stream.start = second
    for hops in range(1, 6):
        n = stream.hops
        stream.push(y[4096 + 128 * (hops - 1) : 4096 + 128 * hops])
        share = min(hops / 4, 1)
        H = reference.stream_activations(V[:, [n]], W, 1, (1 - share) * first + share * second)
        assert relative(stream.activations, H[:, 0]) < 1e-4


def test_a_scale_applies_at_once_during_silence(rng: np.random.Generator) -> None:
    """Silence cannot jump, so the scale does not fade after it."""
    W, y = dictionary(rng, 256, 20), signal(rng, 3000)
    stream = StreamDecoder(W, 128, 5)
    stream.weights, stream.start = np.zeros(20), np.ones(20)
    stream.push(y[:2000])
    n = stream.hops
    stream.scale = 0.2
    stream.push(y[2000:2128])
    V = np.log1p(np.abs(reference.stft(y, hann(256), 128)) / 0.2)
    assert relative(stream.activations, reference.stream_activations(V[:, [n]], W, 5, np.ones(20))[:, 0]) < 1e-4


def test_old_columns_are_not_returned(rng: np.random.Generator) -> None:
    """A column holds a frame's bands and the peak of its hop, and only the latest are kept."""
    bands = rng.random((3, 33)).astype(np.float32)
    engines = stream_engines(dictionary(rng, 64, 4), 32, 1, "log", filters=bands.T)
    stream, y = engines.stream(10), signal(rng, 32 * 40)
    stream.push(y)
    hops = stream.hops
    columns = stream.columns(hops - 9, 9)
    assert columns is not None
    mel = bands @ np.abs(reference.stft(y, hann(64), 32))
    np.testing.assert_allclose(columns[:, :3].T, mel[:, hops - 9 : hops], rtol=1e-4, atol=1e-5)
    peaks = [np.abs(y[32 * t : 32 * (t + 1)]).max() for t in range(hops - 9, hops)]
    np.testing.assert_array_equal(columns[:, 3], np.float32(peaks))
    for first, n in [(hops - 10, 10), (hops - 11, 2), (0, 1), (-1, 1), (hops - 1, 2), (hops, 1)]:
        assert stream.columns(first, n) is None


@pytest.mark.parametrize(("n_fft", "hop"), [(64, 32), (64, 16), (64, 20), (64, 64)])
def test_without_bands_a_column_holds_the_new_samples(rng: np.random.Generator, n_fft: int, hop: int) -> None:
    engines = stream_engines(dictionary(rng, n_fft, 4), hop, 1, "log")
    alone, pooled, y = engines.stream(10), engines.stream(10), signal(rng, 1000)
    for part in np.split(y, [7, 300, 555]):
        alone.push(part)
        engines.pool().push([pooled], [part], None)
    padded = np.concatenate([np.zeros(max(0, hop - n_fft // 2)), y]).astype(np.float32)
    first = max(0, n_fft // 2 - hop)  # of frame 0
    for stream in (alone, pooled):
        hops = stream.hops
        assert hops == 1 + (1000 - n_fft // 2) // hop
        columns = stream.columns(hops - 9, 9)
        assert columns is not None
        expected = [padded[first + t * hop :][:hop] for t in range(hops - 9, hops)]
        np.testing.assert_array_equal(columns[:, :-1], expected)
        assert stream.columns(hops - 11, 2) is None


def test_components_come_back_after_a_silence(rng: np.random.Generator, cpu_path: str) -> None:
    W = np.zeros((33, 2), np.float32)
    W[4:9, 0] = W[20:25, 1] = 1
    low, high = (np.cos(2 * np.pi * f / 64 * np.arange(2048)).astype(np.float32) for f in (6, 22))
    stream = StreamDecoder(W, 32)
    found = []
    for part in (low, high, 0 * low, low):
        stream.push(part)
        found.append(stream.activations)
    assert found[0][0] > 100 * found[0][1]
    assert found[1][1] > 100 * found[1][0]
    assert not found[2].any()
    np.testing.assert_allclose(found[3], found[0], rtol=1e-3, atol=1e-3)


def test_the_definition_of_the_updates(rng: np.random.Generator) -> None:
    V, W = rng.random((9, 1)), rng.random((9, 4))
    many = reference.stream_activations(np.tile(V, 40), W, 50)
    np.testing.assert_allclose(W @ many[:, -1:], W @ reference.activations(V, W, 2.0, 2000), rtol=1e-2)
    (first,) = reference.stream_activations(V, W, 1).T
    b = W.T @ V[:, 0]
    np.testing.assert_allclose(first, 1e-3 * b * b / (W.T @ W @ (1e-3 * b)))


# ---- any blocks, any number of signals


@settings(max_examples=60, deadline=None)
@example(4, 17, [0, 0, 1, 9], 0, True)
@given(
    st.integers(5, 8),
    st.integers(1, 130),
    st.lists(st.integers(0, 700), min_size=1, max_size=30).filter(any),
    st.integers(0, 3000),
    st.booleans(),
)
def test_blocks_do_not_change_a_bit(log_n: int, hop: int, sizes: list[int], n: int, whole: bool) -> None:
    n_fft = 2 ** max(log_n, 5)
    rng = np.random.default_rng(n)
    W, y = dictionary(rng, n_fft, 5), signal(rng, n)
    streams = [StreamDecoder(W, min(hop, n_fft), 3) for _ in range(2)]
    for stream in streams:
        stream.weights = [1, 0, 0.5, 0, 0.25]
    expected = streams[0].push(y, last=True) if whole else np.concatenate((streams[0].push(y), streams[0].flush()))
    assert expected.size == n + n_fft
    np.testing.assert_array_equal(deliver(streams[1], y, sizes), expected)


def test_minutes_in_one_block(rng: np.random.Generator) -> None:
    W, y = dictionary(rng, 512, 20), np.tile(signal(rng, 44_100), 180)
    at_once = StreamDecoder(W, 128).push(y)
    np.testing.assert_array_equal(StreamDecoder(W, 128).push(y[: y.size // 2]), at_once[: y.size // 2])
    by_blocks = StreamDecoder(W, 128)
    for at in range(0, y.size, 44_100):
        np.testing.assert_array_equal(by_blocks.push(y[at : at + 44_100]), at_once[at : at + 44_100])


@pytest.mark.parametrize("end", ["flush", "last", "reset"])
def test_a_new_signal_does_not_depend_on_the_previous_one(end: str, rng: np.random.Generator) -> None:
    W, weights = dictionary(rng, 256, 9), soft(rng, 9)
    first, second = signal(rng, 5000), signal(rng, 4000)
    used, fresh = StreamDecoder(W, 64), StreamDecoder(W, 64)
    used.weights = fresh.weights = weights
    if end == "flush":
        used.push(first)
        assert used.flush().shape == (256,)
    elif end == "last":
        assert used.push(first, last=True).shape == (5256,)
    else:
        used.push(first)
        used.reset()
    assert used.hops == 0
    assert not used.activations.any()
    np.testing.assert_array_equal(used.weights, weights)
    np.testing.assert_array_equal(deliver(used, second, [100]), deliver(fresh, second, [100]))


def test_a_hundred_streams_in_eight_threads(rng: np.random.Generator) -> None:
    signals = [signal(rng, int(n)) for n in rng.integers(1, 60_000, 100)]
    sizes = [rng.integers(1, int(most), 50).tolist() for most in rng.choice([40, 2000, 60_000], 100)]
    W, weights = dictionary(rng, 1024, 33), soft(rng, 33)

    def run(i: int) -> Samples:
        stream = StreamDecoder(W, (512, 256)[i % 2])
        stream.weights = np.roll(weights, i)
        return deliver(stream, signals[i], sizes[i])

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(run, range(100)))
    for i, out in enumerate(together):
        np.testing.assert_array_equal(out, run(i))


def test_two_threads_cannot_push_at_once(rng: np.random.Generator) -> None:
    stream = StreamDecoder(dictionary(rng, 1024, 100), n_iter=2000)
    y = signal(rng, 200_000)
    long = Thread(target=stream.push, args=(y,))
    long.start()
    refused = ""
    while long.is_alive():
        try:
            stream.push(y[:0])
        except ValueError as error:
            refused = str(error)
    assert "this stream is already in use" in refused
    assert stream.push(y[:100]).size == 100


@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc for the allocated memory")
def test_memory_does_not_grow(rng: np.random.Generator) -> None:
    class Info(ctypes.Structure):  # struct mallinfo2
        _fields_ = [(name, ctypes.c_size_t) for name in (*"abcd", "mapped", "f", "g", "in_use", "i", "j")]

    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = Info

    def allocated() -> int:
        gc.collect()
        info = mallinfo()
        return int(info.in_use + info.mapped)

    stream, y = StreamDecoder(dictionary(rng, 256, 10), 64), signal(rng, 64)
    weights = [soft(rng, 10) for _ in range(2)]

    def hops(n: int) -> None:
        for i in range(n):
            stream.weights = weights[i % 2]
            stream.push(y, last=i % 100 == 99)

    hops(1000)
    before = allocated()
    hops(20_000)
    assert allocated() - before < 20_000


# ---- weights and scale


def faded(old: NDArray[Any], new: NDArray[Any], T: int, first: int) -> NDArray[Any]:
    """The rows of T frames that go from old to new values over four of them."""
    share = np.clip((np.arange(T) - first + 1) / 4, 0, 1)
    return np.outer(1 - share, old) + np.outer(share, new)


def test_weights_and_scale_fade_over_four_hops(rng: np.random.Generator, cpu_path: str) -> None:
    n_fft, hop, K, T = 256, 64, 20, 61
    W, y = dictionary(rng, n_fft, K), signal(rng, (T - 1) * hop)
    H = rng.uniform(0.1, 1, (K, T)).astype(np.float32)
    old, new, scales = soft(rng, K), soft(rng, K), (0.5, 3.0)
    stream = StreamDecoder(W, hop)
    stream.weights, stream.scale = old, scales[0]
    at = 1234
    first = stream.frames_in(at)
    out = [stream.push(y[:at], H[:, :first])]
    stream.weights = new
    stream.scale = scales[1]
    np.testing.assert_array_equal(stream.weights, new)
    assert stream.scale == scales[1]
    out += [deliver_rest(stream, y[at:], H[:, first:])]
    weights = faded(old, new, T, first).T
    scale = np.exp(faded(np.log(scales[:1]), np.log(scales[1:]), T, first)[:, 0])
    exact = reference.stream(y, W, hann(n_fft), hop, weights, H, scale=scale)
    assert relative(np.concatenate(out), exact) < 1e-5


def test_weights_that_change_again_fade_from_where_they_are(rng: np.random.Generator) -> None:
    n_fft, hop, K, T = 128, 64, 6, 30
    W, y, H = dictionary(rng, n_fft, K), signal(rng, (T - 1) * hop), rng.uniform(0.1, 1, (K, T)).astype(np.float32)
    one, two, three = (rng.random(K, np.float32) for _ in range(3))
    stream = StreamDecoder(W, hop)
    stream.weights = two
    stream.weights = one  # before the first frame: at once
    out = [stream.push(y[: 9 * hop], H[:, :9])]
    stream.weights = two
    out.append(stream.push(y[9 * hop : 11 * hop], H[:, 9:11]))
    stream.weights = three
    out.append(deliver_rest(stream, y[11 * hop :], H[:, 11:]))
    weights = faded(one, two, T, 9)
    weights[11:] = faded(weights[10], three, T - 11, 0)
    exact = reference.stream(y, W, hann(n_fft), hop, weights.T, H)
    assert relative(np.concatenate(out), exact) < 1e-5


def deliver_rest(stream: StreamDecoder, y: Samples, H: Samples) -> Samples:
    return stream.push(y, H, last=True)


def test_no_component_is_silence(rng: np.random.Generator, cpu_path: str) -> None:
    stream = StreamDecoder(dictionary(rng, 256, 9), 64)
    stream.weights = np.zeros(9)
    assert not deliver(stream, signal(rng, 3000), [77]).any()
    assert stream.push(signal(rng, 3000)).size == 3000
    assert stream.activations.any()


# ---- valid and invalid input


@pytest.fixture
def stream(rng: np.random.Generator) -> StreamDecoder:
    return StreamDecoder(dictionary(rng, 256, 9), 64)


def test_samples_of_any_kind(stream: StreamDecoder, rng: np.random.Generator) -> None:
    pcm = rng.integers(-(2**15), 2**15, 3000).astype(np.int16)
    y = pcm.astype(np.float32) / 2**15
    expected = stream.push(y, last=True)
    backwards = y[::-1].copy()[::-1]
    wide = np.zeros((3000, 3), np.float32)
    wide[:, 1] = y
    shifted = np.frombuffer(b"x" + y.tobytes(), np.uint8)[1:].view(np.float32)
    swapped = y.astype(y.dtype.newbyteorder())
    read_only = y.copy()
    read_only.flags.writeable = False
    same: list[Any] = [pcm, pcm.astype(np.int32) * 2**16, y.astype(np.float64), y.astype(np.longdouble), backwards]
    same += [wide[:, 1], shifted, swapped, read_only, y[:, None], torch.from_numpy(y), y.tolist()]
    for block in same:
        np.testing.assert_array_equal(stream.push(block, last=True), expected)
    assert expected.any()


def test_the_output_belongs_to_the_caller(stream: StreamDecoder, rng: np.random.Generator) -> None:
    y = signal(rng, 2000)
    before = y.copy()
    first = stream.push(y[:1000])
    kept = first.copy()
    first_again = stream.push(y[1000:])
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(y, before)
    assert not np.shares_memory(first, first_again)
    assert first.flags.writeable
    assert first.flags.owndata


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 1, 63, 699])
def test_bad_samples_are_refused(bad: float, at: int, stream: StreamDecoder, rng: np.random.Generator) -> None:
    y = signal(rng, 2000)
    expected = stream.push(y, last=True)
    out = [stream.push(y[:1300])]
    block = y[1300:].copy()
    block[-1], block[at] = np.nan, bad
    for last in (False, True):
        with refused(ValueError, f"block holds NaN or infinity (first at sample {at}), but ..."):
            stream.push(block, last=last)
    block = block.astype(np.float64)
    block[-1], block[at] = 0, 1e300
    with refused(ValueError, f"block holds NaN or infinity (first at sample {at}), but ..."):
        stream.push(block)
    out.append(stream.push(y[1300:], last=True))
    np.testing.assert_array_equal(np.concatenate(out), expected)


@pytest.mark.parametrize(
    ("block", "error", "said"),
    [
        (np.zeros(4, np.int64), TypeError, "block has dtype int64, but ..."),
        (np.zeros(4, np.complex64), TypeError, "block has dtype complex64, but ..."),
        (np.zeros(4, bool), TypeError, "block has dtype bool, but ..."),
        (np.array(["noise"]), TypeError, "block has dtype <U5, but ..."),
        (None, TypeError, "block is NoneType, but an array of numbers or a tensor is needed"),
        (np.float32(1), ValueError, "block has shape (), but (m, 1) or (m,) is needed"),
        (np.zeros((4, 2), np.float32), ValueError, "block has shape (4, 2), but (m, 1) or (m,) is needed"),
        (np.zeros((1, 4, 1), np.float32), ValueError, "block has shape (1, 4, 1), but (m, 1) or (m,) is needed"),
    ],
)
def test_wrong_blocks_are_refused(block: Any, error: type[Exception], said: str, stream: StreamDecoder) -> None:
    for last in (False, True):
        with refused(error, said):
            stream.push(block, last=last)
    assert stream.hops == 0
    assert not stream.push(np.zeros(1000, np.float32)).any()


def test_wrong_activations_are_refused(stream: StreamDecoder, rng: np.random.Generator) -> None:
    y = signal(rng, 500)
    n = stream.frames_in(500)
    assert n == 1 + (500 - 128) // 64
    for H, said in [
        (np.ones((9, n + 1)), f"has shape (9, {n + 1}), but (K, n) = (9, {n}) is needed, n being frames_in(...)"),
        (np.ones((8, n)), f"has shape (8, {n}), but (K, n) = (9, {n}) is needed, n being frames_in(...)"),
        (np.ones(9), f"has shape (9,), but (K, n) = (9, {n}) is needed, n being frames_in(...)"),
        (np.full((9, n), np.nan), "holds negative numbers, NaN or infinity, but must be non-negative and finite"),
        (np.full((9, n), -1.0), "holds negative numbers, NaN or infinity, but must be non-negative and finite"),
    ]:
        with refused(ValueError, f"H {said}"):
            stream.push(y, H)
    with refused(TypeError, "H has dtype complex128, but real numbers are needed"):
        stream.push(y, np.ones((9, n), complex))
    assert stream.hops == 0
    assert stream.push(y, np.asfortranarray(np.ones((9, n)))[:, ::-1]).size == 500


OF_A_DICTIONARY = "but (F, K) with F - 1 a power of two from 16 to 32768 is needed"


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"W": np.ones((100, 3))}, ValueError, f"W has shape (100, 3), {OF_A_DICTIONARY}"),
        ({"W": np.ones((9, 3))}, ValueError, f"W has shape (9, 3), {OF_A_DICTIONARY}"),
        ({"W": np.ones((33, 0))}, ValueError, f"W has shape (33, 0), {OF_A_DICTIONARY}"),
        ({"W": np.ones(33)}, ValueError, f"W has shape (33,), {OF_A_DICTIONARY}"),
        ({"W": np.full((33, 2), -1.0)}, ValueError, "W holds negative numbers, NaN or infinity, but ..."),
        ({"W": np.full((33, 2), np.nan)}, ValueError, "W holds negative numbers, NaN or infinity, but ..."),
        ({"hop_length": 0}, ValueError, "hop_length is 0, but must be at least 1"),
        ({"hop_length": 65}, ValueError, "hop_length is 65, but must be at most the 64 samples of a frame"),
        ({"hop_length": 1.5}, TypeError, "hop_length is 1.5, but must be an integer"),
        ({"n_iter": 0}, ValueError, "n_iter is 0, but must be at least 1"),
        ({"domain": "power"}, ValueError, "domain is 'power', but must be one of log, magnitude, wiener"),
        ({"eps": 0}, ValueError, "eps is 0, but must be positive, and a normal number as float32"),
        ({"eps": np.nan}, ValueError, "eps is nan, but must be positive, and a normal number as float32"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], error: type[Exception], said: str) -> None:
    with refused(error, said):
        StreamDecoder(**{"W": np.ones((33, 3)), "hop_length": 32} | settings)


def test_wrong_weights_and_scales_are_refused(stream: StreamDecoder) -> None:
    outside = "weights holds numbers outside [0, 1] or NaN, but all must lie in [0, 1]"
    shape = "weights has shape (8,), but (9,) is needed"
    for weights, said in [(np.ones(8), shape), (np.full(9, 1.01), outside), (np.full(9, np.nan), outside)]:
        with refused(ValueError, said):
            stream.weights = weights
    for scale in (0, -1, np.inf, np.nan, 1e-40, 1e39):
        with refused(ValueError, f"scale is {scale}, but must be positive, and a normal number as float32"):
            stream.scale = scale
    negative = "start holds negative numbers, NaN or infinity, but must be non-negative and finite"
    shape = "start has shape (8, 1), but (K, n) = (9, 1) is needed, n being frames_in(...)"
    for start, said in [(np.ones(8), shape), (-np.ones(9), negative), (np.full(9, np.nan), negative)]:
        with refused(ValueError, said):
            stream.start = start
    assert stream.start is None
    np.testing.assert_array_equal(stream.weights, np.ones(9))
    assert stream.scale == 1
    stream.weights[:] = 0  # a copy
    assert stream.weights.all()


# ---- extreme numbers


@pytest.mark.parametrize("level", [1e-42, 1e-30, 1e-12, 1, 1e8, 1e30])
def test_any_level_gives_finite_sound(level: float, rng: np.random.Generator, cpu_path: str) -> None:
    stream = StreamDecoder(dictionary(rng, 256, 9), 64)
    y = np.clip(level * rng.standard_normal(4000), -1e30, 1e30).astype(np.float32)
    out = stream.push(y)
    assert np.isfinite(out).all()
    if 1 <= level <= 1e8:
        assert relative(out[256:], y[:-256]) < 1e-5
    quiet = signal(rng, 4000) + np.float32(0.01)
    back = stream.push(quiet, last=True)
    assert np.abs(back[512:-256] - quiet[256:-256]).max() < 1e-5 * np.abs(quiet).max()


@pytest.mark.parametrize(
    ("level", "scale"),
    [(1e-29, 1e-29), (1e-20, 1e-20), (1e-17, 1e-15), (1e17, 1), (1e20, 1), (1e28, 1), (1e20, 1e20), (1e28, 1e30)],
)
def test_any_level_equals_reference(level: float, scale: float, rng: np.random.Generator, cpu_path: str) -> None:
    W, y = dictionary(rng, 256, 9), np.float32(level) * signal(rng, 3000)
    engines = stream_engines(W, 64, 10, "log")
    streams = [engines.stream() for _ in range(3)]
    weights = soft(rng, 9)
    for one in streams:
        one.publish(weights, scale)
    alone = np.concatenate((streams[0].push(y), streams[0].finish()))
    pool = engines.pool()
    together = np.concatenate((pool.push(streams[1:], [y, y])[0], pool.push(streams[1:], [None, None])[0]))
    expected = reference.stream(y, W, hann(256), 64, weights, n_iter=10, scale=scale)
    for out in (alone, together):
        assert relative(out, expected) < 1e-4


def test_dictionaries_whose_products_leave_float32_are_refused(rng: np.random.Generator) -> None:
    W = dictionary(rng, 64, 3).clip(0, 0.9)
    W[2, 1] = 1
    for scale, found in ((1e20, "1e+20"), (2e-25, "2e-25")):
        with refused(ValueError, f"W has a largest entry of {found}, but one from 1e-09 to 1e+09 is needed"):
            StreamDecoder(W * np.float32(scale))
    y = signal(rng, 3000)
    usual = StreamDecoder(W, 16)
    for scale in (2e-9, 1e9):
        stream = StreamDecoder(W * np.float32(scale), 16, eps=1e-30)
        assert np.isfinite(stream.push(y)).all()
        assert np.isfinite(stream.activations).all()
    with refused(ValueError, "H holds numbers above 1e+25, but must hold at most that"):
        usual.push(y, np.full((3, usual.frames_in(y.size)), 1e38, np.float32))
    with refused(ValueError, "start holds numbers above 1e+25, but must hold at most that"):
        usual.start = np.full(3, 1e38)


def test_the_callers_denormals_are_left_alone(stream: StreamDecoder) -> None:
    stream.push(np.full(10_000, 1e-41, np.float32), last=True)
    tiny = np.full(100, 1e-40, np.float32)
    assert (tiny * np.float32(0.5)).all()


def test_paths_agree(rng: np.random.Generator) -> None:
    W, y = dictionary(rng, 512, 50), signal(rng, 20_000)
    before, answers = _core.cpu_features()["path"], []
    for path in _core.cpu_features()["supported"]:
        _core.use_cpu_path(path)
        try:
            stream = StreamDecoder(W, 128)
            stream.weights = np.eye(50)[3]
            answers.append(stream.push(y, last=True))
        finally:
            _core.use_cpu_path(before)
    for one in answers[1:]:
        assert relative(one, answers[0]) < 1e-4
