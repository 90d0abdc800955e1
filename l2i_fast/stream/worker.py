"""A thread in which the networks run beside the audio."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from threadpoolctl import threadpool_limits

from l2i_fast import forks
from l2i_fast.stream.hearing import Hearing
from l2i_fast.stream.signal import Signal

Owner = TypeVar("Owner")


class Worker(Generic[Owner]):
    """The networks in a thread of their own: they refresh due signals until the worker is closed or its owner dies.

    The thread ends before the interpreter does. In a forked child it starts again with the next samples: a fork waits
    until no refresh is under way.

    Parameters
    ----------
    hearing : Hearing
    owner
        Owner of the signals; the thread does not keep it alive.
    signals
        Returns the owner's signals.
    name : str
        Name of the owner, for errors.
    """

    def __init__(self, hearing: Hearing, owner: Owner, signals: Callable[[Owner], Sequence[Signal]], name: str) -> None:
        self._hearing, self._signals, self._name = hearing, signals, name
        self._closed = False
        self._watch(owner)
        self._thread: threading.Thread | None = None
        self._starting, self._busy = forks.lock(forks.THREAD), forks.lock(forks.REFRESH)
        _workers.add(self)

    def check_open(self) -> None:
        """Raise ValueError after `close`."""
        if self._closed:
            raise ValueError(f"the {self._name} is closed")

    def start(self) -> None:
        """Start the thread, unless it runs or the interpreter is about to end."""
        if self._thread is None:
            with self._starting:
                if self._thread is None and not self._stopped.is_set() and not _ending.is_set():
                    thread = threading.Thread(target=self._run, name=f"l2i-{self._name}", daemon=True)
                    thread.start()
                    self._thread = thread

    def close(self) -> None:
        """Stop the thread, after the refresh that it is busy with; `check_open` raises from now on."""
        self._closed = True
        self.stop()

    def stop(self) -> None:
        """Stop the thread, after the refresh that it is busy with, for good."""
        self._stopped.set()
        with self._starting:
            thread = self._thread
        if thread is not None:
            thread.join()

    def forget_thread(self) -> None:
        """Note in a forked child that the thread has remained in the parent."""
        self._thread = None
        if (owner := self._owner()) is not None and not self._stopped.is_set():
            self._watch(owner)  # anew, since the thread may have held the lock of the event

    def _watch(self, owner: Owner) -> None:
        self._stopped = stopped = threading.Event()
        self._owner = weakref.ref(owner, lambda _: stopped.set())

    def _run(self) -> None:
        torch.get_num_threads()  # sets this thread up; the limit below would be lost otherwise
        with threadpool_limits(1, user_api="openmp"):  # the other cores belong to the audio
            while (seconds := self._refresh()) is not None and not self._stopped.wait(seconds):
                pass

    def _refresh(self) -> float | None:
        """Refresh due signals; return the seconds to wait, or None if the owner has died."""
        owner, hearing = self._owner(), self._hearing
        if owner is None:
            return None
        with self._busy:
            signals = self._signals(owner)
            if due := [signal for signal in signals if signal.frames_until_due <= 0]:
                hearing.refresh(due)
                return 0.0
        analysis = hearing.model.analysis
        hops = min((signal.frames_until_due for signal in signals), default=hearing.every)
        return min(max(hops * analysis.hop_length / analysis.sample_rate / 2, 0.002), 0.1)


_workers: weakref.WeakSet[Worker[Any]] = weakref.WeakSet()


def _each(do: Callable[[Worker[Any]], None]) -> None:
    for worker in list(_workers):
        do(worker)


def _end() -> None:
    _ending.set()
    _each(Worker.stop)


# Python would stop the threads in the middle of torch's code, which ends the process with status 134.
_ending = threading.Event()
atexit.register(_end)
os.register_at_fork(after_in_child=partial(_each, Worker.forget_thread))
