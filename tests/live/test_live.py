"""`l2i stream` and what it is made of: sources, sinks, devices, the loop between them and the view of it."""

import array
import contextlib
import fcntl
import io
import os
import pty
import runpy
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from l2i_fast import cli, live
from l2i_fast.audio import as_mono_float32, resample
from l2i_fast.live import devices
from l2i_fast.live import terminal as view

from ..conftest import make_model
from . import fake_model as fake

RATE = 44100
DTYPES = {"s16le": "<i2", "s32le": "<i4", "f32le": "<f4", "f64le": "<f8"}
START = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import fake_model; fake_model.install()\n"
    "from l2i_fast.cli import main; main()"
)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}


def noise(rng, n, channels=None):
    y = 0.2 * rng.standard_normal(n if channels is None else (n, channels))
    return y.clip(-0.99, 0.99).astype(np.float32)  # integers hold no more than full scale


def pcm(y, name):
    """Raw bytes of floating samples."""
    dtype = np.dtype(DTYPES[name])
    return (y if dtype.kind == "f" else np.rint(y * 2.0 ** (8 * dtype.itemsize - 1))).astype(dtype).tobytes()


def start(*arguments, code=START, **pipes):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes}
    command = [sys.executable, "-P", "-c", code, "stream", *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, bufsize=0, **pipes)


def run(*arguments, data=b"", code=START):
    """Run `l2i stream` as a process; return its status, its standard output and the lines of standard error."""
    with start(*arguments, code=code) as process:
        out, told = process.communicate(data, timeout=60)
    return process.returncode, out, told.decode().splitlines()


def errors(lines):
    return [line for line in lines if line.startswith("l2i: error: ")]


def wait_for(condition, seconds=20):
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def card(monkeypatch):
    """Install a sound card that does not exist."""

    def install(**properties):
        card = fake.FakeSoundDevice(**properties)
        monkeypatch.setitem(sys.modules, "sounddevice", card)
        return card

    return install


@pytest.fixture
def fake_model(monkeypatch):
    monkeypatch.setattr("l2i_fast.model.load", lambda name: fake.FakeModel())


def invoke(*arguments):
    return CliRunner().invoke(cli.app, ["stream", *map(str, arguments)])


def one_line(done, status, *words):
    assert done.exit_code == status, done.output
    (line,) = errors(done.stderr.splitlines())
    for word in words:
        assert word in line


# ---- pipes


@pytest.mark.parametrize("name", DTYPES)
def test_a_pipe_gives_back_its_own_format(rng, name):
    y = noise(rng, 5001)
    status, out, told = run("-", "--format", name, data=pcm(y, name))
    assert status == 0, told
    found = np.frombuffer(out, DTYPES[name])
    wanted = np.frombuffer(pcm(y, name), DTYPES[name])
    assert np.array_equal(found[: fake.LATENCY], np.zeros(fake.LATENCY))
    if name in ("s16le", "f32le"):
        assert np.array_equal(found[fake.LATENCY :], wanted)
    else:  # float32 lies between
        np.testing.assert_allclose(found[fake.LATENCY :], wanted, rtol=1e-6, atol=1e-9)
    assert told[-1].startswith("0:00.1 heard")


@pytest.mark.parametrize("name", ["s16le", "s32le"])
def test_what_is_above_full_scale_is_clipped(name):
    taken = io.BytesIO()
    live.RawOutput(taken, name, RATE).write(np.array([2, 1, 0.5, 0, -0.5, -1, -2], np.float32))
    limits = np.iinfo(DTYPES[name])
    half = (limits.max + 1) // 2
    wanted = [limits.max, limits.max, half, 0, -half, limits.min, limits.min]
    assert np.frombuffer(taken.getvalue(), DTYPES[name]).tolist() == wanted


def test_channels_are_averaged(rng):
    y = noise(rng, 900, 3)
    status, out, _ = run("-", "--format", "f32le", "--channels", 3, data=y.tobytes())
    assert status == 0
    np.testing.assert_allclose(np.frombuffer(out, "<f4")[fake.LATENCY :], y.mean(1), atol=1e-7)


