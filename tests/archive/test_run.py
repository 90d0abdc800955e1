"""Runs over archives: the answers are those of single windows, whoever makes them, with interruptions or without."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

import l2i_fast.archive.executors as executors
from l2i_fast.archive.inputs import Entry
from l2i_fast.archive.journal import Journal
from l2i_fast.archive.sounds import Context, SoundWriter
from l2i_fast.archive.tables import read_events
from l2i_fast.archive.windows import Joined
from l2i_fast.archive.work import Job, Outcome, Unit, do
from l2i_fast.audio import read_audio
from l2i_fast.model import load

from ..conftest import make_model
from ..helpers import refused
from .support import RATE, batch, contents, noise, problems, run


def test_a_recording_of_one_window_is_explained_as_by_interpret(model: Path, tmp_path: Path) -> None:
    noise(tmp_path / "a.wav", 0.9)
    run(model, [tmp_path / "a.wav"], tmp_path / "out", confidence=0.0)
    rows = list(read_events(tmp_path / "out"))
    engine = load(model)
    result = engine.interpret(tmp_path / "a.wav", targets=range(4), threshold=0.1, top_k=None)
    assert [row["label"] for row in rows] == list(engine.classes)
    for row, explanation in zip(rows, result.explanations, strict=True):
        assert row["probability"] == pytest.approx(float(explanation.probability), rel=1e-5)
        assert row["components"] == list(explanation.components)
        assert row["relevance"] == pytest.approx(explanation.relevance[row["components"]], rel=1e-5)
        assert (row["start"], row["end"]) == (0, 0.9)
        heard, rate = soundfile.read(tmp_path / "out" / row["sound"])
        assert rate == RATE
        inside = slice(RATE // 50, -RATE // 50)  # ends fade
        np.testing.assert_allclose(heard[inside], explanation.audio[inside], atol=2**-20)
        power = np.abs(engine.analyze([result.input]).X[0]) ** 2
        assert row["input_level"] == pytest.approx(20 * np.log10(np.sqrt(np.mean(result.input**2))), abs=0.1)
        assert row["input_peak_frequency"] == pytest.approx(np.argmax(power.mean(axis=1)) * RATE / 1024, rel=1e-5)


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("classes", [None, (1, 3)])
def test_sound_of_everything_joins_without_a_seam(model: Path, tmp_path: Path, classes: Any) -> None:
    noise(tmp_path / "a.wav", 9.3)
    settings = {"sound": "all", "targets": classes, "audio_format": "wav", "confidence": 0.0}
    run(model, [tmp_path / "a.wav"], tmp_path / "out", **settings)
    engine, y = load(model), read_audio(tmp_path / "a.wav")[0]
    grid = batch(model, [], tmp_path, **settings).job.grid(engine.analysis)
    assert grid.count(len(y)) > 9  # several units
    for label in ("predicted",) if classes is None else [engine.classes[c] for c in classes]:
        joined, parts = Joined(grid), []
        for i in range(grid.count(len(y))):
            start = grid.start(i, len(y))
            window = y[start : start + grid.length]
            target = None if classes is None else [label]
            parts.append(joined.add(start, engine.interpret((window, RATE), target, 0.1, None).audio))
        wanted = np.concatenate([*parts, joined.finish()])
        (folder,) = (tmp_path / "out" / "sound").glob(f"*/{label.replace(' ', '-')}")
        files = sorted(folder.iterdir())
        assert len(files) > 3
        heard = np.concatenate([soundfile.read(file)[0] for file in files])
        np.testing.assert_allclose(heard, wanted, atol=2e-6)


@pytest.mark.usefixtures("small_units")
def test_events_are_runs_of_windows(model: Path, tmp_path: Path) -> None:
    noise(tmp_path / "a.wav", 20.0, seed=3)
    run(model, [tmp_path / "a.wav"], tmp_path / "out")
    rows = list(read_events(tmp_path / "out"))
    assert {row["accepted"] for row in rows} == {True}
    files: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        assert row["probability"] >= 0.3
        files.setdefault(row["sound"], []).append(row)
    assert sorted(files) == sorted(name for name in contents(tmp_path / "out") if name.startswith("sound"))
    assert any(len(found) > 1 for found in files.values())
    pieces = []
    for name, found in files.items():
        info = soundfile.info(tmp_path / "out" / name)
        begin = float(Path(name).stem)
        pieces.append((found[0]["label"], begin, begin + info.frames / info.samplerate))
        assert all(row["label"] == found[0]["label"] for row in found)
        assert begin <= found[0]["start"] + 1e-3
        assert pieces[-1][2] <= found[-1]["end"] + 1e-3
    # What one file leaves of a run of windows, the next one begins with.
    for label in {piece[0] for piece in pieces}:
        mine = sorted(piece[1:] for piece in pieces if piece[0] == label)
        for (_, end), (begin, _) in pairwise(mine):
            assert begin >= end - 0.0011  # names have milliseconds


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("sound", ["none", "events", "all"])
def test_processes_and_order_change_nothing(model: Path, tmp_path: Path, sound: Any) -> None:
    for i, seconds in enumerate([0.5, 9.0, 1.0, 1.004, 3.3, 0.01, 2.2]):
        noise(tmp_path / "in" / f"{i}.wav", seconds, seed=i, rate=[44100, 48000][i % 2])
    for n in (1, 2):
        run(model, [tmp_path / "in"], tmp_path / f"out{n}", n_jobs=n, sound=sound)
    one, two = (contents(tmp_path / f"out{n}") for n in (1, 2))
    assert one == two
    assert len(one) > 2 or sound == "none"
    assert problems(tmp_path / "out1") == [("5.wav", "short")]


def test_the_answer_for_a_window_depends_on_no_other(tmp_path: Path) -> None:
    model = "esc10"  # a network whose sums depend on the number of windows

    def answers(folder: Path, name: str) -> list[dict[str, Any]]:
        rows = [row for row in read_events(folder) if row["recording"].endswith(name)]
        for row in rows:
            del row["recording_id"]
            row["sound"] = (folder / row["sound"]).read_bytes()
        return rows

    for i in range(6):
        noise(tmp_path / "in" / f"{i}.wav", 2.0, seed=i)
    run(model, [tmp_path / "in"], tmp_path / "all", window=2.0, confidence=0.1)
    for i in range(6):
        name = f"{i}.wav"
        run(model, [tmp_path / "in" / name], tmp_path / f"only{i}", window=2.0, confidence=0.1)
        assert answers(tmp_path / f"only{i}", name) == answers(tmp_path / "all", name) != []


@pytest.mark.usefixtures("small_units")
def test_the_sound_of_all_units_is_counted_once(model: Path, tmp_path: Path) -> None:
    noise(tmp_path / "a.wav", 9.3)
    noise(tmp_path / "b.wav", 0.6)
    for sound in ("none", "all"):
        done = run(model, [tmp_path / "a.wav", tmp_path / "b.wav"], tmp_path / sound, sound=sound)
        assert done.units > 4
        assert done.heard == pytest.approx(9.9, abs=1e-3)


def broken(folder: Path) -> dict[str, str]:
    """Write recordings that are broken in several ways; return the kind of problem of each name."""
    folder.mkdir()
    noise(folder / "whole.wav", 1.0)
    data = (folder / "whole.wav").read_bytes()
    (folder / "nothing.wav").write_bytes(b"")
    (folder / "text.wav").write_text("This is no sound.\n")
    (folder / "cut header.wav").write_bytes(data[:20])
    (folder / "cut.wav").write_bytes(data[: len(data) // 2])
    (folder / "no samples.wav").write_bytes(data[:44])
    (folder / "noise.flac").write_bytes(os.urandom(3000))
    soundfile.write(folder / "silent.flac", np.zeros(RATE), RATE)
    soundfile.write(folder / "short.flac", np.full(10, 0.1), RATE)
    soundfile.write(folder / "nan.wav", np.r_[np.full(RATE, 0.1), np.nan], RATE, subtype="FLOAT")
    os.symlink("nowhere.wav", folder / "dangling.wav")
    os.symlink(folder / "nothing.wav", folder / "loop.wav")
    return {
        "cut header.wav": "damaged", "cut.wav": "incomplete", "dangling.wav": "missing", "loop.wav": "damaged",
        "nan.wav": "not finite", "no samples.wav": "damaged", "noise.flac": "damaged", "nothing.wav": "damaged",
        "short.flac": "short", "silent.flac": "silent", "text.wav": "damaged",
    }  # fmt: skip


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_broken_recordings_are_listed_and_stop_nothing(model: Path, tmp_path: Path, n_jobs: int) -> None:
    wanted = broken(tmp_path / "in")
    inputs = sorted((tmp_path / "in").iterdir())
    done = run(model, inputs, tmp_path / "out", n_jobs, confidence=0.0)
    assert dict(problems(tmp_path / "out")) == wanted
    assert done.problems == len(wanted)
    heard = {Path(row["recording"]).name for row in read_events(tmp_path / "out")}
    assert heard == {"whole.wav", "cut.wav"}
    for row in pq.read_table(tmp_path / "out" / "errors").to_pylist():
        assert Path(row["recording"]).name in row["reason"]


@pytest.mark.parametrize("audio_format", ["flac", "wav", "ogg"])
@pytest.mark.parametrize("rate", [8000, 44100, 384_000])
def test_formats_and_rates(model: Path, tmp_path: Path, audio_format: Any, rate: int) -> None:
    noise(tmp_path / "a.flac", 3.0, seed=1, rate=rate)
    run(model, [tmp_path / "a.flac"], tmp_path / "out", audio_format=audio_format, sound="all", confidence=0.0)
    (name,) = {row["sound"] for row in read_events(tmp_path / "out") if row["sound"]}
    assert name.endswith(f".{audio_format}")
    info = soundfile.info(tmp_path / "out" / name)
    assert info.samplerate == (48000 if audio_format == "ogg" else RATE)
    assert info.frames / info.samplerate == pytest.approx(3.0, abs=1e-3)
    run(model, [tmp_path / "a.flac"], tmp_path / "exact", sound="all", confidence=0.0)
    (exact,) = (tmp_path / "exact" / "sound").rglob("*.flac")
    heard, wanted = (read_audio(file, RATE)[0] for file in (tmp_path / "out" / name, exact))
    n = min(len(heard), len(wanted))
    assert n > 3 * RATE - 100
    if audio_format != "ogg":
        np.testing.assert_allclose(heard[:n], wanted[:n], atol=2**-22)  # both have 24 bits
        return
    # Opus does not keep the waveform of noise nor what is above 20 kHz, but its level within 2 dB, and when it sounds.
    lags = range(-300, 301)
    likeness = [float(heard[300 + lag : n - 300 + lag] @ wanted[300 : n - 300]) for lag in lags]
    assert abs(lags[int(np.argmax(likeness))]) <= 1
    assert np.std(heard[:n]) == pytest.approx(np.std(wanted[:n]), rel=0.25)


def test_models_with_several_labels(tmp_path: Path) -> None:
    several = make_model(multilabel=True)
    several.save(tmp_path / "model")
    noise(tmp_path / "a.wav", 0.9)
    settings = {"confidence": 0.01, "threshold": 0.0}
    run(tmp_path / "model", [tmp_path / "a.wav"], tmp_path / "out", **settings)
    rows = list(read_events(tmp_path / "out"))
    result = several.interpret(tmp_path / "a.wav", targets=range(4), threshold=0.0, top_k=None)
    wanted = {e.label: e for e in result.explanations if e.probability >= 0.01}
    assert [row["label"] for row in rows] == list(wanted)
    assert len(rows) > 1
    for row in rows:
        assert row["probability"] == pytest.approx(float(wanted[row["label"]].probability), rel=1e-5)


def test_a_unit_that_fails_leaves_no_sound(model: Path, tmp_path: Path) -> None:
    y = np.clip(noise(tmp_path / "a.wav", 8.0, seed=3), -1, 1)
    y[-1] = np.nan
    soundfile.write(tmp_path / "a.wav", y, RATE, subtype="FLOAT")
    run(model, [tmp_path / "a.wav"], tmp_path / "out")
    assert problems(tmp_path / "out") == [("a.wav", "not finite")]
    assert not list(read_events(tmp_path / "out"))
    assert not [name for name in contents(tmp_path / "out") if name.startswith("sound")]


def test_names_of_any_kind(model: Path, tmp_path: Path) -> None:
    odd = ["a b", "ä ö ü", "🐕", "line\nbreak", "-dash", "x" * 251, "tab\t", "'\""]
    names = [f"{name}.wav" for name in odd]
    noise(tmp_path / "in" / names[0], 1.0)
    for name in names[1:]:
        shutil.copy(tmp_path / "in" / names[0], tmp_path / "in" / name)
    os.link(tmp_path / "in" / names[0], os.fsencode(tmp_path / "in") + b"/\xff.wav")
    done = run(model, [tmp_path / "in"], tmp_path / "out", confidence=0.0)
    assert done.problems == 0
    rows = list(read_events(tmp_path / "out"))
    assert {Path(row["recording"]).name for row in rows} == {*names, "\\xff.wav"}
    sounds = {row["sound"] for row in rows}
    assert len(sounds) == len(rows)
    assert all((tmp_path / "out" / name).exists() for name in sounds)


def test_a_part_of_a_recording_and_its_clock(model: Path, tmp_path: Path) -> None:
    y = noise(tmp_path / "20240309_120000Z.wav", 6.0)
    (tmp_path / "parts.csv").write_text("file,start,stop\n20240309_120000Z.wav,1.5,2.25\n20240309_120000Z.wav,7,9\n")
    run(model, [tmp_path / "parts.csv"], tmp_path / "out", confidence=0.0)
    rows = list(read_events(tmp_path / "out"))
    soundfile.write(tmp_path / "part.wav", np.clip(y, -1, 1)[round(1.5 * RATE) : round(2.25 * RATE)], RATE)
    run(model, [tmp_path / "part.wav"], tmp_path / "alone", confidence=0.0)
    alone = list(read_events(tmp_path / "alone"))
    assert len(rows) == 4
    for row, other in zip(rows, alone, strict=True):
        assert (row["start"], row["end"]) == pytest.approx((1.5, 2.25), abs=1e-4)
        assert row["start_utc"] == datetime(2024, 3, 9, 12, 0, 1, 500_000, UTC)
        assert row["clock"] == "name"
        assert other["start_utc"] is None
        assert {k: row[k] for k in ("probability", "level", "centroid")} == {
            k: other[k] for k in ("probability", "level", "centroid")
        }
    assert problems(tmp_path / "out") == [("20240309_120000Z.wav", "empty")]


def test_windows_just_below_the_confidence_are_rows_without_sound(model: Path, tmp_path: Path) -> None:
    noise(tmp_path / "a.wav", 12.0, seed=5)
    run(model, [tmp_path / "a.wav"], tmp_path / "out", explain_rejected=0.1)
    rows = list(read_events(tmp_path / "out"))
    rejected = [row for row in rows if not row["accepted"]]
    assert rejected
    assert all(0.2 <= row["probability"] < 0.3 and row["sound"] is None for row in rejected)
    run(model, [tmp_path / "a.wav"], tmp_path / "strict")
    assert [row for row in rows if row["accepted"]] == list(read_events(tmp_path / "strict"))


def test_one_run_at_a_time_and_one_kind_of_run_in_a_folder(model: Path, tmp_path: Path) -> None:
    noise(tmp_path / "a.wav", 1.0)
    run(model, [tmp_path / "a.wav"], tmp_path / "out")
    before = contents(tmp_path / "out")
    with refused(
        ValueError,
        f"{tmp_path}/out holds a run with other settings (confidence 0.3, not 0.4): choose another folder",
    ):
        run(model, [tmp_path / "a.wav"], tmp_path / "out", confidence=0.4)
    code = (
        "from pathlib import Path; from l2i_fast.archive.journal import Journal; "
        f"Journal(Path({str(tmp_path / 'new')!r}), {{}})"
    )
    with Journal(tmp_path / "new", {}):
        done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert "is in use by another run" in done.stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with refused(ValueError, f"{tmp_path}/full holds other files, but must be empty or hold a run of l2i batch"):
        Journal(tmp_path / "full", {})
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "journal.sqlite").write_bytes(b"x" * 5000)
    with refused(ValueError, "...journal.sqlite is no journal of l2i batch, or damaged (...): choose another folder"):
        Journal(tmp_path / "damaged", {})
    assert contents(tmp_path / "out") == before


def test_a_second_call_adds_and_notes_what_has_changed(model: Path, tmp_path: Path) -> None:
    for name in "ab":
        noise(tmp_path / f"{name}.wav", 1.0, seed=ord(name))
    run(model, [tmp_path / "a.wav"], tmp_path / "out", confidence=0.0)
    first = list(read_events(tmp_path / "out"))
    noise(tmp_path / "a.wav", 2.0, seed=9)
    done = run(model, [tmp_path / "a.wav", tmp_path / "b.wav"], tmp_path / "out", confidence=0.0)
    rows = list(read_events(tmp_path / "out"))
    assert rows[: len(first)] == first
    assert {Path(row["recording"]).name for row in rows[len(first) :]} == {"b.wav"}
    assert problems(tmp_path / "out") == [("a.wav", "changed")]
    assert done.problems == 1


@pytest.mark.usefixtures("small_units")
def test_a_recording_that_changes_half_way_is_not_mixed(model: Path, tmp_path: Path) -> None:
    noise(tmp_path / "a.wav", 9.0, seed=1)
    before = run(model, [tmp_path / "a.wav"], tmp_path / "undisturbed", confidence=0.0)
    assert before.units > 2
    wanted = list(read_events(tmp_path / "undisturbed"))
    rows = iter(batch(model, [tmp_path / "a.wav"], tmp_path / "out", confidence=0.0))
    next(rows)
    noise(tmp_path / "a.wav", 9.0, seed=2)
    for _ in rows:
        pass
    found = list(read_events(tmp_path / "out"))
    assert 0 < len(found) < len(wanted)
    assert found == wanted[: len(found)]
    assert set(problems(tmp_path / "out")) == {("a.wav", "changed")}


def test_an_error_in_writing_leaves_no_sound(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    noise(tmp_path / "a.wav", 3.0, seed=1)
    monkeypatch.setattr(SoundWriter, "write", fail)
    with pytest.raises(OSError, match="No space left on device"):
        run(model, [tmp_path / "a.wav"], tmp_path / "out", confidence=0.0)
    monkeypatch.undo()
    assert not [path for path in (tmp_path / "out" / "sound").rglob("*") if path.is_file()]
    run(model, [tmp_path / "a.wav"], tmp_path / "out", confidence=0.0)
    run(model, [tmp_path / "a.wav"], tmp_path / "undisturbed", confidence=0.0)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("ending", ["flac", "ogg"])
def test_the_recording_itself_around_events(model: Path, tmp_path: Path, ending: str) -> None:
    noise(tmp_path / "a.wav", 14.0, seed=3, rate=48000)
    name = tmp_path / f"a.{ending}"
    y, rate = soundfile.read(tmp_path / "a.wav")
    with soundfile.SoundFile(name, "w", rate, 1) as file:
        for start in range(0, len(y), 4096):
            file.write(y[start : start + 4096])
    (tmp_path / "parts.csv").write_text(f"file,start,stop\n{name.name},1.5,13.5\n")
    run(model, [tmp_path / "parts.csv"], tmp_path / "out", context=0.4)
    run(model, [tmp_path / "parts.csv"], tmp_path / "plain")
    whole = np.clip(read_audio(name, RATE)[0], -1, 1)
    rows = list(read_events(tmp_path / "out"))
    pairs = {(row["sound"], row["input_sound"]) for row in rows}
    assert len(pairs) > (3 if ending == "flac" else 0)  # Ogg is read as one unit
    assert len(pairs) == len(dict(pairs)) == len(set(dict(pairs).values()))
    for sound, beside in pairs:
        begin, length = float(Path(sound).stem), soundfile.info(tmp_path / "out" / sound).duration
        heard, rate = soundfile.read(tmp_path / "out" / beside)
        assert rate == RATE
        # Names have milliseconds; the file's place is that of the sample.
        start = max(0, round((begin - 0.4) * RATE))
        lags = range(-23, 24) if start else [0]
        wanted = min(
            (whole[max(0, start + lag) :][: len(heard)] for lag in lags), key=lambda x: np.abs(heard - x).max()
        )
        np.testing.assert_allclose(heard, wanted, atol=2e-6)
        assert len(heard) / RATE == pytest.approx(min(begin + length + 0.4, 14) - max(0, begin - 0.4), abs=2e-3)
    for row in rows:
        del row["input_sound"]
    plain = list(read_events(tmp_path / "plain"))
    assert {row.pop("input_sound") for row in plain} == {None}
    assert rows == plain
    files = {key: value for key, value in contents(tmp_path / "out").items() if "input" not in key}
    assert files.keys() == contents(tmp_path / "plain").keys()
    with refused(ValueError, "context is 1 s, but sound is 'all': only events have a context"):
        run(model, [name], tmp_path / "all", sound="all", context=1)


def test_a_full_disk_leaves_no_recording_around_events(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def fail_at_last(self: Context, y: np.ndarray) -> None:
        if written:
            raise OSError(28, "No space left on device")
        written.append(y)

    noise(tmp_path / "a.wav", 8.0, seed=3)
    monkeypatch.setattr(Context, "write", fail_at_last)
    with pytest.raises(OSError, match="No space left on device"):
        run(model, [tmp_path / "a.wav"], tmp_path / "out", context=0.1)
    assert not [path for path in (tmp_path / "out" / "sound").rglob("*") if path.is_file()]


def test_wrong_inputs_leave_no_folder(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with refused(ValueError, f"inputs are ['{tmp_path}/in'], but there are no recordings"):
        run(model, [tmp_path / "in"], tmp_path / "out")
    with refused(FileNotFoundError, f"there is no file {tmp_path}/nothing.wav"):
        run(model, [tmp_path / "nothing.wav"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("library", "purpose"), [("wavinfo", "read the times in WAV files"), ("ray", "do the work on a cluster")]
)
def test_a_missing_library_leaves_no_folder(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, purpose: str
) -> None:
    noise(tmp_path / "a.wav", 1.0)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=f"{library} is needed to {purpose}"):
        run(model, [tmp_path / "a.wav"], tmp_path / "out", cluster="local")
    assert not (tmp_path / "out").exists()


def test_a_call_that_failed_before_it_began_binds_no_other(model: Path, tmp_path: Path) -> None:
    for name in "ab":
        noise(tmp_path / f"{name}.wav", 1.0)
    with pytest.raises(ConnectionError):
        run(model, [tmp_path / "a.wav"], tmp_path / "out", cluster="127.0.0.1:1")
    done = run(model, [tmp_path / "b.wav"], tmp_path / "out", confidence=0.0)
    assert done.recordings == 1
    assert {Path(row["recording"]).name for row in read_events(tmp_path / "out")} == {"b.wav"}


def test_what_was_missing_is_tried_again(model: Path, tmp_path: Path) -> None:
    noise(tmp_path / "in" / "b.wav", 1.0)
    os.symlink(tmp_path / "later.wav", tmp_path / "in" / "a.wav")
    inputs = [tmp_path / "in" / "a.wav", tmp_path / "in" / "b.wav"]
    run(model, inputs, tmp_path / "out", confidence=0.0)
    assert problems(tmp_path / "out") == [("a.wav", "missing")]
    noise(tmp_path / "later.wav", 1.0, seed=4)
    run(model, inputs, tmp_path / "out", confidence=0.0)
    run(model, inputs, tmp_path / "at once", confidence=0.0)
    assert contents(tmp_path / "out") == contents(tmp_path / "at once")


def test_a_process_that_dies_costs_one_recording(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        noise(tmp_path / "in" / f"{i}.wav", 1.0, seed=i)
    deadly = str(tmp_path / "in" / "2.wav")

    def do_or_die(units: Sequence[Unit], job: Job) -> list[Outcome]:
        if any(unit.recording.path == deadly for unit in units):
            os.kill(os.getpid(), signal.SIGKILL)
        return do(units, job)

    monkeypatch.setattr(executors, "do", do_or_die)
    run(model, [tmp_path / "in"], tmp_path / "out", n_jobs=2, confidence=0.0)
    assert problems(tmp_path / "out") == [("2.wav", "crashed")]
    heard = {Path(row["recording"]).name for row in read_events(tmp_path / "out")}
    assert heard == {f"{i}.wav" for i in (0, 1, 3, 4)}
    # It is tried again, and what came out is what an undisturbed run gives.
    monkeypatch.undo()
    run(model, [tmp_path / "in"], tmp_path / "out", confidence=0.0)
    run(model, [tmp_path / "in"], tmp_path / "undisturbed", confidence=0.0)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_rows_come_as_they_are_made_and_a_loop_may_end_early(model: Path, tmp_path: Path, n_jobs: int) -> None:
    for i in range(40):
        noise(tmp_path / "in" / f"{i:02d}.wav", 1.0, seed=i)
    rows = iter(batch(model, [tmp_path / "in"], tmp_path / "out", n_jobs, confidence=0.0))
    first = next(rows)
    assert (first["start"], first["accepted"]) == (0, True)
    rows.close()
    assert json.loads((tmp_path / "out" / "status.json").read_text())["state"] == "interrupted"
    rest = list(batch(model, [tmp_path / "in"], tmp_path / "out", n_jobs, confidence=0.0))
    assert 0 < len(rest) < 160
    whole = list(batch(model, [tmp_path / "in"], tmp_path / "at once", confidence=0.0))
    assert contents(tmp_path / "out") == contents(tmp_path / "at once")
    assert whole == list(read_events(tmp_path / "out"))


COMMAND = """
import l2i_fast.archive.run as run
run._WINDOWS, run._TASK_WINDOWS, run._COMMIT = 3, 3, 0.05
from l2i_fast.cli import main
main()
"""


@pytest.mark.alone
def test_runs_that_are_killed_end_as_if_they_had_not_been(model: Path, tmp_path: Path) -> None:
    for i in range(12):
        noise(tmp_path / "in" / f"{i:02d}.wav", [1.0, 4.0, 0.4][i % 3], seed=i)
    (tmp_path / "in" / "broken.wav").write_text("no sound")
    options = ["--model", model, "--window", 1, "--overlap", 0.25, "--confidence", 0.3, "--jobs", 2]
    command = [sys.executable, "-P", "-c", COMMAND, "batch", tmp_path / "in", *options, "--output"]

    def start(folder: Path) -> subprocess.Popen[str]:
        return subprocess.Popen([*map(str, command), str(folder)], stdout=-3, stderr=subprocess.PIPE, text=True)

    whole = start(tmp_path / "whole")
    begin = time.monotonic()
    assert "1 recordings or parts gave problems" in whole.communicate()[1]
    assert whole.returncode == 1
    seconds = time.monotonic() - begin
    kills = 0
    for attempt in range(20):
        process = start(tmp_path / "out")
        try:
            process.communicate(timeout=random.uniform(0.4, 1.0) * seconds if attempt < 3 else None)
        except subprocess.TimeoutExpired:
            process.send_signal(random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            process.communicate()
            kills += 1
            continue
        break
    assert kills
    assert process.returncode == 1
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert json.loads((tmp_path / "out" / "status.json").read_text())["state"] == "finished"


def test_a_hundred_thousand_recordings_are_listed_in_seconds(tmp_path: Path) -> None:
    with Journal(tmp_path / "out", {}) as journal:
        begin = time.monotonic()
        journal.add(Entry(f"/archive/station {i % 7}/{i:06d}.wav") for i in range(100_000))
        journal.add(Entry(f"/archive/station {i % 7}/{i:06d}.wav") for i in range(100_001))
        assert journal.counts()["recordings"] == 100_001
        assert sum(1 for _ in journal.unopened()) == 100_001
        print(f"{time.monotonic() - begin:.1f} s")
