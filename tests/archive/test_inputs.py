"""What inputs name: files, folders, patterns and manifests, in a fixed order."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from l2i_fast.archive.inputs import Entry, list_inputs

from ..helpers import refused


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for name in [
        "b/2.WAV",
        "b/10.flac",
        "a/x.mp3",
        "a/notes.txt",
        "a/.hidden.wav",
        ".git/y.wav",
        "z.ogg",
        "b/c/d.opus",
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    return tmp_path


def names(root: Path, *inputs: str, stdin: bytes | None = None) -> list[str]:
    found = list_inputs([str(text) for text in inputs], None if stdin is None else io.BytesIO(stdin))
    return [os.path.relpath(entry.path, root) for entry in found]


def test_folders_give_their_recordings_sorted_by_name(archive: Path) -> None:
    assert names(archive, archive) == ["a/x.mp3", "b/10.flac", "b/2.WAV", "b/c/d.opus", "z.ogg"]
    assert names(archive, archive / "b", archive / "a") == ["b/10.flac", "b/2.WAV", "b/c/d.opus", "a/x.mp3"]


def test_patterns_and_files(archive: Path) -> None:
    assert names(archive, archive / "*" / "*.[mW]*") == ["a/x.mp3", "b/2.WAV"]
    assert names(archive, archive / "b" / "**" / "*.opus") == ["b/c/d.opus"]
    assert names(archive, archive / "a" / "notes.txt") == ["a/notes.txt"]  # what is named is taken
    (archive / "odd[1].wav").touch()
    assert names(archive, archive / "odd[1].wav") == ["odd[1].wav"]
    with refused(FileNotFoundError, f"no file matches {archive}/*.wave"):
        names(archive, archive / "*.wave")
    with refused(FileNotFoundError, f"there is no file {archive}/gone.wav"):
        names(archive, archive / "gone.wav")


def test_lists_on_standard_input(archive: Path) -> None:
    lines = f"{archive}/z.ogg\r\n\n{archive}/gone.wav\n".encode()
    assert names(archive, "-", stdin=lines) == ["z.ogg", "gone.wav"]
    assert names(archive, "-", stdin=os.fsencode(archive) + b"/line\nbreak.wav\0\xff.wav\0")[0] == "line\nbreak.wav"
    with refused(ValueError, "an input is '-', but there is no standard input"):
        names(archive, "-")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_manifests(archive: Path, ending: str) -> None:
    rows = {"note": ["x", "y", "z"], "file": ["z.ogg", "/else/where.wav", "b/2.WAV"], "start": [None, 1.5, 0.0],
            "stop": [2.0, None, None]}  # fmt: skip
    path = archive / f"list.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table(rows), path)
    else:
        cells = zip(*rows.values(), strict=True)
        lines = [",".join("" if cell is None else str(cell) for cell in row) for row in cells]
        path.write_text("\n".join([",".join(rows), *lines]), encoding="utf-8-sig")
    assert list(list_inputs([str(path)])) == [
        Entry(f"{archive}/z.ogg", 0.0, 2.0),
        Entry("/else/where.wav", 1.5, None),
        Entry(f"{archive}/b/2.WAV", 0.0, None),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\na.wav\n", "has the columns path, but must have one named file"),
        ("", "has the columns of no table, but must have one named file"),
        ("file,start\na.wav,soon\n", "has start 'soon' in row 1, but it must be a time in seconds"),
        ("file,start\na.wav,0\nb.wav,-1\n", "has start '-1' in row 2, but it must be a time in seconds"),
        ("file,stop\na.wav,inf\n", "has stop 'inf' in row 1, but it must be a time in seconds"),
        ("file,start,stop\na.wav,3,2\n", "has stop 2 in row 1, but it must be greater than start, 3"),
        ("file,start\n,3\n", "names no file in row 1"),
    ],
)
def test_wrong_manifests_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    with refused(ValueError, f"{path} {message}"):
        list(list_inputs([str(path)]))
