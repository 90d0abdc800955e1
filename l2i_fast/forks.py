"""Locks that a forked child finds free.

A child has only the thread that forked: a lock that another thread held at that time stays held in it for good, and
what the lock guards stays half changed. So a fork waits for the locks made here, and releases them in both processes.
"""

from __future__ import annotations

import logging  # noqa: F401 - first: a fork takes locks in reverse order, and imports take that of logging
import os
import threading
import weakref

# Locks by weak references, and their ranks.
_ranks: dict[weakref.ref[threading.RLock], int] = {}
_held: list[threading.RLock] = []
_forking = threading.RLock()  # two threads may fork at once

#: Ranks of locks that a thread takes while it holds others, in this order.
CALL, THREAD, REFRESH, SIGNAL, IMPORT, LEAF = range(6)


def lock(rank: int = LEAF) -> threading.RLock:
    """Return a lock that no thread but the forking one holds during a fork.

    Threads take locks in the order of their ranks, at most one of each rank at a time; so does a fork, which
    therefore waits for each only once.
    """
    made = threading.RLock()
    _ranks[weakref.ref(made, lambda ref: _ranks.pop(ref, None))] = rank
    return made


#: Held during an import at first use: a module that another thread was importing cannot be imported in a child.
importing = lock(IMPORT)


def _acquire() -> None:
    _forking.acquire()
    for ref, _ in sorted(_ranks.copy().items(), key=lambda item: item[1]):
        if (one := ref()) is not None:
            one.acquire()
            _held.append(one)


def _release() -> None:
    while _held:
        _held.pop().release()
    _forking.release()


os.register_at_fork(before=_acquire, after_in_parent=_release, after_in_child=_release)
