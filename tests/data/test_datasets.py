"""Readers of ESC-50 and SONYC-UST, on generated folders and on the real recordings, and the synthetic scenes."""

import csv
import dataclasses
import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from l2i_fast.audio import write_audio
from l2i_fast.data import Clip, Dataset, load_dataset, load_esc50, load_sonyc
from l2i_fast.data.scene import SCENES, SOUNDS, demo_scene
from l2i_fast.data.sonyc import CLASSES

from ..helpers import refused

ESC_HEADER = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
ESC_ROWS = [
    ["1-100-A-7.wav", "1", "7", "rain", "True", "100", "A"],
    ["1-101-A-2.wav", "1", "2", "cat", "False", "101", "A"],
    ["2-102-A-0.wav", "2", "0", "dog", "True", "102", "A"],
    ["2-103-B-7.wav", "2", "7", "rain", "True", "103", "B"],
]


def write_csv(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def make_esc(root, rows=ESC_ROWS, header=ESC_HEADER, ending=".wav"):
    """A folder in ESC-50's layout with 10 ms clips."""
    write_csv(root / "meta" / "esc50.csv", header, rows)
    (root / "audio").mkdir()
    for i, (name, *_) in enumerate(ESC_ROWS):
        y = np.full(441, 0.1 * (i + 1), np.float32)
        soundfile.write(root / "audio" / name.replace(".wav", ending), y, 44100)
    return root


# ESC-50


@pytest.mark.parametrize("ending", [".wav", ".ogg", ".flac"])
def test_esc50(tmp_path, ending):
    data = load_esc50(make_esc(tmp_path, ending=ending))
    assert (data.name, data.multilabel, data.duration) == ("ESC-50", False, 5.0)
    assert data.classes == ("dog", "cat", "rain")
    assert [(c.name, c.fold, c.labels) for c in data.clips] == [
        ("1-100-A-7", 1, (2,)),
        ("1-101-A-2", 1, (1,)),
        ("2-102-A-0", 2, (0,)),
        ("2-103-B-7", 2, (2,)),
    ]
    assert all(c.path == tmp_path / "audio" / (c.name + ending) for c in data.clips)


def test_esc50_subsets(tmp_path):
    root = make_esc(tmp_path)
    ten = load_esc50(root, esc10_only=True)
    assert (ten.classes, [c.labels for c in ten.clips]) == (("dog", "rain"), [(1,), (0,), (1,)])
    assert load_esc50(root, classes=["rain", "dog"]) == dataclasses.replace(ten)
    with refused(ValueError, "classes names cow, but the data set has: cat, dog, rain"):
        load_esc50(root, classes=["cow"])


def changed(row, column, value):
    rows = [list(r) for r in ESC_ROWS]
    rows[row][column] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(1, 0, "1-100-A-7.wav"), ", line 3: 1-100-A-7.wav is listed twice"),
        (changed(2, 1, "two"), ", line 4: fold is 'two', but must be an integer"),
        (changed(0, 2, ""), ", line 2: target is '', but must be an integer"),
        (changed(3, 3, "hail"), ", line 5: target 7 is 'rain' and 'hail'"),
        (changed(1, 3, ""), ", line 3: target 2 is '' and ''"),
        (changed(1, 3, "dog"), " gives two targets the same category: {7: 'rain', 2: 'dog', 0: 'dog'}"),
        ([*ESC_ROWS[:2], ["x.wav", "1"]], ", line 4: 2 fields, but the header has 7"),
        ([], " lists no recordings"),
    ],
)
def test_esc50_broken_tables(tmp_path, rows, message):
    root = make_esc(tmp_path, rows)
    with refused(ValueError, f"{root / 'meta' / 'esc50.csv'}{message}"):
        load_esc50(root)