def test_another_rate_comes_back_at_that_rate(rng):
    y = noise(rng, 3000)
    status, out, _ = run("-", "--format", "f32le", "--rate", 48000, data=y.tobytes())
    assert status == 0
    assert np.array_equal(np.frombuffer(out, "<f4")[fake.LATENCY :], y)


def test_an_empty_pipe_is_no_fault(place):
    status, out, told = run("-")
    assert (status, len(out)) == (0, 2 * fake.LATENCY)
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
    found = np.frombuffer(out, DTYPES[name])[fake.LATENCY :]
    wanted = as_mono_float32(np.frombuffer(pcm(y, name), DTYPES[name]).reshape(-1, channels))
    np.testing.assert_allclose(live.from_pcm(found, "found"), wanted, atol=2e-5)


def test_what_is_not_finite_ends_a_pipe_after_what_came_before(rng):
    y = noise(rng, 1000)
    y[700] = np.nan
    status, out, told = run("-", "--format", "f32le", data=y.tobytes())
    assert status == 1
    (line,) = errors(told)
    assert "standard input holds NaN or infinity at sample 700" in line
    assert np.array_equal(np.frombuffer(out, "<f4")[fake.LATENCY :], y[:700])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("at", [0, 511, 512, 999])
@pytest.mark.parametrize("channels", [1, 2])
def test_no_sample_is_lost_before_one_that_is_not_finite(rng, tmp_path, bad, at, channels):
    y = noise(rng, 1000, channels).astype(np.float64)
    y[at, -1] = bad
    (tmp_path / "raw").write_bytes(y.tobytes())
    taken = io.BytesIO()
    with open(tmp_path / "raw", "rb") as file:
        source = live.RawInput(file, "f64le", RATE, channels, 512)
        session = live.Session(source, fake.FakeStream(), live.RawOutput(taken, "f64le", RATE), 512)
        with pytest.raises(ValueError, match=rf"at sample {at}$"):
            session.run(lambda: False)
    found = np.frombuffer(taken.getvalue())[fake.LATENCY :]
    np.testing.assert_allclose(found, y[:at].mean(1), atol=1e-7)
    assert session.heard == at


def test_sound_goes_on_while_the_pipe_is_open(rng):
    """What comes in goes out at once: not only when a block is full, nor at the end."""
    y = np.rint(noise(rng, 300) * 32768).astype("<i2")
    with start("-") as process:
        for part in np.split(y, 3):
            process.stdin.write(part.tobytes())
            out = b""
            while len(out) < part.nbytes:
                out += os.read(process.stdout.fileno(), part.nbytes - len(out))
        process.stdin.close()
        assert len(process.stdout.read()) == 2 * fake.LATENCY
    assert process.returncode == 0


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_completes_the_file(place, rng, number):
    y = noise(rng, 2000)
    with start("-", "--format", "f32le", "-o", "out/heard.wav") as process:
        process.stdin.write(y.tobytes())
        growing = lambda: list(place.glob("out/.*heard.wav"))  # noqa: E731
        wait_for(lambda: growing() and growing()[0].stat().st_size > 4 * (len(y) - fake.LATENCY))
        assert not Path("out/heard.wav").exists()
        process.send_signal(number)
        told = process.stderr.read().decode().splitlines()
        process.wait(20)
    assert process.returncode == 130
    assert told[-1] == f"l2i: interrupted; {len(y) / RATE:.1f} s are in out/heard.wav"
    assert [path.name for path in Path("out").iterdir()] == ["heard.wav"]
    found, rate = soundfile.read("out/heard.wav", dtype="float32")
    assert rate == RATE
    assert np.array_equal(found, y)


