"""The standard error stream of C, which some libraries write to unasked."""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Iterator
from contextlib import contextmanager

from l2i_fast import forks

_lock = forks.lock()
_users = 0
_real: int | None = None


@contextmanager
def discard_c_stderr() -> Iterator[None]:
    """Discard what C libraries print to `stderr` inside the `with` block, in any thread.

    This sets the variable `stderr` of the C library, which glibc permits; with another library nothing happens. File
    descriptor 2 and `sys.stderr` stay as they are: nothing that Python prints meanwhile is lost.
    """
    global _users, _real
    streams = _streams()
    if streams is None:
        yield
        return
    variable, null = streams
    with _lock:
        if not _users:
            _real, variable.value = variable.value, null
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                variable.value = _real


@functools.cache
def _streams() -> tuple[ctypes.c_void_p, int] | None:
    """Return glibc's variable `stderr`, and a stream that leads nowhere."""
    if platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    return ctypes.c_void_p.in_dll(library, "stderr"), library.fopen(b"/dev/null", b"w")
