"""Recordings that FFmpeg reads: the samples of one packet after another, damage and all."""

import sys

import numpy as np
import pytest
import scipy.signal

from l2i_fast import audio
from l2i_fast.recording import RecordingFile

from ..helpers import refused

RATE = 44100


def sweep(seconds, rng):
    """Noise and a tone that rises, (n, 1): no moment is like another."""
    t = np.arange(int(seconds * RATE)) / RATE
    tone = 0.4 * np.sin(2 * np.pi * (200 + 300 * t) * t)
    return (tone + 0.02 * rng.standard_normal(len(t))).astype(np.float32)[:, None]


def encode(path, y, codec, rate=RATE, video=False):
    """Write samples (n, channels) by FFmpeg."""
    av = pytest.importorskip("av")
    layout = {1: "mono", 2: "stereo"}[y.shape[1]]
    with av.open(str(path), "w") as container:
        if video:
            pictures = container.add_stream("mpeg4", rate=5)
            pictures.width = pictures.height = 64
            pictures.pix_fmt = "yuv420p"
        stream = container.add_stream(codec, rate=rate, layout=layout, bit_rate=128_000)
        for start in range(0, len(y), 5000):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(y[start : start + 5000].T), "fltp", layout)
            frame.rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if video:
            for i in range(10):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
                frame.pts = i
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode(None))


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.m4a", "aac"), ("b.mp4", "aac"), ("c.mkv", "flac"), ("d.webm", "libopus"), ("e.wma", "wmav2")],
)
def test_ffmpeg_reads_what_libsndfile_does_not(tmp_path, rng, name, codec):
    y = np.concatenate([sweep(2, rng), 0.5 * sweep(2, rng)], axis=1)
    rate = 48000 if codec == "libopus" else RATE
    encode(tmp_path / name, y, codec, rate, video=name == "b.mp4")
    with RecordingFile(tmp_path / name) as file:
        assert (file.rate, file.channels, file.frames, file.seeks) == (rate, 2, None, False)
        blocks = [file.read(1000), file.read(1)]
        while len(block := file.read(rng.integers(1, 9000))):
            blocks.append(block)
        assert file.complete
    heard = np.concatenate(blocks)
    assert len(heard) == pytest.approx(len(y), abs=6000)
    if codec == "flac":
        np.testing.assert_allclose(heard, y, atol=2**-15)
    else:
        # Codecs begin a little earlier or later.
        lag = int(np.argmax(scipy.signal.correlate(heard[:, 0], y[20_000:28_000, 0], "valid"))) - 20_000
        part = slice(20_000, 80_000)
        assert np.corrcoef(heard[part.start + lag : part.stop + lag, 0], y[part, 0])[0, 1] > 0.97
    np.testing.assert_array_equal(audio.read_audio(tmp_path / name)[0], heard.mean(axis=1, dtype=np.float32))


def test_ffmpeg_says_what_is_wrong(tmp_path, rng, monkeypatch):
    y = sweep(3, rng)
    encode(tmp_path / "whole.aac", y, "aac")
    data = bytearray((tmp_path / "whole.aac").read_bytes())
    place = data.index(b"\xff\xf1", len(data) // 2)
    data[place + 7 : place + 300] = bytes(293)
    (tmp_path / "damaged.aac").write_bytes(data)
    with pytest.warns(RuntimeWarning, match="damaged.aac cannot be decoded beyond 1.*s: Invalid data found"):
        heard, _ = audio.read_audio(tmp_path / "damaged.aac")
    np.testing.assert_array_equal(heard, audio.read_audio(tmp_path / "whole.aac")[0][: len(heard)])
    (tmp_path / "text.m4a").write_text("This is no sound. " * 100)
    with refused(ValueError, f"{tmp_path}/text.m4a cannot be read as audio: Invalid data found when processing input"):
        RecordingFile(tmp_path / "text.m4a")
    session = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 5004 RTP/AVP 0\r\n"
    (tmp_path / "network.mp4").write_text(session)  # FFmpeg would wait for sound from the network
    with refused(
        ValueError, f"{tmp_path}/network.mp4 cannot be read as audio: Invalid data found when processing input"
    ):
        RecordingFile(tmp_path / "network.mp4")
    encode(tmp_path / "silent.mp4", y[:0], "aac", video=True)
    with refused(ValueError, f"{tmp_path}/silent.mp4 cannot be read as audio: ..."):
        RecordingFile(tmp_path / "silent.mp4").read(9)
    monkeypatch.setitem(sys.modules, "av", None)
    with refused(ImportError, f"PyAV is needed to read {tmp_path}/text.m4a; install it with: pip install av"):
        RecordingFile(tmp_path / "text.m4a")
