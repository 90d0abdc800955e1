"""Sinks of live sound."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from l2i_fast.live import sinks
from l2i_fast.live.sinks import RawOutput, WavFile

from .support import DTYPES, RATE, noise


@pytest.mark.parametrize("name", ["s16le", "s32le"])
def test_samples_above_full_scale_are_clipped(name):
    taken = io.BytesIO()
    RawOutput(taken, name, RATE).write(np.array([2, 1, 0.5, 0, -0.5, -1, -2], np.float32))
    limits = np.iinfo(DTYPES[name])
    half = (limits.max + 1) // 2
    wanted = [limits.max, limits.max, half, 0, -half, limits.min, limits.min]
    assert np.frombuffer(taken.getvalue(), DTYPES[name]).tolist() == wanted


def test_the_same_bytes_every_time(place, rng):
    y = noise(rng, 3000)
    for name in ("a.wav", "b.wav"):
        with WavFile(name, RATE) as sink:
            for part in np.array_split(y, 7):
                sink.write(part)
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


@given(skip=st.integers(0, 30), lengths=st.lists(st.integers(0, 20), max_size=8))
@settings(deadline=None, max_examples=30)
def test_a_file_leaves_out_its_first_samples(tmp_path_factory, skip, lengths):
    path = tmp_path_factory.mktemp("wav") / "x.wav"
    y = np.arange(sum(lengths), dtype=np.float32)
    with WavFile(path, 8000, skip) as sink:
        for part in np.split(y, np.cumsum(lengths)[:-1]) if lengths else []:
            sink.write(part)
    found, rate = soundfile.read(path, dtype="float32")
    assert rate == 8000
    assert np.array_equal(found, y[skip:])


def test_beyond_four_gigabytes_the_header_says_so(monkeypatch, tmp_path, rng):
    """With a limit of 1000 bytes instead of 4 GiB."""
    monkeypatch.setattr(sinks, "_MOST", 1000)
    y = noise(rng, 400)
    with WavFile(tmp_path / "long.wav", RATE) as sink:
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
    sink = WavFile(tmp_path / "full.wav", RATE)
    real = sink._file

    class Full:
        """Takes 2002 bytes more; written bytes can still be overwritten."""

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
