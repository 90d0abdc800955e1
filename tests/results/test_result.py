"""Saving results: what is in the folder, file names, and that files appear whole or not at all."""

import dataclasses
import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import l2i_fast
from l2i_fast.results import Explanation, Result
from l2i_fast.results import picture as plot
from l2i_fast.results.files import file_stems, plain

from ..helpers import refused


@pytest.fixture
def result(tiny_model, rng):
    samples = rng.uniform(-0.5, 0.5, 9000).astype(np.float32)
    return tiny_model.interpret((samples, 44100), targets=["dog"])


def explained(target, label, audio=(0.0,), relevance=(1.0, -0.5)):
    return Explanation(target, label, 0.5, True, np.array(relevance, np.float32), (0,), np.asarray(audio, np.float32))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def louder(result, peak):
    """`result` with its interpretation brought to a peak, and one extreme sample below zero."""
    audio = result.audio * np.float32(peak / np.abs(result.audio).max())
    audio[100] = -peak
    return dataclasses.replace(result, explanations=[dataclasses.replace(result.explanations[0], audio=audio)])


def test_folder_holds_sound_picture_and_figures(result, tmp_path):
    folder = tmp_path / "not" / "there yet"
    written = result.save(folder)
    assert names(folder) == [
        "input.wav",
        "interpretation-dog.wav",
        "interpretation.png",
        "result.json",
        "result.safetensors",
    ]
    assert sorted(path.name for path in written) == names(folder)
    assert all(path.parent == folder for path in written)
    sound, rate = soundfile.read(folder / "interpretation-dog.wav", dtype="float32")
    assert rate == result.sample_rate
    assert np.array_equal(sound, result.audio)
    assert (folder / "interpretation.png").read_bytes().startswith(b"\x89PNG")


def test_json_is_what_the_result_says(result, tmp_path):
    found = json.loads(result.save(tmp_path)[-1].read_text())
    assert found["version"] == l2i_fast.__version__
    assert found["prediction"] == list(result.prediction)
    assert list(found["probabilities"]) == list(result.labels)
    assert [np.float32(p) for p in found["probabilities"].values()] == result.probabilities.tolist()
    assert found["settings"]["n_fft"] == 1024
    assert found["duration"] == 9000 / 44100
    (explanation,) = found["explanations"]
    assert explanation["label"] == "dog"
    assert explanation["target"] == 0
    assert explanation["components"] == list(result.components)
    assert [np.float32(r) for r in explanation["relevance"]] == result.relevance.tolist()
    assert explanation["audio"] == "interpretation-dog.wav"
    assert explanation["picture"] == "interpretation.png"
    assert explanation["gain"] == 1.0
    assert {k: v for k, v in explanation.items() if k not in ("audio", "picture", "gain")} == result.to_dict()[
        "explanations"
    ][0]


def test_several_classes_give_one_file_set_each(tiny_model, rng, tmp_path):
    result = tiny_model.interpret((rng.standard_normal(3000) / 9, 44100), targets=["clock tick", "dog"])
    result.save(tmp_path)
    assert names(tmp_path) == [
        "input.wav",
        "interpretation-clock-tick.png",
        "interpretation-clock-tick.wav",
        "interpretation-dog.png",
        "interpretation-dog.wav",
        "result.json",
        "result.safetensors",
    ]
    for explanation in json.loads((tmp_path / "result.json").read_text())["explanations"]:
        assert (tmp_path / explanation["audio"]).is_file()
        assert (tmp_path / explanation["picture"]).is_file()


def test_no_class_decided_still_gives_the_figures(result, tmp_path):
    nothing = dataclasses.replace(result, prediction=(), explanations=[])
    assert [path.name for path in nothing.save(tmp_path)] == ["input.wav", "result.safetensors", "result.json"]
    assert json.loads((tmp_path / "result.json").read_text())["explanations"] == []
    advice = "name one with targets=, for example targets=0"
    with refused(ValueError, f"samples: no class was decided on, so none is explained; {advice}"):
        _ = nothing.audio


def test_wav_keeps_what_is_above_full_scale(result, tmp_path):
    loud = louder(result, 2.5)
    loud.save(tmp_path)
    sound, _ = soundfile.read(tmp_path / "interpretation-dog.wav", dtype="float32")
    assert np.array_equal(sound, loud.audio)


