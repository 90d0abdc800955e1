"""Forked children: they answer as their parent, whatever it has done before and does at that time."""

from __future__ import annotations

import multiprocessing
import threading
import time

import pytest

from l2i_fast import forks

from ..helpers import run_program

pytestmark = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork"
)

#: The parent has used everything: its threads, and those of torch, do not exist in its children.
PARENT = """
import os, select, signal, threading, time, warnings
import numpy as np, torch, l2i_fast as l2i
from tests.conftest import make_model

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
torch.set_num_threads(2)
l2i.set_num_threads(2)
rng = np.random.default_rng(0)
y = rng.standard_normal(100_000).astype(np.float32)
model = make_model(streamable=True)
V = np.abs(l2i.stft(y))

def answer():
    return model.interpret((y, 44100)).probabilities

def child(task):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = str(task())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    if not select.select([reader], [], [], 60)[0]:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    said = os.read(reader, 10_000).decode()
    os.close(reader)
    return said
"""


def test_a_child_of_a_busy_parent_answers_as_the_parent() -> None:
    run_program(f"""{PARENT}
path = __import__("tempfile").mkdtemp()
model.save(path)
expected = answer()
tasks = {{
    "stft": lambda: np.array_equal(np.abs(l2i.stft(y)), V),
    "NMF": lambda: l2i.NMF(3, tol=0, max_iter=5, random_state=0).fit(V.T).n_iter_,
    "dictionary": lambda: l2i.learn_dictionary(V, 3, max_iter=5).shape,
    "interpret": lambda: np.abs(answer() - expected).max() < 1e-5,
    "load": lambda: np.abs(l2i.load(path).interpret((y, 44100)).probabilities - expected).max() < 1e-5,
}}
for name, task in tasks.items():
    said = child(task)
    assert said == str(task()), (name, said)
""")


def test_streams_go_on_in_a_child() -> None:
    """Those that were open before it, in real time and within each push, and new ones."""
    run_program(f"""{PARENT}
def listen(stream):
    push = stream.push if hasattr(stream, "flush") else lambda block: stream.push([block])[0]
    end = time.monotonic() + 40
    before = [one.statistics.refreshes for one in getattr(stream, "streams", [stream])][0]
    while [one.statistics.refreshes for one in getattr(stream, "streams", [stream])][0] <= before + 2:
        assert time.monotonic() < end, "the networks are silent"
        push(y[:5000])
        time.sleep(0.002)
    return "heard"

openers = [
    lambda: model.stream(refresh=0.05),
    lambda: model.stream(refresh=0.05, mode="synchronous"),
    lambda: model.stream_pool(1, refresh=0.05),
]
for opener in openers:
    stream = opener()
    listen(stream)
    assert child(lambda: listen(stream)) == "heard"
    assert listen(stream) == "heard"
    stream.close()
    assert child(lambda: listen(opener())) == "heard"
""")


def test_a_fork_waits_for_a_refresh() -> None:
    """Otherwise the child would find the state of the networks half changed."""
    run_program(f"""{PARENT}
model = make_model()
inside, go_on = threading.Event(), threading.Event()
run = model.network._run
def slowly(features):
    inside.set()
    go_on.wait(20)
    return run(features)
model.network._run = slowly
with model.stream(refresh=0.05) as stream:
    stream.push(y)
    assert inside.wait(20)
    threading.Timer(0.3, go_on.set).start()
    assert child(go_on.is_set) == "True"
""")


def test_workers_of_multiprocessing_joblib_and_torch() -> None:
    run_program(f"""{PARENT}
import functools, multiprocessing, tempfile
from joblib import Parallel, delayed
from torch.utils.data import DataLoader, Dataset

class Recordings(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return torch.from_numpy(model.interpret((y[: 40_000 + i], 44100)).probabilities)

def probabilities(i):
    return Recordings()[i].numpy()

expected = np.stack([probabilities(i) for i in range(3)])
stream = model.stream()
stream.push(y)
loader = DataLoader(Recordings(), batch_size=3, num_workers=2, timeout=60, multiprocessing_context="fork")
np.testing.assert_allclose(next(iter(loader)).numpy(), expected, atol=1e-5)
with multiprocessing.get_context("fork").Pool(2) as pool:
    np.testing.assert_allclose(pool.map_async(probabilities, range(3)).get(60), expected, atol=1e-5)
for backend in ("multiprocessing", "loky"):
    run = delayed(functools.partial(model.interpret))
    found = Parallel(2, backend=backend, timeout=60)(run((y[: 40_000 + i], 44100)) for i in range(3))
    np.testing.assert_allclose([one.probabilities for one in found], expected, atol=1e-5)
""")


def test_a_fork_waits_for_an_import() -> None:
    done = threading.Event()

    def import_slowly() -> None:
        with forks.importing:
            begun.set()
            time.sleep(0.2)
            done.set()

    begun = threading.Event()
    thread = threading.Thread(target=import_slowly)
    thread.start()
    assert begun.wait(10)
    # As os.fork calls them, without a child of this process, which has threads.
    forks._acquire()
    assert done.is_set()
    forks._release()
    thread.join()


def test_locks_are_free_after_a_fork() -> None:
    run_program("""
import os, threading, warnings
from l2i_fast import forks

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
lock = forks.lock()
stop = threading.Event()

def use():
    while not stop.is_set():
        with forks.importing, lock:
            pass

threads = [threading.Thread(target=use) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(100):
    pid = os.fork()
    if pid == 0:
        free = [lock.acquire(timeout=10), forks.importing.acquire(timeout=10)]
        os._exit(0 if all(free) else 1)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
""")


def test_a_fork_beside_busy_threads_waits_for_each_once() -> None:
    """Two threads that are hardly ever free at the same time, one of which takes both locks."""
    run_program("""
import os, threading, time, warnings
from l2i_fast import forks

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
call, refresh, signal = (forks.lock(rank) for rank in (forks.CALL, forks.REFRESH, forks.SIGNAL))
stop = threading.Event()

def use(first):
    while not stop.is_set():
        with first:
            time.sleep(0.005)
            with signal:
                time.sleep(0.005)

threads = [threading.Thread(target=use, args=(one,)) for one in (call, refresh)]
for thread in threads:
    thread.start()
time.sleep(0.1)
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
""")
