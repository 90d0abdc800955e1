"""What the journal of a run says at the moment, read without disturbing the run.

A process that writes the journal waits five seconds for its readers, and then gives up. So nothing here keeps a query
open: all of them are answered in portions that take milliseconds.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from l2i_fast.archive.journal import VERSION, Header, Recording

#: Rows of an answer, and units whose rows are read together.
_PORTION, _UNITS = 1024, 16
#: Seconds for which a reader waits while the run writes.
_PATIENCE = 60.0


class Explained(NamedTuple):
    """A unit that is done.

    Attributes
    ----------
    begin_utc : int or None
        Moment of the first sample of its recording's file, in microseconds since 1970.
    before : float
        Seconds from there to the beginning of the part of the file that is explained.
    first : int
        Its first window.
    seconds : float
        Of sound.
    """

    begin_utc: int | None
    before: float
    first: int
    seconds: float


class JournalView:
    """The journal in a folder, read only, also while a run writes it; a context.

    What it tells is true when it is told: a run that goes on has done more a moment later.

    Parameters
    ----------
    folder : Path
        The output of a run.

    Raises
    ------
    FileNotFoundError
        No such folder, or no journal in it.
    ValueError
        The file is no journal, or of another version.
    """

    def __init__(self, folder: Path) -> None:
        file = folder / "journal.sqlite"
        if not file.is_file():
            missing = "holds no journal.sqlite" if folder.is_dir() else "is no folder"
            raise FileNotFoundError(f"{folder} {missing}, but must be the output of l2i batch")
        self._uri = f"{file.absolute().as_uri()}?mode="
        self._database = sqlite3.connect(f"{self._uri}ro", uri=True, timeout=_PATIENCE)
        try:
            self.facts = {name: json.loads(value) for name, value in self._select("SELECT name, value FROM facts")}
        except (sqlite3.DatabaseError, ValueError) as error:
            self._database.close()
            raise ValueError(f"{file} is no journal of l2i batch, or damaged ({error})") from None
        if self.facts.get("version") != VERSION:
            self._database.close()
            raise ValueError(f"{file} has version {self.facts.get('version')}, but this release reads {VERSION}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def _select(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
        # A run was killed while it wrote. SQLite takes back what was not promised as the next run would, but not for
        # those who only read.
        writer = sqlite3.connect(f"{self._uri}rw", uri=True, timeout=_PATIENCE)
        try:
            writer.execute("SELECT count(*) FROM facts").fetchall()
        finally:
            writer.close()
        return self._database.execute(query, values).fetchall()

    def counts(self) -> dict[str, Any]:
        """Return numbers of recordings and opened ones, and seconds of sound, known and done."""
        ((recordings, opened, known),) = self._select(
            "SELECT count(*), coalesce(sum(opened), 0), coalesce(sum(seconds), 0) FROM recordings"
        )
        return {"recordings": recordings, "opened": opened, "seconds": known}

    def finished(self, first: int, last: int) -> bool:
        """Return whether nothing is left to do in recordings `first` to `last`."""
        query = (
            "SELECT EXISTS (SELECT 1 FROM recordings WHERE opened = 0 AND id BETWEEN ? AND ?)"
            " OR EXISTS (SELECT 1 FROM units WHERE done = 0 AND recording BETWEEN ? AND ?)"
        )
        ((left,),) = self._select(query, (first, last) * 2)
        return not left

    def explained(self) -> Iterator[Explained]:
        """Yield the units that are done, in order."""
        place = (0, -1)
        query = (
            "SELECT u.recording, u.first, begin_utc, first_frame, rate, u.seconds"
            " FROM units u JOIN recordings r ON r.id = u.recording"
            " WHERE u.done = 1 AND u.seconds > 0 AND (u.recording, u.first) > (?, ?)"
            " ORDER BY u.recording, u.first LIMIT ?"
        )
        while rows := self._select(query, (*place, _PORTION)):
            for _, first, begin, frame, rate, seconds in rows:
                yield Explained(begin, frame / rate, first, seconds)
            place = rows[-1][:2]

    def rows(self, first: int, last: int) -> Iterator[tuple[Recording, Header, list[dict[str, Any]]]]:
        """Yield the rows of the units of recordings `first` to `last`, as `Journal.rows` does."""
        place = (first, -1)
        query = (
            "SELECT u.recording, u.first, u.rows FROM units u"
            " WHERE (u.recording, u.first) > (?, ?) AND u.recording <= ? AND rows NOTNULL AND done = 1"
            " ORDER BY u.recording, u.first LIMIT ?"
        )
        known: tuple[Recording, Header] | None = None
        while units := self._select(query, (*place, last, _UNITS)):
            for number, _, text in units:
                if known is None or known[0].id != number:
                    known = self.find(number)
                yield *known, json.loads(text)
            place = units[-1][:2]

    def problems(self) -> Iterator[dict[str, Any]]:
        """Yield the problems, as `Journal.problems` does."""
        place: tuple[Any, ...] = (0, -2, "")
        query = (
            "SELECT p.recording, first, kind, path, reason FROM problems p JOIN recordings r ON r.id = p.recording"
            " WHERE (p.recording, first, kind) > (?, ?, ?) ORDER BY p.recording, first, kind LIMIT ?"
        )
        while rows := self._select(query, (*place, _PORTION)):
            for number, first, kind, path, reason in rows:
                yield {"recording": number, "path": os.fsdecode(path), "window": first, "kind": kind, "reason": reason}
            place = rows[-1][:3]

    def find(self, number: int) -> tuple[Recording, Header]:
        """Return an opened recording by its number."""
        query = (
            "SELECT id, path, start, stop, size, modified, rate, first_frame, last_frame, begin_utc, clock"
            " FROM recordings WHERE id = ?"
        )
        ((_, path, start, stop, *header),) = self._select(query, (number,))
        return Recording(number, os.fsdecode(path), start, stop), Header(*header)
