"""The live display of a session."""

import os
import pty
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from l2i_fast.live import terminal
from l2i_fast.live.session import Session

from . import stand_ins
from .support import RATE, noise, pcm, run, start


def made_session(**latest):
    """A session that has run for some time."""
    stream = stand_ins.FakeStream(48000)
    stream.latest = stand_ins.refresh(("dog",), **latest)
    source = SimpleNamespace(name="microphone", rate=48000, lost=2, latency=0.0125, duration=None, can_wait=True)
    sink = SimpleNamespace(name="out/heard.wav", rate=48000, lost=1, latency=0.0, kept="")
    session = Session(source, stream, sink, 480)
    session.heard = 48000 * 75 + 4800
    return session


def drawn(session, width=80):
    console = Console(width=width, color_system=None, highlight=False, markup=False, emoji=False)
    display = terminal.Display(session, stand_ins.FakeModel.classes, np.array([40.0, 5000.0, 440.0]))
    with console.capture() as shown:
        console.print(display.draw())
    return shown.get().splitlines()


def test_a_network_that_cannot_keep_up_is_reported():
    session = made_session()
    session.stream._pushed = 48000
    assert terminal.summary(session) == "1:15.1 heard, 4 refreshes, 3 dropouts"
    session.stream.overruns = 5
    assert terminal.summary(session).endswith("; the network could not keep up; with --fast the sound waits for it")
    session.sink.kept = "75.1 s are in a.wav"
    assert "5 overruns, 3 dropouts; 75.1 s are in a.wav; the network" in terminal.summary(session)


def test_the_display_shows_the_prediction_and_its_reasons():
    session = made_session()
    session.input.add(np.array([0.1, -0.5], np.float32))
    lines = drawn(session)
    text = "\n".join(lines)
    assert {len(line) for line in lines} == {80}
    assert "microphone → out/heard.wav" in lines[0]
    assert "1:15.1" in lines[-1]
    assert "dog 80 %   rain 10 %, clock tick 10 %" in lines[1]
    assert f"{'━' * terminal.BAR}  1.00  component 2, mostly at 440 Hz" in lines[2]
    assert f"{'━' * (terminal.BAR // 2)}{' ' * (terminal.BAR // 2)}  0.50  component 0, mostly at 40 Hz" in lines[3]
    assert " -6.0 dBFS" in text
    assert "below -60 dBFS" in text  # nothing came out yet
    assert f"stream {1e3 * stand_ins.LATENCY / 48000:.1f}, block 10.0, devices 12.5" in text
    assert f"{1e3 * stand_ins.LATENCY / 48000 + 22.5:.1f} ms" in text
    assert "0 hops, 0 refreshes, 0 overruns, 3 dropouts" in text


def test_the_display_keeps_its_size(rng):
    """Its size does not depend on its contents."""
    session = made_session()
    size = len(drawn(session))
    session.stream.latest = None
    assert "nothing yet" in drawn(session)[1]
    assert len(drawn(session)) == size
    session.stream.latest = stand_ins.refresh(("dog",), components=())
    assert "no component speaks for it" in drawn(session)[2]
    assert len(drawn(session)) == size
    session.stream.latest = stand_ins.refresh((), components=(0, 1, 2) * 5)
    assert "none of the model's classes" in drawn(session)[1]
    assert len(drawn(session)) == size
    session.stream.error = RuntimeError("out of\nmemory " + "and so on " * 20)
    session.source.name = "a very long name " * 9
    lines = drawn(session)
    assert len(lines) == size
    assert {len(line) for line in lines} == {80}
    assert "the network fails, the sound goes on: RuntimeError: out of memory" in lines[-2]
    assert {len(line) for line in drawn(session, width=50)} == {50}


def test_the_display_names_explained_classes_other_than_the_prediction():
    session = made_session()
    session.stream.latest.targets = ("rain",)
    assert "dog 80 %   explained: rain" in drawn(session)[1]


def test_levels_fall_slowly(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: clock[0])
    session = made_session()
    display = terminal.Display(session, stand_ins.FakeModel.classes, np.zeros(3))
    session.input.add(np.ones(1, np.float32))
    display.draw()
    assert display._levels["input"] == pytest.approx(0)
    clock[0] += 0.5
    display.draw()
    assert display._levels["input"] == pytest.approx(-terminal.FALL / 2)
    session.input.add(np.full(5, -0.5, np.float32))
    display.draw()
    assert display._levels["input"] == pytest.approx(-6.02, abs=0.01)


def test_lines_show_changes_only(capsys):
    session = made_session()
    lines = terminal.Lines(session, stand_ins.FakeModel.classes, np.array([40.0, 5000.0, 440.0]))
    lines.note()
    lines.note()
    assert capsys.readouterr().err == ""
    lines.write()
    lines.write()
    assert capsys.readouterr().err == "1:15.1  dog 80 %  because of 2 (440 Hz), 0 (40 Hz)\n"
    session.stream.error = RuntimeError("no\nmemory")
    lines.note()
    lines.note()
    lines.write()
    told = capsys.readouterr().err
    assert told.endswith("  the network fails, the sound goes on: RuntimeError: no memory\n")
    assert told.count("\n") == 1


def test_no_change_is_lost_however_fast_the_sound_runs(monkeypatch, capsys):
    """Each block predicts another class, and all of them are over before the thread that writes has looked."""
    monkeypatch.setattr(terminal, "INTERVAL", 60)
    session = made_session()
    session.heard, classes = 0, stand_ins.FakeModel.classes
    blocks = iter([*np.zeros((30, 4800), np.float32), None])
    session.source.read, session.sink.write = lambda: next(blocks), lambda y: None
    push = session.stream.push

    def predict_another(block):
        y = push(block)
        session.stream.latest = stand_ins.refresh((classes[session.heard // 4800 % 3],))
        return y

    session.stream.push = predict_another
    with terminal.watch(session, stand_ins.FakeModel()):
        session.run(lambda: False)
    told = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in told] == [f"0:{i / 10:04.1f}" for i in range(1, 31)]
    assert all(classes[i % 3] in line for i, line in enumerate(told, 1))


def test_a_terminal_shows_the_display_and_a_pipe_lines(rng):
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
    assert len(out) == len(data) + 2 * stand_ins.LATENCY
    assert "standard input → standard output" in shown
    status, out, told = run("-", data=data)
    assert (status, len(out)) == (0, len(data) + 2 * stand_ins.LATENCY)
    assert [line.split("  ")[0] for line in told[:-1]] == ["0:00.2", "0:00.5", "0:00.7", "0:01.0"]
    assert all("because of 2 " in line for line in told[:-1])
    assert told[-1] == "0:01.0 heard, 4 refreshes"


@given(st.floats(0, 1e6))
def test_clocks(seconds):
    parts = [float(part) for part in terminal.clock(seconds).split(":")]
    assert all(0 <= part < 60 for part in parts[1:])
    total = sum(part * 60**i for i, part in enumerate(reversed(parts)))
    assert total <= seconds + 1e-6
    assert seconds - total < 0.1 + 1e-6
