"""Summaries: their figures are those that pandas finds, from tables and from the journal, beside a run or after it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from l2i_fast.archive import plots as plots_module
from l2i_fast.archive import summary as summary_module
from l2i_fast.archive.journal import Problem
from l2i_fast.archive.plots import write_plots
from l2i_fast.archive.summary import Summary, date_of, summarize, write_tables
from l2i_fast.archive.tables import PART, write_events
from l2i_fast.archive.view import JournalView

from ..helpers import refused
from .support import HOP, WINDOW, made_up, made_up_settings, row_of

LABELS = ["dog", "rain", "clock tick"]
#: The clocks of Berlin and of Lord Howe, by half an hour, change within two weeks of this.
NEAR = pd.Timestamp("2024-03-31T00:00Z").value // 1000


class Archive(NamedTuple):
    """A made-up run, and its accepted windows and the moments of its sound for pandas."""

    recordings: list[tuple[str, int | None, list[tuple[int, float, list[dict[str, Any]]]]]]
    windows: pd.DataFrame
    #: Every quarter of a second, in microseconds since 1970.
    moments: list[int]


def archive_of(rng: np.random.Generator) -> Archive:
    recordings: list[Any] = []
    found: list[dict[str, Any]] = []
    moments: list[int] = []
    for number in range(1, int(rng.integers(1, 7)) + 1):
        begin = None if rng.random() < 0.3 else NEAR + int(rng.integers(-40, 40) * 21_600_000_000 - 8_000_000)
        n, units = int(rng.integers(1, 30)), []
        for first in range(0, n, 8):
            count = min(8, n - first)
            rows = []
            for i in range(first, first + count):
                start = i * HOP - (0.5 if 0 < i == n - 1 else 0)  # the last one ends with the recording
                for label in LABELS:
                    if rng.random() < 0.5:
                        p = float(rng.choice([0.45, 0.5, 0.75, 0.875, 1.0]))
                        rows.append(row_of(label, start, p, p >= 0.5))
                        moment = None if begin is None else begin + round(start * 1e6)
                        found.append(rows[-1] | {"recording_id": number, "window": i, "moment": moment})
            units.append((first, count * HOP, rows))
            if begin is not None:
                moments += [begin + round(first * HOP * 1e6) + 250_000 * i for i in range(3 * count)]
        recordings.append((f"in/{number}.wav", begin, units))
    columns = ["label", "start", "probability", "accepted", "recording_id", "window", "moment"]
    windows = pd.DataFrame(found, columns=columns)
    return Archive(recordings, windows[windows["accepted"].astype(bool)].copy(), moments)


def check(found: Summary, archive: Archive, zone: str) -> None:
    """Compare a summary with what pandas makes of the windows."""
    frame = archive.windows.sort_values(["label", "recording_id", "window"])
    gap = frame.groupby(["label", "recording_id"])["window"].diff()
    frame["event"] = (gap != 1).cumsum()
    assert {one.label for one in found.classes} == set(frame["label"])
    assert found.with_events == frame["recording_id"].nunique()
    assert found.unclocked == frame["moment"].isna().sum()
    local = pd.to_datetime(frame["moment"] * 1000, utc=True).dt.tz_convert(zone)
    frame["day"], frame["hour"] = local.dt.date.map(str), local.dt.hour
    for one in found.classes:
        mine = frame[frame["label"] == one.label]
        assert one.windows == len(mine)
        assert one.events == mine["event"].nunique()
        assert one.mean == pytest.approx(mine["probability"].mean())
        assert one.highest == mine["probability"].max()
        covered = {
            (row.recording_id, quarter)
            for row in mine.itertuples()
            for quarter in range(round(row.start * 4), round((row.start + WINDOW) * 4))
        }
        assert one.seconds == pytest.approx(len(covered) / 4)
        clocked = mine.dropna(subset="moment")
        assert one.days == clocked["day"].nunique()
        counts = {
            (date_of(day), hour): int(n)
            for day, hours in found.hours[one.label].items()
            for hour, n in enumerate(hours)
            if n
        }
        assert counts == clocked.groupby(["day", "hour"]).size().to_dict()
        tops = mine.loc[mine.groupby("event", sort=False)["probability"].idxmax()]
        tops = tops.sort_values(["probability", "recording_id", "start"], ascending=[False, True, True]).head(3)
        best = [(e.probability, e.recording_id, e.start, e.moment) for e in found.best[one.label]]
        wanted = tops[["probability", "recording_id", "start", "moment"]].astype(object)
        assert best == list(wanted.where(wanted.notna(), None).itertuples(index=False, name=None))
    assert [one.seconds for one in found.classes] == sorted((one.seconds for one in found.classes), reverse=True)
    moments = pd.to_datetime(pd.Series(archive.moments, dtype="int64") * 1000, utc=True).dt.tz_convert(zone)
    explained = (moments.groupby([moments.dt.date.map(str), moments.dt.hour]).size() / 4).to_dict()
    recorded = {(date_of(d), h): s for d, hours in found.recorded.items() for h, s in enumerate(hours) if s}
    assert recorded == pytest.approx(explained)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(1, 60),
    zone=st.sampled_from([None, "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"]),
)
def test_figures_are_those_of_pandas(
    seed: int, rows: int, zone: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    archive = archive_of(np.random.default_rng(seed))
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary_module, "_ROWS", rows)
        patch.setattr(summary_module, "BEST", 3)
        with made_up(folder, archive.recordings, zone) as journal:
            journal.commit()
            check(summarize(folder), archive, zone or "UTC")
            write_events(journal, folder, 1)
        (folder / "status.json").write_text('{"state": "finished"}')
        patch.setattr(JournalView, "rows", None)  # the tables suffice
        check(summarize(folder), archive, zone or "UTC")


def read(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8") as text:
        return list(csv.reader(text))


def test_tables(tmp_path: Path) -> None:
    begin = pd.Timestamp("2024-03-09T22:59:58Z").value // 1000
    names = ['in/ä,\n"🐕".wav', "in/b.wav"]
    rows = [row_of("dog", 0.0, 0.5), row_of("a, b", 0.75, 0.75), row_of("dog", 1.5, 0.875, sound="sound/x/y.flac")]
    archive = [(names[0], begin, [(0, 3.0, rows)]), (names[1], None, [(0, 1.0, [row_of("dog", 0.0, 0.5)])])]
    with made_up(tmp_path, archive, "Europe/Berlin") as journal:
        journal.note(2, Problem("silent", "in/b.wav is silent"), 0)
        journal.commit()
    write_tables(summarize(tmp_path), tmp_path, tmp_path / "summary")
    tables = {
        name: read(tmp_path / "summary" / f"{name}.csv") for name in ("classes", "hours", "dates", "best", "errors")
    }
    assert tables["classes"] == [
        ["class", "events", "windows", "hours", "mean_probability", "highest_probability", "days"],
        ["dog", "3", "3", f"{3 / 3600:.9g}", "0.625", "0.875", "1"],
        ["a, b", "1", "1", f"{1 / 3600:.9g}", "0.75", "0.75", "1"],
    ]
    hours = {row[0]: row[1:] for row in tables["hours"]}
    assert hours["hour"] == ["recorded_hours", "dog", "a, b"]
    assert hours["23"] == [f"{2 / 3600:.9g}", "2", "1"]
    assert hours["0"] == [f"{1 / 3600:.9g}", "0", "0"]
    assert len(hours) == 25
    assert tables["dates"] == [
        ["date", "recorded_hours", "dog", "a, b"],
        ["2024-03-09", f"{2 / 3600:.9g}", "2", "1"],
        ["2024-03-10", f"{1 / 3600:.9g}", "0", "0"],
    ]
    assert tables["best"][:2] == [
        ["class", "rank", "probability", "recording", "recording_id", "start", "end", "start_utc", "kept", "sound"],
        ["dog", "1", "0.875", names[0], "1", "1.5", "2.5", "2024-03-09T22:59:59.500000Z", "0.25", "sound/x/y.flac"],
    ]
    assert [row[:5] for row in tables["best"][2:]] == [
        ["dog", "2", "0.5", names[0], "1"],
        ["dog", "3", "0.5", names[1], "2"],
        ["a, b", "1", "0.75", names[0], "1"],
    ]
    assert tables["errors"][1:] == [["silent", names[1], "2", "0", "in/b.wav is silent"]]


def test_a_run_that_goes_on_is_not_disturbed(tmp_path: Path) -> None:
    units = [(8 * i, 6.0, [row_of("dog", 6.0 * i, 0.75)]) for i in range(50)]
    with made_up(tmp_path, [("a.wav", None, units)]) as journal:
        journal.open(1, journal.find(1)[1], [(8 * len(units), None)])
        journal.note(1, Problem("incomplete", "it ends early"), 0)
        journal.commit()
        assert summarize(tmp_path).state == "interrupted"
        (tmp_path / "status.json").write_text(json.dumps({"state": "running", "time": time.time(), "pid": 1}))
        journal.finish(1, 400, [row_of("dog", 300.0, 0.875)], 6.0)
        promised = summarize(tmp_path)
        assert promised.state == "running"
        assert [(one.windows, one.highest) for one in promised.classes] == [(50, 0.75)]
        assert promised.problems == {"incomplete": 1}
        with JournalView(tmp_path) as view:
            half = [view.rows(1, 1), view.explained(), view.problems()]
            for answer in half:
                next(iter(answer))
            begin = time.monotonic()
            journal.commit()
            assert time.monotonic() - begin < 2
            assert sum(1 for _ in half[0]) == 50
        assert summarize(tmp_path).classes[0].windows == 51
        assert summarize(tmp_path).state == "finished"


def test_what_a_run_shows_of_its_state(tmp_path: Path) -> None:
    with made_up(tmp_path, [("a.wav", None, [])]) as journal:
        journal.open(1, journal.find(1)[1]._replace(last_frame=44100), [(0, None)])
    old = time.time() - 3600
    for status, state in [
        ({"state": "running", "time": time.time(), "pid": 2**30}, "running"),
        ({"state": "running", "time": old, "pid": os.getpid()}, "running"),
        ({"state": "running", "time": old, "pid": 2**30}, "interrupted"),
        ({"state": "interrupted", "time": time.time(), "pid": os.getpid()}, "interrupted"),
        ("damaged", "interrupted"),
    ]:
        (tmp_path / "status.json").write_text(json.dumps(status))
        assert summarize(tmp_path).state == state, status


def test_tables_that_are_older_than_the_journal_are_not_believed(tmp_path: Path) -> None:
    first = ("a.wav", None, [(0, 6.0, [row_of("dog", 0.0, 0.75)])])
    with made_up(tmp_path, [first]) as journal:
        write_events(journal, tmp_path, 1)
    (tmp_path / "status.json").write_text(json.dumps({"state": "running", "time": 0, "pid": 2**30}))
    second = ("b.wav", None, [(0, 6.0, [row_of("dog", 0.0, 0.875)])])
    with made_up(tmp_path, [first, second]) as journal:
        journal.commit()
        assert summarize(tmp_path).classes[0].windows == 2
        # A run that ends before its end writes no tables of recordings that are not done.
        journal.open(2, journal.find(1)[1], [(8, None)])
        journal.commit()
    (tmp_path / "status.json").write_text(json.dumps({"state": "interrupted"}))
    assert summarize(tmp_path).classes[0].windows == 2


def test_several_parts(tmp_path: Path) -> None:
    recordings = [(f"{i}.wav", None, [(0, 1.0, [row_of("dog", 0.0, 0.5)])]) for i in range(PART + 2)]
    with made_up(tmp_path, recordings) as journal:
        journal.open(PART + 2, journal.find(1)[1], [(8, None)])
        write_events(journal, tmp_path, 1)  # only the first part is finished
        journal.commit()
    found = summarize(tmp_path)
    assert (found.classes[0].windows, found.classes[0].events, found.with_events) == (PART + 2,) * 3


def test_a_run_that_was_killed_while_it_wrote(tmp_path: Path) -> None:
    with made_up(tmp_path, [("a.wav", None, [(0, 6.0, [row_of("dog", 0.0, 0.75)])])]) as journal:
        journal.commit()
    code = f"""
