"""The journal of a run over an archive: what is to be done, what is done, and what came out, in one SQLite file.

One process writes it. What `commit` has promised survives a crash of the process and of the machine; whatever was not
promised is done again and gives the same answer, so that tables made from the journal do not show interruptions.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

from l2i_fast.archive.inputs import Entry

#: Version of the tables and of the journal.
VERSION = 1
_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE recordings (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL, start REAL NOT NULL, stop REAL,
    size INTEGER, modified INTEGER, rate INTEGER, first_frame INTEGER, last_frame INTEGER, seconds REAL,
    begin_utc INTEGER, clock TEXT, opened INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX entries ON recordings (path, start, ifnull(stop, -1));
CREATE INDEX unopened ON recordings (opened);
CREATE TABLE units (
    recording INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER,
    done INTEGER NOT NULL DEFAULT 0, seconds REAL, rows TEXT, PRIMARY KEY (recording, first)
) WITHOUT ROWID;
CREATE INDEX undone ON units (done);
CREATE TABLE problems (
    recording INTEGER NOT NULL, first INTEGER NOT NULL DEFAULT -1, kind TEXT NOT NULL, reason TEXT NOT NULL,
    again INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (recording, first, kind)
) WITHOUT ROWID;
"""


class Recording(NamedTuple):
    """A recording of the journal: see `l2i_fast.archive.inputs.Entry`.

    Attributes
    ----------
    id : int
        Its place in the order of the inputs.
    path : str
    start : float
        Beginning of the part to read, in seconds.
    stop : float or None
    """

    id: int
    path: str
    start: float
    stop: float | None


class Header(NamedTuple):
    """What opening a recording shows.

    Attributes
    ----------
    size, modified : int
        Of the file, in bytes and in ns since 1970.
    rate : int
        Hz.
    first_frame : int
        Beginning of the part to read.
    last_frame : int or None
        Its end; None if only reading shows it.
    begin_utc : int or None
        Moment of the file's first sample in microseconds since 1970.
    clock : str
        Where that is stated; empty if unknown.
    """

    size: int
    modified: int
    rate: int
    first_frame: int
    last_frame: int | None
    begin_utc: int | None
    clock: str


class Problem(NamedTuple):
    """Why a recording, or a part of it, gave nothing.

    Attributes
    ----------
    kind : str
        "missing", "unreadable", "damaged", "incomplete", "empty", "silent", "short", "not finite", "changed" or
        "crashed".
    reason : str
    again : bool
        Whether the next run tries again: the reason may lie outside the recording.
    """

    kind: str
    reason: str
    again: bool = False