def test_ctrl_c_while_a_pipe_is_silent_flushes(rng):
    y = noise(rng, 1000)
    with start("-", "--format", "f32le") as process:
        process.stdin.write(y.tobytes())
        out = b""
        while len(out) < y.nbytes:
            out += os.read(process.stdout.fileno(), y.nbytes - len(out))
        process.send_signal(signal.SIGINT)
        out += process.stdout.read()
        assert process.stderr.read().decode().splitlines()[-1] == "l2i: interrupted"
    assert process.returncode == 130
    assert np.array_equal(np.frombuffer(out, "<f4")[fake.LATENCY :], y)


def test_a_second_ctrl_c_ends_it_where_it_is(rng):
    """The reader has stopped reading: the first Ctrl-C waits for it, the second does not."""
    with start("-") as process:
        process.stdin.write(pcm(noise(rng, 60000), "s16le"))
        process.stdin.close()
        unread = array.array("i", [0])

        def full():
            fcntl.ioctl(process.stdout, termios.FIONREAD, unread)
            return unread[0] > 64000  # of 64 KiB; a block does not fit any more

        wait_for(full)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        process.wait(20)
        assert process.stderr.read().decode().splitlines()[-1] == "l2i: interrupted"
    assert process.returncode == 130


# ---- files


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


@pytest.mark.parametrize(("rate", "arguments"), [(RATE, []), (8000, ["--rate", 8000])])
def test_raw_samples_have_the_rate_that_was_asked_for(place, rng, rate, arguments):
    """The model's, where none was."""
    y = noise(rng, 16000)
    soundfile.write("in.wav", y, 16000, subtype="FLOAT")
    status, out, told = run("in.wav", "-o", "-", "--fast", "--format", "f32le", *arguments)
    assert status == 0, told
    wanted = resample(np.pad(y, (fake.LATENCY, 0)), 16000, rate)
    found = np.frombuffer(out, "<f4")
    assert abs(len(found) - len(wanted)) <= 1
    length = min(len(found), len(wanted))
    np.testing.assert_allclose(found[:length], wanted[:length], atol=1e-5)


def test_real_speed_is_real(place, rng):
    soundfile.write("in.wav", noise(rng, RATE), RATE)
    source = live.Recording("in.wav", 512, paced=True)
    begin, samples, waits = time.monotonic(), 0, 0
    with source:
        while (y := source.read()) is not None:
            samples += len(y)
            elapsed = time.monotonic() - begin
            assert samples / RATE <= elapsed + 1e-3
            waits += 1
    assert samples == RATE
    assert elapsed > 0.95


def test_the_same_bytes_every_time(place, rng):
    y = noise(rng, 3000)
    for name in ("a.wav", "b.wav"):
        with live.WavFile(name, RATE) as sink:
            for part in np.array_split(y, 7):
                sink.write(part)
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


@given(skip=st.integers(0, 30), lengths=st.lists(st.integers(0, 20), max_size=8))
@settings(deadline=None, max_examples=30)
def test_a_file_leaves_out_its_first_samples(tmp_path_factory, skip, lengths):
    path = tmp_path_factory.mktemp("wav") / "x.wav"
    y = np.arange(sum(lengths), dtype=np.float32)
    with live.WavFile(path, 8000, skip) as sink:
        for part in np.split(y, np.cumsum(lengths)[:-1]) if lengths else []:
            sink.write(part)
    found, rate = soundfile.read(path, dtype="float32")
    assert rate == 8000
    assert np.array_equal(found, y[skip:])


def test_beyond_four_gigabytes_the_header_says_so(monkeypatch, tmp_path, rng):
    """With a limit of 1000 bytes instead of 4 GiB."""
    monkeypatch.setattr(live, "_MOST", 1000)
    y = noise(rng, 400)
    with live.WavFile(tmp_path / "long.wav", RATE) as sink:
        sink.write(y)
    data = (tmp_path / "long.wav").read_bytes()
    # The 32-bit sizes of an RF64 file are all ones; here they are the limit.
    limit = (1000).to_bytes(4, "little")
    assert data.startswith(b"RF64" + limit)
    (tmp_path / "long.wav").write_bytes(data.replace(limit, b"\xff\xff\xff\xff"))
    found, _ = soundfile.read(tmp_path / "long.wav", dtype="float32")
    assert np.array_equal(found, y)
    assert soundfile.info(tmp_path / "long.wav").format == "RF64"


