"""The thread of the networks: starting, closing, the end of the program, and what remains afterwards."""

from __future__ import annotations

import gc
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from l2i_fast.model import L2I
from l2i_fast.stream.stream import Mode

from ..conftest import make_model
from ..helpers import refused, run_program, wait_for

Opener = Callable[[L2I], Any]
BLOCK = np.random.default_rng(0).standard_normal(30000).astype(np.float32)

OPENERS: dict[str, Opener] = {
    "stream": lambda model: model.stream(),
    "synchronous stream": lambda model: model.stream(mode="synchronous"),
    "converting stream": lambda model: model.stream(samplerate=16000, mode="synchronous"),
    "pool": lambda model: model.stream_pool(2),
    "synchronous pool": lambda model: model.stream_pool(2, mode="synchronous"),
}


@pytest.fixture(scope="module")
def model() -> L2I:
    return make_model(streamable=True)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def fail(features: torch.Tensor) -> None:
    try:
        raise KeyError("the first")
    except KeyError as error:
        raise RuntimeError("it does not work") from error


def interrupt_push(samples: np.ndarray) -> None:
    raise KeyboardInterrupt


def push(stream: Any) -> None:
    stream.push([BLOCK] * len(stream.streams) if hasattr(stream, "streams") else BLOCK)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("name", OPENERS)
def test_the_last_reference_frees_everything(model: L2I, name: str, closed: bool, no_collector: None) -> None:
    """Without the collector of cycles: streams that come and go would pile up until it runs."""
    stream = OPENERS[name](model)
    push(stream)
    thread = stream._worker._thread
    if closed:
        stream.close()
    held = [weakref.ref(x) for x in (stream, stream._worker, stream._hearing, stream._hearing.network)]
    del stream
    wait_for(lambda: all(ref() is None for ref in held))
    if thread is not None:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("mode", ["realtime", "synchronous"])
def test_a_network_that_fails_keeps_nothing(mode: Mode, no_collector: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exception stays, with its traceback as text: frames would hold the stream and the samples."""
    model = make_model()
    monkeypatch.setattr(model.network, "_run", fail)
    stream = model.stream(mode=mode, refresh=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        push(stream)
        wait_for(lambda one=stream: one.error is not None)
    assert "in fail" in stream.error.__notes__[0]  # the text of the traceback
    held = [weakref.ref(x) for x in (stream, stream._worker, stream._signal)]
    del stream
    wait_for(lambda: all(ref() is None for ref in held))


def test_streams_do_not_keep_their_pool(model: L2I, no_collector: None) -> None:
    pool = model.stream_pool(1)
    one = pool.streams[0]
    push(pool)
    gone = weakref.ref(pool)
    del pool
    wait_for(lambda: gone() is None)
    with refused(ValueError, "the stream has left its pool, or the pool is gone"):
        one.leave()


def test_close_while_the_thread_starts(model: L2I, monkeypatch: pytest.MonkeyPatch) -> None:
    starting, start = threading.Event(), threading.Thread.start

    def slowly(thread: threading.Thread) -> None:
        if thread.name == "l2i-stream":
            starting.set()
            time.sleep(0.1)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", slowly)
    stream = model.stream()
    with ThreadPoolExecutor(1) as other:
        pushed = other.submit(stream.push, BLOCK)
        assert starting.wait(10)
        stream.close()
        assert pushed.result().shape == BLOCK.shape
    assert not any(thread.name == "l2i-stream" for thread in threading.enumerate())


def test_several_threads_start_one(model: L2I) -> None:
    with model.stream() as stream:
        together = threading.Barrier(8)

        def start() -> None:
            together.wait(10)
            stream._worker.start()

        with ThreadPoolExecutor(8) as threads:
            for done in [threads.submit(start) for _ in range(8)]:
                done.result()
        assert [thread.name for thread in threading.enumerate()].count("l2i-stream") == 1


#: The network is busy when the main thread ends; it takes the GIL back many times.
LISTENING = """
import threading
import numpy as np, torch
from l2i_fast.model import L2I
from l2i_fast.stream.stream import Mode
from tests.conftest import make_model

model, inside, x = make_model(), threading.Event(), torch.rand(150, 150)
run = model.network._run
def slowly(features):
    inside.set()
    for _ in range(400):
        x @ x
    return run(features)
model.network._run = slowly
"""


def test_ctrl_c_within_the_networks_changes_no_later_answer(model: L2I) -> None:
    rng = np.random.default_rng(1)
    levels = rng.uniform(0.1, 1, (340, 1)) * np.r_[10, np.ones(339)][:, None]  # one scale throughout
    blocks = (levels * rng.standard_normal((340, 512))).astype(np.float32)  # a refresh comes after a whole block

    def listen(interrupted_run: int) -> Any:
        runs = 0

        def interrupt(*_: Any) -> None:
            nonlocal runs
            runs += 1
            if runs == interrupted_run:
                raise KeyboardInterrupt

        stream = model.stream(mode="synchronous", refresh=0.1)
        advance = stream._hearing.network._advance
        stream._hearing.network._advance = lambda *given: (interrupt(), advance(*given))[1]
        for block in blocks:
            try:
                stream.push(block)
            except KeyboardInterrupt:
                assert interrupted_run
        return stream.latest

    expected, found = listen(0), listen(30)
    assert found.frame == expected.frame
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(found.start, expected.start, rtol=1e-3)


def test_ctrl_c_at_another_rate_ends_the_signal(model: L2I, monkeypatch: pytest.MonkeyPatch) -> None:
    """What soxr has taken cannot be given back: the next block begins a new signal."""
    with (
        model.stream(samplerate=16000, mode="synchronous") as stream,
        model.stream(samplerate=16000, mode="synchronous") as fresh,
    ):
        stream.push(BLOCK[:20000])
        with monkeypatch.context() as patch:
            patch.setattr(stream, "_push", interrupt_push)
            with pytest.raises(KeyboardInterrupt):
                stream.push(BLOCK)
        for block in (BLOCK[:10000], BLOCK[10000:]):
            np.testing.assert_array_equal(stream.push(block), fresh.push(block))
        assert stream.flush().size == stream.latency


@pytest.mark.parametrize("open_one", ["model.stream(refresh=0.02)", "model.stream_pool(1, refresh=0.02)"])
def test_a_program_ends_with_an_open_stream(open_one: str) -> None:
    block = "block if hasattr(stream, 'flush') else [block]"
    run_program(f"""{LISTENING}
block = np.ones(44100, np.float32)
stream = {open_one}
stream.push({block})
assert inside.wait(20)
""")