class Journal:
    """The journal in a folder; a context in which no other process can have it.

    Parameters
    ----------
    folder : Path
        Made if missing.
    settings : mapping
        What decides on the results, as JSON can write it; another run's must be the same.
    notes : mapping, optional
        What does not decide on them, such as where the model lies; those of the last call are kept.

    Raises
    ------
    BlockingIOError
        Another process has it.
    ValueError
        It is of other settings, or the file is no journal, or the folder holds something else.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], notes: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BlockingIOError(
                    f"{folder} is in use by another run: wait for its end, or choose another folder"
                ) from None
            file = folder / "journal.sqlite"
            if not file.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
                raise ValueError(f"{folder} holds other files, but must be empty or hold a run of l2i batch")
            self._database = sqlite3.connect(file)
            stack.callback(self._database.close)
            self._open(file, json.loads(json.dumps(settings)))
            self._note(notes or {})
            self._stack = stack.pop_all()

    def _open(self, file: Path, settings: dict[str, Any]) -> None:
        facts = {"version": VERSION, "settings": settings}
        try:
            self._database.execute("PRAGMA synchronous = FULL")
            names = {name for (name,) in self._database.execute("SELECT name FROM sqlite_master")}
            if not names:
                with self._database:
                    self._database.executescript(f"BEGIN; {_TABLES}")
                    rows = [(name, json.dumps(value)) for name, value in facts.items()]
                    self._database.executemany("INSERT INTO facts VALUES (?, ?)", rows)
                return
            found = {name: json.loads(value) for name, value in self._database.execute("SELECT * FROM facts")}
        except (sqlite3.DatabaseError, ValueError) as error:
            raise ValueError(
                f"{file} is no journal of l2i batch, or damaged ({error}): choose another folder"
            ) from None
        if found.get("version") != VERSION:
            version = found.get("version")
            raise ValueError(f"{file} has version {version}, but this release reads {VERSION}: choose another folder")
        before = found["settings"]
        differing = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
        if differing and self._holds_nothing():  # a call that failed before it began
            with self._database:
                for table in ("recordings", "units", "problems"):
                    self._database.execute(f"DELETE FROM {table}")
                self._database.execute("UPDATE facts SET value = ? WHERE name = 'settings'", [json.dumps(settings)])
        elif differing:
            changes = ", ".join(f"{name} {before.get(name)}, not {settings.get(name)}" for name in differing)
            raise ValueError(f"{self.folder} holds a run with other settings ({changes}): choose another folder")

    def _holds_nothing(self) -> bool:
        """Tell whether nothing has come out of this run yet."""
        written = any((self.folder / name).exists() for name in ("events", "sound"))
        return not written and self._database.execute("SELECT 1 FROM units WHERE done LIMIT 1").fetchone() is None

    def _note(self, notes: Mapping[str, Any]) -> None:
        rows = [(name, json.dumps(value)) for name, value in notes.items()]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def commit(self) -> None:
        """Promise what was written so far."""
        self._database.commit()

    def add(self, entries: Iterable[Entry]) -> None:
        """Add recordings that are not known yet, in their order, and commit."""
        self._database.executemany(
            "INSERT OR IGNORE INTO recordings (path, start, stop) VALUES (?, ?, ?)",
            ((os.fsencode(path), start, stop) for path, start, stop in entries),
        )
        # What failed for reasons outside the recordings is tried again.
        self._database.execute(
            "UPDATE recordings SET opened = 0 WHERE id IN (SELECT recording FROM problems WHERE again AND first < 0)"
        )
        self._database.execute(
            "UPDATE units SET done = 0 WHERE (recording, first) IN (SELECT recording, first FROM problems WHERE again)"
        )
        self._database.execute("DELETE FROM problems WHERE again")
        self.commit()

    def unopened(self) -> Iterator[Recording]:
        """Yield the recordings that have not been opened yet, in order."""
        last = 0
        query = "SELECT id, path, start, stop FROM recordings WHERE opened = 0 AND id > ? ORDER BY id LIMIT 256"
        while rows := self._database.execute(query, (last,)).fetchall():
            yield from map(_recording, rows)
            last = rows[-1][0]

    def opened(self) -> Iterator[tuple[Recording, int, int]]:
        """Yield the recordings that were opened before, with the size and the time of change of each."""
        rows = self._database.execute("SELECT id, path, start, stop, size, modified FROM recordings WHERE size NOTNULL")
        for *recording, size, modified in rows.fetchall():
            yield _recording(recording), size, modified

    def open(self, recording: int, header: Header, units: Sequence[tuple[int, int | None]]) -> None:
        """Note what opening a recording has shown, and its units: first and last window, None for all that follow."""
        seconds = None if header.last_frame is None else (header.last_frame - header.first_frame) / header.rate
        self._database.execute(
            "UPDATE recordings SET opened = 1, size = ?, modified = ?, rate = ?, first_frame = ?, last_frame = ?,"
            " begin_utc = ?, clock = ?, seconds = ? WHERE id = ?",
            (*header, seconds, recording),
        )
        self._database.executemany(
            "INSERT OR IGNORE INTO units (recording, first, last) VALUES (?, ?, ?)",
            [(recording, *unit) for unit in units],
        )

    def undone(self) -> Iterator[tuple[Recording, Header, int, int | None]]:
        """Yield the units that are not done, in order: recording, header, first and last window."""
        last = (0, -1)
        query = (
            "SELECT u.recording, path, start, stop, size, modified, rate, first_frame, last_frame, begin_utc, clock,"
            " u.first, u.last FROM units u JOIN recordings r ON r.id = u.recording"
            " WHERE u.done = 0 AND (u.recording, u.first) > (?, ?) ORDER BY u.recording, u.first LIMIT 256"
        )
        while rows := self._database.execute(query, last).fetchall():
            for row in rows:
                yield _recording(row[:4]), Header(*row[4:11]), row[11], row[12]
            last = (rows[-1][0], rows[-1][11])

    def finish(self, recording: int, first: int, rows: Sequence[Mapping[str, Any]], seconds: float) -> None:
        """Note the rows of a unit, and the seconds of sound that it covers."""
        text = json.dumps(rows) if rows else None
        self._database.execute(
            "UPDATE units SET done = 1, rows = ?, seconds = ? WHERE recording = ? AND first = ?",
            (text, seconds, recording, first),
        )

    def note(self, recording: int, problem: Problem, first: int = -1) -> None:
        """Note a problem of a recording, or of the unit that begins with window `first`; its unit counts as done."""
        self._database.execute("INSERT OR REPLACE INTO problems VALUES (?, ?, ?, ?, ?)", (recording, first, *problem))
        if first < 0:
            self._database.execute("UPDATE recordings SET opened = 1 WHERE id = ?", (recording,))

    def counts(self) -> dict[str, Any]:
        """Return numbers of recordings, opened ones, units, done ones and problems, and of seconds, known and done."""
        (recordings, opened, known), (units, done, heard), (problems,) = (
            self._database.execute(query).fetchone()
            for query in (
                "SELECT count(*), coalesce(sum(opened), 0), coalesce(sum(seconds), 0) FROM recordings",
                "SELECT count(*), coalesce(sum(done), 0), coalesce(sum(seconds), 0) FROM units",
                "SELECT count(*) FROM problems",
            )
        )
        return {
            "recordings": recordings, "opened": opened, "seconds": known, "units": units, "done": done, "heard": heard,
            "problems": problems,
        }  # fmt: skip

    def problems(self) -> Iterator[dict[str, Any]]:
        """Yield the problems, in the order of the recordings."""
        query = (
            "SELECT p.recording, path, first, kind, reason FROM problems p JOIN recordings r ON r.id = p.recording"
            " ORDER BY p.recording, first, kind"
        )
        for recording, path, first, kind, reason in self._database.execute(query):
            yield {"recording": recording, "path": os.fsdecode(path), "window": first, "kind": kind, "reason": reason}

    def rows(self, first: int, last: int) -> Iterator[tuple[Recording, Header, list[dict[str, Any]]]]:
        """Yield the rows of the units of recordings `first` to `last`, unit by unit in their order."""
        query = (
            "SELECT r.id, path, start, stop, size, modified, rate, first_frame, last_frame, begin_utc, clock, rows"
            " FROM units u JOIN recordings r ON r.id = u.recording"
            " WHERE rows NOTNULL AND r.id BETWEEN ? AND ? ORDER BY r.id, u.first"
        )
        for row in self._database.execute(query, (first, last)):
            yield _recording(row[:4]), Header(*row[4:11]), json.loads(row[11])

    def find(self, number: int) -> tuple[Recording, Header]:
        """Return an opened recording by its number."""
        query = (
            "SELECT id, path, start, stop, size, modified, rate, first_frame, last_frame, begin_utc, clock"
            " FROM recordings WHERE id = ?"
        )
        row = self._database.execute(query, (number,)).fetchone()
        return _recording(row[:4]), Header(*row[4:])

    def finished(self, first: int, last: int) -> bool:
        """Return whether nothing is left to do in recordings `first` to `last`."""
        query = (
            "SELECT EXISTS (SELECT 1 FROM recordings WHERE opened = 0 AND id BETWEEN ? AND ?)"
            " OR EXISTS (SELECT 1 FROM units WHERE done = 0 AND recording BETWEEN ? AND ?)"
        )
        (left,) = self._database.execute(query, (first, last) * 2).fetchone()
        return not left

    def durations(self) -> Iterator[tuple[int, str, float]]:
        """Yield number, path and seconds of the recordings, in order; those of unknown length count what was heard."""
        query = (
            "SELECT r.id, path, coalesce(r.seconds, (SELECT sum(seconds) FROM units WHERE recording = r.id), 0)"
            " FROM recordings r ORDER BY r.id"
        )
        for number, path, seconds in self._database.execute(query):
            yield number, os.fsdecode(path), seconds


def _recording(row: Sequence[Any]) -> Recording:
    number, path, start, stop = row
    return Recording(number, os.fsdecode(path), start, stop)
