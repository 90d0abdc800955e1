"""The results of a run as tables: Parquet data sets made from the journal.

A file has the rows of a fixed number of recordings, in their order. So it does not depend on the order of the work,
nor on interruptions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from l2i_fast.archive.journal import VERSION, Header, Journal, Recording
from l2i_fast.archive.measures import Measures
from l2i_fast.files import printable, write_whole
from l2i_fast.recording import import_optional

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Recordings of a file of the table of events.
PART = 512
#: Rows that are written together.
_ROWS = 1 << 16
_MEASURES = [prefix + name for prefix in ("", "input_") for name in Measures._fields]


def events_schema() -> Any:
    """Return the schema of the table of events: one row for each window and class that is worth keeping.

    recording
        Path as it was given; a byte that is not UTF-8 is written as ``\\xNN``.
    recording_id
        Its place in the order of the inputs, from 1 on.
    start, end
        Of the window in its file, in seconds.
    start_utc, clock
        Moment of `start`, and where the recording's beginning is stated; null and empty if it is not.
    label, probability
        Class, and its probability in this window.
    accepted
        Whether the probability reaches the confidence; otherwise the window was explained for `--explain-rejected`.
    components, relevance
        The selected components, most relevant first, and the relevance of each.
    kept
        Share of the input's energy that the interpretation keeps.
    sound
        Path of the interpretation's sound from the output folder on; null if none was written.
    input_sound
        Path of the recording itself around that sound; null if none was written.
    level to duration, input_level to input_duration
        Measures of the interpretation and of the input: see `Measures`.
    """
    pa = import_optional("pyarrow", "write tables")
    text = pa.dictionary(pa.int32(), pa.string())
    fields = {
        "recording": text,
        "recording_id": pa.int64(),
        "start": pa.float64(),
        "end": pa.float64(),
        "start_utc": pa.timestamp("us", "UTC"),
        "clock": text,
        "label": text,
        "probability": pa.float64(),
        "accepted": pa.bool_(),
        "components": pa.list_(pa.int16()),
        "relevance": pa.list_(pa.float64()),
        "kept": pa.float64(),
        "sound": text,
        "input_sound": text,
    } | {name: pa.float64() for name in _MEASURES}
    return pa.schema(list(fields.items()), {"l2i_fast.version": str(VERSION)})


def write_events(journal: Journal, folder: Path, first: int) -> None:
    """Write the table of `PART` recordings from number `first` on, whole or not at all."""
    pa = import_optional("pyarrow", "write tables")
    parquet = import_optional("pyarrow.parquet", "write tables")
    schema = events_schema()

    def write(file: Path) -> None:
        with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            rows: list[dict[str, Any]] = []
            for recording, header, found in journal.rows(first, first + PART - 1):
                rows += complete(recording, header, found)
                if len(rows) >= _ROWS:
                    writer.write_table(pa.Table.from_pylist(rows, schema))
                    rows = []
            writer.write_table(pa.Table.from_pylist(rows, schema))
        _sync(file)

    write_whole(folder / "events" / f"part-{first // PART:06d}.parquet", write)


def complete(recording: Recording, header: Header, rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a unit with all columns of the table of events."""
    common = {"recording": printable(recording.path), "recording_id": recording.id}
    for row in rows:
        moment = None
        if header.begin_utc is not None:
            moment = _EPOCH + timedelta(microseconds=header.begin_utc + round(row["start"] * 1_000_000))
        yield common | row | {"start_utc": moment, "clock": header.clock}


def write_errors(journal: Journal, folder: Path) -> None:
    """Write the table of problems: ``recording``, ``recording_id``, ``window`` (null for all), ``kind``, ``reason``."""
    pa = import_optional("pyarrow", "write tables")
    parquet = import_optional("pyarrow.parquet", "write tables")
    text = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [
            ("recording", text),
            ("recording_id", pa.int64()),
            ("window", pa.int64()),
            ("kind", text),
            ("reason", pa.string()),
        ],
        {"l2i_fast.version": str(VERSION)},
    )
    rows = [
        {
            "recording": printable(problem["path"]),
            "recording_id": problem["recording"],
            "window": None if problem["window"] < 0 else problem["window"],
            "kind": problem["kind"],
            "reason": printable(problem["reason"]),
        }
        for problem in journal.problems()
    ]

    def write(file: Path) -> None:
        parquet.write_table(pa.Table.from_pylist(rows, schema), file, compression="zstd")
        _sync(file)

    write_whole(folder / "errors" / "part-000000.parquet", write)


def read_events(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table of events, in order."""
    parquet = import_optional("pyarrow.parquet", "read tables")
    for file in sorted((folder / "events").glob("part-*.parquet")):
        for batch in parquet.ParquetFile(file).iter_batches():
            yield from batch.to_pylist()


def _sync(file: Path) -> None:
    with open(file, "rb") as written:
        os.fsync(written.fileno())