def test_a_disk_that_runs_full_keeps_what_it_took(tmp_path, rng):
    y = noise(rng, 1000)
    sink = live.WavFile(tmp_path / "full.wav", RATE)
    real = sink._file

    class Full:
        """Takes 2002 bytes more; what is there already can still be written over."""

        left = 2002
        truncate = real.truncate

        def write(self, data):
            if not self.left:
                raise OSError(28, "No space left on device")
            n = real.write(data[: self.left])
            self.left -= n
            return n

        def seek(self, position):
            self.left = 100
            return real.seek(position)

    sink._file = Full()
    with pytest.raises(OSError, match="No space"), sink:
        sink.write(y)
    found, _ = soundfile.read(tmp_path / "full.wav", dtype="float32")
    assert np.array_equal(found, y[:500])
    assert "in " + str(tmp_path / "full.wav") in sink.kept


def test_a_recording_that_breaks_off(place, rng, monkeypatch):
    y = noise(rng, 3000)
    y[2000] = np.nan
    soundfile.write("nan.wav", y, RATE, subtype="FLOAT")
    status, _, told = run("nan.wav", "-o", "out.wav", "--fast")
    assert status == 1
    (line,) = errors(told)
    assert "nan.wav holds NaN or infinity at sample 2000" in line
    assert "are in out.wav" in line
    assert np.array_equal(soundfile.read("out.wav", dtype="float32")[0], y[:2000])


