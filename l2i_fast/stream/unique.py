"""What streams have in common: there is one of each."""

from __future__ import annotations

from typing import NoReturn


class Unique:
    """Base of objects that hold the state of live signals, which cannot be copied or pickled."""

    def __reduce__(self) -> NoReturn:
        kind = type(self).__name__
        raise TypeError(f"a {kind} cannot be copied or pickled, but another one can be made with the same arguments")
