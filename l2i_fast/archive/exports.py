"""The accepted events in the formats of the programs that people listen and draw with."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

from l2i_fast.archive.journal import Journal
from l2i_fast.archive.settings import Export
from l2i_fast.archive.tables import events_schema, read_events
from l2i_fast.archive.work import safe_name
from l2i_fast.files import printable, whole

#: Columns of a selection table of Raven.
_RAVEN = (
    "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)", "Begin File",
    "File Offset (s)", "Label", "Confidence",
)  # fmt: skip
Row: TypeAlias = dict[str, Any]


def export(journal: Journal, folder: Path, kind: Export) -> Path:
    """Write the accepted events below ``folder / "export"``; return the file with those of all recordings.

    Parameters
    ----------
    kind : str
        "raven": selection tables, tab-separated, one for each recording with events and ``all``, whose times count
        the recordings one after another; "audacity": label tracks with frequencies, likewise; "csv" and "jsonl": one
        file with the columns of the table of events.
    """
    target = folder / "export"
    if kind in ("csv", "jsonl"):
        write = _write_csv if kind == "csv" else _write_jsonl
        name = target / f"events.{kind}"
        with whole(name) as temporary:
            write(temporary, _accepted(folder))
        return name
    line, header, ending = (
        (_raven_line, "\t".join(_RAVEN) + "\n", ".selections.txt") if kind == "raven" else (_audacity_line, "", ".txt")
    )
    target = target / kind
    before = {}
    total = 0.0
    for number, _, seconds in journal.durations():
        before[number] = total
        total += seconds
    with ExitStack() as stack:
        every = stack.enter_context(open(stack.enter_context(whole(target / f"all{ending}")), "w", encoding="utf-8"))
        every.write(header)
        selection = 0
        for number, rows in groupby(_accepted(folder), lambda row: row["recording_id"]):
            found = list(rows)
            table = f"{number:06d}-{safe_name(Path(found[0]['recording']).stem)}{ending}"
            with whole(target / table) as temporary, open(temporary, "w", encoding="utf-8") as file:
                file.write(header)
                for i, row in enumerate(found, 1):
                    file.write(line(i, row, 0.0))
                    selection += 1
                    every.write(line(selection, row, before[number]))
    return target / f"all{ending}"


def _accepted(folder: Path) -> Iterator[Row]:
    return (row for row in read_events(folder) if row["accepted"])


def _raven_line(selection: int, row: Row, before: float) -> str:
    low, high = _band(row)
    cells = (
        selection, "Spectrogram 1", 1, f"{before + row['start']:.6f}", f"{before + row['end']:.6f}", f"{low:.1f}",
        f"{high:.1f}", _cell(Path(row["recording"]).name), f"{row['start']:.6f}", _cell(row["label"]),
        f"{row['probability']:.4f}",
    )  # fmt: skip
    return "\t".join(map(str, cells)) + "\n"


def _audacity_line(selection: int, row: Row, before: float) -> str:
    low, high = _band(row)
    label = f"{_cell(row['label'])} {row['probability']:.2f}"
    return f"{before + row['start']:.6f}\t{before + row['end']:.6f}\t{label}\n\\\t{low:.1f}\t{high:.1f}\n"


def _band(row: Row) -> tuple[float, float]:
    """Return the frequencies of the interpretation, or of the input where it is silent."""
    for prefix in ("", "input_"):
        if row[prefix + "low_frequency"] is not None:
            return row[prefix + "low_frequency"], row[prefix + "high_frequency"]
    return 0.0, 0.0


def _cell(text: str) -> str:
    """Return text for a cell of a table that knows no quotes."""
    return " ".join(printable(text).split())


def _write_csv(file: Path, rows: Iterator[Row]) -> None:
    names = events_schema().names
    with open(file, "w", newline="", encoding="utf-8") as text:
        writer = csv.writer(text)
        writer.writerow(names)
        for row in rows:
            writer.writerow([_plain(row[name]) for name in names])


def _write_jsonl(file: Path, rows: Iterator[Row]) -> None:
    with open(file, "w", encoding="utf-8") as text:
        for row in rows:
            moment = row["start_utc"]
            json.dump(row | {"start_utc": None if moment is None else _plain(moment)}, text)
            text.write("\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(str, value))
    return value.isoformat().replace("+00:00", "Z") if hasattr(value, "isoformat") else value
