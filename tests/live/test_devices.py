"""Microphone and speaker, and `l2i stream` with them."""

import io
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from l2i_fast.audio import resample
from l2i_fast.live import devices
from l2i_fast.live.session import Session
from l2i_fast.live.sinks import RawOutput

from ..helpers import refused
from . import stand_ins
from .support import ENVIRONMENT, RATE, invoke, noise, one_line, run, wait_for


def test_a_microphone_that_goes_away(place, rng, card, fake_model):
    sound = noise(rng, 20 * 256, 1)
    found = card(sound=sound, unplug_after=20)
    done = invoke("-o", "heard.wav", "--block", 256)
    one_line(done, 1, "microphone gives no more sound", "0.1 s are in heard.wav")
    assert found.opened == [("InputStream", None, RATE, 256, 1)]
    assert np.array_equal(soundfile.read("heard.wav", dtype="float32")[0], sound[:, 0])


def test_a_microphone_that_falls_silent(place, rng, card, fake_model, monkeypatch):
    """Some drivers do not report that a device is gone: blocks stop coming."""
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
    wanted = resample(np.pad(y, (stand_ins.LATENCY, 0)), RATE, 48000)
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
    np.testing.assert_array_equal(played[: stand_ins.LATENCY], 0)
    np.testing.assert_array_equal(played[stand_ins.LATENCY : stand_ins.LATENCY + len(y)], y)
    np.testing.assert_array_equal(played[stand_ins.LATENCY + len(y) :], 0)
    assert "dropout" not in done.stderr


def test_a_speaker_that_goes_away(place, rng, card, fake_model):
    soundfile.write("in.wav", noise(rng, 20000), RATE)
    card(unplug_after=5)
    one_line(invoke("in.wav"), 1, "speaker takes no more sound")


def test_a_speaker_counts_missing_and_superfluous_samples(card):
    card()
    status = stand_ins.FakeSoundDevice().status(0)
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


def test_reports_of_portaudio_are_counted(rng, card):
    found = card(sound=noise(rng, 5 * 128, 1), unplug_after=5, problems={1: "overflow", 3: "overflow"})
    with devices.Microphone(None, RATE, 1, 128) as microphone:
        session = Session(microphone, stand_ins.FakeStream(), RawOutput(io.BytesIO(), "s16le", RATE), 128)
        message = "the microphone gives no more sound: it was unplugged or taken by another program"
        with refused(OSError, message):
            session.run(lambda: False)
    assert (session.heard, session.lost) == (5 * 128, 2)
    found = card(problems={0: "underflow"})
    with devices.Speaker(None, RATE, 128, wait=True) as speaker:
        speaker.write(np.ones(3000, np.float32))
        wait_for(lambda: len(found.played) > 1)
    assert speaker.lost == 1


def test_a_callback_never_waits_for_the_loop(rng, card, monkeypatch):
    """Blocks that are not read in time are dropped and counted."""
    monkeypatch.setattr(devices, "KEPT", 10 * 128 / RATE)
    card()
    microphone = devices.Microphone(None, RATE, 1, 128)
    status = stand_ins.FakeSoundDevice().status(0)
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
    """ALSA's null device takes and gives any samples, at no particular speed."""
    pytest.importorskip("sounddevice", exc_type=(ImportError, OSError))
    alsa = Path("/usr/share/alsa/alsa.conf")
    if not alsa.is_file():
        pytest.skip("no ALSA on this machine")
    Path("asound.conf").write_text(f'<{alsa}>\npcm.nowhere {{ type null hint {{ show on description "null" }} }}\n')
    monkeypatch.setitem(ENVIRONMENT, "ALSA_CONFIG_PATH", "asound.conf")
    status, out, told = run("--list-devices")
    assert b"nowhere" in out, told
    listen = (  # its samples are uninitialised memory: not for the loop, which rejects NaN
        "from l2i_fast.live.devices import Microphone\n"
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
    assert "no microphone can be used" in line
    assert not list(place.iterdir())
    assert run("--list-devices")[:2] == (0, b"no sound devices found\n")
