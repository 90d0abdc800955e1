"""The results of a run in figures: classes over time of day and date, hours done, problems, most confident events.

Rows are read in portions, and what is kept of them grows with the classes and days, not with the rows. They come from
the tables or, where these are older than the journal or not written yet, from the journal.
"""

from __future__ import annotations

import csv
import heapq
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from l2i_fast.archive.settings import BatchSettings
from l2i_fast.archive.tables import PART, complete, events_schema
from l2i_fast.archive.view import Explained, JournalView
from l2i_fast.files import printable, write_whole
from l2i_fast.recording import import_optional

State: TypeAlias = Literal["finished", "running", "interrupted"]
Float64: TypeAlias = NDArray[np.float64]
#: Figures by day, counted from 1970-01-01 on, and hour of day (24,).
Days: TypeAlias = dict[int, Float64]

#: Most confident events that are kept of each class.
BEST = 25
#: Problems of each kind that are kept.
EXAMPLES = 5
#: Rows that are looked at together.
_ROWS = 1 << 16
#: Seconds after which a status file that says "running" is too old to believe.
_STALE = 60.0
#: Seconds of a quarter of an hour: no zone has changed its clocks within one since 1973.
_QUARTER = 900
#: The last quarter whose local time any zone can state.
_LAST_QUARTER = int(datetime(9999, 12, 30, tzinfo=UTC).timestamp()) // _QUARTER
_COLUMNS = (
    "recording", "recording_id", "start", "end", "start_utc", "label", "probability", "accepted", "kept", "sound",
)  # fmt: skip


class Event(NamedTuple):
    """The window of an event in which its class is most probable, the first one of several.

    Attributes
    ----------
    label : str
    probability : float
    recording : str
        Path as the tables state it.
    recording_id : int
    start, end : float
        Of the window in its file, in seconds.
    moment : int or None
        Of `start`, in microseconds since 1970; None if it is unknown.
    kept : float
        Share of the input's energy that the interpretation keeps.
    sound : str or None
        Path of its sound from the output folder on.
    """

    label: str
    probability: float
    recording: str
    recording_id: int
    start: float
    end: float
    moment: int | None
    kept: float
    sound: str | None


class ClassFigures(NamedTuple):
    """What was heard of a class.

    Attributes
    ----------
    label : str
    events : int
        Runs of successive accepted windows.
    windows : int
        Accepted ones.
    seconds : float
        That these windows cover.
    mean, highest : float
        Of the probabilities of these windows.
    days : int
        Dates on which a window begins; those of windows without clock times are unknown.
    """

    label: str
    events: int
    windows: int
    seconds: float
    mean: float
    highest: float
    days: int


@dataclass(frozen=True, eq=False)
class Summary:
    """A run in figures.

    Attributes
    ----------
    state : {"finished", "running", "interrupted"}
    facts : dict
        Of the journal: ``settings``, and ``model`` and ``directory``, where the last call found model and recordings.
    zone : str
        Zone of `hours` and `recorded`.
    recordings, opened : int
        Number of recordings, and of those that were opened.
    with_events : int
        Number of recordings with accepted windows.
    seconds, heard : float
        Of sound, in the opened recordings and in what is done.
    classes : list of ClassFigures
        Those with accepted windows, the most heard first.
    rejected : int
        Rows of windows that were explained for ``--explain-rejected``.
    unclocked : int
        Accepted windows without a clock time.
    hours : dict of str to dict of int to ndarray (24,)
        For each class, the accepted windows that begin on a day and in an hour.
    recorded : dict of int to ndarray (24,)
        Seconds of sound that were explained of a day and hour.
    best : dict of str to list of Event
        The `BEST` most confident events of each class, the most confident first.
    problems : dict of str to int
        Number of problems by kind.
    examples : dict of str to list of (str, str)
        The first `EXAMPLES` of each kind: recording and reason.
    """

    state: State
    facts: dict[str, Any]
    zone: str
    recordings: int
    opened: int
    with_events: int
    seconds: float
    heard: float
    classes: list[ClassFigures]
    rejected: int
    unclocked: int
    hours: dict[str, Days]
    recorded: Days
    best: dict[str, list[Event]]
    problems: dict[str, int]
    examples: dict[str, list[tuple[str, str]]]

    def most_confident(self, n: int) -> list[Event]:
        """Return the n most confident events of all classes, in the order of the recordings where they are equal."""
        events = [event for found in self.best.values() for event in found[:n]]
        return heapq.nsmallest(n, events, key=lambda e: (-e.probability, e.recording_id, e.start, e.label))

    @property
    def days(self) -> list[int]:
        """The days of which something is known, in order."""
        return sorted({*self.recorded, *(day for days in self.hours.values() for day in days)})


