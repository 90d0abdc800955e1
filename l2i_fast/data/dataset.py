"""Data sets in memory, independent of their layout on disk."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from l2i_fast.arguments import is_several, shown
from l2i_fast.audio import check_rate, read_audio

AUDIO_ENDINGS = (".wav", ".ogg", ".flac", ".mp3")


@dataclass(frozen=True)
class Clip:
    """One recording: its file, its labels as indices into the data set's classes, its fold and split.

    `name` tells it from the other clips of a data set; readers take that of the file without its ending.
    """

    path: Path
    labels: tuple[int, ...]
    fold: int | None
    name: str
    split: str | None = None

    def identity(self) -> tuple[str, tuple[int, ...], str | None]:
        """Return what tells the clip from another one of its name: name, labels, and a hash of the file's contents."""
        if not self.path.exists():
            return self.name, self.labels, None
        status = self.path.stat()
        return self.name, self.labels, _contents(self.path, status.st_size, status.st_mtime_ns)


@cache
def _contents(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


@dataclass(frozen=True)
class Dataset:
    """Clips with labels. `duration` is the common length of all clips, in seconds."""

    name: str
    classes: tuple[str, ...]
    clips: tuple[Clip, ...]
    multilabel: bool
    duration: float

    def __post_init__(self) -> None:
        name, n = next(iter(Counter(clip.name for clip in self.clips).most_common(1)), ("", 1))
        if n > 1:
            raise ValueError(
                f"dataset {self.name} holds {n} recordings called {name!r}, but each must have a name of its own, "
                "even without the ending"
            )

    def select(
        self,
        folds: int | Iterable[int] | None = None,
        classes: str | Iterable[str] | None = None,
        split: str | Iterable[str] | None = None,
    ) -> Dataset:
        """Return a part of the clips, in their order.

        Parameters
        ----------
        folds : int or several, optional
            Folds to keep.
        classes : str or several, optional
            Classes to keep, in the data set's order; labels are renumbered. Clips of one label go with their
            class; clips of several labels all stay and lose the labels of other classes.
        split : str or several, optional
            Splits to keep, if the data set has any.

        Raises
        ------
        ValueError
            For an unknown fold, class or split; the error lists those that exist.
        TypeError
            For folds that are no integers, and classes or splits that are no strings.
        """
        clips = self.clips
        if folds is not None:
            wanted = _wanted("folds", folds, (int, np.integer))
            _check_known("folds", wanted, {c.fold for c in clips if c.fold is not None})
            clips = tuple(c for c in clips if c.fold in wanted)
        if split is not None:
            splits = _wanted("split", split, str)
            _check_known("split", splits, {c.split for c in clips if c.split is not None})
            clips = tuple(c for c in clips if c.split in splits)
        if classes is None:
            return replace(self, clips=clips)
        names = _wanted("classes", classes, str)
        _check_known("classes", names, set(self.classes))
        kept = [i for i, name in enumerate(self.classes) if name in names]
        index = {old: new for new, old in enumerate(kept)}
        relabelled = (replace(c, labels=tuple(index[i] for i in c.labels if i in index)) for c in clips)
        return replace(
            self,
            classes=tuple(self.classes[i] for i in kept),
            clips=tuple(c for c in relabelled if c.labels or self.multilabel),
        )

    def audio(self, clip: Clip, sr: int) -> npt.NDArray[np.float32]:
        """Read a clip as mono float32 (duration * sr,), cut or padded with silence to the duration."""
        y, _ = read_audio(clip.path, check_rate("sr", sr))
        length = round(self.duration * sr)
        return np.pad(y[:length], (0, max(0, length - len(y))))


def _wanted(name: str, value: Any, kind: type | tuple[type, ...]) -> set[Any]:
    """Return one or several names or numbers as a set."""
    several = list(value) if is_several(value) else [value]
    for one in several:
        if not isinstance(one, kind) or isinstance(one, bool):
            what = "strings" if kind is str else "integers"
            raise TypeError(f"{name} holds {shown(one)}, but must hold {what}")
    return set(several)


def _check_known(name: str, wanted: set[Any], known: set[Any]) -> None:
    unknown = sorted(map(str, wanted - known))
    if unknown:
        exist = ", ".join(map(str, sorted(known))) or "none"
        raise ValueError(f"{name} names {', '.join(unknown)}, but the data set has: {exist}")


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the place ("FILE, line N") and the values of these columns, for each row of a CSV file."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            missing = [c for c in columns if c not in header]
            if missing:
                has = f"has the columns {', '.join(header)}" if header else "is empty"
                raise ValueError(f"{path} {has}, but {', '.join(missing)} must be among its columns")
            places = [header.index(c) for c in columns]
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if row and len(row) != len(header):
                    raise ValueError(f"{where}: {len(row)} fields, but the header has {len(header)}")
                if row:
                    yield where, [row[i].strip() for i in places]
        except UnicodeDecodeError as error:  # found before the rows are counted
            raise ValueError(f"{path} cannot be read as UTF-8: {error}") from error
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num} cannot be read as CSV: {error}") from error


def as_integer(where: str, column: str, text: str) -> int:
    """Return the integer of a CSV field, or raise an error with its place."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{where}: {column} is {text!r}, but must be an integer") from None
