"""Recordings whose headers are wrong, that are damaged, or that cannot seek: compared with the same sound, whole."""

import ctypes
import os
import struct
import threading
import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from l2i_fast import audio
from l2i_fast.recording import RecordingFile
from l2i_fast.stderr import discard_c_stderr

from ..helpers import refused

RATE = 44100
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_24"),
    "caf": ("CAF", "PCM_16"),
    "w64": ("W64", "FLOAT"),
    "au": ("AU", "PCM_16"),
}
TELLS_ITS_LENGTH = {"wav", "flac", "mp3", "aiff", "w64", "au"}
BITRATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # kbit/s, MPEG 1 layer III


def sweep(seconds, rng):
    """Noise and a tone that rises: no moment is like another."""
    t = np.arange(int(seconds * RATE)) / RATE
    tone = 0.4 * np.sin(2 * np.pi * (200 + 300 * t) * t)
    return (tone + 0.02 * rng.standard_normal(len(t))).astype(np.float32)


def write(path, y, **more):
    name, subtype = FORMATS[path.suffix[1:]]
    soundfile.write(path, y, 48000 if subtype == "OPUS" else RATE, format=name, subtype=subtype, **more)
    return path.read_bytes()


def read(path):
    """The samples of a recording that is expected to end too early, and the warning."""
    with pytest.warns(RuntimeWarning) as told:
        sound = audio.read_sound(path)
    assert not sound.complete
    (warning,) = told
    return sound.samples, str(warning.message)


