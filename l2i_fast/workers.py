"""Processes that work for another one."""

from __future__ import annotations

import os
import signal
import threading
import time

#: Name of the thread of a worker that watches its parent.
_WATCH = "l2i-parent"


def follow(parent: int) -> None:
    """Let this process leave Ctrl-C to its parent, and end with it, even if that is killed."""
    if any(thread.name == _WATCH for thread in threading.enumerate()):
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), name=_WATCH, daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
