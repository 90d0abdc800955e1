"""The engine's threads: their number, distribution of tasks, exceptions, nested calls, several callers and forks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import l2i_fast as l2i
from l2i_fast import _core

from ..helpers import refused, run_program


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = l2i.get_num_threads()
    l2i.set_num_threads(4)
    yield
    l2i.set_num_threads(before)


def meet(n: int) -> set[int]:
    """The threads of n tasks that end only after all have begun, or fail after 20 s."""
    together = threading.Barrier(n)
    seen: set[int] = set()

    def task(i: int) -> None:
        together.wait(20)
        seen.add(threading.get_ident())

    _core.parallel(n, task)
    return seen


NUMBER = "import l2i_fast as l2i; print(l2i.get_num_threads())"


@pytest.mark.parametrize("n", ["1", "3", " 3\t", "3,2", "3 , 2,1"])
def test_environment_sets_the_number(n: str) -> None:
    assert run_program(NUMBER, OMP_NUM_THREADS=n) == n.strip()[0]


@pytest.mark.parametrize("n", ["", " ", ",3", "0", "0,3", "-2", "many", "3 cores", "99999999999", "99999999999,3"])
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not report it")
def test_usable_processors_are_the_default(n: str) -> None:
    assert run_program(NUMBER, OMP_NUM_THREADS=n) == str(len(os.sched_getaffinity(0)))
    one = min(os.sched_getaffinity(0))
    assert run_program(f"import os; os.sched_setaffinity(0, {{{one}}}); {NUMBER}", OMP_NUM_THREADS=n) == "1"


def test_the_number_is_kept_and_checked(four_threads: None) -> None:
    assert l2i.get_num_threads() == 4
    for bad in (0, -1):
        with refused(ValueError, f"n is {bad}, but must be at least 1"):
            l2i.set_num_threads(bad)
        with refused(ValueError, f"n is {bad}, but must be at least 1"):
            _core.set_num_threads(bad)
    with refused(TypeError, "n is 1.5, but must be an integer"):
        l2i.set_num_threads(1.5)  # type: ignore[arg-type]
    assert l2i.get_num_threads() == 4


@pytest.mark.parametrize("n", [0, 1, 2, 4, 5, 1000])
def test_each_task_runs_once(n: int, four_threads: None) -> None:
    done: list[int] = []
    _core.parallel(n, done.append)
    assert sorted(done) == list(range(n))


def test_tasks_run_at_the_same_time_in_as_many_threads(four_threads: None) -> None:
    threads = meet(4)
    assert len(threads) == 4
    assert threading.get_ident() in threads
    together, most, running = threading.Lock(), 0, 0

    def task(i: int) -> None:
        nonlocal most, running
        with together:
            running += 1
            most = max(most, running)
        time.sleep(0.001)
        with together:
            running -= 1

    for n in (1, 2, 3):
        l2i.set_num_threads(n)
        most = 0
        _core.parallel(40, task)
        assert most <= n
        assert len(meet(n)) == n


@pytest.mark.alone
@pytest.mark.parametrize("n_threads", [1, 4])
def test_an_exception_is_raised_and_ends_the_other_tasks(n_threads: int, four_threads: None) -> None:
    l2i.set_num_threads(n_threads)
    begun: list[int] = []

    def task(i: int) -> None:
        begun.append(i)
        if i == 3:
            raise KeyError("task 3")
        time.sleep(0.001)

    with pytest.raises(KeyError, match="task 3"):
        _core.parallel(1000, task)
    assert len(begun) < 100
    assert len(meet(n_threads)) == n_threads


def test_nested_calls_stay_in_their_thread(four_threads: None) -> None:
    seen: dict[int, set[int]] = {}

    def task(i: int) -> None:
        seen[i] = {threading.get_ident()}
        _core.parallel(8, lambda j: seen[i].add(threading.get_ident()))

    _core.parallel(8, task)
    assert sorted(seen) == list(range(8))
    assert all(len(threads) == 1 for threads in seen.values())


def test_second_caller_does_its_own_work(four_threads: None) -> None:
    others: set[int] = set()
    first_began, second_done = threading.Event(), threading.Event()

    def held(i: int) -> None:
        first_began.set()
        assert second_done.wait(20)

    first = threading.Thread(target=_core.parallel, args=(4, held))
    first.start()
    assert first_began.wait(20)
    _core.parallel(20, lambda i: others.add(threading.get_ident()))
    second_done.set()
    first.join()
    assert others == {threading.get_ident()}


def test_many_callers(four_threads: None) -> None:
    counts = [0] * 6

    def call(caller: int) -> None:
        for _ in range(50):
            done: list[int] = []
            _core.parallel(7, done.append)
            counts[caller] += sorted(done) == list(range(7))

    callers = [threading.Thread(target=call, args=(i,)) for i in range(6)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert counts == [50] * 6


FORK = """
import os, threading, time, warnings
from l2i_fast import _core
warnings.simplefilter("ignore")
_core.set_num_threads(3)

