"""A run over an archive: recordings are opened, shared among workers, and written down; it goes on where it stopped."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import tzinfo
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from l2i_fast.archive.clock import find_start
from l2i_fast.archive.executors import Executor
from l2i_fast.archive.exports import export
from l2i_fast.archive.journal import Header, Journal, Problem, Recording
from l2i_fast.archive.samples import length_at
from l2i_fast.archive.settings import Export
from l2i_fast.archive.tables import PART, write_errors, write_events
from l2i_fast.archive.windows import Grid
from l2i_fast.archive.work import Job, Outcome, Unit, problem_of
from l2i_fast.files import PARTIAL, write_whole
from l2i_fast.recording import RecordingFile
from l2i_fast.settings import Analysis
from l2i_fast.stores import is_url, open_bytes, version_of

#: Windows of a unit: some minutes of sound, so that several workers share a long recording.
_WINDOWS = 96
#: Windows, and units, that a worker gets at a time.
_TASK_WINDOWS, _TASK_UNITS = 32, 16
#: Seconds between commits, and between status files.
_COMMIT, _STATUS = 1.0, 5.0
#: Recordings that are opened ahead of the work.
_OPENERS = 4


class Progress(NamedTuple):
    """How far a run is.

    Attributes
    ----------
    recordings, opened : int
        Number of recordings, and of those whose length is known.
    done : int
        Number of finished units, of `units` known ones.
    units : int
    seconds : float
        Sound of the opened recordings.
    heard : float
        Sound of the finished units.
    problems : int
        Recordings and units that gave nothing, or less than they should.
    events : int
        Rows of accepted windows in this call.
    speed : float
        Seconds of sound per second in this call.
    left : float or None
        Estimated seconds to the end, from the recordings opened so far; None where nothing is finished yet.
    """

    recordings: int
    opened: int
    done: int
    units: int
    seconds: float
    heard: float
    problems: int
    events: int
    speed: float
    left: float | None


class Run:
    """What a journal lists and is not done: iterating over it does it, and yields what comes out of each unit.

    At the end, and where the iteration ends early, the tables of what is finished are written.

    Parameters
    ----------
    journal : Journal
    job : Job
    analysis : Analysis
        Of the model.
    executor : Executor
        Entered if anything is to be done.
    zone : tzinfo, optional
        Of clocks that state none.
    exports : sequence of str
        See `export`; written when all is done.
    report : callable, optional
        Receives the progress about once a second.

    Raises
    ------
    OSError
        The results cannot be written; what was finished is kept.
    """

    def __init__(
        self,
        journal: Journal,
        job: Job,
        analysis: Analysis,
        executor: Executor,
        zone: tzinfo | None = None,
        exports: Sequence[Export] = (),
        report: Callable[[Progress], None] | None = None,
    ) -> None:
        self.journal, self.job, self.analysis, self.executor, self.zone = journal, job, analysis, executor, zone
        self.exports, self.report = exports, report
        self.began = self.committed = time.monotonic()
        self.told = 0.0
        self.events, self.heard = 0, 0.0
        self.changed: set[int] = set()  # parts of the table of events that are not written yet

    def __iter__(self) -> Iterator[Outcome]:
        try:
            try:
                yield from self._work()
            finally:
                self._write_tables()
        except sqlite3.OperationalError as error:  # a full disk
            raise OSError(f"{self.job.folder}/journal.sqlite cannot be written: {error}") from error
        for kind in self.exports:
            export(self.journal, self.job.folder, kind)

    def _work(self) -> Iterator[Outcome]:
        pending = {recording.id for recording in self.journal.unopened()}
        self._remove_unfinished(pending | {recording.id for recording, *_ in self.journal.undone()})
        self._note_changes()
        tasks = self._tasks()
        first = next(tasks, None)
        if first is None:
            return
        deaths: Counter[tuple[int, int]] = Counter()
        try:
            with self.executor as executor:
                yield from self._share(chain([first], tasks), executor, deaths)
        finally:
            self._remove_unfinished({recording for recording, _ in deaths})

    def _share(
        self, tasks: Iterator[list[Unit]], executor: Executor, deaths: Counter[tuple[int, int]]
    ) -> Iterator[Outcome]:
        """Give tasks to the executor as it takes them; count the deaths of workers that had a unit, by its place."""
        suspects: deque[Unit] = deque()
        under_way = 0
        following = next(tasks, None)
        while under_way or suspects or following is not None:
            while suspects and executor.takes(alone=True):
                executor.submit([suspects.popleft()], alone=True)
                under_way += 1
            while following is not None and not suspects and executor.takes():
                executor.submit(following)
                under_way += 1
                following = next(tasks, None)
            for task, outcomes in executor.wait(_COMMIT):
                under_way -= 1
                for outcome in outcomes or ():
                    yield self._take(outcome)
                for unit in task if outcomes is None else ():
                    # A worker died with this unit, or with one beside it: each is done again, and now alone.
                    place = (unit.recording.id, unit.first)
                    deaths[place] += 1
                    if deaths[place] <= 2:
                        suspects.append(unit)
                        continue
                    reason = f"{unit.recording.path} ended the process that read it, twice"
                    yield self._take(Outcome(*place, [], 0.0, [Problem("crashed", reason, again=True)]))
            self._tick()

    def _take(self, outcome: Outcome) -> Outcome:
        self.journal.finish(outcome.recording, outcome.first, outcome.rows, outcome.seconds)
        for problem in outcome.problems:
            self.journal.note(outcome.recording, problem, outcome.first)
        self.events += sum(row["accepted"] for row in outcome.rows)
        self.heard += outcome.seconds
        self.changed.add((outcome.recording - 1) // PART)
        return outcome

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self.committed < _COMMIT:
            return
        self.journal.commit()
        self.committed = now
        progress = self.progress()
        if self.report is not None:
            self.report(progress)
        if now - self.told >= _STATUS:
            self.told = now
            self._write_status(progress, "running")

    def progress(self) -> Progress:
        """Return how far the run is."""
        counts = self.journal.counts()
        speed = self.heard / max(1e-9, time.monotonic() - self.began)
        total = counts["seconds"] * counts["recordings"] / max(1, counts["opened"])
        left = max(0.0, total - counts["heard"]) / speed if speed else None
        return Progress(
            counts["recordings"], counts["opened"], counts["done"], counts["units"], counts["seconds"],
            counts["heard"], counts["problems"], self.events, speed, left,
        )  # fmt: skip

    def _write_status(self, progress: Progress, state: str) -> None:
        """Write status.json, for those who watch the run."""
        text = json.dumps({"state": state, "time": time.time(), "pid": os.getpid(), **progress._asdict()})
        write_whole(self.job.folder / "status.json", lambda p: p.write_text(text + "\n"))

    def _write_tables(self) -> None:
        """Write the tables of what is finished, and commit."""
        self.journal.commit()
        last = self.journal.counts()["recordings"]
        for part in range(-(-last // PART)):
            first = 1 + part * PART
            written = (self.job.folder / "events" / f"part-{part:06d}.parquet").exists()
            if (part in self.changed or not written) and self.journal.finished(first, first + PART - 1):
                write_events(self.journal, self.job.folder, first)
        write_errors(self.journal, self.job.folder)
        finished = self.journal.finished(1, last)
        self._write_status(self.progress(), "finished" if finished else "interrupted")

    def _remove_unfinished(self, recordings: set[int]) -> None:
        """Remove the unfinished files that a run that was killed, or workers that died, have left behind."""
        root = self.job.folder
        places = [root, *(root / name for name in ("events", "errors", "export", "export/raven", "export/audacity"))]
        for folder in (root / "sound").glob("*") if recordings else ():
            number = folder.name.partition("-")[0]
            if number.isdecimal() and int(number) in recordings:
                places += folder.glob("*")
        for place in places:
            for path in place.glob(f"{PARTIAL}*"):
                path.unlink(missing_ok=True)

    def _note_changes(self) -> None:
        """Note recordings that are not those that an earlier call has opened; their results are left as they are."""
        for recording, size, modified in self.journal.opened():
            if is_url(recording.path):
                continue  # a request for each would take hours; parts that are not done are looked at when read
            try:
                found = version_of(recording.path)
            except OSError:
                continue  # what is done needs it no more, and what is not will say so
            if found != (size, modified):
                reason = f"{recording.path} has changed since it was opened: its results are those of what it was"
                self.journal.note(recording.id, Problem("changed", reason))

    def _tasks(self) -> Iterator[list[Unit]]:
        """Yield what is to be done, in portions for a worker."""
        task: list[Unit] = []
        windows = 0
        for unit in self._units():
            task.append(unit)
            windows += _WINDOWS if unit.last is None else unit.last - unit.first + 1
            if windows >= _TASK_WINDOWS or len(task) >= _TASK_UNITS:
                yield task
                task, windows = [], 0
        if task:
            yield task

    def _units(self) -> Iterator[Unit]:
        for recording, header, first, last in self.journal.undone():
            yield Unit(recording, header, first, last)
        grid = self.job.grid(self.analysis)
        for recording, opened in self._opened():
            if isinstance(opened, Problem):
                self.journal.note(recording.id, opened)
                self.changed.add((recording.id - 1) // PART)
                continue
            header, seeks = opened
            units = split(header, seeks, grid, self.analysis.sample_rate)
            self.journal.open(recording.id, header, units)
            for first, last in units:
                yield Unit(recording, header, first, last)

    def _opened(self) -> Iterator[tuple[Recording, tuple[Header, bool] | Problem]]:
        """Open recordings ahead of the work; yield what each shows, in order."""
        with ThreadPoolExecutor(_OPENERS) as pool:
            waiting: list[tuple[Recording, Future[tuple[Header, bool] | Problem]]] = []
            try:
                for recording in self.journal.unopened():
                    waiting.append((recording, pool.submit(open_recording, recording, self.zone)))
                    if len(waiting) > 8 * _OPENERS:
                        first, future = waiting.pop(0)
                        yield first, future.result()
                for first, future in waiting:
                    yield first, future.result()
            finally:
                pool.shutdown(cancel_futures=True)


def open_recording(recording: Recording, zone: tzinfo | None) -> tuple[Header, bool] | Problem:
    """Return the header of a recording and whether it can be read in parts, or why it cannot be read."""
    path = recording.path
    try:
        version = version_of(path)
        with open_bytes(path) as plain:
            clock = find_start(Path(path).name, plain, zone)
        with RecordingFile(path) as file:
            rate, frames, seeks = file.rate, file.frames, file.seeks
        first = round(recording.start * rate)
        last = None if recording.stop is None else round(recording.stop * rate)
        if frames is not None:
            last = frames if last is None else min(last, frames)
            if first >= last:
                if not frames:
                    return Problem("empty", f"{path} has no samples")
                return Problem("empty", f"{path} ends after {frames / rate:.3f} s, before {recording.start:g} s")
    except Exception as error:
        return problem_of(error, path)
    moment = None if clock is None else round(clock.start.timestamp() * 1_000_000)
    source = "" if clock is None else clock.source
    return Header(*version, rate, first, last, moment, source), seeks


def split(header: Header, seeks: bool, grid: Grid, sample_rate: int) -> list[tuple[int, int | None]]:
    """Return the units of a recording: first and last window of each, or one of all windows."""
    if header.last_frame is None or not seeks:
        return [(0, None)]
    count = grid.count(length_at(header.last_frame - header.first_frame, header.rate, sample_rate))
    # The last unit has two windows or more: its last window, which begins earlier than the grid says, may overlap two.
    starts = range(0, max(1, count - 1), _WINDOWS)
    return [(first, (first + _WINDOWS if first + _WINDOWS in starts else count) - 1) for first in starts]
