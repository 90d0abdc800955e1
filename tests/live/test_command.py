"""`l2i stream` from and to pipes and files, its options, and models behind it."""

import contextlib
import os
import pty
import runpy
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from l2i_fast.arrays import from_pcm
from l2i_fast.audio import as_mono_float32
from l2i_fast.cli import app

from ..conftest import make_model
from . import stand_ins
from .support import DTYPES, RATE, errors, invoke, noise, one_line, pcm, run, start


@pytest.mark.parametrize("name", DTYPES)
def test_a_pipe_gives_back_its_own_format(rng, name):
    y = noise(rng, 5001)
    status, out, told = run("-", "--format", name, data=pcm(y, name))
    assert status == 0, told
    found = np.frombuffer(out, DTYPES[name])
    wanted = np.frombuffer(pcm(y, name), DTYPES[name])
    assert np.array_equal(found[: stand_ins.LATENCY], np.zeros(stand_ins.LATENCY))
    if name in ("s16le", "f32le"):
        assert np.array_equal(found[stand_ins.LATENCY :], wanted)
    else:  # float32 lies between
        np.testing.assert_allclose(found[stand_ins.LATENCY :], wanted, rtol=1e-6, atol=1e-9)
    assert told[-1].startswith("0:00.1 heard")


def test_channels_are_averaged(rng):
    y = noise(rng, 900, 3)
    status, out, _ = run("-", "--format", "f32le", "--channels", 3, data=y.tobytes())
    assert status == 0
    np.testing.assert_allclose(np.frombuffer(out, "<f4")[stand_ins.LATENCY :], y.mean(1), atol=1e-7)


def test_another_rate_comes_back_at_that_rate(rng):
    y = noise(rng, 3000)
    status, out, _ = run("-", "--format", "f32le", "--rate", 48000, data=y.tobytes())
    assert status == 0
    assert np.array_equal(np.frombuffer(out, "<f4")[stand_ins.LATENCY :], y)


def test_an_empty_pipe_is_no_error(place):
    status, out, told = run("-")
    assert (status, len(out)) == (0, 2 * stand_ins.LATENCY)
    assert not errors(told)


@pytest.mark.parametrize(
    ("name", "channels", "extra"), [("s16le", 1, 1), ("f32le", 1, 3), ("s16le", 2, 2), ("s16le", 2, 3)]
)
def test_a_pipe_that_ends_within_a_sample(rng, name, channels, extra):
    y = noise(rng, 1000, channels)
    status, out, told = run("-", "--format", name, "--channels", channels, data=pcm(y, name) + b"\1" * extra)
    assert status == 1
    (line,) = errors(told)
    assert "middle of a sample" in line
    assert f"{extra} of {len(pcm(y, name)) // 1000} bytes" in line
    found = np.frombuffer(out, DTYPES[name])[stand_ins.LATENCY :]
    wanted = as_mono_float32(np.frombuffer(pcm(y, name), DTYPES[name]).reshape(-1, channels))
    np.testing.assert_allclose(from_pcm(found, "found"), wanted, atol=2e-5)


def test_a_value_that_is_not_finite_ends_a_pipe_after_all_samples_before_it(rng):
    y = noise(rng, 1000)
    y[700] = np.nan
    status, out, told = run("-", "--format", "f32le", data=y.tobytes())
    assert status == 1
    (line,) = errors(told)
    assert "standard input holds NaN or infinity at sample 700" in line
    assert np.array_equal(np.frombuffer(out, "<f4")[stand_ins.LATENCY :], y[:700])


def test_messages_never_get_into_the_sound(place, rng):
    """A closed descriptor would be that of the next file that is opened."""
    y = noise(rng, 20000)
    soundfile.write("in.wav", y, RATE, subtype="FLOAT")
    for closed in ("2>&-", "<&- >&- 2>&-"):
        with start("in.wav", "-o", "out.wav", "--fast", shell=closed) as process:
            out, told = process.communicate(timeout=60)
        assert (process.returncode, out, told) == (0, b"", b"")
        assert np.array_equal(soundfile.read("out.wav", dtype="float32")[0], y)
    with start("-", shell="2>&-") as process:
        out, _ = process.communicate(pcm(y, "s16le"), timeout=60)
    assert process.returncode == 0
    assert out[2 * stand_ins.LATENCY :] == pcm(y, "s16le")


def test_a_display_that_cannot_be_written_does_not_end_the_sound(place, rng):
    y = noise(rng, 20000)
    soundfile.write("in.wav", y, RATE, subtype="FLOAT")
    with start("in.wav", "-o", "out.wav", "--fast", shell="2> /dev/full") as process:
        process.wait(60)
    assert process.returncode == 0
    assert np.array_equal(soundfile.read("out.wav", dtype="float32")[0], y)


@pytest.mark.parametrize(
    ("arguments", "closed", "name"), [(["-"], "<&-", "input"), (["in.wav", "-o", "-"], ">&-", "output")]
)
def test_closed_streams_neither_give_nor_take_raw_samples(place, rng, arguments, closed, name):
    soundfile.write("in.wav", noise(rng, 600), RATE)
    with start(*arguments, shell=closed) as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"standard {name} is closed" in told.decode()


