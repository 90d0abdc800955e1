"""The recordings of an archive: files, folders, patterns and manifests, each listed once and in a fixed order.

All of them may lie on this machine or in a store that fsspec knows.
"""

from __future__ import annotations

import csv
import glob
import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from l2i_fast.arguments import shown
from l2i_fast.ffmpeg import ENDINGS as FFMPEG_ENDINGS
from l2i_fast.recording import import_optional
from l2i_fast.stores import find_store, is_url, open_bytes

#: Endings of the recordings that are found in folders.
ENDINGS = frozenset(
    ("wav", "wave", "w64", "rf64", "bw64", "flac", "ogg", "oga", "opus", "mp3", "mp2", "aif", "aiff", "aifc", "au",
     "snd", "caf")
) | FFMPEG_ENDINGS  # fmt: skip
_MANIFESTS = (".csv", ".parquet")
_COLUMNS = ("file", "start", "stop")


class Entry(NamedTuple):
    """A recording, or a part of one.

    Attributes
    ----------
    path : str
    start : float
        Beginning of the part in seconds; 0 is that of the file.
    stop : float or None
        End of the part in seconds; None is that of the file.
    """

    path: str
    start: float = 0.0
    stop: float | None = None


def list_inputs(inputs: Sequence[str], stdin: BinaryIO | None = None) -> Iterator[Entry]:
    """Yield the recordings that inputs name, in their order, the files of a folder or pattern sorted by name.

    Parameters
    ----------
    inputs : sequence of str
        Each one is a recording; a folder, of which all recordings at any depth are taken, by the ending of their
        names; a pattern with ``*``, ``?``, ``[...]`` or ``**``; a manifest that ends in ``.csv`` or ``.parquet``, with
        the column ``file`` and, optionally, ``start`` and ``stop`` in seconds, whose relative paths are those from its
        own folder; or ``-``, a list on `stdin`, one path on each line, or, if it has null characters, before each.
        A URL stands for what it would be as a path.
    stdin : binary file, optional

    Raises
    ------
    FileNotFoundError
        An input that does not exist, or a pattern that nothing matches.
    ValueError
        A manifest without the column ``file``, or a start or stop that is no time.
    """
    for text in inputs:
        path = Path(text)
        if text == "-":
            if stdin is None:
                raise ValueError("an input is '-', but there is no standard input")
            yield from _from_list(stdin)
        elif is_url(text):
            yield from _from_store(text)
        elif path.is_dir():
            yield from map(Entry, _in_folder(text))
        elif path.suffix.lower() in _MANIFESTS and path.exists():
            yield from _from_manifest(text)
        elif os.path.lexists(path):
            yield Entry(text)
        elif glob.has_magic(text):
            found = sorted(glob.glob(text, recursive=True), key=os.fsencode)
            if not found:
                raise FileNotFoundError(f"no file matches {text}")
            yield from (Entry(name) for name in found if not os.path.isdir(name))
        else:
            raise FileNotFoundError(f"there is no file {text}")


def _in_folder(folder: str) -> Iterator[str]:
    """Yield the recordings below a folder, without hidden ones; links to folders are not followed."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _in_folder(entry.path)
        elif entry.name.rpartition(".")[2].lower() in ENDINGS and entry.is_file():
            yield entry.path


def _from_store(url: str) -> Iterator[Entry]:
    store, path = find_store(url)
    ending = os.path.splitext(path)[1].lower()
    try:
        if ending in _MANIFESTS:
            yield from _from_manifest(url)
            return
        if glob.has_magic(path):
            names = sorted(
                name
                for name, info in store.glob(path, detail=True).items()
                if info["type"] == "file" and not name.rpartition("/")[2].startswith(".")
            )
            if not names:
                raise FileNotFoundError(f"no file matches {url}")
        elif ending[1:] in ENDINGS or not store.isdir(path):
            yield Entry(url)  # whether it exists, opening it shows
            return
        else:
            prefix = path.rstrip("/") + "/"
            names = sorted(
                name
                for name in store.find(path)
                if name.rpartition(".")[2].lower() in ENDINGS and "/." not in f"/{name.removeprefix(prefix)}"
            )
    except (FileNotFoundError, ValueError):
        raise
    except Exception as error:
        raise OSError(f"{url} cannot be listed: {error or type(error).__name__}") from error
    yield from (Entry(store.unstrip_protocol(name)) for name in names)


def _from_list(stdin: BinaryIO) -> Iterator[Entry]:
    data = stdin.read()
    separator = b"\0" if b"\0" in data else b"\n"
    for line in data.split(separator):
        name = line.rstrip(b"\r") if separator == b"\n" else line
        if name:
            yield Entry(os.fsdecode(name))


def _from_manifest(path: str) -> Iterator[Entry]:
    with open_bytes(path) as file:
        if path.lower().endswith(".csv"):
            reader = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline=""))
            _check_columns(path, reader.fieldnames or ())
            yield from _entries(path, ({name: row.get(name) for name in _COLUMNS} for row in reader))
            return
        parquet = import_optional("pyarrow.parquet", f"read {path}")
        table = parquet.ParquetFile(file)
        _check_columns(path, table.schema_arrow.names)
        columns = [name for name in _COLUMNS if name in table.schema_arrow.names]
        for batch in table.iter_batches(columns=columns):
            yield from _entries(path, batch.to_pylist())


def _check_columns(path: str, names: Iterable[str]) -> None:
    if "file" not in names:
        raise ValueError(f"{path} has the columns {', '.join(names) or 'of no table'}, but must have one named file")


def _entries(path: str, rows: Iterable[dict[str, Any]]) -> Iterator[Entry]:
    for number, row in enumerate(rows, 1):
        name = row["file"]
        if not name:
            raise ValueError(f"{path} names no file in row {number}")
        start = _seconds(path, number, "start", row.get("start"))
        stop = _seconds(path, number, "stop", row.get("stop"))
        if stop is not None and stop <= (start or 0):
            raise ValueError(
                f"{path} has stop {stop:g} in row {number}, but it must be greater than start, {start or 0:g}"
            )
        yield Entry(name if is_url(name) else os.path.join(os.path.dirname(path), name), start or 0.0, stop)


def _seconds(path: str, number: int, name: str, value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{path} has {name} {shown(value)} in row {number}, but it must be a time in seconds")
    return seconds
