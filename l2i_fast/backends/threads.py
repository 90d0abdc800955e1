"""The number of threads of the native operations, and of NumPy's BLAS beside them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

from l2i_fast.arguments import integer
from l2i_fast.backends import native


def get_num_threads() -> int:
    """Return the number of threads that a native operation may use, the calling one included.

    Initially this is the environment variable OMP_NUM_THREADS if it is a positive integer, or a list that begins with
    one ("4,2"), otherwise the number of processors that the process may run on. Torch has a number of its own.
    """
    return native.get_num_threads()


def set_num_threads(n: int) -> None:
    """Set the number of threads that native operations may use, the calling one included, for the whole process.

    Small work stays in the calling thread whatever the number; so does all work while a call from another thread
    occupies the engine's threads. The same number of threads gives the same bits.

    Raises
    ------
    ValueError
        For n < 1.
    """
    native.set_num_threads(integer(n, "n"))


_limiting = threading.Lock()


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # takes milliseconds to find them


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit NumPy's BLAS to one thread where its products and the engine's operations alternate.

    Its threads spin for a while after each product, which slows the engine's. The limit is that of the process, and the
    thread that has set it must take it back: a call from another thread meanwhile sets none of its own.
    """
    if not _limiting.acquire(blocking=False):
        yield
        return
    try:
        with _libraries().limit(limits=1, user_api="blas"):
            yield
    finally:
        _limiting.release()
