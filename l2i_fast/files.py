"""Files that appear complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` for a file that is renamed at the end; a missing folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Keep the ending: writers of audio and pictures choose the format by it.
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` create a file under a temporary name beside `path`, then rename it."""
    with whole(path) as temporary:
        write(temporary)