def test_esc50_other_troubles(tmp_path):
    with refused(ValueError, ".../esc50.csv, line 2: esc10 is 'yes', but must be True or False"):
        load_esc50(make_esc(tmp_path / "a", changed(0, 4, "yes")), esc10_only=True)
    known = "filename, fold, target, class, esc10, src_file, take"
    with refused(ValueError, f".../esc50.csv has the columns {known}, but category must be among its columns"):
        load_esc50(make_esc(tmp_path / "b", header=[*ESC_HEADER[:3], "class", *ESC_HEADER[4:]]))
    root = make_esc(tmp_path / "c")
    table = root / "meta" / "esc50.csv"
    lost = root / "audio" / "2-102-A-0.wav"
    lost.unlink()
    with refused(FileNotFoundError, f"{table}, line 4: {lost} does not exist, nor with another ending"):
        load_esc50(root)
    for path in (root / "audio").iterdir():
        path.unlink()
    (root / "audio").rmdir()
    first = root / "audio" / "1-100-A-7.wav"
    with refused(FileNotFoundError, f"{table}, line 2: {first} does not exist, nor with another ending"):
        load_esc50(root)
    table.write_bytes(b"filename,fold,target,category\n\xff\xfe,1,1,a\n")
    reason = "'utf-8' codec can't decode byte 0xff in position 30: invalid start byte"
    with refused(ValueError, f"{table} cannot be read as UTF-8: {reason}"):
        load_esc50(root)
    table.write_bytes(b"")
    with refused(ValueError, f"{table} is empty, but filename, fold, target, category must be among its columns"):
        load_esc50(root)
    with refused(FileNotFoundError, f"{tmp_path / 'meta' / 'esc50.csv'} does not exist"):
        load_esc50(tmp_path)


def test_esc50_table_of_a_spreadsheet(tmp_path):
    """A byte order mark, quoted fields, blank lines and other columns do no harm."""
    root = make_esc(tmp_path)
    table = root / "meta" / "esc50.csv"
    text = table.read_text().replace("rain", '"rain"').replace("\n", "\n\n")
    table.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(load_esc50(root).clips) == 4


def test_real_esc10(esc10):
    root = esc10.clips[0].path.parents[1]
    ten = load_esc50(root, esc10_only=True)
    assert ten.name == "ESC-10"
    assert ten.classes[:3] == ("dog", "rooster", "rain")
    assert len(ten.classes) == 10
    with (root / "meta" / "esc50.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["esc10"] == "True"]
    assert len(ten.clips) == len(rows)
    for clip, row in zip(ten.clips, rows, strict=True):
        assert clip.path.is_file()
        assert clip.name == row["filename"].rsplit(".", 1)[0]
        assert ten.classes[clip.labels[0]] == row["category"]
        assert clip.fold == int(row["fold"]) == int(clip.name[0])
    longest = max(ten.clips, key=lambda c: soundfile.info(c.path).frames)
    for clip in (ten.clips[0], longest):
        y = ten.audio(clip, 44100)
        stored = soundfile.read(clip.path, dtype="float32")[0][:220500]
        assert (y.dtype, y.shape) == (np.float32, (220500,))
        np.testing.assert_array_equal(y[: len(stored)], stored)
        assert not y[len(stored) :].any()
        np.testing.assert_array_equal(y, ten.audio(clip, 44100))
        assert ten.audio(clip, 16000).shape == (80000,)


# Selecting and loading


def test_select(tmp_path):
    data = load_esc50(make_esc(tmp_path))
    assert data.select() == data
    assert [c.name for c in data.select(folds=2).clips] == ["2-102-A-0", "2-103-B-7"]
    assert data.select(folds=[1, 2]) == data
    rain = data.select(folds=iter([2]), classes="rain")
    assert (rain.classes, [c.labels for c in rain.clips]) == (("rain",), [(0,)])
    assert data.select(folds=[]).clips == ()
    for choice, message in [
        ({"folds": [1, 9]}, "folds names 9, but the data set has: 1, 2"),
        ({"classes": "hail"}, "classes names hail, but the data set has: cat, dog, rain"),
        ({"split": "test"}, "split names test, but the data set has: none"),
    ]:
        with refused(ValueError, message):
            data.select(**choice)


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(st.sets(st.integers(0, 3)), min_size=1, max_size=8),
    kept=st.sets(st.sampled_from("abcd"), min_size=1),
    multilabel=st.booleans(),
)
def test_select_keeps_the_meaning_of_labels(tmp_path_factory, labels, kept, multilabel):
    clips = tuple(Clip(tmp_path_factory.getbasetemp(), tuple(sorted(s)), None, str(i)) for i, s in enumerate(labels))
    data = Dataset("x", tuple("abcd"), clips, multilabel, 1.0)
    part = data.select(classes=kept)
    assert part.classes == tuple(sorted(kept))
    names = {c.name: {part.classes[i] for i in c.labels} for c in part.clips}
    expected = {c.name: {data.classes[i] for i in c.labels} & kept for c in clips}
    assert names == {k: v for k, v in expected.items() if v or multilabel}