# ---- errors and wrong usage


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
def test_wrong_usage_and_what_cannot_be_read(place, rng, fake_model, arguments, status, words):
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
            (["-"], {"stdout": theirs}, "raw samples are not for a terminal"),
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

    class Model(fake.FakeModel):
        def stream(self, samplerate, **settings):
            made.append(fake.FakeStream(samplerate, **settings))
            return made[0]

    monkeypatch.setattr("l2i_fast.model.load", lambda name: Model())
    soundfile.write("in.wav", noise(rng, 2000), RATE)
    done = CliRunner().invoke(
        cli.app,
        ["stream", "in.wav", "-o", "x.wav", "--fast", "-t", "rain", "-t", "0", "--threshold", "0.1", "--top-k", "3",
         "--domain", "magnitude", "--refresh", "0.5", "--block", "100"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    (stream,) = made
    assert (stream.sample_rate, stream.mode, stream.refresh, stream.closed) == (RATE, "synchronous", 0.5, True)
    assert stream.settings == {"targets": ["rain", 0], "threshold": 0.1, "top_k": 3, "domain": "magnitude"}


# ---- microphone and speaker


def test_a_microphone_that_goes_away(place, rng, card, fake_model):
    sound = noise(rng, 20 * 256, 1)
    found = card(sound=sound, unplug_after=20)
    done = invoke("-o", "heard.wav", "--block", 256)
    one_line(done, 1, "microphone gives no more sound", "0.1 s are in heard.wav")
    assert found.opened == [("InputStream", None, RATE, 256, 1)]
    assert np.array_equal(soundfile.read("heard.wav", dtype="float32")[0], sound[:, 0])


def test_a_microphone_that_falls_silent(place, rng, card, fake_model, monkeypatch):
    """Some drivers never tell that a device is gone: no more blocks come."""
    monkeypatch.setattr(devices, "SILENT", 0.3)
    sound = noise(rng, 1000, 1)
    card(sound=sound)
    one_line(invoke("-o", "heard.wav"), 1, "microphone gives no more sound")
    assert np.array_equal(soundfile.read("heard.wav", dtype="float32")[0], sound[:, 0])


def test_a_device_of_another_rate_and_more_channels(place, rng, card, fake_model):
    sound = noise(rng, 48000 // 4, 2)
    found = card(sound=sound, unplug_after=30, rates=(48000,))
    one_line(invoke("-o", "heard.wav", "--channels", 2, "--device", 0), 1, "no more sound")
    assert found.opened == [("InputStream", 0, 48000, 512, 2)]
    heard, rate = soundfile.read("heard.wav", dtype="float32")
    assert rate == 48000
    np.testing.assert_allclose(heard, sound.mean(1)[: 30 * 512], atol=1e-7)


def test_a_speaker_of_another_rate(place, rng, card, fake_model):
    y = noise(rng, 6000)
    soundfile.write("in.wav", y, RATE, subtype="FLOAT")
    found = card(rates=(48000,))
    done = invoke("in.wav")
    assert done.exit_code == 0, done.output
    wanted = resample(np.pad(y, (fake.LATENCY, 0)), RATE, 48000)
    played = np.concatenate(found.played)[: len(wanted) - 2, 0]
    np.testing.assert_allclose(played, wanted[:-2], atol=1e-5)


def test_a_file_on_the_speaker(place, rng, card, fake_model):
    y = noise(rng, 7000)
    soundfile.write("in.wav", y, RATE, subtype="FLOAT")
    found = card()
    begin = time.monotonic()
    done = invoke("in.wav", "--block", 256)
    assert done.exit_code == 0, done.output
    assert time.monotonic() - begin > 0.5 * len(y) / RATE
    played = np.concatenate(found.played)[:, 0]
    np.testing.assert_array_equal(played[: fake.LATENCY], 0)
    np.testing.assert_array_equal(played[fake.LATENCY : fake.LATENCY + len(y)], y)
    np.testing.assert_array_equal(played[fake.LATENCY + len(y) :], 0)
    assert "dropout" not in done.stderr


def test_a_speaker_that_goes_away(place, rng, card, fake_model):
    soundfile.write("in.wav", noise(rng, 20000), RATE)
    card(unplug_after=5)
    one_line(invoke("in.wav"), 1, "speaker takes no more sound")


def test_a_speaker_counts_what_is_missing_and_what_is_too_much(card):
    card()
    status = fake.FakeSoundDevice().status(0)
    speaker = devices.Speaker(None, RATE, 512, wait=False)
    speaker._started = True  # the test is the device
    out = np.full((512, 1), np.nan, np.float32)
    speaker.write(np.ones(600, np.float32))
    speaker._fill(out, 512, None, status)
    assert (out.min(), speaker.lost) == (1, 0)
    speaker._fill(out, 512, None, status)
    assert (out[:88].min(), out[88:].max(), speaker.lost) == (1, 0, 1)
    for value in range(20):
        speaker.write(np.full(512, value, np.float32))
    speaker._fill(out, 512, None, status)
    assert speaker.lost > 1
    assert out[0, 0] == 12  # no more than 8 blocks are kept
    assert speaker.latency == pytest.approx(0.01 + 7 * 512 / RATE)


def test_what_portaudio_reports_is_counted(rng, card):
    found = card(sound=noise(rng, 5 * 128, 1), unplug_after=5, problems={1: "overflow", 3: "overflow"})
    with devices.Microphone(None, RATE, 1, 128) as microphone:
        session = live.Session(microphone, fake.FakeStream(), live.RawOutput(io.BytesIO(), "s16le", RATE), 128)
        with pytest.raises(OSError, match="no more sound"):
            session.run(lambda: False)
    assert (session.heard, session.lost) == (5 * 128, 2)
    found = card(problems={0: "underflow"})
    with devices.Speaker(None, RATE, 128, wait=True) as speaker:
        speaker.write(np.ones(3000, np.float32))
        wait_for(lambda: len(found.played) > 1)
    assert speaker.lost == 1


def test_a_callback_never_waits_for_the_loop(rng, card, monkeypatch):
    """Nobody takes the blocks: what is too much is dropped and counted."""
    monkeypatch.setattr(devices, "KEPT", 10 * 128 / RATE)
    card()
    microphone = devices.Microphone(None, RATE, 1, 128)
    status = fake.FakeSoundDevice().status(0)
    memory = np.empty((128, 1), np.float32)  # PortAudio's, used again for every block
    blocks = noise(rng, 15 * 128).reshape(15, 128)
    for block in blocks:
        memory[:, 0] = block
        microphone._take(memory, 128, None, status)
    assert microphone.lost == 5
    for block in blocks[:10]:
        assert np.array_equal(microphone.read(), block)
    microphone.close()


def test_no_such_device(place, card, fake_model):
    card()
    one_line(invoke("--device", "nothing", "-o", "x.wav"), 1, "no microphone", "nothing", "--list-devices")
    soundfile.write("in.wav", np.zeros(100), RATE)
    one_line(invoke("in.wav", "--output-device", 7), 1, "no speaker", "7")
    assert not Path("x.wav").exists()


def test_the_list_of_devices(card):
    card()
    done = invoke("--list-devices")
    assert (done.exit_code, done.stdout) == (0, "> 0 fake, ALSA (1 in, 1 out)\n")


@pytest.mark.parametrize("arguments", [[], ["in.wav"], ["--list-devices"]])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'sounddevice'"), ["sounddevice", "l2i_fast[live]"]),
        (OSError("PortAudio library not found"), ["PortAudio library not found", "libportaudio2"]),
    ],
)
def test_without_sounddevice_or_portaudio(place, rng, monkeypatch, arguments, error, words):
    class Broken:
        def find_spec(self, name, *_):
            if name == "sounddevice":
                raise error

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    soundfile.write("in.wav", noise(rng, 600), RATE)
    done = invoke(*arguments)
    assert done.stdout == ""
    one_line(done, 1, *words)


def test_portaudio_itself(place, monkeypatch):
    """ALSA's null device takes and gives what one wants, at no particular speed."""
    pytest.importorskip("sounddevice", exc_type=(ImportError, OSError))
    alsa = Path("/usr/share/alsa/alsa.conf")
    if not alsa.is_file():
        pytest.skip("no ALSA on this machine")
    Path("asound.conf").write_text(f'<{alsa}>\npcm.nowhere {{ type null hint {{ show on description "null" }} }}\n')
    monkeypatch.setitem(ENVIRONMENT, "ALSA_CONFIG_PATH", "asound.conf")
    status, out, told = run("--list-devices")
    assert b"nowhere" in out, told
    listen = (  # what it gives is memory that nobody has filled: not for the loop, which would refuse NaN
        "from l2i_fast.devices import Microphone\n"
        "with Microphone('nowhere', 44100, 2, 256) as m:\n"
        "    while not len(samples := m._samples()): pass\n"
        "print(m.rate, samples.shape)"
    )
    assert run(code=listen) == (0, b"44100 (256, 2)\n", [])
    soundfile.write("in.wav", np.zeros(9000), RATE)
    status, out, told = run("in.wav", "--output-device", "nowhere")
    assert (status, out) == (0, b""), told
    assert told[-1].startswith("0:00.2 heard")
    status, out, told = run("--device", "nowhere", "--channels", 999, "--output", "x.wav")
    assert (status, len(told)) == (1, 1), told
    assert "no microphone" in told[0]


def test_a_machine_without_a_sound_card(place):
    """With the real sounddevice, where it is installed and finds nothing."""
    sounddevice = pytest.importorskip("sounddevice", exc_type=(ImportError, OSError))
    if len(sounddevice.query_devices()):
        pytest.skip("this machine has sound devices")
    status, out, told = run("-o", "x.wav")
    assert (status, out) == (1, b"")
    (line,) = told
    assert "there is no microphone to be used" in line
    assert not list(place.iterdir())
    assert run("--list-devices")[:2] == (0, b"there is no sound device\n")


# ---- with a model


def test_a_file_is_what_the_stream_of_the_model_gives(place, rng, monkeypatch, tiny_model):
    monkeypatch.setattr("l2i_fast.model.load", lambda name: tiny_model)
    y = noise(rng, 40000)
    soundfile.write("in.wav", y, RATE, subtype="FLOAT")
    done = invoke("in.wav", "-o", "out.wav", "--fast", "--block", 999, "--refresh", 0.1, "--top-k", 4, "-t", "dog")
    assert done.exit_code == 0, done.output
    with tiny_model.stream(mode="synchronous", refresh=0.1, top_k=4, targets="dog") as stream:
        wanted = stream.push(y, last=True)[stream.latency :]
    assert np.array_equal(soundfile.read("out.wav", dtype="float32")[0], wanted)
    assert np.any(wanted)


def test_the_example_program(place, rng, monkeypatch, capsys, tiny_model):
    monkeypatch.setattr("l2i_fast.model.load", lambda name: tiny_model)
    y = noise(rng, 30000)
    soundfile.write("in.wav", y, RATE, subtype="FLOAT")
    monkeypatch.setattr(sys, "argv", ["stream_file.py", "in.wav", "there/out.wav"])
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "stream_file.py"))
    assert "because of components" in capsys.readouterr().out
    with tiny_model.stream(mode="synchronous") as stream:
        wanted = stream.push(y, last=True)[stream.latency :]
    assert np.array_equal(soundfile.read("there/out.wav", dtype="float32")[0], wanted)


