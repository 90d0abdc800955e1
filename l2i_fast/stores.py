"""Recordings in object stores and on web servers, read by ranges through fsspec; versions of files there and here."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, BinaryIO

#: Bytes of a request after a seek, and of the largest one, which reading on leads to.
_LEAST, _MOST = 1 << 16, 1 << 22
#: What tells versions of a file apart, the surest first.
_VERSIONS = (
    "ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated", "created"
)  # fmt: skip


def is_url(path: object) -> bool:
    """Return whether a path is a URL, such as ``s3://bucket/recording.wav``."""
    return isinstance(path, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


def find_store(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it.

    Raises
    ------
    ImportError
        A library for this kind of store is not installed.
    ValueError
        fsspec knows no such store.
    """
    from fsspec.core import url_to_fs

    if "::" in url:
        raise ValueError(f"{url} chains URLs, but must be a single one")
    try:
        found: tuple[Any, str] = url_to_fs(url)
    except ImportError as error:
        raise ImportError(f"{url} needs a library that is not installed: {error}") from error
    except ValueError as error:
        raise ValueError(f"{url} is in no store that fsspec knows: {error}") from error
    return found


def version_of(path: str) -> tuple[int, int]:
    """Return the size of a file in bytes, and a number that changes if the file does: of a path its time in ns.

    Raises
    ------
    FileNotFoundError, OSError
        There is no such file, or the store does not answer.
    """
    if not is_url(path):
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns
    store, inside = find_store(path)
    with _errors_name(path):
        info = store.info(inside)
    size = info.get("size")
    if info.get("type") == "directory" or size is None:
        raise OSError(f"{path} has no size, but must be a file that can be read by ranges")
    version = next((f"{name} {info[name]}" for name in _VERSIONS if info.get(name) is not None), "")
    return int(size), int.from_bytes(hashlib.sha256(version.encode()).digest()[:8], "big") >> 1


def open_bytes(path: str) -> BinaryIO:
    """Open a file on this machine or in a store; errors as for `RangedFile`."""
    return io.BufferedReader(RangedFile(path)) if is_url(path) else open(path, "rb")


class RangedFile(io.RawIOBase):
    """A file in a store that is read by ranges: small ones after a seek, larger and ahead while reading goes on.

    Parameters
    ----------
    url : str

    Raises
    ------
    FileNotFoundError, OSError
        There is no such file, or the store does not answer; in reading, too.
    """

    def __init__(self, url: str) -> None:
        self.name = url
        self._store, self._path = find_store(url)
        self._size = version_of(url)[0]
        self._position = 0
        self._begin, self._block = 0, b""
        self._length = _LEAST  # of the next request
        self._ahead: tuple[int, Future[bytes]] | None = None
        self._pool = ThreadPoolExecutor(1)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position and return it; nothing is asked for before something is read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as the file goes; return the number of bytes."""
        view = memoryview(buffer).cast("B")
        n = min(len(view), max(0, self._size - self._position))
        filled = 0
        while filled < n:
            at = self._position - self._begin
            if not 0 <= at < len(self._block):
                self._load()
                at = 0
            part = self._block[at : at + n - filled]
            view[filled : filled + len(part)] = part
            filled += len(part)
            self._position += len(part)
        return filled

    def _load(self) -> None:
        """Get the block at the position, and ask for the one after it if reading goes on."""
        start = self._position
        goes_on = start == self._begin + len(self._block) and bool(self._block)
        self._length = min(2 * self._length, _MOST) if goes_on else _LEAST
        if self._ahead is not None and self._ahead[0] == start:
            block = self._ahead[1].result()
        else:
            block = self._get(start, self._length)
        self._ahead = None
        self._begin, self._block = start, block
        if goes_on and start + len(block) < self._size:
            following = start + len(block)
            self._ahead = following, self._pool.submit(self._get, following, min(2 * self._length, _MOST))

    def _get(self, start: int, length: int) -> bytes:
        stop = min(start + length, self._size)
        with _errors_name(self.name):
            block: bytes = self._store.cat_file(self._path, start=start, end=stop)
        if len(block) != stop - start:
            raise OSError(f"{self.name} cannot be read: bytes {start} to {stop} were asked for, {len(block)} came")
        return block

    def close(self) -> None:
        """Close the file; what was asked for ahead is dropped."""
        if not self.closed:
            self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()


@contextmanager
def _errors_name(url: str) -> Iterator[None]:
    """Let errors of a store be OSErrors that name the URL."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {url}") from None
    except Exception as error:
        raise OSError(f"{url} cannot be read: {error or type(error).__name__}") from error
