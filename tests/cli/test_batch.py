import json
import os
import pty
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from .support import ENVIRONMENT, assert_fails, files_in, make_clip, run, run_process


@pytest.fixture(scope="module")
def tiny(tiny_model, tmp_path_factory):
    return tiny_model.save(tmp_path_factory.mktemp("tiny"))


def options(tiny, output):
    return ["--model", tiny, "--output", output, "--jobs", 1, "--window", 0.5, "--overlap", 0.1]


def test_an_archive(tiny, tmp_path):
    make_clip(tmp_path / "in" / "a.wav", 60_000)
    make_clip(tmp_path / "in" / "20240309_120000.wav", 20_000)
    done = run("batch", tmp_path / "in", *options(tiny, tmp_path / "out"), "--confidence", 0, "--export", "raven",
               "--timezone", "Europe/Berlin")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert done.stdout == f"20 new windows in 0.00 h of sound; tables and sound in {tmp_path}/out\n"
    rows = pq.read_table(tmp_path / "out" / "events").to_pylist()
    assert len(rows) == 20
    assert {str(row["start_utc"]) for row in rows if "2024" in row["recording"]} == {"2024-03-09 11:00:00+00:00"}
    status = json.loads((tmp_path / "out" / "status.json").read_text())
    assert (status["state"], status["recordings"], status["problems"]) == ("finished", 2, 0)
    assert "export/raven/all.selections.txt" in files_in(tmp_path / "out")
    # A second call has nothing to do.
    again = run(
        "batch", tmp_path / "in", *options(tiny, tmp_path / "out"), "--confidence", 0, "--timezone", "Europe/Berlin"
    )
    assert again.stdout.startswith("0 new windows")


def test_problems_set_the_status_and_stop_nothing(tiny, tmp_path):
    make_clip(tmp_path / "in" / "a.wav")
    (tmp_path / "in" / "b.wav").write_text("no sound")
    done = run("batch", tmp_path / "in", *options(tiny, tmp_path / "out"))
    assert done.exit_code == 1
    assert done.stderr == f"l2i: 1 recordings or parts gave problems: see {tmp_path}/out/errors\n"
    (row,) = pq.read_table(tmp_path / "out" / "errors").to_pylist()
    assert row["kind"] == "damaged"


def test_a_dry_run_writes_nothing(tiny, tmp_path):
    for i in range(3):
        make_clip(tmp_path / "in" / f"{i}.wav", 44100 * 12, seed=i)
    (tmp_path / "in" / "b.wav").write_text("no sound")
    done = run("batch", tmp_path / "in", *options(tiny, tmp_path / "out"), "--dry-run")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[:2] == ["4 recordings with 0.01 h of sound", "1 cannot be read: 1 damaged"]
    assert lines[2] == "about 0:01 h of time, if every window has to be explained"
    assert lines[3] == "at most about 0.0 GB of sound files, if every window has one event"
    assert not (tmp_path / "out").exists()
    run("batch", tmp_path / "in", *options(tiny, tmp_path / "out"), "--sound", "none")
    before = files_in(tmp_path / "out")
    done = run("batch", tmp_path / "in", *options(tiny, tmp_path / "out"), "--sound", "none", "--dry-run")
    assert "0.01 h are done" in done.stdout
    assert "about 0:00 h of time" in done.stdout
    assert files_in(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--overlap", 0.3], "overlap is 0.3 s, but must be at most half of window, 0.25 s"),
        (["--confidence", 1.5], "confidence is 1.5, but must be"),
        (["--sound", "some"], "sound is 'some', but must be"),
        (["--format", "mp3"], "format is 'mp3', but must be"),
        (["--export", "excel"], "export is 'excel', but must be"),
        (["--timezone", "Mars/Olympus"], "timezone is 'Mars/Olympus', but must be a zone"),
        (["--timezone", "../etc/passwd"], "timezone is '../etc/passwd', but must be a zone"),
        (
            ["--cluster", "ray://host:10001"],
            "cluster is 'ray://host:10001', but must be auto, local, or the address of a",
        ),
        (["--target", "cow"], "target is 'cow', but must be one of dog"),
    ],
)
def test_wrong_settings_are_refused_before_the_work(tiny, tmp_path, changes, words):
    make_clip(tmp_path / "a.wav")
    done = run("batch", tmp_path / "a.wav", *options(tiny, tmp_path / "out"), *changes)
    assert_fails(done, 2, words)
    assert not (tmp_path / "out").exists()