def test_a_network_that_raises_is_told_and_the_sound_goes_on(place, rng, monkeypatch):
    def fail(self, *_):
        raise RuntimeError("out of\nmemory")

    model = make_model()
    monkeypatch.setattr(type(model), "hear", fail)
    monkeypatch.setattr("l2i_fast.model.load", lambda name: model)
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


# ---- the view


def test_a_network_that_cannot_follow_is_said_to_be_so():
    session = made_session()
    session.stream._pushed = 48000
    assert view.summary(session) == "1:15.1 heard, 4 refreshes, 3 dropouts"
    session.stream.overruns = 5
    assert view.summary(session).endswith("; the network could not follow, with --fast the sound waits for it")
    session.sink.kept = "75.1 s are in a.wav"
    assert "5 overruns, 3 dropouts; 75.1 s are in a.wav; the network" in view.summary(session)


def made_session(**latest):
    """A session in the middle of its way."""
    stream = fake.FakeStream(48000)
    stream.latest = fake.refresh(("dog",), **latest)
    source = SimpleNamespace(name="microphone", rate=48000, lost=2, latency=0.0125)
    sink = SimpleNamespace(name="out/heard.wav", rate=48000, lost=1, latency=0.0, kept="")
    session = live.Session(source, stream, sink, 480)
    session.heard = 48000 * 75 + 4800
    return session


