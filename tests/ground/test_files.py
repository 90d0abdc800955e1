"""Files that appear whole: several writers at once, links, names that are no files, failures."""

import os
import stat
import threading
import time

import pytest

from l2i_fast.files import as_path, whole, whole_set, write_whole

from ..helpers import refused


def at_once(n, act):
    """Call `act(i)` in n threads that start together; return their exceptions."""
    start, raised = threading.Barrier(n), []

    def run(i):
        start.wait()
        try:
            act(i)
        except Exception as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_of_several_writers_one_leaves_its_whole_file(tmp_path):
    path = tmp_path / "same.txt"
    contents = [str(i) * 5000 for i in range(6)]

    def write(i):
        for _ in range(20):
            write_whole(path, lambda part: part.write_text(contents[i]))
            assert path.read_text() in contents

    assert at_once(6, write) == []
    assert os.listdir(tmp_path) == ["same.txt"]


def test_a_writer_that_meets_another_does_not_touch_its_file(tmp_path):
    path = tmp_path / "x.txt"
    with whole(path) as first:
        first.write_text("first")
        with whole(path) as second:
            assert second != first
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"


def test_of_several_writers_of_files_that_belong_together_one_leaves_all_of_its_own(tmp_path, monkeypatch):
    replace, order = os.replace, []

    def replace_slowly(source, target):
        order.append(threading.get_ident())
        time.sleep(0.001)  # lets the other threads go first
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_slowly)

    def write(i):
        for _ in range(5):
            with whole_set(tmp_path / "set", last="a") as partial:
                for name in ("a", "b", "c"):
                    (partial / name).write_text(f"{i}")

    assert at_once(5, write) == []
    assert sorted(os.listdir(tmp_path / "set")) == ["a", "b", "c"]
    assert len({path.read_text() for path in (tmp_path / "set").iterdir()}) == 1
    assert all(len(set(order[i : i + 3])) == 1 for i in range(0, len(order), 3))


def test_the_last_file_of_a_set_comes_last(tmp_path, monkeypatch):
    moved = []
    monkeypatch.setattr(os, "replace", lambda source, target: moved.append(target.name))
    with whole_set(tmp_path, last="a") as partial:
        for name in ("b", "a", "c"):
            (partial / name).write_text("")
    assert moved == ["b", "c", "a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_file_that_was_there_and_nothing_else(tmp_path, error):
    path = tmp_path / "x.txt"
    path.write_text("before")

    def fail(part):
        part.write_text("half")
        raise error

    with pytest.raises(error):
        write_whole(path, fail)
    with pytest.raises(error), whole_set(tmp_path, last="x.txt") as partial:
        fail(partial / "x.txt")
    assert os.listdir(tmp_path) == ["x.txt"]
    assert path.read_text() == "before"


def test_errors_name_what_is_written(tmp_path):
    def fail(part):
        raise PermissionError(13, "Permission denied", str(part))

    with refused(PermissionError, f"[Errno 13] Permission denied: '{tmp_path / 'x.txt'}'"):
        write_whole(tmp_path / "x.txt", fail)
    with refused(PermissionError, f"[Errno 13] Permission denied: '{tmp_path}'"), whole_set(tmp_path, "a") as partial:
        fail(partial / "a")
    (tmp_path / "a").mkdir()
    message = f"[Errno 21] Is a directory: '{tmp_path / 'a'}'"
    with refused(IsADirectoryError, message), whole_set(tmp_path, last="a") as partial:
        (partial / "a").write_text("")
    elsewhere = PermissionError(13, "Permission denied", "elsewhere")
    with refused(PermissionError, "[Errno 13] Permission denied: 'elsewhere'"), whole(tmp_path / "x.txt"):
        raise elsewhere


def test_an_unfinished_file_keeps_the_ending_and_is_recognisable(tmp_path):
    for name in ("x.wav", "x" * 251 + ".wav", "ü" * 120 + ".tar.gz"):
        with whole(tmp_path / name) as part:
            part.write_text("")
            assert part.parent == tmp_path
            assert part.name.startswith(".partial-")
            assert part.suffix == (tmp_path / name).suffix
        assert (tmp_path / name).exists()


def test_files_have_the_mode_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "one", lambda part: part.write_text(""))
        with whole_set(tmp_path, last="two") as partial:
            (partial / "two").write_text("")
    finally:
        os.umask(before)
    for name in ("one", "two"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_stays_and_its_file_is_replaced(tmp_path, exists):
    target, link = tmp_path / "there" / "file", tmp_path / "link"
    target.parent.mkdir()
    if exists:
        target.write_text("before")
    link.symlink_to("there/file")
    write_whole(link, lambda part: part.write_text("after"))
    assert link.is_symlink()
    assert target.read_text() == "after"
    assert sorted(os.listdir(tmp_path)) == ["link", "there"]
    assert os.listdir(target.parent) == ["file"]


def test_folders_pipes_and_devices_are_refused_and_stay(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "null").symlink_to(os.devnull)
    (tmp_path / "folder").mkdir()
    device = "a pipe, socket or device"
    for name, kind in (("pipe.wav", device), ("null", device), ("folder", "a folder")):
        path = tmp_path / name
        with refused(FileExistsError, f"{path} is {kind}, but must be a file or a new name"):
            write_whole(path, lambda part: part.write_text(""))
    assert (tmp_path / "pipe.wav").is_fifo()
    assert (tmp_path / "null").is_char_device()
    assert sorted(os.listdir(tmp_path)) == ["folder", "null", "pipe.wav"]


def test_what_is_no_path_is_refused():
    for value in (None, 3, b"bytes"):
        with refused(TypeError, f"folder is {value!r}, but must be a path"):
            as_path("folder", value)
    assert as_path("folder", "x").name == "x"
