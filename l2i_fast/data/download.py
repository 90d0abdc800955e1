"""Download of ESC-50: resumed after interruptions, checked, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import re
import shutil
import urllib.error
import urllib.request
import uuid
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from l2i_fast.data.esc50 import TABLE, load_esc50

ESC50_URL = "https://github.com/karolpiczak/ESC-50/archive/master.zip"

_CLIPS = 2000
_ATTEMPTS = 5  # connections in a row before giving up; the part fetched so far is kept
_TIMEOUT = 30.0  # seconds without a byte
_BLOCK = 1 << 18
# Exceptions of zipfile, the extraction and the reader for a foreign or damaged archive.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    ValueError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
)

Advance = Callable[[str, int, int | None], None]  # name of the step, bytes done, bytes in all if known


class _BrokenOff(Exception):
    """The connection ended before the file did."""


def fetch_esc50(
    output: str | os.PathLike[str],
    url: str = ESC50_URL,
    sha256: str | None = None,
    progress: bool = False,
) -> Path:
    """Download ESC-50 (about 600 MB, licensed CC BY-NC 3.0) and unpack it to a folder.

    The archive is written to OUTPUT.zip.part beside the folder; a broken download is continued there, also by
    a later call. GitHub packs the archive anew from time to time, so its own bytes have no lasting checksum.
    Its contents are checked instead: the CRC of every file, 2,000 rows in meta/esc50.csv and a recording
    for each.

    Parameters
    ----------
    output : path-like
        The folder to create, with meta/ and audio/ in it. If it already holds the complete data set,
        nothing is fetched.
    url : str
        Address of the zip archive (http or https).
    sha256 : str, optional
        Checksum of the archive, 64 hexadecimal digits, for a copy of known bytes.
    progress : bool
        Show a progress bar on standard error.

    Returns
    -------
    folder : Path
        The folder, ready for `load_dataset`.

    Raises
    ------
    ConnectionError
        If the server cannot be reached or refuses, or the connection keeps breaking (the part is kept).
    ValueError
        If the checksum or the contents are wrong (the archive is removed), or an argument is.
    FileExistsError
        If output exists and is something else.
    OSError
        If the disk is full (the part is kept).
    """
    folder = Path(output)
    if not re.match(r"https?://", url, re.IGNORECASE):
        raise ValueError(f"url is {url!r}, but must begin with http:// or https://")
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256 is {sha256!r}, but must be 64 hexadecimal digits")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if _is_complete(folder):
            return folder
        raise FileExistsError(f"{folder} exists and is not a complete ESC-50; name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f"{folder.name}.zip.part")
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    try:
        with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
            tasks = {name: bar.add_task(name, total=None) for name in ("Fetching", "Unpacking")}

            def advance(name: str, done: int, total: int | None) -> None:
                bar.update(tasks[name], completed=done, total=total)

            _download(url, part, advance)
            try:
                _check_sha256(part, sha256)
                _unpack(part, folder, advance)
            except ValueError:
                part.unlink()  # wrong bytes: nothing to continue from
                raise
            part.unlink()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        reason = f"the disk is full ({error.strerror}): free some space and run the same again to continue"
        raise OSError(errno.ENOSPC, reason, str(folder)) from error
    return folder


def _is_complete(folder: Path) -> bool:
    try:
        return len(load_esc50(folder).clips) == _CLIPS
    except (OSError, ValueError):
        return False


def _download(url: str, part: Path, advance: Advance) -> None:
    """Fetch a URL into `part`, continuing an earlier download, until it is whole."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _download_rest(url, part, advance)
        except urllib.error.HTTPError as error:
            error.close()
            raise ConnectionError(f"{url} answers {error.code} {error.reason}") from error
        except http.client.InvalidURL as error:
            raise ValueError(f"url is {url!r}, but must be a valid address: {error}") from error
        except (_BrokenOff, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            if attempt == _ATTEMPTS:
                size = part.stat().st_size if part.exists() else 0
                raise ConnectionError(
                    f"the connection to {url} keeps breaking ({error}); "
                    f"the {size:,} bytes in {part} are kept: run the same again to continue"
                ) from error
        except urllib.error.URLError as error:
            raise ConnectionError(f"{url} cannot be reached: {error.reason}") from error


def _download_rest(url: str, part: Path, advance: Advance) -> None:
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        error.close()
        if error.headers.get("Content-Range", "") == f"bytes */{start}":
            return  # the part was whole already
        part.unlink()
        raise _BrokenOff("the file there has changed") from error
    with response:
        length = response.headers.get("Content-Length")
        served = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if response.status != 206 or served is None or int(served[1]) != start:
            if response.status == 206:
                part.unlink()
                raise _BrokenOff("the server sent another range than asked for")
            start = 0  # no ranges here: from the beginning
        total = start + int(length) if length is not None else None
        if total is not None and shutil.disk_usage(part.parent).free < total - start:
            raise OSError(errno.ENOSPC, "too little space for the archive")
        done = start
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            while block := response.read(_BLOCK):
                file.write(block)
                done += len(block)
                advance("Fetching", done, total)
    if total is not None and done < total:
        raise _BrokenOff(f"{done:,} of {total:,} bytes came")


def _check_sha256(part: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        raise ValueError(f"the archive has the SHA-256 {found}, but must have {sha256.lower()}; it has been removed")


def _unpack(archive: Path, folder: Path, advance: Advance) -> None:
    """Unpack the data set to a temporary folder, check it, and give it its name."""
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")
    try:
        with zipfile.ZipFile(archive) as file:
            _extract(file, part, advance)
        count = len(load_esc50(part).clips)
        if count != _CLIPS:
            raise ValueError(f"it lists {count:,} recordings, but {_CLIPS:,} are needed")
        os.replace(part, folder)
    except _DAMAGE as error:
        text = str(error).replace(f"{part}{os.sep}", "")
        raise ValueError(f"the archive is not a whole ESC-50 and has been removed: {text}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _extract(file: zipfile.ZipFile, target: Path, advance: Advance) -> None:
    """Extract the folder that holds meta/, without its own name; reading to the end checks every CRC."""
    table = TABLE.as_posix()
    roots = sorted((n.removesuffix(table) for n in file.namelist() if n == table or n.endswith("/" + table)), key=len)
    if not roots:
        raise ValueError(f"it lacks {table}")
    members = [m for m in file.infolist() if m.filename.startswith(roots[0]) and not m.is_dir()]
    total = sum(m.file_size for m in members)
    if shutil.disk_usage(target.parent).free < total:
        raise OSError(errno.ENOSPC, "too little space for the unpacked files")
    done = 0
    for member in members:
        name = PurePosixPath(member.filename.removeprefix(roots[0]))
        if name.is_absolute() or ".." in name.parts or "\\" in member.filename:
            raise ValueError(f"it holds the unsafe path {member.filename!r}")
        if member.external_attr >> 28 == 0o12:  # a symbolic link may point anywhere
            raise ValueError(f"it holds the symbolic link {member.filename!r}")
        path = target.joinpath(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with file.open(member) as source, path.open("wb") as copy:
            shutil.copyfileobj(cast(BinaryIO, source), copy)
        done += member.file_size
        advance("Unpacking", done, total)
