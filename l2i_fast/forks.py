"""Locks that a forked child finds free.

A child has only the thread that forked: a lock that another thread held at that time stays held in it for good, and
what the lock guards stays half changed. So a fork waits for the locks made here, and releases them in both processes.
"""

from __future__ import annotations

import logging  # noqa: F401 - first: a fork takes locks in reverse order, and imports take that of logging
import os
import threading
import weakref

_locks: weakref.WeakSet[threading.RLock] = weakref.WeakSet()
_held: list[threading.RLock] = []


def lock() -> threading.RLock:
    """Return a lock that no thread but the forking one holds during a fork."""
    made = threading.RLock()
    _locks.add(made)
    return made


#: Held during an import at first use: a module that another thread was importing cannot be imported in a child.
importing = lock()
_forking = threading.RLock()  # two threads may fork at once


def _acquire() -> None:
    _forking.acquire()
    # Waits for one lock at a time and holds no other meanwhile, since threads take several in orders of their own.
    taken: threading.RLock | None = importing
    while taken is not None:
        _release_held()
        taken.acquire()
        _held.append(taken)
        taken = next((one for one in list(_locks) if not _take(one)), None)


def _take(one: threading.RLock) -> bool:
    if free := one.acquire(blocking=False):
        _held.append(one)
    return free


def _release_held() -> None:
    while _held:
        _held.pop().release()


def _release() -> None:
    _release_held()
    _forking.release()


os.register_at_fork(before=_acquire, after_in_parent=_release, after_in_child=_release)