def summarize(folder: Path) -> Summary:
    """Return the figures of a run that has ended, or of what is done of one that goes on.

    Parameters
    ----------
    folder : Path
        Output of `l2i batch`; nothing in it is changed.

    Raises
    ------
    FileNotFoundError, ValueError
        No folder, or none with a journal that can be read.
    ImportError
        pyarrow is not installed.
    """
    pa = import_optional("pyarrow", "read tables")
    schema = pa.schema([events_schema().field(name) for name in _COLUMNS])
    with JournalView(folder) as view:
        status = _read_status(folder)
        settings = view.facts["settings"]
        zone = BatchSettings(timezone=settings["timezone"]).zone() or UTC
        clock = _Clock(zone)
        hop = settings["window"] - settings["overlap"]
        found = _Found(clock, hop)
        ended = status.get("state") in ("finished", "interrupted")
        counts = view.counts()
        for batch in _batches(view, folder, counts["recordings"], ended, schema):
            found.add(batch)
        heard, recorded = 0.0, defaultdict[int, Float64](lambda: np.zeros(24))
        for unit in view.explained():
            heard += unit.seconds
            if unit.begin_utc is not None:
                _add_recorded(recorded, unit, hop, clock)
        problems: Counter[str] = Counter()
        examples: dict[str, list[tuple[str, str]]] = {}
        for problem in view.problems():
            problems[problem["kind"]] += 1
            of_kind = examples.setdefault(problem["kind"], [])
            if len(of_kind) < EXAMPLES:
                of_kind.append((printable(problem["path"]), printable(problem["reason"])))
        finished = view.finished(1, counts["recordings"])
    state: State = "finished" if finished else "running" if _is_running(status) else "interrupted"
    classes = sorted((one.figures() for one in found.classes.values()), key=lambda c: (-c.seconds, c.label))
    return Summary(
        state, view.facts, settings["timezone"] or "UTC", counts["recordings"], counts["opened"], found.recordings,
        counts["seconds"], heard, classes, found.rejected, found.unclocked,
        {one.label: found.classes[one.label].days for one in classes}, dict(recorded),
        {one.label: found.classes[one.label].best() for one in classes}, dict(sorted(problems.items())), examples,
    )  # fmt: skip


def _read_status(folder: Path) -> dict[str, Any]:
    try:
        status = json.loads((folder / "status.json").read_text("utf-8"))
    except (OSError, ValueError):  # a run of less than a second has none
        return {}
    return status if isinstance(status, dict) else {}


def _is_running(status: dict[str, Any]) -> bool:
    """Return whether a run that is not finished goes on, as far as its status shows."""
    if status.get("state") != "running":
        return False
    if time.time() - status["time"] < _STALE:
        return True
    return Path(f"/proc/{status['pid']}").exists()  # a long recording without a sign of life, on this machine