import os, signal
from pathlib import Path
from l2i_fast.archive.journal import Header, Journal
journal = Journal(Path({str(tmp_path)!r}), {made_up_settings()})
for i in range(1, 400):  # more than SQLite holds in memory
    journal.open(1, Header(1, 1, 44100, 0, 44100, None, ""), [(8 * i, None)])
    journal.finish(1, 8 * i, [{{"reason": "x" * 20_000}}], 6.0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "journal.sqlite-journal").exists()
    assert summarize(tmp_path).classes[0].windows == 1


def test_folders_that_are_none(tmp_path: Path) -> None:
    with refused(FileNotFoundError, f"{tmp_path}/gone is no folder, but must be the output of l2i batch"):
        summarize(tmp_path / "gone")
    with refused(FileNotFoundError, f"{tmp_path} holds no journal.sqlite, but must be the output of l2i batch"):
        summarize(tmp_path)
    (tmp_path / "journal.sqlite").write_bytes(b"x" * 5000)
    with refused(ValueError, f"{tmp_path}/journal.sqlite is no journal of l2i batch, or damaged (...)"):
        summarize(tmp_path)
    (tmp_path / "journal.sqlite").unlink()
    with made_up(tmp_path, []) as journal:
        journal._note({"version": 99})
    with refused(ValueError, f"{tmp_path}/journal.sqlite has version 99, but this release reads 1"):
        summarize(tmp_path)


