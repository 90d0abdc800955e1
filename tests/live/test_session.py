"""The loop from a source to a sink: losses, rates, faults, Ctrl-C."""

import array
import fcntl
import io
import signal
import subprocess
import termios
from pathlib import Path

import numpy as np
import pytest
import soundfile

from l2i_fast.audio import resample
from l2i_fast.live.session import Session, deferred_interrupt
from l2i_fast.live.sinks import RawOutput
from l2i_fast.live.sources import RawInput

from ..helpers import refused
from . import stand_ins
from .support import RATE, errors, noise, pcm, read_exactly, run, start, wait_for


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("at", [0, 511, 512, 999])
@pytest.mark.parametrize("channels", [1, 2])
def test_no_sample_is_lost_before_one_that_is_not_finite(rng, tmp_path, bad, at, channels):
    y = noise(rng, 1000, channels).astype(np.float64)
    y[at, -1] = bad
    (tmp_path / "raw").write_bytes(y.tobytes())
    taken = io.BytesIO()
    with open(tmp_path / "raw", "rb") as file:
        source = RawInput(file, "f64le", RATE, channels, 512)
        session = Session(source, stand_ins.FakeStream(), RawOutput(taken, "f64le", RATE), 512)
        with refused(ValueError, f"standard input holds NaN or infinity at sample {at}"):
            session.run(lambda: False)
    found = np.frombuffer(taken.getvalue())[stand_ins.LATENCY :]
    np.testing.assert_allclose(found, y[:at].mean(1), atol=1e-7)
    assert session.heard == at


def test_sound_goes_on_while_the_pipe_is_open(rng):
    """Samples are passed on at once: not only when a block is full, nor at the end."""
    y = np.rint(noise(rng, 300) * 32768).astype("<i2")
    with start("-") as process:
        for part in np.split(y, 3):
            process.stdin.write(part.tobytes())
            read_exactly(process, part.nbytes)
        process.stdin.close()
        assert len(process.stdout.read()) == 2 * stand_ins.LATENCY
    assert process.returncode == 0


@pytest.mark.parametrize(("rate", "arguments"), [(RATE, []), (8000, ["--rate", 8000])])
def test_raw_samples_have_the_rate_that_was_asked_for(place, rng, rate, arguments):
    """The model's, where none was."""
    y = noise(rng, 16000)
    soundfile.write("in.wav", y, 16000, subtype="FLOAT")
    status, out, told = run("in.wav", "-o", "-", "--fast", "--format", "f32le", *arguments)
    assert status == 0, told
    wanted = resample(np.pad(y, (stand_ins.LATENCY, 0)), 16000, rate)
    found = np.frombuffer(out, "<f4")
    assert abs(len(found) - len(wanted)) <= 1
    length = min(len(found), len(wanted))
    np.testing.assert_allclose(found[:length], wanted[:length], atol=1e-5)


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_completes_the_file(place, rng, number):
    y = noise(rng, 2000)
    with start("-", "--format", "f32le", "-o", "out/heard.wav") as process:
        process.stdin.write(y.tobytes())
        growing = lambda: list(place.glob("out/.partial-*heard.wav"))  # noqa: E731
        wait_for(lambda: growing() and growing()[0].stat().st_size > 4 * (len(y) - stand_ins.LATENCY))
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
        out = read_exactly(process, y.nbytes)
        process.send_signal(signal.SIGINT)
        out += process.stdout.read()
        assert process.stderr.read().decode().splitlines()[-1] == "l2i: interrupted"
    assert process.returncode == 130
    assert np.array_equal(np.frombuffer(out, "<f4")[stand_ins.LATENCY :], y)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_of_signals_that_are_repeated_only_ctrl_c_interrupts_at_once(number):
    """Shells send SIGHUP, and `timeout` SIGTERM, more than once."""
    before = signal.getsignal(number)
    with deferred_interrupt() as stopped:
        assert not stopped()
        for _ in range(3):
            signal.raise_signal(number)
            assert stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(number) == before


def test_signals_that_are_ignored_remain_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with deferred_interrupt() as stopped:
            signal.raise_signal(signal.SIGHUP)
            assert not stopped()
    finally:
        signal.signal(signal.SIGHUP, before)


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
