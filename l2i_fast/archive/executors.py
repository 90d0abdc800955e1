"""Where the units of a run are done: in this process or in others. `l2i_fast.archive.cluster` has one more place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import NamedTuple, Protocol, Self

from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import ShutdownExecutorError, TerminatedWorkerError

from l2i_fast.archive.work import Job, Outcome, Unit, do
from l2i_fast.workers import follow

#: Tasks of a worker: the one that it does, and those that wait for it.
AHEAD = 2
#: Environment of a worker: each has one core.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Done(NamedTuple):
    """A task that comes back.

    Attributes
    ----------
    task : list of Unit
    outcomes : list of Outcome or None
        What came out of each unit; None if a worker died that had the task, or may have had it.
    """

    task: list[Unit]
    outcomes: list[Outcome] | None


class Executor(Protocol):
    """Does tasks; a context, whose end stops all work. Each task that is submitted comes back once."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def takes(self, alone: bool = False) -> bool:
        """Return whether another task may be submitted now, of the kind that `alone` states."""

    def submit(self, task: list[Unit], alone: bool = False) -> None:
        """Take a task; `alone`, its worker has no other one until it comes back, so that no other is lost with it."""

    def wait(self, seconds: float) -> Iterator[Done]:
        """Wait for tasks to come back, for `seconds` at most unless a task is done in this process; yield them."""


class Here:
    """Does one task at a time in this process.

    Parameters
    ----------
    job : Job
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._task: list[Unit] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def takes(self, alone: bool = False) -> bool:
        """See `Executor`."""
        return self._task is None

    def submit(self, task: list[Unit], alone: bool = False) -> None:
        """See `Executor`."""
        self._task = task

    def wait(self, seconds: float) -> Iterator[Done]:
        """See `Executor`; takes as long as the task."""
        assert self._task is not None
        task, self._task = self._task, None
        yield Done(task, do(task, self.job))


class Processes:
    """Does tasks in processes of this machine. If one dies, all tasks that were under way are lost.

    Parameters
    ----------
    job : Job
    n : int
        Processes, each with one thread.
    """

    def __init__(self, job: Job, n: int) -> None:
        self.job, self.n = job, n
        self._pool: ProcessPoolExecutor | None = None
        self._alone = False  # whether the pool has one process, for tasks that are done alone
        self._under_way: dict[Future[list[Outcome]], list[Unit]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def takes(self, alone: bool = False) -> bool:
        """See `Executor`."""
        if alone or self._alone:
            return not self._under_way
        return len(self._under_way) < AHEAD * self.n

    def submit(self, task: list[Unit], alone: bool = False) -> None:
        """See `Executor`."""
        if self._pool is None or alone != self._alone:
            self._close()
            self._alone = alone
            self._pool = ProcessPoolExecutor(
                1 if alone else self.n, initializer=_prepare, initargs=(os.getpid(),), env=ONE_THREAD
            )
        try:
            future = self._pool.submit(do, task, self.job)
        except (TerminatedWorkerError, ShutdownExecutorError) as error:
            future = Future()
            future.set_exception(error)
        self._under_way[future] = task

    def wait(self, seconds: float) -> Iterator[Done]:
        """See `Executor`."""
        done, _ = wait(self._under_way, timeout=seconds, return_when=FIRST_COMPLETED)
        for future in done:
            try:
                outcomes = future.result()
            except (TerminatedWorkerError, ShutdownExecutorError):
                continue
            yield Done(self._under_way.pop(future), outcomes)
        if not done.isdisjoint(self._under_way):  # a process has died, and the pool with it
            lost = list(self._under_way.values())
            self._under_way.clear()
            self._close()
            yield from (Done(task, None) for task in lost)

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = None


def _prepare(parent: int) -> None:
    import torch

    follow(parent)
    torch.set_num_threads(1)