def test_an_input_that_does_not_exist_is_refused(tiny, tmp_path):
    done = run("batch", tmp_path / "gone.wav", *options(tiny, tmp_path / "out"))
    assert_fails(done, 1, f"there is no file {tmp_path}/gone.wav")


def test_a_folder_of_another_run_is_refused(tiny, tmp_path):
    make_clip(tmp_path / "a.wav")
    run("batch", tmp_path / "a.wav", *options(tiny, tmp_path / "out"))
    done = run("batch", tmp_path / "a.wav", *options(tiny, tmp_path / "out"), "--confidence", 0.9)
    assert_fails(done, 1, "holds a run with other settings (confidence 0.5, not 0.9): choose another folder")


def test_a_list_on_standard_input(tiny, tmp_path):
    make_clip(tmp_path / "line\nbreak.wav")
    done = run_process(
        "batch", "-", *options(tiny, tmp_path / "out"), "--confidence", 0, input=f"{tmp_path}/line\nbreak.wav\0"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 new windows")


def test_a_terminal_shows_a_bar(tiny, tmp_path):
    for i in range(3):
        make_clip(tmp_path / "in" / f"{i}.wav", 200_000, seed=i)
    code = "import l2i_fast.archive.run as run; run._COMMIT = 0.0; from l2i_fast.cli import main; main()"
    parent, child = pty.openpty()
    command = [sys.executable, "-P", "-c", code, "batch", tmp_path / "in", *options(tiny, tmp_path / "out")]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=child, env=ENVIRONMENT) as process:
        os.close(child)
        shown = b""
        while True:
            try:
                data = os.read(parent, 65536)
            except OSError:
                break
            shown += data
        process.communicate()
    os.close(parent)
    assert process.returncode == 0
    text = shown.decode()
    assert "3 of 3" in text
    assert "recordings" in text


def test_a_summary(tiny, tmp_path):
    make_clip(tmp_path / "in" / "20240309_120000Z.wav", 60_000)
    run("batch", tmp_path / "in", *options(tiny, tmp_path / "out"), "--confidence", 0)
    done = run("batch", "--summary", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path}/out/summary/index.html\n"
    assert not done.stderr
    made = {"index.html", "classes.csv", "hours.csv", "dates.csv", "errors.csv", "best.csv", "heat.png"}
    assert made | {"listening/index.html"} <= set(files_in(tmp_path / "out" / "summary"))
    # It is no part of the run, which goes on as before.
    done = run("batch", tmp_path / "in", *options(tiny, tmp_path / "out"), "--confidence", 0)
    assert done.stdout.startswith("0 new windows")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--summary", "out", "in"], 2, "--summary takes no inputs and no other options, but INPUT is given"),
        (["--summary", "out", "-o", "out"], 2, "takes no inputs and no other options, but '--output' is given"),
        (["--summary", "out", "--dry-run"], 2, "takes no inputs and no other options, but '--dry-run' is given"),
        (["--summary", "out"], 1, "out is no folder, but must be the output of l2i batch"),
        (["--summary", "."], 1, ". holds no journal.sqlite, but must be the output of l2i batch"),
        (["-o", "out"], 2, "Missing argument 'INPUT'"),
        (["in"], 2, "Missing option '--output' / '-o'"),
    ],
)
def test_a_summary_is_of_a_run(tmp_path, monkeypatch, arguments, status, words):
    monkeypatch.chdir(tmp_path)
    assert_fails(run("batch", *arguments), status, words)
    assert list(tmp_path.iterdir()) == []