def test_load_dataset(tmp_path, monkeypatch):
    monkeypatch.delenv("L2I_DATA", raising=False)
    needed = "the folder of a data set is needed, here or in the environment variable L2I_DATA"
    with refused(ValueError, f"path is empty, but {needed}"):
        load_dataset()
    with refused(FileNotFoundError, f"the folder {tmp_path / 'none'} does not exist"):
        load_dataset(tmp_path / "none")
    lacking = "it has neither meta/esc50.csv (ESC-50) nor annotations.csv (SONYC-UST)"
    with refused(ValueError, f"{tmp_path} holds no data set: {lacking}"):
        load_dataset(tmp_path)
    make_esc(tmp_path / "esc")
    monkeypatch.setenv("L2I_DATA", str(tmp_path / "esc"))
    assert load_dataset() == load_dataset(tmp_path / "esc") == load_esc50(tmp_path / "esc")
    make_sonyc(tmp_path / "sonyc")
    assert load_dataset(tmp_path / "sonyc") == load_sonyc(tmp_path / "sonyc")


def test_audio_is_cut_padded_and_resampled(tmp_path):
    y = np.random.default_rng(0).uniform(-1, 1, 300).astype(np.float32)
    path = write_audio(tmp_path / "x.wav", y, 100)
    clip = Clip(path, (0,), 1, "x")
    long, short = (Dataset("x", ("a",), (clip,), False, seconds) for seconds in (4.0, 1.5))
    np.testing.assert_array_equal(long.audio(clip, 100), np.r_[y, np.zeros(100, np.float32)])
    np.testing.assert_array_equal(short.audio(clip, 100), y[:150])
    assert long.audio(clip, 133).shape == (532,)
    with refused(ValueError, "sr is 0, but must be a whole, positive number of Hz"):
        long.audio(clip, 0)


# SONYC-UST

MARKS = [f"{i}_{name}_presence" for i, name in enumerate(CLASSES, 1)]
SONYC_HEADER = ["split", "sensor_id", "audio_filename", "annotator_id", "borough", *MARKS, "1-1_x_proximity"]


def sonyc_row(split, name, annotator, marks):
    """`marks` as one character a class: + present, . absent, - not labelled."""
    return [split, "3", name, str(annotator), "1", *({"+": "1", ".": "0", "-": "-1"}[m] for m in marks), "near"]


SONYC_ROWS = [
    sonyc_row("train", "00_b.wav", 17, "+......."),
    sonyc_row("train", "00_b.wav", 18, "...-..+."),
    sonyc_row("train", "00_a.wav", 17, "........"),
    sonyc_row("validate", "01_c.wav", 19, ".......+"),
    sonyc_row("validate", "01_c.wav", 0, ".+......"),
    sonyc_row("test", "02_d.wav", 20, "++++++++"),
    sonyc_row("test", "02_d.wav", -2, "++++...."),
    sonyc_row("test", "02_d.wav", 0, "..+....."),
    sonyc_row("test", "02_e.wav", 20, "++++++++"),
]


def make_sonyc(root, rows=SONYC_ROWS, header=SONYC_HEADER, folders=("audio",)):
    write_csv(root / "annotations.csv", header, rows)
    for i, name in enumerate(sorted({row[2] for row in SONYC_ROWS})):
        folder = root / folders[i % len(folders)]
        folder.mkdir(parents=True, exist_ok=True)
        write_audio(folder / name, np.full(480, 0.5, np.float32), 48000)
    return root


