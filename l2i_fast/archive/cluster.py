"""Units done on a Ray cluster, by actors that load the model once each.

Ray starts the processes, takes the tasks to them and their answers back. What is to be done and what is done stays in
the journal of the run, which no actor opens.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from l2i_fast.archive.executors import AHEAD, ONE_THREAD, Done
from l2i_fast.archive.settings import check_address
from l2i_fast.archive.work import Job, Outcome, Unit, do, identity
from l2i_fast.files import PARTIAL
from l2i_fast.recording import import_optional
from l2i_fast.version import __version__

#: Seconds between looks for CPUs that have joined.
_LOOK = 10.0
#: Seconds that a cluster may take to start a worker before a warning says so.
_PATIENCE = 60.0
#: Seconds that a node of a shared file system may take to see a new file, and an address to answer.
_SIGHT, _ANSWER = 5.0, 5.0
#: Bytes of memory for the answers in a Ray that is started here; they are rows of tables.
_STORE = 100 * 2**20

T = TypeVar("T")


@contextmanager
def connected(address: str, n_cpus: int | None = None) -> Iterator[Any]:
    """Give the module `ray`, connected to a cluster; the caller's own connection is used and left alone.

    Parameters
    ----------
    address : str
        As `BatchSettings.cluster`.
    n_cpus : int, optional
        Of a cluster that is started here.

    Raises
    ------
    ConnectionError
        There is no such cluster.
    ImportError
        Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray: Any = import_optional("ray", "do the work on a cluster")
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"num_cpus": n_cpus, "include_dashboard": False, "object_store_memory": _STORE}
    else:
        _find(ray, address)
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        try:
            # Ray lets workers import from the current folder first, and a checkout there has no native module.
            with chdir(os.sep):
                ray.init(address, **options)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            reason = str(error).partition("\n")[0]
            raise ConnectionError(f"cluster is {address!r}, but cannot be connected to: {reason}") from None
        finally:
            if in_main:  # Ray has put its own one in place, which knows nothing of the caller's
                signal.signal(signal.SIGTERM, handler)
        # Ray would print to standard output that a worker has died.
        ray._private.worker._worker_logs_enabled = False
        yield ray
    finally:
        ray.shutdown()


def _find(ray: Any, address: str) -> None:
    """Raise ConnectionError if no cluster answers at an address: `ray.init` would try for a quarter of an hour."""
    where = f"cluster is {address!r}"
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "auto")
        if ":" not in address:
            return
        check_address("RAY_ADDRESS", address)
        where += f" and RAY_ADDRESS {address!r}"
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"{where}, but nothing answers there: {error}") from None
    try:
        ray._raylet.GcsClient(address=address)
    except ray.exceptions.RayError:
        raise ConnectionError(f"{where}, but what answers there is no Ray cluster") from None


def count_cpus(ray: Any) -> int:
    """Return the number of CPUs of the cluster, at least 1."""
    return max(1, int(ray.cluster_resources().get("CPU", 0)))


class _Actor:
    """A process of the cluster."""

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        return function(*arguments)


class _Started(NamedTuple):
    """What an actor says of itself: its node, the version of the package, and the fingerprint of the model."""

    node: str
    version: str
    model: str


@dataclass(eq=False)
class _Worker:
    """An actor: its handle, its node if it has started, its number of tasks, and whether it does one alone."""

    handle: Any
    node: str | None = None
    n_tasks: int = 0
    alone: bool = False

    def takes(self, alone: bool) -> bool:
        return self.node is not None and (not self.n_tasks if alone else self.n_tasks < AHEAD and not self.alone)


