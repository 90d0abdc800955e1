"""Files that appear complete or not at all, however many write them at once.

What is unfinished has a name that begins with ".partial-". A process that is killed may leave it behind; it can be
removed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from l2i_fast.arguments import shown

#: How the names of unfinished files begin.
PARTIAL = ".partial-"


def as_path(name: str, value: Any) -> Path:
    """Return the path that the argument `name` holds.

    Raises
    ------
    TypeError
        If it is neither text nor path-like.
    ValueError
        If it holds a null character.
    """
    try:
        path = Path(value)
    except TypeError:
        raise TypeError(f"{name} is {shown(value)}, but must be a path") from None
    if "\0" in str(path):
        raise ValueError(f"{name} is {shown(str(path))}, but must not hold a null character")
    return path


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path as text for people and JSON: a byte that is not UTF-8 becomes ``\\xNN``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary name for a file that is renamed to `path` at the end; a missing folder is created.

    Every writer has a name of its own; the last one to finish wins. A symbolic link stays, and the file that it points
    to is replaced.

    Raises
    ------
    FileExistsError
        If a folder, a pipe or a device has this name.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "a pipe, socket or device"
        raise FileExistsError(f"{path} is {kind}, but must be a file or a new name")
    target.parent.mkdir(parents=True, exist_ok=True)
    # Keep the ending, by which writers of audio and pictures choose the format, but no more than a name can hold.
    temporary = target.with_name(f"{PARTIAL}{secrets.token_hex(8)}-{target.name[-40:]}")
    try:
        with _errors_name(path):
            yield temporary
            os.replace(temporary, target)
    finally:
        with suppress(OSError):  # a folder that cannot be written to holds no temporary file
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` create a file under a temporary name beside `path`, then rename it."""
    with whole(path) as temporary:
        write(temporary)


@contextmanager
def whole_set(folder: Path, last: str) -> Iterator[Path]:
    """Give a temporary folder whose files are moved into `folder` together at the end.

    The file `last` is moved after the others: if it exists, so do the files that it describes. Of several writers one
    moves its files at a time, so that those of the last one stay. A missing folder is created.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _errors_name(folder), tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder) as temporary:
        yield Path(temporary)
        with locked(folder, fcntl.LOCK_EX):
            for name in sorted(os.listdir(temporary), key=lambda name: name == last):
                os.replace(Path(temporary, name), folder / name)


@contextmanager
def _errors_name(path: Path) -> Iterator[None]:
    """Let errors name what is written in the place of a temporary name."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename is not None and PARTIAL not in str(error.filename)):
            raise
        raise OSError(error.errno, error.strerror, error.filename2 or str(path)) from error


@contextmanager
def locked(folder: Path, kind: int = fcntl.LOCK_SH) -> Iterator[None]:
    """Keep writers of `whole_set` from moving files into `folder` meanwhile."""
    with ExitStack() as stack:
        with suppress(OSError):  # some network file systems lock no folders
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, kind)
        yield