@pytest.mark.parametrize("folders", [("audio",), ("audio-0", "audio-1"), ("audio-0/audio", "audio-12/audio")])
def test_sonyc(tmp_path, folders):
    data = load_sonyc(make_sonyc(tmp_path, folders=folders))
    assert (data.name, data.multilabel, data.duration, len(data.classes)) == ("SONYC-UST", True, 10.0, 8)
    assert [(c.name, c.split, c.labels) for c in data.clips] == [
        ("00_a", "train", ()),
        ("00_b", "train", (0, 6)),
        ("01_c", "validate", (1, 7)),
        ("02_d", "test", (2,)),  # the verified row only; 02_e has none
    ]
    assert all(c.path.is_file() and c.fold is None for c in data.clips)
    assert data.audio(data.clips[0], 48000).shape == (480_000,)
    assert [c.name for c in data.select(split="train").clips] == ["00_a", "00_b"]
    few = data.select(split=["train", "validate"], classes=["dog", "engine"])
    assert (few.classes, [c.labels for c in few.clips]) == (("engine", "dog"), [(), (0,), (1,)])
    with refused(ValueError, "split names valid, but the data set has: test, train, validate"):
        data.select(split="valid")
    with refused(ValueError, "folds names 1, but the data set has: none"):
        data.select(folds=1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (sonyc_row("dev", "00_b.wav", 1, "........"), "the split of 00_b.wav is 'dev', but must be train"),
        (sonyc_row("test", "00_b.wav", 1, "........"), "the split of 00_b.wav is 'test', but must be train"),
        (sonyc_row("test", "02_d.wav", 0, "........"), "02_d.wav has two verified rows (annotator_id 0)"),
        (sonyc_row("train", "00_b.wav", "x", "........"), "annotator_id is 'x', but must be an integer"),
        (
            ["train", "3", "00_b.wav", "1", "1", "0.5", *"0000000", "-"],
            "1_engine_presence is '0.5', but must be 1, 0 or -1",
        ),
        (["train", "3"], "2 fields, but the header has 14"),
    ],
)
def test_sonyc_broken_rows(tmp_path, row, message):
    root = make_sonyc(tmp_path, [*SONYC_ROWS, row])
    with refused(ValueError, f"{root / 'annotations.csv'}, line 11: {message}"):
        load_sonyc(root)


def test_sonyc_other_troubles(tmp_path):
    root = make_sonyc(tmp_path)
    table = root / "annotations.csv"
    (root / "audio" / "00_a.wav").unlink()
    message = f"1 of the 4 recordings of {table} are not in {root / 'audio*'}, the first: 00_a.wav"
    with refused(FileNotFoundError, message):
        load_sonyc(root)
    header = ["8_cat_presence" if h == "8_dog_presence" else h for h in SONYC_HEADER]
    write_csv(table, header, [])
    known = ", ".join(header)
    with refused(ValueError, f"{table} has the columns {known}, but 8_dog_presence must be among its columns"):
        load_sonyc(root)
    write_csv(table, SONYC_HEADER, [])
    with refused(ValueError, f"{table} lists no recordings"):
        load_sonyc(root)
    table.unlink()
    with refused(FileNotFoundError, f"{table} does not exist"):
        load_sonyc(root)


# Scenes


@pytest.mark.parametrize("sr", [8000, 22050, 44100])
@pytest.mark.parametrize("kind", SCENES)
def test_scene(kind, sr):
    y = demo_scene(kind, seed=1, sr=sr)
    assert (y.dtype, y.shape) == (np.float32, (5 * sr,))
    assert np.abs(y).max() == pytest.approx(0.9)
    assert abs(y.mean()) < 0.02
    np.testing.assert_array_equal(y, demo_scene(kind, seed=1, sr=sr))
    assert np.abs(y - demo_scene(kind, seed=2, sr=sr)).max() > 0.1


def test_scene_refuses():
    known = "clock_tick, rain, helicopter, chainsaw, sea_waves, crackling_fire, dog"
    with refused(ValueError, f"kind is 'cow', but must be one of {known}"):
        demo_scene("cow")
    with refused(ValueError, "sr is 4000, but must be at least 8000 Hz"):
        demo_scene(sr=4000)