def test_a_reader_that_goes_away_ends_it_quietly(rng):
    with start("-") as process:
        process.stdin.write(pcm(noise(rng, 100), "s16le"))
        assert os.read(process.stdout.fileno(), 1)
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # once the process has ended
            while True:
                process.stdin.write(pcm(noise(rng, 1000), "s16le"))
        told = process.stderr.read()
    assert (process.returncode, told) == (1, b"")


def test_file_to_file_lines_up(place, rng):
    y = noise(rng, 30000, 2)
    soundfile.write("in.flac", y, RATE, subtype="PCM_24")
    status, out, told = run("in.flac", "-o", "new/out.wav", "--fast")
    assert (status, out) == (0, b""), told
    assert told[-1].endswith("0.7 s are in new/out.wav")
    found, rate = soundfile.read("new/out.wav", dtype="float32")
    assert rate == RATE
    np.testing.assert_allclose(found, y.mean(1), atol=1e-6)
    assert [path.name for path in Path("new").iterdir()] == ["out.wav"]


def test_a_recording_keeps_its_rate(place, rng):
    y = noise(rng, 16000)
    soundfile.write("in.wav", y, 16000, subtype="FLOAT")
    status, _, told = run("in.wav", "-o", "out.wav", "--fast", "--block", 777)
    assert status == 0, told
    found, rate = soundfile.read("out.wav", dtype="float32")
    assert rate == 16000
    assert np.array_equal(found, y)


@pytest.mark.filterwarnings("default::RuntimeWarning")
def test_a_recording_that_ends_too_early_is_streamed_and_reported(place, rng, fake_model):
    y = noise(rng, 30000)
    soundfile.write("in.flac", y, RATE, subtype="PCM_24")
    data = Path("in.flac").read_bytes()
    Path("in.flac").write_bytes(data[: len(data) // 2])
    done = invoke("in.flac", "-o", "out.wav", "--fast")
    assert done.exit_code == 0, done.output
    found, _ = soundfile.read("out.wav", dtype="float32")
    np.testing.assert_allclose(found, y[: len(found)], atol=1e-6)
    assert 10000 < len(found) < 20000
    expected = f"in.flac gives {len(found) / RATE:.3f} s of sound, but its header states {30000 / RATE:.3f} s"
    assert done.stderr.splitlines()[0] == f"l2i: warning: {expected}"


def test_a_recording_may_come_from_a_pipe(place, rng, fake_model):
    y = noise(rng, 9000)
    soundfile.write("in.flac", y, RATE, subtype="PCM_24")
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(Path("in.flac").read_bytes()))
    writer.start()
    done = invoke("pipe", "-o", "out.wav", "--fast")
    writer.join()
    assert done.exit_code == 0, done.output
    np.testing.assert_allclose(soundfile.read("out.wav", dtype="float32")[0], y, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["missing.wav", "-o", "x.wav"], 1, ["no file missing.wav"]),
        (["text.wav", "-o", "x.wav"], 1, ["text.wav", "cannot be read as audio"]),
        ([".", "-o", "x.wav"], 1, ["folder"]),
        (["in.wav", "-o", "x.mp3"], 2, ["--output", "x.mp3", ".wav"]),
        (["in.wav", "-o", "x.wav", "--rate", "8000"], 2, ["--rate", "raw"]),
        (["in.wav", "-o", "x.wav", "--format", "f32le"], 2, ["--format", "raw"]),
        (["in.wav", "-o", "x.wav", "--channels", "2"], 2, ["--channels"]),
        (["in.wav", "-o", "x.wav", "--device", "0"], 2, ["--device"]),
        (["in.wav", "-o", "x.wav", "--output-device", "0"], 2, ["--output-device"]),
        (["in.wav", "-o", "x.wav", "--block", "0"], 2, ["--block"]),
        (["in.wav", "-o", "x.wav", "--target", "cat"], 2, ["--target", "cat"]),
        (["-", "--format", "mp3"], 2, ["--format"]),
        (["--fast", "-o", "x.wav"], 2, ["--fast", "microphone"]),
        (["in.wav", "--fast"], 2, ["--fast", "speaker"]),
    ],
)
def test_wrong_usage_and_unreadable_files(place, rng, fake_model, arguments, status, words):
    soundfile.write("in.wav", noise(rng, 600), RATE)
    Path("text.wav").write_text("this is no sound")
    done = invoke(*arguments)
    assert done.stdout == ""
    one_line(done, status, *words)
    assert sorted(path.name for path in place.iterdir()) == ["in.wav", "text.wav"]