def _batches(view: JournalView, folder: Path, last: int, ended: bool, schema: Any) -> Iterator[Any]:
    """Yield the rows in their order, as record batches of some columns.

    The tables say what the journal says if the run has `ended` in order, and if they are of recordings that are done.
    """
    pa = import_optional("pyarrow", "read tables")
    parquet = import_optional("pyarrow.parquet", "read tables")
    for part in range(-(-last // PART)):
        first = 1 + part * PART
        file = folder / "events" / f"part-{part:06d}.parquet"
        if ended and file.is_file() and view.finished(first, first + PART - 1):
            yield from parquet.ParquetFile(file).iter_batches(_ROWS, columns=list(_COLUMNS))
            continue
        rows: list[dict[str, Any]] = []
        for recording, header, found in view.rows(first, first + PART - 1):
            rows += complete(recording, header, found)
            if len(rows) >= _ROWS:
                yield from pa.Table.from_pylist(rows, schema).to_batches()
                rows = []
        yield from pa.Table.from_pylist(rows, schema).to_batches()


class _Clock:
    """From moments to days and hours of a zone."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._known: dict[int, tuple[int, int]] = {}

    def place(self, quarter: int) -> tuple[int, int]:
        """Return the day, counted from 1970-01-01 on, and the hour of a quarter of an hour since 1970."""
        if quarter not in self._known:
            stated = datetime.fromtimestamp(min(quarter, _LAST_QUARTER) * _QUARTER, UTC).astimezone(self._zone)
            offset = stated.utcoffset()
            assert offset is not None
            hour = (quarter * _QUARTER + int(offset.total_seconds())) // 3600
            self._known[quarter] = hour // 24, hour % 24
        return self._known[quarter]


def _add_recorded(recorded: Days, unit: Explained, hop: float, clock: _Clock) -> None:
    assert unit.begin_utc is not None
    begin = unit.begin_utc / 1_000_000 + unit.before + unit.first * hop
    end = begin + unit.seconds
    for quarter in range(int(begin // _QUARTER), int(end // _QUARTER) + 1):
        day, hour = clock.place(quarter)
        recorded[day][hour] += max(0.0, min(end, (quarter + 1) * _QUARTER) - max(begin, quarter * _QUARTER))


class _Found:
    """What was found so far, of rows in their order."""

    def __init__(self, clock: _Clock, hop: float) -> None:
        self._clock, self._hop = clock, hop
        self.classes: dict[str, _Class] = {}
        self.rejected = self.unclocked = self.recordings = 0
        self._last_recording = 0

    def add(self, batch: Any) -> None:
        """Add rows: a record batch with `_COLUMNS`."""
        pc = import_optional("pyarrow.compute", "read tables")
        accepted = batch.filter(batch["accepted"])
        self.rejected += len(batch) - len(accepted)
        if not len(accepted):
            return
        starts, ends, probabilities = (accepted[name].to_numpy() for name in ("start", "end", "probability"))
        recordings = accepted["recording_id"].to_numpy()
        self.recordings += len(np.unique(recordings)) - int(recordings[0] == self._last_recording)
        self._last_recording = int(recordings[-1])
        moments = accepted["start_utc"].cast("int64")
        self.unclocked += moments.null_count
        clocked = pc.is_valid(moments).to_numpy(zero_copy_only=False)
        quarters = pc.fill_null(moments, 0).to_numpy() // (_QUARTER * 1_000_000)
        labels = pc.dictionary_encode(accepted["label"])
        codes = labels.indices.to_numpy()
        for code in np.unique(codes):
            label = labels.dictionary[int(code)].as_py()
            places = np.flatnonzero(codes == code)
            one = self.classes.setdefault(label, _Class(label, self._hop))

            def event(i: int, label: str = label, places: NDArray[Any] = places) -> Event:
                place = int(places[i])
                row = {name: accepted[name][place].as_py() for name in Event._fields if name != "moment"}
                return Event(**row, moment=moments[place].as_py())

            one.add(recordings[places], starts[places], ends[places], probabilities[places], event)
            for quarter, n in zip(*np.unique(quarters[places[clocked[places]]], return_counts=True), strict=True):
                day, hour = self._clock.place(int(quarter))
                one.days[day][hour] += n


@dataclass
class _Class:
    """What was found of a class so far."""

    label: str
    hop: float
    days: Days = field(default_factory=lambda: defaultdict(lambda: np.zeros(24)))
    events: int = 0
    windows: int = 0
    seconds: float = 0.0
    total: float = 0.0
    highest: float = 0.0
    #: Recording, start and end of the last window.
    last: tuple[int, float, float] = (0, 0.0, 0.0)
    #: The best window of the event that the last window belongs to, if it is among the best ones.
    open: Event | None = None
    #: Events that were closed, and the best ones of them.
    closed: int = 0
    heap: list[tuple[float, int, Event]] = field(default_factory=list)

    def add(
        self,
        recordings: NDArray[np.int64],
        starts: Float64,
        ends: Float64,
        probabilities: Float64,
        event: Callable[[int], Event],
    ) -> None:
        """Add accepted windows (N,) in their order; `event` returns one of them."""
        before = self.last
        same = recordings == np.r_[before[0], recordings[:-1]]
        # A window begins a hop after the one before, or less if it is the last one; starts have nine digits.
        steps = starts - np.r_[before[1], starts[:-1]]
        begins = ~same | (steps > self.hop + 0.001 + 1e-8 * starts)
        uncovered = np.where(same, np.maximum(starts, np.r_[before[2], ends[:-1]]), starts)
        self.last = int(recordings[-1]), float(starts[-1]), float(ends[-1])
        self.seconds += float(np.sum(ends - uncovered))
        self.events += int(begins.sum())
        self.windows += len(starts)
        self.total += float(probabilities.sum())
        self.highest = max(self.highest, float(probabilities.max()))
        bounds = np.r_[0, 1 + np.flatnonzero(begins[1:]), len(starts)]
        tops = np.maximum.reduceat(probabilities, bounds[:-1])
        for i, top in enumerate(tops):
            first = int(bounds[i])
            if begins[first]:
                self._close()
            if top > (self._lowest() if self.open is None else self.open.probability):
                self.open = event(first + int(np.argmax(probabilities[first : bounds[i + 1]])))

    def _lowest(self) -> float:
        """Return the probability above which an event is among the best ones."""
        return self.heap[0][0] if len(self.heap) == BEST else -1.0

    def _close(self) -> None:
        """End the event that the last window belongs to."""
        if self.open is not None:
            self.closed += 1
            entry = self.open.probability, -self.closed, self.open  # of equal ones, the first is the best
            (heapq.heappush if len(self.heap) < BEST else heapq.heappushpop)(self.heap, entry)
            self.open = None

    def best(self) -> list[Event]:
        """Return the most confident events, the most confident first."""
        self._close()
        return [event for *_, event in sorted(self.heap, reverse=True)]

    def figures(self) -> ClassFigures:
        mean = self.total / self.windows
        return ClassFigures(self.label, self.events, self.windows, self.seconds, mean, self.highest, len(self.days))


def write_tables(summary: Summary, folder: Path, target: Path) -> list[Path]:
    """Write a summary as CSV files, each whole or not at all; return them.

    ``classes.csv``
        A row for each class: see `ClassFigures`; hours instead of seconds.
    ``hours.csv``, ``dates.csv``
        A row for each hour of day, or for each date of which something is known, of the summary's zone: the hours of
        sound that were explained of it, and for each class the accepted windows that begin in it.
    ``best.csv``
        The most confident events of each class: see `Event`.
    ``errors.csv``
        The problems of the run's journal.

    Parameters
    ----------
    summary : Summary
    folder : Path
        Output of the run.
    target : Path
        Folder of the files.
    """
    labels = [one.label for one in summary.classes]
    none = np.zeros(24)
    by_hour = {label: sum(days.values(), none) for label, days in summary.hours.items()}
    recorded = sum(summary.recorded.values(), none)

    def counts(name: str, rows: Iterable[tuple[Any, float, list[float]]]) -> Iterator[list[Any]]:
        yield [name, "recorded_hours", *labels]
        for key, seconds, numbers in rows:
            yield [key, _number(seconds / 3600), *map(int, numbers)]

    tables: dict[str, Iterable[list[Any]]] = {
        "classes": _class_rows(summary),
        "hours": counts("hour", ((h, recorded[h], [by_hour[label][h] for label in labels]) for h in range(24))),
        "dates": counts(
            "date",
            (
                (
                    date_of(day),
                    float(summary.recorded.get(day, none).sum()),
                    [float(summary.hours[label].get(day, none).sum()) for label in labels],
                )
                for day in summary.days
            ),
        ),
        "best": _best_rows(summary),
        "errors": _error_rows(folder),
    }
    for name, rows in tables.items():
        write_whole(target / f"{name}.csv", lambda p, rows=rows: _write_csv(p, rows))  # type: ignore[misc]
    return [target / f"{name}.csv" for name in tables]


def _class_rows(summary: Summary) -> Iterator[list[Any]]:
    yield ["class", "events", "windows", "hours", "mean_probability", "highest_probability", "days"]
    for one in summary.classes:
        hours, mean = _number(one.seconds / 3600), _number(one.mean)
        yield [one.label, one.events, one.windows, hours, mean, one.highest, one.days]


def _best_rows(summary: Summary) -> Iterator[list[Any]]:
    yield ["class", "rank", *(name if name != "moment" else "start_utc" for name in Event._fields[1:])]
    for label, events in summary.best.items():
        for rank, event in enumerate(events, 1):
            values = event._asdict()
            if event.moment is not None:
                values["moment"] = f"{np.datetime64(event.moment, 'us')}Z"
            yield [label, rank, *(values[name] for name in Event._fields[1:])]


def _error_rows(folder: Path) -> Iterator[list[Any]]:
    yield ["kind", "recording", "recording_id", "window", "reason"]
    with JournalView(folder) as view:
        for problem in view.problems():
            window = "" if problem["window"] < 0 else problem["window"]
            path, reason = printable(problem["path"]), printable(problem["reason"])
            yield [problem["kind"], path, problem["recording"], window, reason]


def _write_csv(file: Path, rows: Iterable[list[Any]]) -> None:
    with open(file, "w", newline="", encoding="utf-8") as text:
        csv.writer(text).writerows(rows)


def _number(value: float) -> float:
    return float(f"{value:.9g}")


def date_of(day: int) -> str:
    """Return the date of a day that is counted from 1970-01-01 on."""
    return str(np.datetime64(day, "D"))