def meet():
    together = threading.Barrier(3)
    _core.parallel(3, lambda i: together.wait(20))

def fork():
    child = os.fork()
    if child == 0:
        meet()
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

meet()
print(fork())                         # idle threads
release = threading.Event()
began = threading.Event()

def task(i):
    began.set()
    release.wait(20)

busy = threading.Thread(target=_core.parallel, args=(3, task))
busy.start()
began.wait(20)
print(fork())                         # threads at work for another caller
release.set()
busy.join()
meet()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_children_start_their_own() -> None:
    assert run_program(FORK).split() == ["7", "7", "done"]


def test_signals_reach_the_interpreter(four_threads: None) -> None:
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("the system does not report it")
    masks: dict[int, int] = {}
    together = threading.Barrier(4)

    def task(i: int) -> Any:
        together.wait(20)
        with open(f"/proc/self/task/{threading.get_native_id()}/status") as status:
            masks[threading.get_native_id()] = next(int(s.split()[1], 16) for s in status if s.startswith("SigBlk"))

    _core.parallel(4, task)
    interrupt = 1 << (2 - 1)
    assert sorted(bool(mask & interrupt) for mask in masks.values()) == [False, True, True, True]


def operands(n_samples: int, n_fft: int = 1024, hop: int = 512) -> tuple[NDArray[Any], ...]:
    rng = np.random.default_rng(3)
    y = rng.standard_normal((2, n_samples)).astype(np.float32)
    X = l2i.stft(y, n_fft, hop)
    W = rng.random((n_fft // 2 + 1, 9)).astype(np.float32)
    H = rng.random((2, 9, X.shape[-1])).astype(np.float32)
    weights = np.float32([[1, 0, 0.5, 1, 0, 1, 1, 0, 0], [1, 1, 0, 1, 0, 1, 0.25, 0, 0]])
    return y, X, W, H, weights


@pytest.mark.parametrize(("n_fft", "hop", "cut"), [(1024, 512, 0), (1024, 200, 1234), (512, 700, -5000), (64, 1, 77)])
def test_number_of_threads_does_not_change_a_bit(
    n_fft: int, hop: int, cut: int, four_threads: None, cpu_path: str
) -> None:
    n = 3000 * hop if hop > 1 else 50_000
    y, X, W, H, weights = operands(n, n_fft, hop)
    calls: dict[str, Callable[[], NDArray[Any]]] = {
        "stft": lambda: l2i.stft(y, n_fft, hop),
        "istft": lambda: l2i.istft(X, hop, length=n - cut),
        "log_mel": lambda: l2i.log_mel(X, n_fft=n_fft, n_mels=8),
        "soft_mask": lambda: l2i.soft_mask(X, W, H, weights),
        "decode": lambda: l2i.decode(X, W, H, weights, hop, length=n - cut),
    }
    for name, call in calls.items():
        l2i.set_num_threads(1)
        alone = call()
        for n_threads in (2, 3, 4):
            l2i.set_num_threads(n_threads)
            np.testing.assert_array_equal(call(), alone, err_msg=f"{name} with {n_threads} threads")


USED = """
import os, numpy as np, l2i_fast as l2i
l2i.set_num_threads(3)
y = np.ones(2_000_000, np.float32)
short = y[:20_000]
X, Z = l2i.stft(y[:1_000_000]), l2i.stft(short)
W, H = np.ones((513, 4), np.float32), np.ones((4, X.shape[1]), np.float32)
calls = dict(
    stft=lambda y, X, H: l2i.stft(y),
    istft=lambda y, X, H: l2i.istft(X),
    log_mel=lambda y, X, H: l2i.log_mel(X),
    soft_mask=lambda y, X, H: l2i.soft_mask(X, W, H, [1, 0, 0, 1]),
    decode=lambda y, X, H: l2i.decode(X, W, H, [1, 0, 0, 1]),
)
threads = lambda: len(os.listdir("/proc/self/task"))
before = threads()
calls["{name}"](short, Z, H[:, : Z.shape[1]])
few = threads()
calls["{name}"](y, X, H)
print(few - before, threads() - before)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the system does not report it")
@pytest.mark.parametrize("name", ["stft", "istft", "log_mel", "soft_mask", "decode"])
def test_only_long_work_wakes_threads(name: str) -> None:
    code = USED.replace("{name}", name).replace("X, Z = l2i.stft(y[:1_000_000])", "X, Z = np.ones((6000, 513), 'c8').T")
    assert run_program(code).split() == ["0", "2"]


MEMORY = """
import pathlib, numpy as np, l2i_fast as l2i
def kilobytes(name):
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split(name + ":")[1].split()[0])
l2i.set_num_threads(2)
X = np.ones((30_000, 513), np.complex64).T
W, H = np.ones((513, 100), np.float32), np.ones((30_000, 100), np.float32).T
weights = (np.arange(100) % 16 == 0).astype(np.float32)
call = {call}
call(X[:, :100], H[:, :100])
pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak
before = kilobytes("VmRSS")
answer = call(X, H)
print(kilobytes("VmHWM") - before - answer.nbytes / 1024)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="the system does not report it")
@pytest.mark.parametrize("call", ["l2i.istft(X)", "l2i.soft_mask(X, W, H, weights)", "l2i.decode(X, W, H, weights)"])
def test_extra_memory_does_not_grow_with_the_clip(call: str) -> None:
    extra = float(run_program(MEMORY.replace("{call}", f"lambda X, H: {call}")))
    assert extra < 2 * 8 * 1024


