"""Archives for tests: recordings, a small model in a folder, and runs in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

import l2i_fast.archive.run as run_module
from l2i_fast.archive.batch import Batch
from l2i_fast.archive.inputs import Entry
from l2i_fast.archive.journal import Header, Journal
from l2i_fast.archive.measures import Measures
from l2i_fast.archive.run import Progress

RATE = 44100


def noise(path: Path, seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Write noise whose colour and level change, so that the classes that are heard do, too."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    y = rng.standard_normal(n) * np.repeat(rng.uniform(0.01, 0.2, n // 9000 + 1), 9000)[:n]
    for start in range(0, n, 9000):
        if rng.random() < 0.5:
            y[start : start + 9000] = np.cumsum(y[start : start + 9000]) / 40
    path.parent.mkdir(parents=True, exist_ok=True)
    subtype = "PCM_16" if path.suffix in (".wav", ".flac") else None
    soundfile.write(path, np.clip(y, -1, 1), rate, subtype)
    return y


def batch(
    model: str | Path, inputs: Sequence[str | Path], folder: Path, n_jobs: int | None = 1, **changes: Any
) -> Batch:
    settings: dict[str, Any] = {"confidence": 0.3, "window": 1.0, "overlap": 0.25, "threshold": 0.1, "top_k": None}
    return Batch(inputs, folder, model, **settings | changes, jobs=n_jobs)


def run(
    model: str | Path, inputs: Sequence[str | Path], folder: Path, n_jobs: int | None = 1, **changes: Any
) -> Progress:
    work = batch(model, inputs, folder, n_jobs, **changes)
    for _ in work:
        pass
    assert work.progress is not None
    return work.progress


def contents(folder: Path) -> dict[str, str]:
    """Return the digests of tables and sound, unfinished files included."""
    files = [path for part in ("events", "errors", "sound") for path in (folder / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def problems(folder: Path) -> list[tuple[str, str]]:
    """Return the name and the kind of each problem."""
    rows = pq.read_table(folder / "errors").to_pylist()
    return [(Path(row["recording"]).name, row["kind"]) for row in rows]


def make_units_small(patch: pytest.MonkeyPatch) -> None:
    """Make units of three windows, each a task, so that recordings of seconds have several."""
    patch.setattr(run_module, "_WINDOWS", 3)
    patch.setattr(run_module, "_TASK_WINDOWS", 3)


#: Seconds of a window and of the way to the next one in `made_up`.
WINDOW, HOP = 1.0, 0.75


def row_of(label: str, start: float, probability: float, accepted: bool = True, **changes: Any) -> dict[str, Any]:
    """Return a row as a worker gives it, of a window of `WINDOW` seconds."""
    measures = {prefix + name: None for prefix in ("", "input_") for name in Measures._fields}
    return {
        "start": start, "end": start + WINDOW, "label": label, "probability": probability, "accepted": accepted,
        "components": [1], "relevance": [0.5], "sound": None, "input_sound": None, "kept": 0.25, **measures, **changes,
    }  # fmt: skip


def made_up_settings(timezone: str | None = None) -> dict[str, Any]:
    return {
        "model": "none", "classes": None, "confidence": 0.5, "window": WINDOW, "overlap": WINDOW - HOP,
        "timezone": timezone, "threshold": 0.1, "top_k": None, "domain": "log",
    }  # fmt: skip


def made_up(
    folder: Path,
    recordings: Sequence[tuple[str, int | None, Sequence[tuple[int, float, list[dict[str, Any]]]]]],
    timezone: str | None = None,
) -> Journal:
    """Return the open journal of a run without a model, of which nothing is promised yet but the recordings.

    Each recording has a path, a moment in microseconds and the units that are done: first window, seconds, rows.
    """
    journal = Journal(folder, made_up_settings(timezone))
    journal.add(Entry(path) for path, *_ in recordings)
    for number, (_, begin, units) in enumerate(recordings, 1):
        frames = round(RATE * sum(seconds for _, seconds, _ in units))
        header = Header(1, 1, RATE, 0, frames, begin, "name" if begin is not None else "")
        journal.open(number, header, [(first, None) for first, *_ in units])
        for first, seconds, rows in units:
            journal.finish(number, first, rows, seconds)
    return journal