def drawn(session, width=80):
    console = Console(width=width, color_system=None, highlight=False, markup=False, emoji=False)
    picture = view.Picture(session, fake.FakeModel.classes, np.array([40.0, 5000.0, 440.0]))
    with console.capture() as shown:
        console.print(picture.draw())
    return shown.get().splitlines()


def test_the_picture_tells_what_is_heard_and_why():
    session = made_session()
    session.input.add(np.array([0.1, -0.5], np.float32))
    lines = drawn(session)
    text = "\n".join(lines)
    assert {len(line) for line in lines} == {80}
    assert "microphone → out/heard.wav" in lines[0]
    assert "1:15.1" in lines[-1]
    assert "dog 80 %   rain 10 %, clock tick 10 %" in lines[1]
    assert f"{'━' * view.BAR}  1.00  component 2, mostly at 440 Hz" in lines[2]
    assert f"{'━' * (view.BAR // 2)}{' ' * (view.BAR // 2)}  0.50  component 0, mostly at 40 Hz" in lines[3]
    assert " -6.0 dBFS" in text
    assert "below -60 dBFS" in text  # nothing came out yet
    assert f"stream {1e3 * fake.LATENCY / 48000:.1f}, block 10.0, devices 12.5" in text
    assert f"{1e3 * fake.LATENCY / 48000 + 22.5:.1f} ms" in text
    assert "0 hops, 0 refreshes, 0 overruns, 3 dropouts" in text