def wav(pcm, riff=None, data=None, kind=b"RIFF", rate=RATE, before=b""):
    """A WAV file of 16-bit samples whose header states these sizes; by default the right ones."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, min(2 * rate, 0xFFFFFFFF), 2, 16)
    body = before + form + struct.pack("<4sI", b"data", len(pcm) if data is None else data) + pcm
    return struct.pack("<4sI4s", kind, 4 + len(body) if riff is None else riff, b"WAVE") + body


def first_frame_of(mp3):
    """Bytes of the first frame, which holds the header with the number of frames."""
    assert mp3[:2] == b"\xff\xfb"
    assert b"Xing" in mp3[:64]
    return 144000 * BITRATES[mp3[2] >> 4] // RATE + (mp3[2] >> 1 & 1)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_cut_short_gives_what_lies_before_the_cut(tmp_path, rng, ending):
    data = write(tmp_path / f"whole.{ending}", np.stack([sweep(3, rng), sweep(3, rng)], 1))
    whole, rate = audio.read_audio(tmp_path / f"whole.{ending}")
    cut = tmp_path / f"cut.{ending}"
    for share in (*rng.uniform(0.4, 0.97, 2), 0.99):
        cut.write_bytes(data[: int(share * len(data))])
        if ending == "caf":
            with refused(ValueError, f"{cut} cannot be read as audio: Supported file format but file is malformed"):
                audio.read_audio(cut)
            continue
        if ending in TELLS_ITS_LENGTH:
            y, told = read(cut)
            given, stated = told.removesuffix(" s").split(" s of sound, but its header states ")
            assert given == f"{cut} gives {len(y) / rate:.3f}"
            assert float(stated) == pytest.approx(len(whole) / rate, abs=0.003)  # W64 counts bytes of its header, too
        else:
            y, told = read(cut)
            assert told == f"{cut} gives {len(y) / rate:.3f} s of sound, but its last page is missing"
        np.testing.assert_array_equal(y, whole[: len(y)])
        assert len(y) > share * len(whole) - 1.1 * rate  # OGG: a page may hold a second
        assert len(y) < len(whole)


def test_memory_is_needed_for_what_comes_not_for_what_is_stated(tmp_path, rng):
    y = sweep(1, rng)
    data = bytearray(write(tmp_path / "x.flac", y))
    data[21:26] = bytes([data[21] & 0xF0 | 1]) + b"\xff" * 4  # 36 bits of samples, of which 32 follow here
    (tmp_path / "x.flac").write_bytes(data)
    soundfile.write(tmp_path / "wide.wav", np.tile(y[:20000, None], 200), RATE)  # 16 MB as float32
    with pytest.warns(RuntimeWarning, match=r"gives 1\.000 s of sound, but its header states 194783\.097"):
        audio.read_audio(tmp_path / "x.flac")
    tracemalloc.start()
    try:
        with pytest.warns(RuntimeWarning):
            assert len(audio.read_audio(tmp_path / "x.flac")[0]) == RATE
        audio.read_audio(tmp_path / "wide.wav")
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_a_flac_file_need_not_state_its_length(tmp_path, rng):
    data = bytearray(write(tmp_path / "known.flac", sweep(2, rng)))
    known, _ = audio.read_audio(tmp_path / "known.flac")
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    unknown = tmp_path / "unknown.flac"
    unknown.write_bytes(data)
    np.testing.assert_array_equal(audio.read_audio(unknown)[0], known)
    with RecordingFile(unknown) as file:
        assert file.frames is None
    unknown.write_bytes(data[: len(data) // 2])
    y, told = read(unknown)
    assert told.startswith(f"{unknown} cannot be decoded beyond {len(y) / RATE:.3f} s: ")
    np.testing.assert_array_equal(y, known[: len(y)])
    assert 0.4 * len(known) < len(y) < 0.6 * len(known)


def test_damage_in_the_middle_ends_a_recording(tmp_path, rng):
    for ending in ("flac", "mp3"):
        path = tmp_path / f"x.{ending}"
        data = bytearray(write(path, sweep(3, rng)))
        whole, _ = audio.read_audio(path)
        middle = len(data) // 2
        data[middle : middle + 4000] = bytes(4000)
        path.write_bytes(data)
        y, _ = read(path)
        np.testing.assert_array_equal(y[:-4608], whole[: len(y) - 4608])
        assert 0.4 * len(whole) < len(y) < 0.7 * len(whole)


@pytest.mark.parametrize("mode", ["VARIABLE", "AVERAGE"])
def test_an_mp3_file_need_not_state_its_length(tmp_path, rng, mode):
    y = sweep(6, rng)
    y[: 3 * RATE] *= 0.01  # few bits at first: an estimate of the length from them is wrong
    path = tmp_path / "x.mp3"
    data = write(path, y, bitrate_mode=mode)
    known, _ = audio.read_audio(path)
    tag = b"ID3\4\0\0" + bytes([0, 5, 3, 7]) + rng.bytes((5 << 14) + (3 << 7) + 7)
    for before in (b"", tag, tag * 2):
        path.write_bytes(before + data)
        np.testing.assert_array_equal(audio.read_audio(path)[0], known)
        path.write_bytes(before + data[first_frame_of(data) :])
        unknown, _ = audio.read_audio(path)
        delay = 1105  # of the encoder and the decoder, which the missing header would remove
        np.testing.assert_array_equal(unknown[delay : delay + len(known)], known)
    with RecordingFile(path) as file:
        assert file.frames is None


def test_mp3_files_leave_the_terminal_alone(tmp_path, rng, capfd):
    path = tmp_path / "x.mp3"
    data = write(path, sweep(2, rng))
    middle = len(data) // 2
    for damaged in (data[:middle], data[:middle] + bytes(3000) + data[middle:]):
        path.write_bytes(damaged)
        with pytest.warns(RuntimeWarning):
            audio.read_audio(path)
    assert capfd.readouterr() == ("", "")


def test_only_the_standard_error_of_c_is_discarded(capfd):
    library = ctypes.CDLL(None)

    def say(text):
        library.fputs(text, ctypes.c_void_p.in_dll(library, "stderr"))

    entered, leave = threading.Event(), threading.Event()

    def other():
        with discard_c_stderr():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    say(b"1")
    with discard_c_stderr():
        say(b"2")
        thread.start()
        assert entered.wait(10)
    say(b"3")
    os.write(2, b"4")
    leave.set()
    thread.join()
    say(b"5")
    assert capfd.readouterr().err == "145"


PCM = np.random.default_rng(3).integers(-9999, 9999, 3000).astype("<i2")
SIZES = st.sampled_from([0, 8, 36, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF]) | st.integers(0, 20000).map(
    lambda n: 2 * n
)


@settings(max_examples=150, deadline=None)
@given(SIZES, SIZES, st.sampled_from([b"", b"LIST\5\0\0\0INFOx\0", b"JUNK\4\0\0\0abcd"]))
def test_wav_files_with_any_sizes(tmp_path_factory, riff, data, before):
    path = tmp_path_factory.getbasetemp() / "sizes.wav"
    content = wav(PCM.tobytes(), riff, data, before=before)
    path.write_bytes(content)
    honest = riff == len(content) - 8
    expected = 0 if data == 0 and honest else min(data or PCM.nbytes, PCM.nbytes) // 2
    with RecordingFile(path) as file:
        if PCM.nbytes < data < 0x7F000000:
            assert file.frames == data // 2
            with pytest.warns(RuntimeWarning, match="states"):
                y = file.read(5000)
        else:
            y = file.read(5000)
        assert len(file.read(5000)) == 0
    np.testing.assert_array_equal(y[:, 0], PCM[:expected] / np.float32(32768))


def test_wav_files_that_were_never_finished(tmp_path):
    path = tmp_path / "x.wav"
    sizes = b"ds64" + struct.pack("<IQQQI", 28, 0, 0, 0, 0)
    room = b"JUNK" + struct.pack("<I", 28) + bytes(28)
    pcm = PCM.tobytes()
    for content in (
        wav(pcm, 0xFFFFFFFF, 0xFFFFFFFF, b"RF64", before=sizes),
        wav(pcm, 0, 0, before=room),
        wav(pcm, 0, 0),
        wav(pcm, 36, 0)[:-1],  # in the middle of a sample
    ):
        path.write_bytes(content)
        y, _ = audio.read_audio(path)
        np.testing.assert_array_equal(y, PCM[: len(y)] / np.float32(32768))
        assert len(y) >= len(PCM) - 1


def test_a_header_without_samples_is_refused(tmp_path, rng):
    path = tmp_path / "x.flac"
    data = write(path, sweep(1, rng))
    path.write_bytes(data[:3000])
    with refused(ValueError, f"{path} cannot be read as audio: ..."):
        audio.read_audio(path)
    (tmp_path / "x.wav").write_bytes(wav(b"", 2036, 2000))
    with refused(ValueError, f"{tmp_path / 'x.wav'} cannot be read as audio: its header is followed by no samples"):
        audio.read_audio(tmp_path / "x.wav")
    note = b"LIST\4\0\0\0INFO"
    for content in (wav(b""), wav(b"", 36 + len(note)) + note):
        (tmp_path / "x.wav").write_bytes(content)
        with refused(ValueError, f"{tmp_path / 'x.wav'} is empty, but at least one sample is needed"):
            audio.read_audio(tmp_path / "x.wav")


@pytest.mark.parametrize("ending", FORMATS)
def test_pipes_give_what_files_give(tmp_path, rng, ending):
    data = write(tmp_path / f"file.{ending}", sweep(1, rng))
    pipe = tmp_path / f"pipe.{ending}"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    y, rate = audio.read_audio(pipe)
    writer.join()
    expected, expected_rate = audio.read_audio(tmp_path / f"file.{ending}")
    assert rate == expected_rate
    np.testing.assert_array_equal(y, expected)


def test_devices_are_refused():
    with refused(ValueError, "/dev/zero is a device, but must be a recording"):
        audio.read_audio("/dev/zero")


def test_names_need_not_be_utf_8(tmp_path, rng):
    y = sweep(0.1, rng)
    for ending in (".wav", ".flac"):
        path = tmp_path / os.fsdecode(b"caf\xe9" + ending.encode())
        audio.write_audio(path, y, RATE)
        np.testing.assert_allclose(audio.read_audio(path)[0], y, atol=2**-23)
        assert os.fsencode(path) in [os.fsencode(entry) for entry in tmp_path.iterdir()]


def test_says_why_a_file_cannot_be_opened(tmp_path, monkeypatch):
    path = audio.write_audio(tmp_path / "x.wav", np.zeros(9, np.float32), RATE)

    def fail(path, mode):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("l2i_fast.recording.open", fail, raising=False)
    with refused(PermissionError, f"{path} cannot be read: Permission denied"):
        audio.read_audio(path)


@pytest.mark.parametrize("rate", [1, 99, 10_000_001, 2**31 - 1])
def test_rates_that_no_recording_has_are_refused(tmp_path, rate):
    path = tmp_path / "x.wav"
    path.write_bytes(wav(PCM.tobytes(), rate=rate))
    with refused(ValueError, f"the rate of {path} is {rate}, but must be from 100 to 10000000 Hz"):
        audio.read_audio(path)
    with refused(ValueError, f"sr is {rate}, but must be from 100 to 10000000 Hz"):
        audio.read_audio((np.zeros(9), 8000), rate)


@pytest.mark.parametrize("junk", [b"TAG" + bytes(125), b"\n", bytes(8)], ids=["ID3v1", "newline", "zeros"])
def test_what_follows_the_stated_samples_is_no_damage(tmp_path, rng, junk):
    y = sweep(2, rng)
    data = write(tmp_path / "x.flac", y)
    expected = audio.read_audio(tmp_path / "x.flac")[0]
    (tmp_path / "x.flac").write_bytes(data + junk)
    sound = audio.read_sound(tmp_path / "x.flac")
    np.testing.assert_array_equal(sound.samples, expected)
    assert sound.complete


def test_a_xing_header_that_is_not_that_of_the_whole_file_does_not_end_it(tmp_path, rng):
    """As a killed encoder leaves it, and as in two files one after the other."""
    data = write(tmp_path / "x.mp3", sweep(2, rng))
    n = len(audio.read_audio(tmp_path / "x.mp3")[0])
    assert n == 2 * RATE
    tag = data.index(b"Xing") if b"Xing" in data[:64] else data.index(b"Info")
    for changed in (
        data[: tag + 8] + bytes(8) + data[tag + 16 :],
        data[: tag + 7] + bytes([data[tag + 7] & ~1]) + data[tag + 8 :],
        data + data,
    ):
        (tmp_path / "x.mp3").write_bytes(changed)
        sound = audio.read_sound(tmp_path / "x.mp3")
        assert len(sound.samples) >= n * len(changed) // len(data)
        assert sound.complete
    (tmp_path / "x.mp3").write_bytes(data + b"TAG" + bytes(125))
    assert len(audio.read_audio(tmp_path / "x.mp3")[0]) == n


def test_paths_with_null_characters_are_refused():
    for call in (audio.read_audio, lambda path: audio.write_audio(path, np.zeros(3), 44100)):
        with refused(ValueError, "... is 'a\\x00.wav', but must not hold a null character"):
            call("a\0.wav")