@pytest.mark.parametrize(("peak", "gain"), [(2.5, 0.4), (1.0, 1.0), (0.25, 1.0)])
def test_flac_is_scaled_only_above_full_scale(result, tmp_path, peak, gain):
    loud = louder(result, peak)
    loud.save(tmp_path, "flac")
    sound, rate = soundfile.read(tmp_path / "interpretation-dog.flac", dtype="float64")
    assert rate == result.sample_rate
    told = json.loads((tmp_path / "result.json").read_text())["explanations"][0]["gain"]
    assert told == pytest.approx(gain, rel=1e-6)
    assert np.abs(sound - loud.audio * told).max() < 2**-22


def test_unknown_audio_format_is_refused_before_anything_is_made(result, tmp_path):
    with refused(ValueError, "audio_format is 'mp3', but must be one of wav, flac"):
        result.save(tmp_path / "new", "mp3")
    assert names(tmp_path) == []


def test_a_folder_that_is_no_path_is_refused(result):
    with refused(TypeError, "folder is None, but must be a path"):
        result.save(None)


def test_threads_that_save_one_result_leave_it_whole(result, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        saved = list(pool.map(lambda _: result.save(tmp_path), range(8)))
    assert [[path.name for path in paths] for paths in saved] == [[path.name for path in saved[0]]] * 8
    assert names(tmp_path) == sorted(path.name for path in saved[0])


@pytest.mark.parametrize("failing", ["first", "second"])
def test_a_failure_midway_leaves_nothing_and_spares_what_was_there(result, tmp_path, monkeypatch, failing):
    result = dataclasses.replace(result, explanations=[result.explanations[0], explained(1, "rain", result.audio)])
    before = b"an earlier run"
    (tmp_path / "interpretation-dog.wav").write_bytes(before)
    draw, calls = plot.save_picture, []

    def fail(path, *rest):
        calls.append(path)
        if len(calls) == ("first", "second").index(failing) + 1:
            path.write_bytes(b"half a picture")
            raise OSError("disk full")
        draw(path, *rest)

    monkeypatch.setattr(plot, "save_picture", fail)
    with pytest.raises(OSError, match="disk full"):
        result.save(tmp_path)
    assert names(tmp_path) == ["interpretation-dog.wav"]
    assert (tmp_path / "interpretation-dog.wav").read_bytes() == before
    monkeypatch.setattr(plot, "save_picture", draw)
    result.save(tmp_path)
    assert (tmp_path / "interpretation-dog.wav").read_bytes() != before


def test_saving_again_gives_the_same_bytes(result, tmp_path):
    first = {path.name: path.read_bytes() for path in result.save(tmp_path)}
    assert first == {path.name: path.read_bytes() for path in result.save(tmp_path)}


def test_a_folder_that_is_a_file_is_an_os_error(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        result.save(tmp_path / "file")


@given(st.lists(st.text(max_size=80), min_size=1, max_size=8))
def test_file_stems_are_safe_and_differ(labels):
    stems = file_stems([explained(target, label) for target, label in enumerate(labels)])
    assert len({stem.casefold() for stem in stems}) == len(labels)
    for stem in stems:
        assert stem
        assert not set(stem) & set('/\\:*?"<>|. \n\0')
        assert len(f"interpretation-{stem}.flac".encode()) <= 255


def test_file_stems_of_labels_that_look_alike():
    stems = file_stems([explained(4, "a b 6"), explained(5, "A/b"), explained(6, "a b"), explained(7, "../")])
    assert stems == ["a-b-6", "A-b", "a-b-6-6", "class-7"]


def test_json_numbers_are_plain():
    values = plain(
        {
            "a": np.float32(0.2),
            "b": (np.float64(0.2), np.int64(3), np.bool_(True), None, True),
            "c": np.array([np.nan, np.inf, -0.0], np.float32),
            "d": math.nan,
            5: "text",
        }
    )
    assert json.dumps(values, allow_nan=False) == (
        '{"a": 0.2, "b": [0.2, 3, true, null, true], "c": [null, null, 0.0], "d": null, "5": "text"}'
    )


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_json_gives_every_float32_back(value):
    assert np.float32(json.loads(json.dumps(plain(np.float32(value))))) == np.float32(value)


def test_nan_in_a_result_is_written_as_null(result, tmp_path):
    broken = dataclasses.replace(result, probabilities=np.full(4, np.nan, np.float32), prediction=())
    text = broken.save(tmp_path)[-1].read_text()
    assert set(json.loads(text)["probabilities"].values()) == {None}
    assert "NaN" not in text


def test_shortcuts_are_those_of_the_first_explanation(result):
    two = dataclasses.replace(result, explanations=[explained(2, "clock tick", [0.5]), *result.explanations])
    assert isinstance(two, Result)
    assert two.audio.tolist() == [0.5]
    assert two.relevance.tolist() == [1.0, -0.5]
    assert two.components == (0,)