def test_the_picture_stands_still(rng):
    """Whatever there is to tell, it has the same size."""
    session = made_session()
    size = len(drawn(session))
    session.stream.latest = None
    assert "nothing yet" in drawn(session)[1]
    assert len(drawn(session)) == size
    session.stream.latest = fake.refresh(("dog",), components=())
    assert "no component speaks for it" in drawn(session)[2]
    assert len(drawn(session)) == size
    session.stream.latest = fake.refresh((), components=(0, 1, 2) * 5)
    assert "none of the classes it knows" in drawn(session)[1]
    assert len(drawn(session)) == size
    session.stream.error = RuntimeError("out of\nmemory " + "and so on " * 20)
    session.source.name = "a very long name " * 9
    lines = drawn(session)
    assert len(lines) == size
    assert {len(line) for line in lines} == {80}
    assert "the network fails, the sound goes on: RuntimeError: out of memory" in lines[-2]
    assert {len(line) for line in drawn(session, width=50)} == {50}


def test_the_picture_says_what_is_explained_if_it_is_not_what_is_heard():
    session = made_session()
    session.stream.latest.targets = ("rain",)
    assert "dog 80 %   explained: rain" in drawn(session)[1]


def test_levels_fall_slowly(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(view.time, "monotonic", lambda: clock[0])
    session = made_session()
    picture = view.Picture(session, fake.FakeModel.classes, np.zeros(3))
    session.input.add(np.ones(1, np.float32))
    picture.draw()
    assert picture._levels["input"] == pytest.approx(0)
    clock[0] += 0.5
    picture.draw()
    assert picture._levels["input"] == pytest.approx(-view.FALL / 2)
    session.input.add(np.full(5, -0.5, np.float32))
    picture.draw()
    assert picture._levels["input"] == pytest.approx(-6.02, abs=0.01)


def test_lines_tell_only_what_is_new(capsys):
    session = made_session()
    lines = view.Lines(session, fake.FakeModel.classes, np.array([40.0, 5000.0, 440.0]))
    lines.tell()
    lines.tell()
    assert capsys.readouterr().err == "1:15.1  dog 80 %  because of 2 (440 Hz), 0 (40 Hz)\n"
    session.stream.error = RuntimeError("no\nmemory")
    lines.tell()
    lines.tell()
    told = capsys.readouterr().err
    assert told.endswith("  the network fails, the sound goes on: RuntimeError: no memory\n")
    assert told.count("\n") == 1


def test_a_terminal_shows_the_picture_and_a_pipe_lines(rng):
    """Sound on standard output, a terminal for standard error."""
    data = pcm(noise(rng, RATE), "s16le")
    ours, theirs = pty.openpty()
    try:
        with start("-", stderr=theirs) as process:
            process.stdin.write(data)
            process.stdin.close()
            out = process.stdout.read()
        shown = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == 0
    assert len(out) == len(data) + 2 * fake.LATENCY
    assert "standard input → standard output" in shown
    status, out, told = run("-", data=data)
    assert (status, len(out)) == (0, len(data) + 2 * fake.LATENCY)
    assert len(told) == 2
    assert "because of 2 " in told[0]
    assert told[1] == "0:01.0 heard, 4 refreshes"


@given(st.floats(0, 1e6))
def test_clocks(seconds):
    parts = [float(part) for part in view.clock(seconds).split(":")]
    assert all(0 <= part < 60 for part in parts[1:])
    total = sum(part * 60**i for i, part in enumerate(reversed(parts)))
    assert total <= seconds + 1e-6
    assert seconds - total < 0.1 + 1e-6
