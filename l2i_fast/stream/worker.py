"""A thread in which the networks run beside the audio."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from threadpoolctl import threadpool_limits

from l2i_fast.stream.hearing import Hearing
from l2i_fast.stream.signal import Signal

Owner = TypeVar("Owner")


class Worker(Generic[Owner]):
    """The networks in a thread of their own: they refresh due signals until the worker is closed or its owner dies.

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
        self._hearing, self._owner, self._signals, self._name = hearing, weakref.ref(owner), signals, name
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def check_open(self) -> None:
        """Raise ValueError after `close`."""
        if self._closed.is_set():
            raise ValueError(f"the {self._name} is closed")

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"l2i-{self._name}", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop the thread, after the refresh that it is busy with."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        torch.get_num_threads()  # sets this thread up; the limit below would be lost otherwise
        with threadpool_limits(1, user_api="openmp"):  # the other cores belong to the audio
            while (seconds := self._refresh()) is not None and not self._closed.wait(seconds):
                pass

    def _refresh(self) -> float | None:
        """Refresh due signals; return the seconds to wait, or None if the owner has died."""
        owner, hearing = self._owner(), self._hearing
        if owner is None:
            return None
        signals = self._signals(owner)
        if due := [signal for signal in signals if signal.frames_until_due <= 0]:
            hearing.refresh(due)
            return 0.0
        analysis = hearing.model.analysis
        hops = min((signal.frames_until_due for signal in signals), default=hearing.every)
        return min(max(hops * analysis.hop_length / analysis.sample_rate / 2, 0.002), 0.1)
