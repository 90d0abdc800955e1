"""The number of threads of the native operations."""

from __future__ import annotations

from l2i_fast.arrays import positive_int
from l2i_fast.backends import native


def get_num_threads() -> int:
    """Return the number of threads that a native operation may use, the calling one included.

    Initially this is the environment variable OMP_NUM_THREADS if it is a positive integer, otherwise the number of
    processors that the process may run on. Torch has a number of its own.
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
    native.set_num_threads(min(positive_int(n, "n"), 2**31 - 1))