class Actors:
    """Does tasks in actors of a Ray cluster: an `Executor`. An actor that dies loses its own tasks, and is replaced.

    Actors get tasks once they have started: a cluster may start some of them late or never. Without `jobs`, CPUs that
    join later get actors, too.

    Parameters
    ----------
    job : Job
        Its settings name the cluster and the number of actors.
    model : str
        Fingerprint of the model.

    Raises
    ------
    ConnectionError, ImportError
        See `connected`.
    OSError
        A node does not see the folder of the results, or a recording.
    ValueError
        A node has another release of this package or another model.
    ChildProcessError
        Actors die while they start.
    """

    def __init__(self, job: Job, model: str) -> None:
        self.job, self.model = job, model
        self._workers: list[_Worker] = []
        self._under_way: dict[
            Any, tuple[_Worker, list[Unit] | None]
        ] = {}  # by reference; None is the start of an actor
        self._failed = 0  # starts in a row
        self._patience = self._looked = 0.0

    def __enter__(self) -> Self:
        settings = self.job.settings
        n = settings.jobs
        if settings.cluster == "local":
            n = n or len(os.sched_getaffinity(0))
        assert settings.cluster is not None
        with ExitStack() as stack:
            self._ray = stack.enter_context(connected(settings.cluster, n))
            self._n = n
            needs: dict[str, Any] = {"num_cpus": 1, "num_gpus": int(settings.device != "cpu")}
            self._make = self._ray.remote(**needs, runtime_env={"env_vars": ONE_THREAD})(_Actor)
            self._mark = self.job.folder / f"{PARTIAL}{uuid.uuid4().hex}"
            self._mark.touch()
            stack.callback(self._mark.unlink, missing_ok=True)
            stack.callback(self._end)
            self._patience = time.monotonic() + _PATIENCE
            self._fill()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _end(self) -> None:
        for worker in self._workers:
            self._ray.kill(worker.handle)
        self._workers.clear()
        self._under_way.clear()

    def _fill(self) -> None:
        """Start the actors that are missing."""
        self._looked = time.monotonic()
        n = self._n or count_cpus(self._ray)
        while len(self._workers) < n:
            worker = _Worker(self._make.remote())
            self._workers.append(worker)
            reference = worker.handle.call.remote(_start, self.job, os.getcwd(), self._mark)
            self._under_way[reference] = worker, None

    def takes(self, alone: bool = False) -> bool:
        """See `Executor`."""
        return any(worker.takes(alone) for worker in self._workers)

    def submit(self, task: list[Unit], alone: bool = False) -> None:
        """See `Executor`."""
        worker = min((worker for worker in self._workers if worker.takes(alone)), key=lambda worker: worker.n_tasks)
        worker.n_tasks += 1
        worker.alone = alone
        self._under_way[worker.handle.call.remote(do, task, self.job)] = worker, task

    def wait(self, seconds: float) -> Iterator[Done]:
        """See `Executor`."""
        ready, _ = self._ray.wait(list(self._under_way), timeout=seconds)
        if ready:  # and what else is ready by now
            ready, _ = self._ray.wait(list(self._under_way), num_returns=len(self._under_way), timeout=0)
        for reference in ready:
            worker, task = self._under_way.pop(reference)
            try:
                answer = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayError as error:
                self._replace(worker, error)
                if task is not None:
                    yield Done(task, None)
                continue
            if task is None:
                self._check(answer)
                worker.node, self._failed = answer.node, 0
                continue
            worker.n_tasks -= 1
            worker.alone = False
            self._check_sight(worker, task, answer)
            yield Done(task, answer)
        now = time.monotonic()
        if now - self._looked > _LOOK:
            self._fill()
        if now > self._patience and not any(worker.node for worker in self._workers):
            self._patience = now + 10 * _PATIENCE
            free = self._ray.available_resources().get("CPU", 0)
            cpus = f"{free:g} of the cluster's {count_cpus(self._ray)} are free"
            warnings.warn(f"no worker has started yet: each needs a CPU, and {cpus}", stacklevel=2)

    def _replace(self, worker: _Worker, error: Exception) -> None:
        """Start another actor instead of one that is dead or out of reach; its other tasks come back lost."""
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        self._ray.kill(worker.handle)
        if worker.node is None:
            self._failed += 1
            if self._failed > 2 * (1 + len(self._workers)):
                reason = str(error).strip().rpartition("\n")[2]
                raise ChildProcessError(f"{self._failed} workers in a row died while they started: {reason}")
        self._fill()

    def _check(self, started: _Started) -> None:
        """Raise if an actor would not give the same results."""
        if started.version != __version__:
            raise ValueError(f"node {started.node} has l2i_fast {started.version}, but this machine {__version__}")
        if started.model != self.model:
            raise ValueError(f"node {started.node} has another model at {self.job.model} than this machine")

    def _check_sight(self, worker: _Worker, task: Sequence[Unit], outcomes: Sequence[Outcome]) -> None:
        """Raise if recordings that exist are missing to a node: it would note all that it gets as missing."""
        for unit, outcome in zip(task, outcomes, strict=True):
            path = unit.recording.path
            if any(problem.kind == "missing" for problem in outcome.problems) and os.path.exists(path):
                raise FileNotFoundError(f"{worker.node} does not see {path}, which must have this path on all nodes")


def _start(job: Job, directory: str, mark: Path) -> _Started:
    """Make an actor ready to work as this process would in `directory`."""
    import torch

    node = platform.node()
    with suppress(OSError):  # only relative paths need it, and what is not found by them is an error
        os.chdir(directory)
    end = time.monotonic() + _SIGHT
    while not mark.exists():
        if time.monotonic() > end:
            raise FileNotFoundError(f"{node} does not see {job.folder}, which must have this path on all nodes")
        time.sleep(0.1)
    torch.set_num_threads(1)
    return _Started(node, __version__, identity(job))
