"""Fetching ESC-50 from a local server that behaves well, badly and worse."""

import errno
import hashlib
import io
import re
import shutil
import threading
import zipfile
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile

from l2i_fast.data import download, load_esc50
from l2i_fast.data.download import fetch_esc50

from ..helpers import refused

NAMES = ["1-1-A-0.wav", "2-2-A-0.wav", "3-3-A-5.wav"]
ROOT = "ESC-50-master/"


def wav(i):
    file = io.BytesIO()
    y = np.random.default_rng(i).uniform(-1, 1, 8000)
    soundfile.write(file, y, 44100, format="WAV", subtype="PCM_16")
    return file.getvalue()


def archive(names=NAMES, extra=(), root=ROOT, rows=NAMES):
    """A zip archive as GitHub makes them: everything below one folder."""
    table = "filename,fold,target,category\n" + "".join(f"{n},{n[0]},{n[6]},class{n[6]}\n" for n in rows)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr(root + "LICENSE", "free")
        z.writestr(root + "audio/", "")
        z.writestr(root + "meta/esc50.csv", table)
        for i, name in enumerate(names):
            z.writestr(root + "audio/" + name, wav(i))
        for member in extra:
            z.writestr(member, "evil")
    return file.getvalue()


class Server(ThreadingHTTPServer):
    """Serves `content`; `drops` connections break after `drop_after` bytes; `requests` holds the ranges asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.drops, self.drop_after = archive(), 0, 3000
        self.ranges, self.shift, self.status, self.sized = True, 0, None, True
        self.requests = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/master.zip"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.requests.append(asked)
        if server.status:
            self.send_error(server.status)
            return
        start, size = 0, len(server.content)
        if asked and server.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= size:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.end_headers()
                return
            start += server.shift
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            self.send_response(200)
        if server.sized:
            self.send_header("Content-Length", str(size - start))
        self.end_headers()
        stop = size
        if server.drops:
            server.drops -= 1
            stop = start + server.drop_after
        self.wfile.write(server.content[start:stop])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "_CLIPS", len(NAMES))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def check_complete(folder):
    assert [c.path.name for c in load_esc50(folder).clips] == NAMES
    for i, name in enumerate(NAMES):
        assert (folder / "audio" / name).read_bytes() == wav(i)
    assert (folder / "LICENSE").read_text() == "free"
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("sized", [True, False])
def test_fetches_once(server, tmp_path, sized):
    server.sized = sized
    folder = tmp_path / "new" / "ESC-50"
    assert fetch_esc50(str(folder), server.url) == folder
    check_complete(folder)
    fetch_esc50(folder, server.url)
    assert server.requests == [None]


def test_fills_an_empty_folder_and_accepts_any_root(server, tmp_path):
    (tmp_path / "esc").mkdir()
    server.content = archive(root="", extra=["other/meta/esc50.csv"])
    fetch_esc50(tmp_path / "esc", server.url, sha256=hashlib.sha256(server.content).hexdigest().upper())
    assert len(load_esc50(tmp_path / "esc").clips) == len(NAMES)


def test_resumes_where_the_connection_broke(server, tmp_path):
    server.drops = 3
    fetch_esc50(tmp_path / "esc", server.url)
    check_complete(tmp_path / "esc")
    assert server.requests == [None, "bytes=3000-", "bytes=6000-", "bytes=9000-"]


def test_resumes_in_a_later_call(server, tmp_path):
    server.drops, server.drop_after = 99, 2000
    message = (
        f"the connection to {server.url} keeps breaking (10,000 of {len(server.content):,} bytes came); "
        f"the 10,000 bytes in {tmp_path / 'esc.zip.part'} are kept: run the same again to continue"
    )
    with refused(ConnectionError, message):
        fetch_esc50(tmp_path / "esc", server.url)
    assert [p.name for p in tmp_path.iterdir()] == ["esc.zip.part"]
    assert (tmp_path / "esc.zip.part").read_bytes() == server.content[:10_000]
    server.drops = 0
    fetch_esc50(tmp_path / "esc", server.url)
    check_complete(tmp_path / "esc")
    assert server.requests[-1] == "bytes=10000-"


def test_starts_again_where_ranges_are_not_served(server, tmp_path):
    server.drops, server.ranges = 1, False
    # The checksum sees what a zip reader forgives: leftovers before the archive's beginning.
    fetch_esc50(tmp_path / "esc", server.url, hashlib.sha256(server.content).hexdigest())
    check_complete(tmp_path / "esc")
    assert server.requests == [None, "bytes=3000-"]


def test_starts_again_where_another_range_is_served(server, tmp_path):
    server.drops, server.shift = 1, 5
    fetch_esc50(tmp_path / "esc", server.url)
    check_complete(tmp_path / "esc")
    assert server.requests == [None, "bytes=3000-", None]


@pytest.mark.parametrize("surplus", [0, 7])
def test_a_part_that_is_whole_or_too_long(server, tmp_path, surplus):
    (tmp_path / "esc.zip.part").write_bytes(server.content + b"x" * surplus)
    fetch_esc50(tmp_path / "esc", server.url)
    check_complete(tmp_path / "esc")
    assert server.requests[1:] == ([None] if surplus else [])


@pytest.mark.parametrize("status", [404, 403, 503])
def test_says_what_the_server_answers(server, tmp_path, status):
    server.status = status
    with refused(ConnectionError, f"{server.url} answers {status} {HTTPStatus(status).phrase}"):
        fetch_esc50(tmp_path / "esc", server.url)
    assert not list(tmp_path.iterdir())


def test_says_that_nothing_answers(server, tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        url = f"http://127.0.0.1:{closed.server_address[1]}/"
    with refused(ConnectionError, f"{url} cannot be reached: [Errno {errno.ECONNREFUSED}] Connection refused"):
        fetch_esc50(tmp_path / "esc", url)
    assert not list(tmp_path.iterdir())


def test_removes_what_has_another_checksum(server, tmp_path):
    found = hashlib.sha256(server.content).hexdigest()
    message = f"the archive has the SHA-256 {found}, but must have {'0' * 64}; it has been removed"
    with refused(ValueError, message):
        fetch_esc50(tmp_path / "esc", server.url, sha256="0" * 64)
    assert not list(tmp_path.iterdir())


def with_link():
    file = io.BytesIO(archive())
    with zipfile.ZipFile(file, "a") as z:
        link = zipfile.ZipInfo(ROOT + "audio/link")
        link.external_attr = 0o120777 << 16
        z.writestr(link, "/etc")
    return file.getvalue()


def with_a_flipped_byte():
    content = bytearray(archive())
    content[len(content) // 2] ^= 0x55
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>Too many requests</html>", "File is not a zip file"),
        (b"", "File is not a zip file"),
        (with_a_flipped_byte(), "..."),
        (archive()[:-30], "File is not a zip file"),
        (archive(extra=[ROOT + "../../evil"]), "it holds the unsafe path 'ESC-50-master/../../evil'"),
        (archive(extra=[ROOT + "/evil"]), "it holds the unsafe path 'ESC-50-master//evil'"),
        (archive(extra=[ROOT + "audio\\..\\evil"]), r"it holds the unsafe path 'ESC-50-master/audio\\..\\evil'"),
        (archive(extra=[ROOT + "LICENSE/evil"]), f"[Errno {errno.EEXIST}] File exists: 'LICENSE'"),
        (with_link(), "it holds the symbolic link 'ESC-50-master/audio/link'"),
        (
            archive(names=NAMES[:2]),
            "meta/esc50.csv, line 4: audio/3-3-A-5.wav does not exist, nor with another ending",
        ),
        (archive(rows=NAMES[:2]), "it lists 2 recordings, but 3 are needed"),
        (
            archive(rows=[*NAMES[:2], "3-3-A-x.wav"]),
            "meta/esc50.csv, line 4: target is 'x', but must be an integer",
        ),
        (archive(root="other/meta-"), "it lacks meta/esc50.csv"),
    ],
)
def test_removes_what_is_not_a_whole_esc50(server, tmp_path, content, reason):
    server.content = content
    inside = tmp_path / "deep" / "inside"
    with refused(ValueError, f"the archive is not a whole ESC-50 and has been removed: {reason}") as caught:
        fetch_esc50(inside / "esc", server.url)
    assert ".part" not in str(caught.value)
    if reason == "...":  # the flipped byte: what finds it depends on the compression
        assert re.search("CRC|invalid|header", str(caught.value))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert list(inside.iterdir()) == []


@pytest.mark.parametrize("unpacking", [False, True])
def test_a_full_disk(server, tmp_path, monkeypatch, unpacking):
    room = len(server.content) + (1000 if unpacking else -1000)
    usage = shutil.disk_usage(tmp_path)

    def disk_usage(path):
        used = sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())
        return usage._replace(free=room - used)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    message = (
        f"[Errno {errno.ENOSPC}] the disk is full (too little space for the "
        f"{'unpacked files' if unpacking else 'archive'}): "
        f"free some space and run the same again to continue: {str(tmp_path / 'esc')!r}"
    )
    with refused(OSError, message) as caught:
        fetch_esc50(tmp_path / "esc", server.url)
    assert caught.value.errno == errno.ENOSPC
    assert [p.name for p in tmp_path.iterdir()] == ["esc.zip.part"] * unpacking
    monkeypatch.undo()
    monkeypatch.setattr(download, "_CLIPS", len(NAMES))
    fetch_esc50(tmp_path / "esc", server.url)
    check_complete(tmp_path / "esc")


def test_what_is_there_stays(server, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    (tmp_path / "file").write_text("words")
    for name in ("mine", "file"):
        message = f"{tmp_path / name} exists and is not a complete ESC-50; name another folder"
        with refused(FileExistsError, message):
            fetch_esc50(tmp_path / name, server.url)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == (tmp_path / "file").read_text() == "words"
    assert server.requests == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "file:///etc/passwd"}, "url is 'file:///etc/passwd', but must begin with http:// or https://"),
        (
            {"url": "http://127.0.0.1/a b"},
            "url is 'http://127.0.0.1/a b', but must be a valid address: "
            "URL can't contain control characters. '/a b' (found at least ' ')",
        ),
        ({"sha256": "123"}, "sha256 is '123', but must be 64 hexadecimal digits"),
    ],
)
def test_refuses_arguments(tmp_path, arguments, message):
    with refused(ValueError, message):
        fetch_esc50(tmp_path / "esc", **arguments)
    assert not list(tmp_path.iterdir())


def test_shows_its_progress(server, tmp_path, capsys):
    fetch_esc50(tmp_path / "esc", server.url, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Fetching" in err
    assert "Unpacking" in err
