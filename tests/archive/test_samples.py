"""Parts of recordings: equal to the same part of the whole, at any rate, in any format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from l2i_fast.archive.samples import blocks, length_at, read_parts
from l2i_fast.audio import read_audio
from l2i_fast.recording import RecordingFile

from ..helpers import refused

FORMATS = [
    ("a.wav", "FLOAT"), ("b.wav", "PCM_24"), ("c.flac", "PCM_16"), ("d.ogg", "VORBIS"), ("e.ogg", "OPUS"),
    ("f.w64", "PCM_16"), ("g.aiff", "PCM_16"), ("h.wav", "IMA_ADPCM"), ("i.wav", "GSM610"), ("j.mp3", None),
]  # fmt: skip


def read(file: Path, rate: int, *part: int) -> np.ndarray:
    with RecordingFile(file) as recording:
        return np.concatenate([np.empty(0, np.float32), *blocks(recording, rate, *part)])


@pytest.mark.parametrize(("name", "subtype"), FORMATS)
def test_a_part_equals_that_part_of_the_whole(
    name: str, subtype: str | None, tmp_path: Path, rng: np.random.Generator
) -> None:
    channels = 1 if subtype == "GSM610" else 2
    soundfile.write(tmp_path / name, 0.1 * rng.standard_normal((200_000, channels)), 48000, subtype=subtype)
    whole, _ = read_audio(tmp_path / name, 44100)
    for start in (0, 1, 5000, 99_999, 150_001, len(whole) - 1, len(whole), len(whole) + 9):
        np.testing.assert_allclose(read(tmp_path / name, 44100, start), whole[start:], atol=2e-6)


@pytest.mark.parametrize(
    ("rate", "wanted"), [(8000, 44100), (384_000, 44100), (44101, 44100), (44100, 44100), (96000, 16000)]
)
def test_rates(rate: int, wanted: int, tmp_path: Path, rng: np.random.Generator) -> None:
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal(3 * rate), rate, subtype="FLOAT")
    whole, _ = read_audio(tmp_path / "a.wav", wanted)
    assert len(whole) == length_at(3 * rate, rate, wanted)
    for start in (0, 1, wanted, 2 * wanted + 77):
        np.testing.assert_allclose(read(tmp_path / "a.wav", wanted, start), whole[start:], atol=2e-6)


def test_a_part_by_its_frames(tmp_path: Path, rng: np.random.Generator) -> None:
    y = (0.1 * rng.standard_normal(100_000)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", y, 22050, subtype="FLOAT")
    np.testing.assert_array_equal(read(tmp_path / "a.wav", 22050, 10, 2000, 90_000), y[2010:90_000])
    np.testing.assert_array_equal(read(tmp_path / "a.wav", 22050, 0, 2000, 2000), y[:0])
    half = read(tmp_path / "a.wav", 11025, 0, 2000, 90_000)
    np.testing.assert_allclose(half, read_audio((y[2000:90_000], 22050), 11025)[0], atol=2e-6)


def test_samples_that_are_no_numbers_are_refused_with_their_place(tmp_path: Path) -> None:
    y = np.zeros(100_000, np.float32)
    y[80_000] = np.nan
    soundfile.write(tmp_path / "a.wav", y, 8000, subtype="FLOAT")
    with refused(
        ValueError, f"{tmp_path}/a.wav holds NaN or infinity (first at 10.000 s), but finite samples are needed"
    ):
        read(tmp_path / "a.wav", 8000)


@pytest.mark.parametrize("name", ["a.flac", "b.ogg"])
def test_parts_may_overlap_and_end_behind_the_recording(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    soundfile.write(tmp_path / name, 0.1 * rng.standard_normal(200_000), 48000)
    whole, _ = read_audio(tmp_path / name, 44100)
    parts = [(150_000, 10**6), (10, 20), (0, 90_000), (80_000, 120_000), (5000, 5001), (120_000, 120_003)]
    found: dict[int, list[np.ndarray]] = {}
    with RecordingFile(tmp_path / name) as file:
        for i, samples in read_parts(file, 44100, parts):
            found.setdefault(i, []).append(samples)
    for i, (start, stop) in enumerate(parts):
        np.testing.assert_allclose(np.concatenate(found[i]), whole[start:stop], atol=2e-6)