def test_terminals_neither_give_nor_take_raw_samples(place):
    ours, theirs = pty.openpty()
    try:
        for arguments, pipes, word in (
            (["-"], {"stdin": theirs}, "standard input is a terminal"),
            (["-"], {"stdout": theirs}, "standard output is a terminal"),
        ):
            with start(*arguments, **pipes) as process:
                _, told = process.communicate(timeout=30)
            assert process.returncode == 2
            assert word in told.decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_options_reach_the_stream(place, rng, monkeypatch):
    made = []

    class Model(stand_ins.FakeModel):
        def stream(self, samplerate, **settings):
            made.append(stand_ins.FakeStream(samplerate, **settings))
            return made[0]

    monkeypatch.setattr("l2i_fast.model.load", lambda *_: Model())
    soundfile.write("in.wav", noise(rng, 2000), RATE)
    done = CliRunner().invoke(
        app,
        ["stream", "in.wav", "-o", "x.wav", "--fast", "-t", "rain", "-t", "0", "--threshold", "0.1", "--top-k", "3",
         "--domain", "magnitude", "--refresh", "0.5", "--block", "100"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    (stream,) = made
    assert (stream.sample_rate, stream.mode, stream.refresh, stream.closed) == (RATE, "synchronous", 0.5, True)
    assert stream.settings == {"targets": ["rain", 0], "threshold": 0.1, "top_k": 3, "domain": "magnitude"}


@pytest.mark.parametrize("rate", [RATE, 11025])
def test_a_file_holds_the_output_of_the_stream_of_the_model(place, rng, monkeypatch, tiny_model, rate):
    monkeypatch.setattr("l2i_fast.model.load", lambda *_: tiny_model)
    y = noise(rng, 40000)
    soundfile.write("in.wav", y, rate, subtype="FLOAT")
    done = invoke("in.wav", "-o", "out.wav", "--fast", "--block", 999, "--refresh", 0.1, "--top-k", 4, "-t", "dog")
    assert done.exit_code == 0, done.output
    with tiny_model.stream(rate, mode="synchronous", refresh=0.1, top_k=4, targets="dog") as stream:
        wanted = stream.push(y, last=True)[stream.latency :]
    assert np.array_equal(soundfile.read("out.wav", dtype="float32")[0], wanted)
    assert len(wanted) == len(y)
    assert np.any(wanted)


def test_a_forced_backend_that_has_no_streams_is_one_line(place, rng, monkeypatch, tiny_model):
    monkeypatch.setattr("l2i_fast.model.load", lambda *_: tiny_model)
    monkeypatch.setenv("L2I_BACKEND", "scipy")
    soundfile.write("in.wav", noise(rng, 600), RATE)
    one_line(invoke("in.wav", "-o", "out.wav"), 1, "l2i: error: L2I_BACKEND is scipy, but this backend has no Stream")


def test_the_example_program(place, rng, monkeypatch, capsys, tiny_model):
    monkeypatch.setattr("l2i_fast.model.load", lambda *_: tiny_model)
    y = noise(rng, 30000)
    soundfile.write("in.wav", y, RATE, subtype="FLOAT")
    monkeypatch.setattr(sys, "argv", ["stream_file.py", "in.wav", "there/out.wav"])
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "stream_file.py"))
    assert "because of components" in capsys.readouterr().out
    with tiny_model.stream(mode="synchronous") as stream:
        wanted = stream.push(y, last=True)[stream.latency :]
    assert np.array_equal(soundfile.read("there/out.wav", dtype="float32")[0], wanted)
    monkeypatch.setattr(sys, "argv", ["stream_file.py", "missing.wav"])
    with pytest.raises(SystemExit, match=r"^there is no file missing\.wav$"):
        runpy.run_path(str(Path(__file__).parents[2] / "examples" / "stream_file.py"))


def test_a_network_that_raises_is_reported_and_the_sound_goes_on(place, rng, monkeypatch):
    def fail(self, *_):
        raise RuntimeError("out of\nmemory")

    model = make_model()
    monkeypatch.setattr(type(model), "hear", fail)
    monkeypatch.setattr("l2i_fast.model.load", lambda *_: model)
    soundfile.write("in.wav", noise(rng, 40000), RATE, subtype="FLOAT")
    done = invoke("in.wav", "-o", "out.wav", "--fast")
    assert done.exit_code == 0, done.output
    told, end = done.stderr.splitlines()
    assert "the network fails, the sound goes on: RuntimeError: out of memory" in told
    assert "0:00.9 heard, 0 refreshes, 3 failures; 0.9 s are in out.wav" in end
    assert soundfile.info("out.wav").frames == 40000


def test_a_process_from_pipe_to_pipe(rng, tiny_model, tmp_path):
    tiny_model.save(tmp_path / "tiny")
    y = pcm(noise(rng, 30000), "s16le")
    found = {
        run(
            "-",
            "-m",
            tmp_path / "tiny",
            "--fast",
            "--block",
            block,
            data=y,
            code="from l2i_fast.cli import main; main()",
        )[:2]
        for block in (100, 4096)
    }
    ((status, out),) = found  # whatever the blocks
    assert status == 0
    with tiny_model.stream(mode="synchronous") as stream:
        wanted = stream.push(np.frombuffer(y, "<i2"), last=True)
    np.testing.assert_allclose(np.frombuffer(out, "<i2"), 32768 * wanted, atol=0.51)
