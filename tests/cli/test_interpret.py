"""`l2i interpret`: printed and written results, options, and errors in the command line and in Python."""

import json
import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import l2i_fast
from l2i_fast import model
from l2i_fast.audio import write_audio
from l2i_fast.results.result import Result

from ..helpers import refused
from .support import RATE, assert_fails, files_in, make_clip, run


def test_one_recording_is_described_and_saved(place, tiny_folder, tiny_model):
    done = run("interpret", "clip.wav", "--model", tiny_folder)
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    result = tiny_model.interpret("clip.wav")
    (label,) = result.prediction
    assert label in done.stdout
    assert f"component {result.components[0]}" in done.stdout
    assert "out/clip" in done.stdout
    stem = label.replace(" ", "-")
    assert files_in("out") == [
        "clip/input.wav",
        f"clip/interpretation-{stem}.wav",
        "clip/interpretation.png",
        "clip/result.json",
        "clip/result.safetensors",
    ]
    sound, rate = soundfile.read(f"out/clip/interpretation-{stem}.wav", dtype="float32")
    assert rate == RATE
    assert np.array_equal(sound, result.audio)


def test_options_reach_the_model(place, tiny_folder, tiny_model):
    done = run(
        "interpret", "clip.wav", "-m", tiny_folder, "-t", "rain", "--target", "0", "--threshold", "0.05",
        "--top-k", "3", "--domain", "magnitude", "--format", "flac", "-o", "there", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    result = tiny_model.interpret("clip.wav", ["rain", 0], threshold=0.05, top_k=3, domain="magnitude")
    assert [e["label"] for e in found["explanations"]] == ["rain", "dog"]
    assert [e["components"] for e in found["explanations"]] == [list(e.components) for e in result.explanations]
    assert found["settings"]["threshold"] == 0.05
    assert found["settings"]["top_k"] == 3
    assert found["settings"]["domain"] == "magnitude"
    assert files_in("there/clip") == [
        "input.flac",
        "interpretation-dog.flac",
        "interpretation-dog.png",
        "interpretation-rain.flac",
        "interpretation-rain.png",
        "result.json",
        "result.safetensors",
    ]


def test_json_is_result_json_and_the_folder_and_nothing_else(place, tiny_folder):
    done = run("interpret", "clip.wav", "-m", tiny_folder, "--json")
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found.pop("folder") == "out/clip"
    assert found == json.loads(Path("out/clip/result.json").read_text())


def test_several_recordings_give_json_lines_in_order(place, tiny_folder):
    for name in ("a.wav", "b.flac"):
        make_clip(name)
    done = run("interpret", "b.flac", "a.wav", "clip.wav", "-m", tiny_folder, "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["source"] for one in found] == ["b.flac", "a.wav", "clip.wav"]


def test_equal_stems_get_folders_of_their_own(place, tiny_folder):
    files = ["clip.wav", "clip.flac", "b/clip.wav", "b/Clip.wav", "b/clip-2.wav"]
    for seed, name in enumerate(files):
        make_clip(name, seed=seed)
    done = run("interpret", *files, "-m", tiny_folder, "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    folders = [one["folder"] for one in found]
    assert folders == ["out/clip", "out/clip-2", "out/clip-3", "out/Clip-4", "out/clip-2-2"]
    for name, folder in zip(files, folders, strict=True):
        assert json.loads(Path(folder, "result.json").read_text())["source"] == name


def test_a_bad_recording_among_several_spares_the_others(place, tiny_folder):
    Path("text.wav").write_text("this is no sound")
    make_clip("last.wav")
    done = run("interpret", "missing.wav", "clip.wav", "text.wav", "last.wav", "-m", tiny_folder, "--json")
    assert done.exit_code == 1
    assert [json.loads(line)["source"] for line in done.stdout.splitlines()] == ["clip.wav", "last.wav"]
    first, second = done.stderr.splitlines()
    assert "missing.wav" in first
    assert "text.wav" in second
    assert sorted(path.name for path in Path("out").iterdir()) == ["clip", "last"]


def test_a_recording_without_permission_among_several_spares_the_others(place, tiny_folder, monkeypatch):
    make_clip("locked.wav")

    def locked(path, *rest):
        return Path(os.fsdecode(path)).name == "locked.wav"

    def open_unless_locked(path, *rest):
        if locked(path):
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, *rest)

    monkeypatch.setattr(os, "access", lambda path, *rest: not locked(path))
    monkeypatch.setattr("l2i_fast.recording.open", open_unless_locked, raising=False)
    done = run("interpret", "locked.wav", "clip.wav", "-m", tiny_folder, "--json")
    assert_fails(done, 1, "l2i: error: locked.wav cannot be read: Permission denied")
    assert json.loads(done.stdout)["source"] == "clip.wav"


@pytest.mark.filterwarnings("default::RuntimeWarning")
def test_a_recording_that_ends_too_early_is_interpreted_and_reported(place, tiny_folder):
    make_clip("cut.flac", 20000)
    data = Path("cut.flac").read_bytes()
    Path("cut.flac").write_bytes(data[: len(data) * 2 // 3])
    done = run("interpret", "cut.flac", "clip.wav", "-m", tiny_folder, "--json")
    assert done.exit_code == 0, done.output
    cut, whole = [json.loads(line) for line in done.stdout.splitlines()]
    assert (cut["complete"], whole["complete"]) == (False, True)
    assert 0.2 < cut["duration"] < 0.4
    expected = f"cut.flac gives {cut['duration']:.3f} s of sound, but its header states {20000 / RATE:.3f} s"
    assert done.stderr.splitlines() == [f"l2i: warning: {expected}"]


@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_names_that_are_not_utf_8(place, tiny_folder, audio_format):
    name = os.fsdecode(b"caf\xe9.wav")
    make_clip(name)
    done = run("interpret", name, "-m", tiny_folder, "--json", "--format", audio_format)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["source"], found["folder"]) == (r"caf\xe9.wav", r"out/caf\xe9")
    assert f"interpretation-{found['prediction'][0].replace(' ', '-')}.{audio_format}" in os.listdir(
        b"out/caf\xe9".decode(errors="surrogateescape")
    )
    done = run("interpret", name, "-m", tiny_folder)
    assert r" caf\xe9.wav " in done.stdout
    assert r"  in out/caf\xe9: " in done.stdout


def test_an_unsupported_class_is_reported(place, tiny_folder, monkeypatch):
    write_audio("silence.wav", np.zeros(3000, np.float32), RATE)
    real = model.L2I.interpret

    def unsupported(self, *arguments, **options):
        result = real(self, *arguments, **options)
        silent = [
            type(e)(e.target, e.label, e.probability, False, e.relevance * 0, (), e.audio * 0)
            for e in result.explanations
        ]
        return Result(**{**vars(result), "explanations": silent})

    monkeypatch.setattr(model.L2I, "interpret", unsupported)
    done = run("interpret", "silence.wav", "-m", tiny_folder)
    assert done.exit_code == 0, done.output
    assert "no component speaks for it" in " ".join(done.stdout.replace("│", " ").split())


def test_names_with_brackets_and_odd_characters_are_shown_as_they_are(place, tiny_folder):
    name = "a [bold]clip[] ünï :dog:.wav"
    make_clip(name)
    done = run("interpret", name, "-m", tiny_folder)
    assert done.exit_code == 0, done.output
    assert name in done.stdout


@pytest.mark.parametrize("n_samples", [1, 2, 100, 1023])
def test_very_short_recordings(place, tiny_folder, n_samples):
    make_clip("short.wav", n_samples)
    done = run("interpret", "short.wav", "-m", tiny_folder)
    assert done.exit_code == 0, done.output


def bad_recordings(folder):
    nan = np.zeros(500, np.float32)
    nan[7] = np.nan
    soundfile.write(folder / "nan.wav", nan, RATE, subtype="FLOAT")
    soundfile.write(folder / "empty.wav", np.zeros(0, np.float32), RATE)
    (folder / "nothing.wav").write_bytes(b"")
    (folder / "text.wav").write_text("this is no sound")
    (folder / "folder.wav").mkdir()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        (
            "nan.wav",
            ValueError,
            "nan.wav holds NaN or infinity (first at sample 7), but finite samples are needed",
        ),
        ("empty.wav", ValueError, "empty.wav is empty, but at least one sample is needed"),
        ("folder.wav", ValueError, "folder.wav is a folder, but must be a recording"),
        ("missing.wav", FileNotFoundError, "there is no file missing.wav"),
    ],
)
def test_recordings_that_cannot_be_used(place, tiny_folder, tiny_model, name, kind, message):
    bad_recordings(place)
    assert_fails(run("interpret", name, "-m", tiny_folder), 1, message)
    assert not Path("out").exists()
    with refused(kind, message):
        tiny_model.interpret(name)


@pytest.mark.parametrize("name", ["nothing.wav", "text.wav"])
def test_files_that_are_not_audio(place, tiny_folder, tiny_model, name):
    bad_recordings(place)
    words = f"{name} cannot be read as audio: Format not recognised"
    assert_fails(run("interpret", name, "-m", tiny_folder), 1, words)
    assert not Path("out").exists()
    with refused(ValueError, words):
        tiny_model.interpret(name)


TARGETS = "must name classes (dog, rain, clock tick, helicopter) or hold indices from 0 to 3"


@pytest.mark.parametrize(
    ("option", "value", "settings", "message"),
    [
        ("--target", "cat", {"targets": "cat"}, f"targets names 'cat', but {TARGETS}"),
        ("--target", "4", {"targets": 4}, f"targets names 4, but {TARGETS}"),
        ("--target", "-1", {"targets": -1}, f"targets names -1, but {TARGETS}"),
        ("--threshold", "1", {"threshold": 1.0}, "threshold is 1.0, but must be less than 1"),
        ("--threshold", "-0.1", {"threshold": -0.1}, "threshold is -0.1, but must be at least 0"),
        ("--threshold", "nan", {"threshold": float("nan")}, "threshold is nan, but must be finite"),
        ("--top-k", "0", {"top_k": 0}, "top_k is 0, but must be at least 1"),
        ("--domain", "mel", {"domain": "mel"}, "domain is 'mel', but must be one of log, magnitude, wiener"),
    ],
)
def test_settings_out_of_range(place, tiny_folder, tiny_model, option, value, settings, message):
    assert_fails(run("interpret", "clip.wav", "-m", tiny_folder, option, value), 2, option)
    assert not Path("out").exists()
    with refused(ValueError, message):
        tiny_model.interpret("clip.wav", **settings)


def test_unknown_target_names_the_classes(place, tiny_folder):
    done = run("interpret", "clip.wav", "-m", tiny_folder, "-t", "cat")
    assert_fails(done, 2, "'cat'", "dog, rain, clock tick, helicopter", "0 to 3")


@pytest.mark.parametrize("name", ["no such model", "."])
def test_unknown_model(place, name):
    assert_fails(run("interpret", "clip.wav", "--model", name), 1, "model", name)
    allowed = "must be the name of a shipped model (esc10) or a folder with a config.json"
    with refused(ValueError, f"model is {name!r}, but {allowed}"):
        l2i_fast.load(name)


def test_broken_model(place, tiny_folder):
    Path("broken").mkdir()
    Path("broken/config.json").write_text("{")
    assert_fails(run("interpret", "clip.wav", "--model", "broken"), 1, "config.json")
    reason = "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    with refused(ValueError, f"{Path('broken/config.json')} cannot be read as JSON: {reason}"):
        l2i_fast.load("broken")


def test_output_that_cannot_be_written(place, tiny_folder, tiny_model):
    Path("out").write_text("a file stands where the folder should be")
    assert_fails(run("interpret", "clip.wav", "-m", tiny_folder), 2, "output is 'out', but must be a folder")
    Path("there").mkdir()
    Path("there/clip").write_text("and here")
    assert_fails(run("interpret", "clip.wav", "-m", tiny_folder, "-o", "there"), 1, "clip.wav: there/clip: File exists")
    with pytest.raises(OSError, match="out"):
        tiny_model.interpret("clip.wav").save("out/clip")


def test_a_failure_while_saving_leaves_no_files(place, tiny_folder, monkeypatch):
    def fail(path, *rest):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("l2i_fast.results.picture.save_picture", fail)
    assert_fails(run("interpret", "clip.wav", "-m", tiny_folder), 1, "clip.wav", "No space left")
    assert files_in("out") == []


def test_an_unforeseen_error_is_one_line_as_well(place, tiny_folder, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(model.L2I, "interpret", fail)
    assert_fails(run("interpret", "clip.wav", "-m", tiny_folder), 1, "clip.wav: RuntimeError: out of memory")


def test_the_example_program(place, tiny_model, monkeypatch, capsys):
    monkeypatch.setattr(model, "load", lambda name, *_: {"esc10": tiny_model}[name])
    monkeypatch.setattr(sys, "argv", ["interpret_clip.py", "clip.wav", "there"])
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "interpret_clip.py"))
    assert "heard: " in capsys.readouterr().out
    assert "result.json" in files_in("there")
    monkeypatch.setattr(sys, "argv", ["interpret_clip.py", "missing.wav"])
    with pytest.raises(SystemExit, match=r"^there is no file missing\.wav$"):
        runpy.run_path(str(Path(__file__).parents[2] / "examples" / "interpret_clip.py"))
