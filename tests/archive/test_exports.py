"""Tables for other programs, read back as those programs do."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import get_args

import crowsetta
import pandas as pd
import pytest

from l2i_fast.archive.settings import Export
from l2i_fast.archive.tables import events_schema, read_events
from l2i_fast.model import L2I

from .support import noise, run

EXPORTS = get_args(Export)


@pytest.fixture(scope="module")
def done(tiny_model: L2I, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exports")
    model = tiny_model.save(root / "model")
    for name, seconds in {"a 1": 2.5, 'b, "2"': 0.5, "c\t3": 3.0, "20240309_120000Z": 1.0}.items():
        noise(root / "in" / f"{name}.wav", seconds, seed=len(name))
    (root / "in" / "broken.wav").write_text("no sound")
    run(model, [root / "in"], root / "out", explain_rejected=0.2, exports=EXPORTS)
    return root / "out"


def accepted(folder: Path) -> list[dict]:
    rows = [row for row in read_events(folder) if row["accepted"]]
    assert rows
    assert len(rows) < sum(1 for _ in read_events(folder))
    return rows


def test_raven_reads_times_in_each_file_and_in_all(done: Path) -> None:
    rows = accepted(done)
    lengths = {"20240309_120000Z.wav": 1.0, "a 1.wav": 2.5, 'b, "2".wav': 0.5, "broken.wav": 0.0, "c 3.wav": 3.0}
    before = dict(zip(lengths, [0.0, 1.0, 3.5, 4.0, 4.0], strict=True))
    table = pd.read_csv(done / "export" / "raven" / "all.selections.txt", sep="\t", quoting=csv.QUOTE_NONE)
    assert list(table["Selection"]) == list(range(1, len(rows) + 1))
    for row, (_, line) in zip(rows, table.iterrows(), strict=True):
        name = Path(row["recording"]).name.replace("\t", " ")
        assert line["Begin File"] == name
        assert line["File Offset (s)"] == pytest.approx(row["start"], abs=1e-6)
        assert line["Begin Time (s)"] == pytest.approx(before[name] + row["start"], abs=1e-6)
        assert line["End Time (s)"] == pytest.approx(before[name] + row["end"], abs=1e-6)
        assert line["Low Freq (Hz)"] < line["High Freq (Hz)"]
        assert (line["Label"], line["Confidence"]) == (row["label"], pytest.approx(row["probability"], abs=1e-4))
    singles = sorted(set((done / "export" / "raven").iterdir()) - {done / "export" / "raven" / "all.selections.txt"})
    found = [pd.read_csv(file, sep="\t", quoting=csv.QUOTE_NONE) for file in singles]
    assert sum(map(len, found)) == len(rows)
    for one in found:
        assert (one["Begin Time (s)"] == one["File Offset (s)"]).all()
        assert one["Begin File"].nunique() == 1


def test_audacity_reads_labels_with_frequencies(done: Path) -> None:
    rows = accepted(done)
    lines = (done / "export" / "audacity" / "all.txt").read_text().splitlines()
    assert len(lines) == 2 * len(rows)
    for row, times, band in zip(rows, lines[::2], lines[1::2], strict=True):
        start, end, label = times.split("\t")
        mark, low, high = band.split("\t")
        assert float(end) - float(start) == pytest.approx(row["end"] - row["start"], abs=2e-6)
        assert label.startswith(row["label"])
        assert (mark, float(low) < float(high)) == ("\\", True)


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of crowsetta
def test_a_reader_of_the_community_accepts_both(done: Path) -> None:
    rows = accepted(done)
    raven = crowsetta.formats.bbox.Raven.from_file(done / "export" / "raven" / "all.selections.txt", annot_col="Label")
    audacity = crowsetta.formats.bbox.AudBBox.from_file(done / "export" / "audacity" / "all.txt")
    for read, shown in ((raven, "{}"), (audacity, "{} {:.2f}")):
        boxes = read.to_annot().bboxes
        assert [box.label for box in boxes] == [shown.format(row["label"], row["probability"]) for row in rows]
        for box, row in zip(boxes, rows, strict=True):
            assert box.offset - box.onset == pytest.approx(row["end"] - row["start"], abs=2e-6)
            if row["low_frequency"] is not None:
                assert (box.low_freq, box.high_freq) == pytest.approx(
                    (row["low_frequency"], row["high_frequency"]), abs=0.1
                )


def test_plain_tables_have_the_columns_of_the_events(done: Path) -> None:
    rows = accepted(done)
    with open(done / "export" / "events.csv", newline="") as file:
        read = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (done / "export" / "events.jsonl").read_text().splitlines()]
    for row, cells, line in zip(rows, read, lines, strict=True):
        assert list(cells) == events_schema().names
        assert set(line) == set(cells)
        assert cells["recording"] == line["recording"] == row["recording"]
        assert float(cells["probability"]) == line["probability"] == row["probability"]
        assert cells["components"].split() == [str(k) for k in line["components"]]
        if "20240309" in row["recording"]:
            assert cells["start_utc"] == line["start_utc"] == f"2024-03-09T12:00:0{row['start']:g}Z"
        else:
            assert (cells["start_utc"], line["start_utc"]) == ("", None)


def test_a_second_call_can_export(done: Path) -> None:
    file = done / "export" / "events.csv"
    before = file.read_bytes()
    file.unlink()
    run(done.parent / "model", [done.parent / "in"], done, explain_rejected=0.2, exports=("csv",))
    assert file.read_bytes() == before