def test_plots_of_odd_names_and_far_dates(tmp_path: Path) -> None:
    labels = ["_hidden", "$a$ $b^$", "🐕 ö", "x" * 300, "dog", "rain", "clock tick"]
    days = [pd.Timestamp(text).value // 1000 for text in ("1970-01-01T00:30Z", "2024-03-09T12:00Z")]
    units = [(0, 9.0, [row_of(label, 0.75 * i, 0.75) for i, label in enumerate(labels)])]
    with made_up(tmp_path, [("a.wav", days[0], units), ("b.wav", days[1], units)]) as journal:
        journal.commit()
    found = summarize(tmp_path)
    written = write_plots(found, tmp_path)
    assert [plot.file.name for plot in written] == ["hours.png", "dates.png", "heat.png"]
    assert written[0].title == "Windows by hour of day (UTC)"
    assert written[1].title == "Windows by date (UTC, 50 days in a column)"
    for plot in written:
        assert np.std(imread(plot.file)) > 0.05
    dates = plots_module._Dates(0, 50, 396)
    cells = plots_module._cells(found.hours["dog"], dates)
    assert cells.sum() == 2
    assert (cells[0, 0], cells[12, -1]) == (1, 1)


def test_nothing_is_drawn_without_clock_times(tmp_path: Path) -> None:
    with made_up(tmp_path, [("a.wav", None, [(0, 1.0, [row_of("dog", 0.0, 0.75)])])]) as journal:
        journal.commit()
    assert write_plots(summarize(tmp_path), tmp_path / "summary") == []
    assert not (tmp_path / "summary").exists()
