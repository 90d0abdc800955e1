"""Models that listen to live signals: `L2I.stream` and `L2I.stream_pool`."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import get_window

import l2i_fast as l2i
from l2i_fast import reference
from l2i_fast.data import Dataset
from l2i_fast.model import L2I
from l2i_fast.settings import Analysis
from l2i_fast.stream import Refresh, Stream, StreamDecoder

from ..conftest import make_model
from ..helpers import refused, wait_for

Samples = NDArray[np.float32]
HOP, N_FFT = 512, 1024


def sound(rng: np.random.Generator, seconds: float, rate: int = 44100) -> Samples:
    """Noise in bands and levels that change every quarter of a second."""
    n, step = int(seconds * rate), rate // 4
    parts = []
    for _ in range(-(-n // step)):
        pitch = rng.uniform(0.001, 0.3)
        tone = np.sin(np.arange(step) * pitch) + 0.3 * rng.standard_normal(step)
        parts.append(tone * rng.uniform(0.01, 0.3))
    return np.concatenate(parts)[:n].astype(np.float32)


def blocks_of(y: Samples, sizes: Iterator[int]) -> Iterator[Samples]:
    at = 0
    while at < len(y):
        size = next(sizes)
        yield y[at : at + size]
        at += size


def endless(*sizes: int) -> Iterator[int]:
    while True:
        yield from sizes


def listen(stream: Stream, y: Samples, *sizes: int) -> tuple[Samples, list[Refresh]]:
    """All that comes out of a signal, and every refresh on the way."""
    out, seen = [], []
    for block in (*blocks_of(y, endless(*(sizes or (HOP,)))), None):
        before = stream.latest
        out.append(stream.flush() if block is None else stream.push(block))
        if stream.latest is not None and stream.latest is not before:
            seen.append(stream.latest)
    return np.concatenate(out), seen


@pytest.fixture(scope="module", params=["window", "incremental"])
def model(request: pytest.FixtureRequest) -> L2I:
    """A model whose networks hear whole windows, and one whose networks follow the signal."""
    return make_model(streamable=request.param == "incremental")


# ---- synchronous streams


@settings(max_examples=8, deadline=None)
@given(sizes=st.lists(st.integers(1, 40000), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_blocks_do_not_change_a_bit(model: L2I, sizes: list[int], seed: int) -> None:
    y = sound(np.random.default_rng(seed), 2.3)
    expected, refreshes = listen(model.stream(mode="synchronous"), y, len(y))
    answer, seen = listen(model.stream(mode="synchronous"), y, *sizes)
    np.testing.assert_array_equal(answer, expected)
    assert refreshes[-1].frame == seen[-1].frame
    np.testing.assert_array_equal(seen[-1].probabilities, refreshes[-1].probabilities)
    np.testing.assert_array_equal(seen[-1].relevance, refreshes[-1].relevance)


@pytest.mark.parametrize("size", [1, 17, 509])
def test_small_blocks_do_not_change_a_bit(model: L2I, size: int, rng: np.random.Generator) -> None:
    y = sound(rng, 0.4)
    expected, _ = listen(model.stream(mode="synchronous", refresh=0.1), y, len(y))
    answer, _ = listen(model.stream(mode="synchronous", refresh=0.1), y, size)
    np.testing.assert_array_equal(answer, expected)


def test_the_network_hears_the_newest_window(rng: np.random.Generator) -> None:
    """An ordinary model's answer is that to the window's frames of the whole signal's analysis."""
    model = make_model()
    y = sound(rng, 6.5)
    stream = model.stream(mode="synchronous", window=3.0, refresh=0.5)
    _, seen = listen(stream, y)
    every, window = round(0.5 * 44100 / HOP), round(3.0 * 44100 / HOP)
    assert [one.frame for one in seen] == list(range(every, 1 + len(y) // HOP, every))
    for one in seen:
        first = max(0, one.frame - window)
        mel = l2i.log_mel(y / np.float32(one.scale), 44100, amin=model.analysis.amin)
        with torch.inference_mode():
            features = torch.from_numpy(mel[:, first : one.frame].T.copy())[None, None]
            logits, H, z, _ = model.hear(features, features.shape[2])
        np.testing.assert_allclose(one.probabilities, logits.softmax(1)[0].numpy(), atol=1e-5)
        target = int(one.probabilities.argmax())
        assert one.prediction == one.targets == (model.classes[target],)
        np.testing.assert_allclose(one.relevance, model.relevance(z[0], target), atol=1e-4)
        assert one.components == model.select(one.relevance, model.selection)
        late = H[0, :, -round(44100 / HOP) :].mean(1).numpy()
        np.testing.assert_allclose(one.start, late + 1e-6, rtol=1e-3, atol=1e-5)


def test_incremental_equals_the_full_window(rng: np.random.Generator) -> None:
    model = l2i.load("esc10")  # one that tells sounds apart
    y = sound(rng, 9.0)
    new, fast = listen(model.stream(mode="synchronous", window=2.5), y)
    old, full = listen(model.stream(mode="synchronous", window=2.5, incremental=False), y)
    assert [one.frame for one in fast] == [one.frame for one in full]
    for one, other in zip(fast, full, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
        np.testing.assert_allclose(one.relevance, other.relevance, atol=1e-5)
    if all(one.components == other.components for one, other in zip(fast, full, strict=True)):
        np.testing.assert_allclose(new, old, atol=1e-5)


def test_incremental_equals_the_networks_on_the_whole_signal(rng: np.random.Generator) -> None:
    """While the window reaches back to the beginning, it is what `interpret` computes of the features."""
    model = make_model(streamable=True)
    y = sound(rng, 4.0)
    _, seen = listen(model.stream(mode="synchronous", window=30.0, refresh=0.5), y)
    for one in seen:
        mel = l2i.log_mel(y / np.float32(one.scale), 44100, amin=model.analysis.amin)
        with torch.inference_mode():
            logits, _, z, _ = model.hear(torch.from_numpy(mel[:, : one.frame].T.copy())[None, None], one.frame)
        np.testing.assert_allclose(one.probabilities, logits.softmax(1)[0].numpy(), atol=1e-5)
        relevance = model.relevance(z[0], int(one.probabilities.argmax()))
        np.testing.assert_allclose(one.relevance, relevance, atol=1e-4)


def test_networks_that_were_left_behind_begin_anew(rng: np.random.Generator) -> None:
    """After a pause longer than what is kept, the answer is that of the window, as ever."""
    model = l2i.load("esc10")  # one that tells sounds apart
    y = sound(rng, 25.0)
    answers = []
    for incremental in (True, False):
        stream = model.stream(mode="synchronous", window=2.0, incremental=incremental)
        stream.push(y[: 44100 * 4])
        assert stream.latest is not None
        stream._signal.due = 10**9  # no refresh
        stream.push(y[44100 * 4 :])
        stream._signal.due = stream._engine.hops
        stream._hearing.refresh([stream._signal])
        answers.append(stream.latest)
    one, other = answers
    assert one is not None
    assert other is not None
    assert one.frame == other.frame == 1 + (len(y) - N_FFT // 2) // HOP
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
    np.testing.assert_allclose(one.relevance, other.relevance, atol=1e-4)


def test_networks_that_failed_begin_anew(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    model = l2i.load("esc10")  # one that tells sounds apart
    y = sound(rng, 3.0)
    y[1000] = 1  # the scale is held
    _, expected = listen(model.stream(mode="synchronous"), y)
    stream = model.stream(mode="synchronous")
    network = stream._hearing.network
    assert network is not None
    advance, calls = network.advance, iter(range(100))

    def sometimes(*arguments: Any) -> Any:
        if next(calls) in (2, 3, 6):
            raise RuntimeError("out of order")
        return advance(*arguments)

    monkeypatch.setattr(network, "advance", sometimes)
    with pytest.warns(RuntimeWarning, match="out of order"):
        _, seen = listen(stream, y)
    assert stream.statistics.failures == 3
    known = {one.frame: one for one in expected}
    assert len(seen) == len(expected) - 3
    for one in seen:
        np.testing.assert_allclose(one.probabilities, known[one.frame].probabilities, atol=1e-5)


def test_what_is_heard_is_decoded_with_what_was_found(model: L2I, rng: np.random.Generator) -> None:
    """The audio is that of a decoder whose weights and scale are set at each refresh."""
    y = sound(rng, 3.0)
    answer, seen = listen(model.stream(mode="synchronous", refresh=0.2), y)
    decoder = StreamDecoder(model.dictionary)
    decoder.weights = np.zeros(model.dictionary.shape[1], np.float32)
    out, at = [], 0
    for one in seen:
        end = (one.frame - 1) * HOP + N_FFT // 2  # the sample that completes the frame
        out.append(decoder.push(y[at:end]))
        assert decoder.hops == one.frame
        weights = np.zeros(model.dictionary.shape[1], np.float32)
        weights[list(one.components)] = 1
        decoder._publish(weights, one.scale, one.start)
        at = end
    out.append(decoder.push(y[at:], last=True))
    np.testing.assert_array_equal(answer, np.concatenate(out))
    assert np.abs(answer).max() > 0


def test_a_recording_is_heard_as_interpret_hears_it(esc10: Dataset, rng: np.random.Generator) -> None:
    """The shipped model, where it is sure of a clip, says the same of its last window."""
    model = l2i.load("esc10")
    agreed = sure = 0
    for i in rng.choice(len(esc10.clips), 6, replace=False):
        y = esc10.audio(esc10.clips[i], 44100)
        result = model.interpret((y, 44100))
        stream = model.stream(mode="synchronous", refresh=1.0)
        stream.push(y, last=True)
        if result.probabilities.max() > 0.9:
            sure += 1
            agreed += stream.prediction == result.prediction
    assert agreed >= sure - 1


def test_silence_until_something_is_known(model: L2I, rng: np.random.Generator) -> None:
    y = sound(rng, 1.0)
    stream = model.stream(mode="synchronous", refresh=0.5)
    assert stream.latest is None
    assert stream.prediction == ()
    assert not stream.relevance.any()
    answer, seen = listen(stream, y)
    known = (seen[0].frame - 1) * HOP + N_FFT // 2 - N_FFT // 2
    assert not answer[: stream.latency + known - N_FFT // 2].any()
    assert answer[stream.latency + known + N_FFT :].any()


def test_the_scale_is_held(model: L2I) -> None:
    """It follows a louder window at once, and a softer one only below half."""
    rng = np.random.default_rng(5)
    noise = rng.uniform(-1, 1, 44100 * 3).astype(np.float32)
    noise[::1000] = 1  # so every stretch has the same peak
    levels = (0.5, 0.3, 0.6, 0.2)
    y = np.concatenate([noise * np.float32(level) for level in levels])
    stream = model.stream(mode="synchronous", window=1.6, refresh=0.25)
    _, seen = listen(stream, y)
    at = [next(one.scale for one in reversed(seen) if one.frame * HOP <= s * 44100) for s in (3, 6, 9, 12)]
    np.testing.assert_allclose(at, [0.5, 0.5, 0.6, 0.2], rtol=1e-6)


def test_silence_is_survived(model: L2I) -> None:
    stream = model.stream(mode="synchronous")
    answer = stream.push(np.zeros(100_000, np.float32), last=True)
    assert not answer.any()
    assert stream.latest is not None
    assert stream.latest.scale == 1.0
    quiet = stream.push(np.full(100_000, 1e-30, np.float32), last=True)
    assert np.isfinite(quiet).all()


def test_frames_are_fitted_as_those_of_clips_are(rng: np.random.Generator) -> None:
    """With an interpreter's updates, every frame is fitted by as many, from the interpreter's activations and W' v."""
    model = make_model(streamable=True, updates=6)
    y = sound(rng, 1.9)
    stream = model.stream(mode="synchronous", window=1.6, refresh=0.5)
    stream.push(y)
    one = stream.latest
    assert one is not None
    assert one.frame < stream.statistics.hops - 20  # so the last frame was decoded by it
    activations = stream.activations
    other = model.stream(mode="synchronous", window=1.6, refresh=0.5, n_iter=6)
    other.push(y)
    np.testing.assert_array_equal(other.activations, activations)
    analysis = model.analysis
    X = reference.stft(y / one.scale, get_window("hann", analysis.n_fft), analysis.hop_length)
    V = np.log1p(np.abs(X))[:, [stream.statistics.hops - 1]]
    expected = reference.stream_activations(V, model.dictionary, 6, one.start, 0.02)[:, 0]
    np.testing.assert_allclose(activations, expected, rtol=1e-3, atol=1e-5)


def test_targets_and_selection(model: L2I, rng: np.random.Generator) -> None:
    y = sound(rng, 1.0)
    stream = model.stream(mode="synchronous", targets=["rain", 0], threshold=0.0, top_k=2)
    stream.push(y)
    one = stream.latest
    assert one is not None
    assert one.targets == ("rain", "dog")
    assert len(one.components) <= 4
    assert stream.prediction == one.prediction
    allowed = "must name classes (dog, rain, clock tick, helicopter) or hold indices from 0 to 3"
    with refused(ValueError, f"targets names 'cat', but {allowed}"):
        model.stream(targets="cat")


def test_several_labels(rng: np.random.Generator) -> None:
    model = make_model(multilabel=True, theta="max", streamable=True)
    stream = model.stream(mode="synchronous")
    stream.push(sound(rng, 2.0))
    one = stream.latest
    assert one is not None
    expected = [model.classes[c] for c in np.argsort(-one.probabilities) if one.probabilities[c] >= 0.5]
    assert list(one.prediction) == expected


def test_low_latency(rng: np.random.Generator) -> None:
    """A model of shorter frames answers sooner."""
    model = make_model(analysis=Analysis(n_fft=512, hop_length=128), streamable=True)
    y = sound(rng, 2.0)
    stream = model.stream(mode="synchronous", window=1.0)
    assert stream.latency == 512
    answer, seen = listen(stream, y, 128)
    assert len(answer) == len(y) + 512
    assert len(seen) == (1 + len(y) // 128) // round(0.25 * 44100 / 128)
    again, _ = listen(stream, y, 1000)
    np.testing.assert_array_equal(answer, again)


def test_channels_and_pcm(model: L2I, rng: np.random.Generator) -> None:
    y = np.round(sound(rng, 0.7) * 2000).astype(np.int16)
    stereo = np.stack((y, -(y // 2)), axis=1)
    one = model.stream(mode="synchronous").push(stereo.astype(np.float32).mean(1) / 32768)
    stream = model.stream(channels=2, mode="synchronous")
    np.testing.assert_allclose(stream.push(stereo), one, atol=1e-7)
    for bad in (y, stereo[:, :1], np.zeros((5, 3), np.int16)):
        with refused(ValueError, f"block has shape {bad.shape}, but (m, 2) is needed"):
            stream.push(bad)


@pytest.mark.parametrize("rate", [48000, 16000, 11025, 8000])
def test_another_rate(model: L2I, rate: int, rng: np.random.Generator) -> None:
    y = sound(rng, 2.0)
    x = soxr.resample(y, 44100, rate).astype(np.float32)
    stream = model.stream(rate, mode="synchronous")
    assert stream.sample_rate == rate
    answer, seen = listen(stream, x, len(x))
    assert len(answer) == len(x) + stream.latency
    assert not answer[: stream.latency].any()
    again, _ = listen(stream, x, 1, 700, 33)
    np.testing.assert_array_equal(answer, again)
    # In time with, and much the same as, what the model's own rate gives.
    plain, known = listen(model.stream(mode="synchronous"), soxr.resample(x, rate, 44100), HOP)
    if [one.components for one in seen] == [one.components for one in known]:
        expected = soxr.resample(plain[N_FFT:], 44100, rate)
        m = min(len(expected), len(x)) - 2000
        scale = np.linalg.norm(expected[2000:m])
        assert np.linalg.norm(answer[stream.latency :][2000:m] - expected[2000:m]) < 0.02 * scale + 1e-6


def test_another_rate_refuses_what_is_not_finite(model: L2I, rng: np.random.Generator) -> None:
    x = sound(rng, 0.5, 48000)
    stream, other = (model.stream(48000, mode="synchronous") for _ in range(2))
    first = stream.push(x[:5000])
    bad = x[5000:].copy()
    bad[7] = np.inf
    message = "block holds NaN or infinity (first at sample 7), but finite samples are needed: it is ignored"
    with refused(ValueError, message):
        stream.push(bad)
    rest = stream.push(x[5000:], last=True)
    np.testing.assert_array_equal(np.concatenate((first, rest)), other.push(x, last=True))


# ---- signals, errors


def test_a_new_signal_knows_nothing_of_the_one_before(model: L2I, rng: np.random.Generator) -> None:
    y, z = sound(rng, 1.2), sound(rng, 1.1)
    expected, _ = listen(model.stream(mode="synchronous"), y)
    stream = model.stream(mode="synchronous")
    stream.push(z, last=True)
    assert stream.latest is not None  # still to be seen
    np.testing.assert_array_equal(listen(stream, y)[0], expected)
    stream.push(z)
    stream.reset()
    assert stream.latest is None
    assert not stream.activations.any()
    np.testing.assert_array_equal(listen(stream, y)[0], expected)
    hops = 2 * (1 + len(y) // HOP) + (1 + len(z) // HOP) + 1 + (len(z) - N_FFT // 2) // HOP
    assert stream.statistics.hops == hops


FINITE = "finite samples are needed: none of it was taken"


def test_bad_blocks_take_nothing(model: L2I, rng: np.random.Generator) -> None:
    y = sound(rng, 1.0)
    expected, _ = listen(model.stream(mode="synchronous"), y)
    stream = model.stream(mode="synchronous")
    out = [stream.push(y[:20000])]
    bad = y[20000:].copy()
    bad[[3, 9]] = np.nan
    message = f"block holds NaN or infinity (first at sample 3), but {FINITE}"
    with refused(ValueError, message):
        stream.push(bad)
    dtypes = "floating samples or int8, int16, int32, uint8 PCM are needed"
    with refused(TypeError, f"block has dtype <U1, but {dtypes}"):
        stream.push(np.array(["a"]))
    with refused(ValueError, "block has shape (10, 2), but (m, 1) or (m,) is needed"):
        stream.push(y[:20].reshape(10, 2))
    with refused(ValueError, message):
        stream.push(bad, last=True)
    out.append(stream.push(y[20000:], last=True))
    np.testing.assert_array_equal(np.concatenate(out), expected)


def test_last_is_true_or_false(model: L2I, rng: np.random.Generator) -> None:
    y = sound(rng, 0.1)
    for stream in (model.stream(mode="synchronous"), StreamDecoder(model.dictionary)):
        for wrong in ("no", 0, 1, None, torch.zeros(2)):
            with refused(TypeError, "last is ..., but must be True or False"):
                stream.push(y, last=wrong)
        assert stream.push(y, last=np.True_).size == y.size + stream.latency


def test_after_close(model: L2I, rng: np.random.Generator) -> None:
    with model.stream() as stream:
        stream.push(sound(rng, 0.1))
        assert [t.name for t in threading.enumerate()].count("l2i-stream") >= 1
    assert "l2i-stream" not in [t.name for t in threading.enumerate()]
    for call in (lambda: stream.push(np.zeros(3, np.float32)), stream.flush):
        with refused(ValueError, "the stream is closed"):
            call()
    stream.close()


def test_what_nobody_closes_ends_with_its_owner(tiny_model: L2I, rng: np.random.Generator) -> None:
    y = sound(rng, 0.1)
    stream, pool = tiny_model.stream(), tiny_model.stream_pool(2)
    stream.push(y)
    pool.push([y, y])
    threads = [t for t in threading.enumerate() if t.name in ("l2i-stream", "l2i-pool")]
    assert len(threads) == 2
    del stream, pool
    gc.collect()
    wait_for(lambda: not any(thread.is_alive() for thread in threads))


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ({"refresh": 0}, ValueError, "refresh is 0, but must be a time above 0 and at most 3600 seconds"),
        ({"refresh": float("nan")}, ValueError, "refresh is nan, but must be finite"),
        ({"window": 0.5}, ValueError, "window is 0.5 seconds, but this model's classifier needs at least 1.49"),
        ({"n_iter": 0}, ValueError, "n_iter is 0, but must be at least 1"),
        ({"n_iter": 1.5}, TypeError, "n_iter is 1.5, but must be an integer"),
        ({"mode": "live"}, ValueError, "mode is 'live', but must be one of realtime, synchronous"),
        ({"channels": 0}, ValueError, "channels is 0, but must be at least 1"),
        ({"samplerate": -1}, ValueError, "samplerate is -1, but must be a whole, positive number of Hz"),
        ({"threshold": 1.0}, ValueError, "threshold is 1.0, but must be less than 1"),
        ({"domain": "power"}, ValueError, "domain is 'power', but must be one of log, magnitude, wiener"),
        (
            {"refesh": 1.0},
            TypeError,
            "a stream has no setting 'refesh'; "
            "it has refresh, n_iter, targets, threshold, top_k, domain, window, incremental",
        ),
    ],
)
def test_wrong_settings(setting: dict[str, Any], error: type[Exception], message: str, tiny_model: L2I) -> None:
    with refused(error, message):
        tiny_model.stream(**setting)


def test_incremental_where_it_cannot_be(tiny_model: L2I) -> None:
    reason = "the interpreter stretches its maps to the length of the clip; training it with streamable avoids that"
    with refused(ValueError, f"incremental is True, but {reason}"):
        tiny_model.stream(incremental=True)


# ---- the network beside the audio


class Slow(torch.nn.Module):
    """A classifier that waits for a permission each time, or raises."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.calls = 0
        self.gate = threading.Semaphore(0)
        self.error: Exception | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.error is not None:
            raise self.error
        assert self.gate.acquire(timeout=30)
        answer: torch.Tensor = self.inner(x)
        return answer


@pytest.fixture
def slow_model() -> tuple[L2I, Slow]:
    model = make_model()
    slow = Slow(model.network.hidden.network)
    model.network.hidden.network = slow
    return model, slow


def test_a_network_that_takes_its_time_disturbs_nothing(slow_model: tuple[L2I, Slow], rng: np.random.Generator) -> None:
    """The audio goes on; refreshes that were left out are counted."""
    model, slow = slow_model
    y = sound(rng, 3.0)
    every = round(0.25 * 44100 / HOP)
    with model.stream() as stream:
        stream.push(y[: every * HOP])
        wait_for(lambda: slow.calls == 1)
        answer = stream.push(y[every * HOP :])  # comes back although the network stands still
        assert len(answer) == len(y) - every * HOP
        assert stream.statistics.refreshes == 0
        assert not answer.any()
        slow.gate.release()
        wait_for(lambda: slow.calls == 2)
        hops = stream.statistics.hops
        assert stream.statistics.refreshes == 1
        assert stream.statistics.overruns == (hops - 2 * every) // every
        assert stream.prediction != ()
        assert stream._signal.due % every == 0
        slow.gate.release()
        wait_for(lambda: stream.statistics.refreshes == 2)
        assert stream.latest is not None
        assert stream.latest.frame == hops
        tail = stream.flush()
        assert tail.any()


def test_an_answer_to_a_signal_that_is_over_is_dropped(slow_model: tuple[L2I, Slow], rng: np.random.Generator) -> None:
    model, slow = slow_model
    with model.stream() as stream:
        stream.push(sound(rng, 1.0))
        wait_for(lambda: slow.calls == 1)
        stream.reset()
        slow.gate.release()
        stream.push(sound(rng, 1.0))
        wait_for(lambda: slow.calls == 2)
        assert stream.latest is None
        assert stream.statistics.refreshes == 0
        slow.gate.release()
        wait_for(lambda: stream.latest is not None)


@pytest.mark.parametrize("mode", ["realtime", "synchronous"])
def test_a_network_that_raises(mode: Any, slow_model: tuple[L2I, Slow], rng: np.random.Generator) -> None:
    """The audio goes on with the components it had; it is said once, and counted; later the network may recover."""
    model, slow = slow_model
    slow.gate.release(1000)
    y = sound(rng, 1.0)
    with model.stream(mode=mode) as stream:
        stream.push(y)
        wait_for(lambda: stream.statistics.refreshes >= 1)
        known = stream.latest
        slow.error = RuntimeError("out of order")
        if mode == "realtime":
            with warnings.catch_warnings(action="ignore"):  # sooner or later
                stream.push(y)
            wait_for(lambda: stream.error is not None)
            stream._signal._warned = False
        with pytest.warns(RuntimeWarning, match="out of order"):
            answer = stream.push(y)
        assert len(answer) == len(y)
        assert stream.error is slow.error
        assert stream.statistics.failures >= 1
        wait_for(lambda: stream._signal.frames_until_due > 0)
        if mode == "synchronous":
            assert stream.latest is known
            assert answer.any()
        slow.error = None
        before = stream.statistics.refreshes
        stream.push(y)
        wait_for(lambda: stream.statistics.refreshes > before)


def test_real_time_hears_what_synchronous_hears(model: L2I, rng: np.random.Generator) -> None:
    """Given time at each refresh, the thread finds the same."""
    y = sound(rng, 1.6)
    every = round(0.25 * 44100 / HOP)
    _, expected = listen(model.stream(mode="synchronous"), y)
    with model.stream() as stream:
        at = 0
        for one in expected:
            end = (one.frame - 1) * HOP + N_FFT // 2
            stream.push(y[at:end])
            wait_for(lambda n=one.frame // every: stream.statistics.refreshes == n)  # type: ignore[misc]
            at = end
            assert stream.latest is not None
            assert stream.latest.frame == one.frame
            np.testing.assert_allclose(stream.latest.probabilities, one.probabilities, atol=1e-5)
        assert stream.statistics.overruns == 0


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_the_threads_of_others_are_left_alone(tiny_model: L2I, rng: np.random.Generator) -> None:
    with tiny_model.stream() as stream:
        stream.push(sound(rng, 0.5))
        wait_for(lambda: stream.statistics.refreshes >= 1)
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 2


def test_a_hundred_streams_in_eight_threads(model: L2I, rng: np.random.Generator) -> None:
    signals = [sound(rng, 0.8) for _ in range(10)]
    expected = [listen(model.stream(mode="synchronous"), y)[0] for y in signals]

    def run(i: int) -> Samples:
        with model.stream(mode="synchronous") as stream:
            return listen(stream, signals[i % 10], 100 + 7 * i)[0]

    with ThreadPoolExecutor(8) as threads:
        for i, answer in enumerate(threads.map(run, range(100))):
            np.testing.assert_allclose(answer, expected[i % 10], atol=1e-6)


# ---- pools


def test_a_pool_is_many_streams(model: L2I, rng: np.random.Generator) -> None:
    """Streams join and leave in mid-signal, with blocks of their own lengths, and each is as if alone."""
    signals = [sound(rng, rng.uniform(1.0, 2.0)) for _ in range(5)]
    alone = [listen(model.stream(mode="synchronous"), y) for y in signals]
    with model.stream_pool(3, mode="synchronous") as pool:
        heard: dict[Any, list[Samples]] = {one: [] for one in pool.streams}
        index = {one: i for i, one in enumerate(pool.streams)}
        left = {one: signals[i] for one, i in index.items()}
        while left:
            if len(index) < 5 and rng.random() < 0.2:
                one = pool.join()
                index[one] = len(index)
                left[one], heard[one] = signals[index[one]], []
            now = [one for one in left if rng.random() < 0.7]
            sizes = {one: int(rng.integers(0, 9000)) for one in now}
            for one, audio in pool.push({one: left[one][: sizes[one]] for one in now}).items():
                assert len(audio) == min(sizes[one], len(left[one]))
                heard[one].append(audio)
                left[one] = left[one][sizes[one] :]
            for one in [one for one, rest in left.items() if not len(rest)]:
                heard[one].append(one.leave())
                del left[one]
                assert one not in pool.streams
    assert len(index) == 5 or not pool.streams
    for one, i in index.items():
        expected, refreshes = alone[i]
        assert one.latest is not None
        assert one.latest.frame == refreshes[-1].frame
        np.testing.assert_allclose(one.latest.probabilities, refreshes[-1].probabilities, atol=1e-4)
        if one.latest.components == refreshes[-1].components:
            np.testing.assert_allclose(np.concatenate(heard[one]), expected, atol=1e-4)


def test_forms_of_blocks(tiny_model: L2I, rng: np.random.Generator) -> None:
    y = np.stack([sound(rng, 0.4) for _ in range(3)])
    answers = []
    for form in (y, list(y), tuple(y)):
        with tiny_model.stream_pool(3, mode="synchronous", refresh=0.1) as pool:
            answers.append(pool.push(form))
    assert isinstance(answers[0], np.ndarray)
    assert answers[0].shape == y.shape
    assert isinstance(answers[1], list)
    for other in answers[1:]:
        np.testing.assert_array_equal(np.stack(other), answers[0])
    with tiny_model.stream_pool() as pool:
        assert pool.push([]) == []


def test_bad_pools(tiny_model: L2I, rng: np.random.Generator) -> None:
    y = np.stack([sound(rng, 0.3) for _ in range(2)])
    with refused(ValueError, "n is -1, but must be at least 0"):
        tiny_model.stream_pool(-1)
    with refused(ValueError, "samplerate is 48000, but a pool of this model takes 44100 Hz only"):
        tiny_model.stream_pool(2, samplerate=48000)
    expected = tiny_model.stream_pool(2, mode="synchronous").push(y)
    with tiny_model.stream_pool(2, mode="synchronous") as pool, tiny_model.stream_pool(1) as other:
        with refused(ValueError, "blocks has 3 rows, but the pool has 2 streams"):
            pool.push(np.zeros((3, 5), np.float32))
        with refused(ValueError, "blocks names a stream that is not in this pool, but only its own streams take part"):
            pool.push({other.streams[0]: y[0]})
        bad = y.copy()
        bad[1, 5] = np.nan
        with refused(ValueError, f"stream 1: block holds NaN or infinity (first at sample 5), but {FINITE}"):
            pool.push(bad)
        np.testing.assert_array_equal(pool.push(y), expected)
        gone = pool.streams[0]
        gone.leave()
        with refused(ValueError, "the stream has left its pool, or the pool is gone"):
            gone.leave()
    for call in (lambda: pool.push(y[:1]), pool.join):
        with refused(ValueError, "the pool is closed"):
            call()


def test_a_pool_from_several_threads(model: L2I, rng: np.random.Generator) -> None:
    """Each thread joins, pushes its own signal and leaves."""
    signals = [sound(rng, 1.0) for _ in range(8)]
    alone = [listen(model.stream(mode="synchronous"), y)[0] for y in signals]
    with model.stream_pool(mode="synchronous") as pool:

        def run(i: int) -> Samples:
            one = pool.join()
            out = [pool.push({one: block})[one] for block in blocks_of(signals[i], endless(500 + 100 * i))]
            return np.concatenate([*out, one.leave()])

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(run, range(8)))
        assert pool.streams == ()
    for answer, expected in zip(answers, alone, strict=True):
        np.testing.assert_allclose(answer, expected, atol=1e-4)


def test_a_reset_waits_for_the_push(tiny_model: L2I, rng: np.random.Generator) -> None:
    y = sound(rng, 1.0)
    with tiny_model.stream_pool(1, mode="synchronous") as pool:
        one = pool.streams[0]
        expected = pool.push([y])[0]
        with pool._lock:  # as a push holds it
            thread = threading.Thread(target=one.reset)
            thread.start()
            thread.join(0.1)
            assert thread.is_alive()
            assert one.latest is not None
        thread.join()
        assert one.latest is None
        np.testing.assert_array_equal(pool.push([y])[0], expected)
        one.leave()
        with refused(ValueError, "the stream has left its pool, or the pool is gone"):
            one.reset()
        with refused(ValueError, "blocks names a stream that is not in this pool, but only its own streams take part"):
            pool.push({one: y})


def test_a_pool_in_real_time(model: L2I, rng: np.random.Generator) -> None:
    y = np.stack([sound(rng, 1.0) for _ in range(20)])
    with model.stream_pool(20) as pool:
        assert pool.push(y).shape == y.shape
        wait_for(lambda: all(one.statistics.refreshes >= 1 for one in pool.streams))
        answer = pool.push(y)
        assert np.isfinite(answer).all()
        assert answer.any(axis=1).all()
        one = pool.streams[3]
        assert one.prediction
        assert one.activations.shape == (model.dictionary.shape[1],)
