"""Archives in stores: what is read by ranges over HTTP equals what lies on the disk, also when the store fails."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from l2i_fast.archive.inputs import list_inputs
from l2i_fast.archive.tables import read_events
from l2i_fast.audio import read_audio
from l2i_fast.page import write_summary

from ..helpers import refused
from .support import contents, noise, run


class Handler(SimpleHTTPRequestHandler):
    """Files by ranges, as object stores give them; a request may be answered by an error."""

    failing = False
    given = 0

    def do_GET(self) -> None:
        file = Path(self.translate_path(self.path))
        if Handler.failing and "Range" in self.headers:
            self.send_error(503)
            return
        if not file.is_file():
            self.send_error(404)
            return
        data = file.read_bytes()
        status, start, stop = 200, 0, len(data)
        if found := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            status, start, stop = 206, int(found[1]), min(int(found[2]) + 1, len(data))
        Handler.given += stop - start
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{file.stat().st_mtime_ns}"')
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.write(data[start:stop])

    def do_HEAD(self) -> None:
        file = Path(self.translate_path(self.path))
        if not file.is_file():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{file.stat().st_mtime_ns}"')
        self.send_header("Content-Length", str(file.stat().st_size))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Keep the terminal as it is."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "in").mkdir()
    Handler.failing, Handler.given = False, 0
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "in"))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_recordings_on_a_server_give_what_files_give(model: Path, tmp_path: Path, server: str, n_jobs: int) -> None:
    names = ["20240309_123456Z.wav", "b.flac", "c.ogg", "d.mp3"]
    for i, name in enumerate(names):
        noise(tmp_path / "in" / name, 3.0, seed=i, rate=48000)
    (tmp_path / "in" / "list.csv").write_text("file,start,stop\n" + "".join(f"{name},0.5,\n" for name in names))
    run(model, [f"{server}/list.csv"], tmp_path / "far", n_jobs, context=0.2)
    run(model, [tmp_path / "in" / "list.csv"], tmp_path / "near", context=0.2)
    far, near = (list(read_events(tmp_path / name)) for name in ("far", "near"))
    assert {row["clock"] for row in far if names[0] in row["recording"]} == {"name"}
    for row in far:
        row["recording"] = row["recording"].replace(server, str(tmp_path / "in"))
    assert far == near
    page = write_summary(tmp_path / "far")  # the best windows are read from the server, too
    assert (page.parent / "listening" / "index.html").exists()
    assert "are not on the listening page" not in page.read_text()
    assert {key: value for key, value in contents(tmp_path / "far").items() if key.startswith("sound")} == {
        key: value for key, value in contents(tmp_path / "near").items() if key.startswith("sound")
    }


def test_a_part_of_a_long_recording_is_read_without_the_rest(model: Path, tmp_path: Path, server: str) -> None:
    noise(tmp_path / "in" / "a.flac", 60.0)
    np.testing.assert_array_equal(read_audio(f"{server}/a.flac")[0], read_audio(tmp_path / "in" / "a.flac")[0])
    Handler.given = 0
    (tmp_path / "part.csv").write_text(f"file,start,stop\n{server}/a.flac,58,59\n")
    done = run(model, [tmp_path / "part.csv"], tmp_path / "out", confidence=0.0)
    assert (done.problems, done.heard) == (0, pytest.approx(1))
    assert Handler.given < (tmp_path / "in" / "a.flac").stat().st_size / 4


def test_a_store_that_fails_is_a_problem_that_goes_away(model: Path, tmp_path: Path, server: str) -> None:
    noise(tmp_path / "in" / "a.wav", 2.0)
    (tmp_path / "list.csv").write_text(f"file\n{server}/a.wav\n{server}/gone.wav\nnowhere://a.wav\n")
    inputs = [tmp_path / "list.csv"]
    Handler.failing = True
    run(model, inputs, tmp_path / "out", confidence=0.0)
    rows = pq.read_table(tmp_path / "out" / "errors").to_pylist()
    assert [row["kind"] for row in rows] == ["unreadable", "missing", "damaged"]
    assert all(row["recording"] in row["reason"] for row in rows)
    Handler.failing = False
    done = run(model, inputs, tmp_path / "out", confidence=0.0)
    assert (done.problems, done.heard) == (2, pytest.approx(2))
    # Another file of this name is not mixed with what it was, and one that is done is left as it is.
    noise(tmp_path / "in" / "a.wav", 2.0, seed=1)
    run(model, inputs, tmp_path / "out", confidence=0.0)
    assert [row["kind"] for row in pq.read_table(tmp_path / "out" / "errors").to_pylist()] == ["missing", "damaged"]


def test_folders_and_patterns_in_a_store() -> None:
    store = fsspec.filesystem("memory")
    for name in ("a/2.wav", "a/10.FLAC", "a/.hidden.wav", "a/.git/x.wav", "a/notes.txt", "a/b/c.m4a", "z.wav"):
        store.pipe(f"/archive/{name}", b"")

    def names(*inputs: str) -> list[str]:
        return [re.sub("^memory://?/?archive/", "", entry.path) for entry in list_inputs(inputs)]

    assert names("memory://archive/a") == ["a/10.FLAC", "a/2.wav", "a/b/c.m4a"]
    assert names("memory://archive/a/*.*") == ["a/10.FLAC", "a/2.wav", "a/notes.txt"]
    assert names("memory://archive/z.wav", "memory://archive/a/b/") == ["z.wav", "a/b/c.m4a"]
    with refused(FileNotFoundError, "no file matches memory://archive/*.ogg"):
        names("memory://archive/*.ogg")
    store.pipe("/archive/list.csv", b"file,start,stop\nmemory://archive/z.wav,1,2\na/2.wav,,\n")
    assert [tuple(entry) for entry in list_inputs(["memory://archive/list.csv"])] == [
        ("memory://archive/z.wav", 1, 2),
        ("memory://archive/a/2.wav", 0, None),
    ]
    with refused(ValueError, "nowhere://a.wav is in no store that fsspec knows: Protocol not known: nowhere"):
        names("nowhere://a.wav")
    with refused(ValueError, "zip://a.wav::memory://x.zip chains URLs, but must be a single one"):
        names("zip://a.wav::memory://x.zip")