def test_a_program_ends_while_daemon_threads_work() -> None:
    """Python ends a thread that comes back from native work then, and must not meet C++ on its way."""
    run_program("""
import itertools, threading
import numpy as np, l2i_fast as l2i

y, busy = np.ones(3000, np.float32), threading.Barrier(4)

def work():
    for n in itertools.count():
        l2i.stft(y)
        if n == 10:
            busy.wait(20)

for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
busy.wait(20)
""")


LEARNT_AT_ONCE = """
import threading, numpy as np, l2i_fast as l2i
from threadpoolctl import threadpool_info

V = np.random.default_rng(0).random((33, 40), np.float32)
second_inside, first_left = threading.Event(), threading.Event()

def threads_of_blas():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

def first_goes_on(iteration, *_):
    if iteration == 1:
        print(*threads_of_blas())
        second.start()
        second_inside.wait(60)
        print(*threads_of_blas())

def second_goes_on(*_):
    second_inside.set()
    first_left.wait(60)

second = threading.Thread(target=lambda: l2i.learn_dictionary_online([V], 2, callback=second_goes_on))
print(*threads_of_blas())
l2i.learn_dictionary(V, 2, max_iter=3, callback=first_goes_on)
first_left.set()
second.join()
print(*threads_of_blas())
"""


def test_dictionaries_learnt_at_once_give_the_threads_of_blas_back() -> None:
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "2")
    assert run_program(LEARNT_AT_ONCE, **threads).split() == ["2", "1", "1", "2"]