def beat(y, sr):
    """The strongest rhythm of a sound: the frequency (Hz, from 1 to 30) of its envelope."""
    power = np.square(y[: len(y) // 441 * 441]).reshape(-1, 441).sum(axis=1)
    spectrum = np.abs(np.fft.rfft((power - power.mean()) * np.hanning(len(power)), 1 << 14))
    hertz = np.fft.rfftfreq(1 << 14, 441 / sr)
    inside = (hertz > 1) & (hertz < 30)
    return hertz[inside][spectrum[inside].argmax()]


def test_sounds_have_their_physics():
    rng = np.random.default_rng(5)
    sounds = {kind: make(44100, 5.0, rng) for kind, make in SOUNDS.items()}

    def crest(kind):
        y = sounds[kind].astype(np.float64)
        return np.abs(y).max() / np.sqrt(np.mean(y**2))

    def brightness(kind):
        power = np.abs(np.fft.rfft(sounds[kind])) ** 2
        return (power * np.fft.rfftfreq(220500, 1 / 44100)).sum() / power.sum()

    assert 10 <= beat(sounds["helicopter"], 44100) <= 19
    assert crest("clock_tick") > 8 > crest("rain")  # impulses far above the noise, or noise only
    assert crest("crackling_fire") > 8
    assert brightness("helicopter") < 500 < brightness("dog") < brightness("rain")


@pytest.mark.parametrize("kind", ["clock_tick", "rain", "helicopter", "chainsaw", "crackling_fire"])
def test_scenes_resemble_real_recordings(esc10, kind):
    """The mean spectrum in octaves lies as close to the real ones of its class as they do to each other."""

    def octaves(y):
        power = np.abs(np.fft.rfft(y)) ** 2
        hertz = np.fft.rfftfreq(len(y), 1 / 44100)
        bands = [power[(hertz >= f) & (hertz < 2 * f)].sum() for f in 125 * 2 ** np.arange(7)]
        return 10 * np.log10(np.maximum(bands, 1e-12) / np.sum(bands))

    real = [octaves(esc10.audio(c, 44100)) for c in esc10.select(classes=kind).clips]
    middle = np.median(real, axis=0)
    spread = [np.abs(r - middle).mean() for r in real]
    assert np.abs(octaves(demo_scene(kind)) - middle).mean() < np.quantile(spread, 0.9)


def test_the_example_of_synthesised_clips_is_a_data_set(tmp_path, monkeypatch):
    program = str(Path(__file__).parents[2] / "examples" / "synthesised_clips.py")
    monkeypatch.setattr(sys, "argv", [program, str(tmp_path / "scenes"), "1"])
    runpy.run_path(program)
    dataset = load_dataset(tmp_path / "scenes")
    assert dataset.classes == tuple(SOUNDS)
    assert [clip.name for clip in dataset.clips] == [f"{name}-0" for name in SOUNDS]
    assert all(dataset.audio(clip, 22050).std() > 0.001 for clip in dataset.clips)


def test_two_recordings_of_one_name_are_refused(tmp_path):
    clip = Clip(tmp_path / "a.wav", (0,), 1, "a")
    twin = dataclasses.replace(clip, path=tmp_path / "a.flac")
    message = (
        "dataset mine holds 2 recordings called 'a', but each must have a name of its own, even without the ending"
    )
    with refused(ValueError, message):
        Dataset("mine", ("dog",), (clip, twin), multilabel=False, duration=5.0)


def test_the_identity_of_a_clip_is_that_of_its_contents(tmp_path):
    clip = Clip(tmp_path / "a.wav", (0,), 1, "a")
    assert clip.identity() == ("a", (0,), None)
    clip.path.write_bytes(b"one")
    first = clip.identity()
    clip.path.write_bytes(b"two")
    os.utime(clip.path, (1, 1))
    assert clip.identity() != first
    clip.path.write_bytes(b"one")
    os.utime(clip.path, (2, 2))
    assert clip.identity() == first
    assert dataclasses.replace(clip, labels=(1,)).identity() != first
