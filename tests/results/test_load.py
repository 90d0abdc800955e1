"""Results read from the folders that save wrote: what comes back, and damaged, foreign and older folders."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2i_fast.explainers import Constant, Loudest
from l2i_fast.model import L2I
from l2i_fast.results import Explanation, Result, picture

from ..helpers import refused

Float32 = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(autouse=True)
def _quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take most of the time of saving, and nothing reads them."""
    monkeypatch.setattr(picture, "save_picture", lambda path, *_: path.write_bytes(b"a picture"))


def assert_equal(found: Any, expected: Any, where: str = "result") -> None:
    """Compare results attribute by attribute, arrays bit by bit."""
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype, where
        assert np.array_equal(found, expected, equal_nan=True), where
    elif dataclasses.is_dataclass(expected):
        assert type(found) is type(expected)
        for field in dataclasses.fields(expected):
            assert_equal(getattr(found, field.name), getattr(expected, field.name), f"{where}.{field.name}")
    elif isinstance(expected, list):
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_equal(one, other, f"{where}[{i}]")
    else:
        assert found == expected or (found != found and expected != expected), where


def made(rng: np.random.Generator, n_samples: int, K: int, **changes: Any) -> Result:
    """A result of random values; K is 0 for methods without a dictionary."""
    n_frames = 1 + n_samples // 16
    mask = None if K else rng.random((17, n_frames), np.float32)
    audio = rng.standard_normal(n_samples).astype(np.float32)
    relevance = rng.standard_normal(K).astype(np.float32)
    explanation = Explanation(1, "rain/snow", 1 / 3, True, relevance, tuple(range(K))[:2], audio / 3, mask)
    values: dict[str, Any] = {
        "source": "clip.wav",
        "sample_rate": 8000,
        "input": audio,
        "labels": ("дождь", "rain/snow", "a b", "A b", "", "雨 \U0001f327"),
        "probabilities": rng.random(6, np.float32),
        "prediction": ("rain/snow",),
        "activations": rng.random((K, n_frames), np.float32),
        "dictionary": rng.random((17, K), np.float32),
        "explanations": [explanation],
        "settings": {"n_fft": 32, "hop_length": 16, "threshold": 0.1 + 0.2, "top_k": None, "peak": "absolute"},
    }
    return Result(**(values | changes))


@pytest.mark.parametrize("K", [0, 1, 5])
@pytest.mark.parametrize("n_samples", [1, 15, 1000])
def test_a_result_comes_back_bit_by_bit(rng: np.random.Generator, tmp_path: Path, n_samples: int, K: int) -> None:
    result = made(rng, n_samples, K, complete=False, method="flint", own_probabilities=rng.random(6, np.float32))
    result.save(tmp_path)
    assert_equal(Result.load(tmp_path), result)
    assert_equal(Result.load(str(tmp_path)), result)


def test_odd_values_come_back(rng: np.random.Generator, tmp_path: Path) -> None:
    result = made(rng, 100, 0)
    (one,) = result.explanations
    silent = np.zeros(100, np.float32)
    extreme = np.array([-3.5, 1e-42, 0.1, 1e30], np.float32)
    cases = {
        "silence": {"input": silent, "explanations": [dataclasses.replace(one, audio=silent, supported=False)]},
        "nothing explained": {"explanations": [], "prediction": ()},
        "not finite": {"probabilities": np.full(6, np.nan, np.float32)},
        "not a probability": {"explanations": [dataclasses.replace(one, probability=float("nan"))]},
        "extreme": {"input": extreme, "explanations": [dataclasses.replace(one, audio=extreme)]},
        "several": {
            "explanations": [dataclasses.replace(one, target=t, label=result.labels[t]) for t in (5, 2, 3, 4, 0)]
        },
        "strides": {"input": np.repeat(silent, 2)[::2], "dictionary": np.zeros((17, 3), np.float32)[:, :0]},
    }
    for name, changes in cases.items():
        changed = dataclasses.replace(result, **changes)
        changed.save(tmp_path / name)
        assert_equal(Result.load(tmp_path / name), changed)


def test_masks_take_little_space(rng: np.random.Generator, tmp_path: Path) -> None:
    result = made(rng, 16_000, 0)
    shape = result.dictionary.shape[0], result.activations.shape[1]
    masks = {
        "constant": (np.broadcast_to(np.float32(0.3), shape), 1),
        "by time": (np.broadcast_to(rng.random((1, shape[1]), np.float32), shape), 4 * shape[1]),
        "by frequency": (np.broadcast_to(rng.random((shape[0], 1), np.float32), shape), 4 * shape[0]),
        "binary": ((rng.random(shape) < 0.5).astype(np.float32), shape[0] * shape[1]),
        "any": (rng.random(shape, np.float32), 4 * shape[0] * shape[1]),
    }
    for name, (mask, n_bytes) in masks.items():
        changed = dataclasses.replace(result, explanations=[dataclasses.replace(result.explanations[0], mask=mask)])
        changed.save(tmp_path / name)
        assert_equal(Result.load(tmp_path / name), changed)
        assert (tmp_path / name / "result.safetensors").stat().st_size < n_bytes + 1000, name


def test_flac_comes_back_with_24_bits(rng: np.random.Generator, tmp_path: Path) -> None:
    result = made(rng, 1000, 3)
    assert np.abs(result.input).max() > 1
    result.save(tmp_path, "flac")
    assert (tmp_path / "input.flac").is_file()
    found = Result.load(tmp_path)
    peak = float(np.abs(result.input).max())
    assert np.abs(found.input - result.input).max() < 2**-22 * peak
    assert np.abs(found.audio - result.audio).max() < 2**-22 * peak
    assert_equal(dataclasses.replace(found, input=result.input, explanations=result.explanations), result)


def test_interpretations_of_a_model_come_back(tiny_model: L2I, rng: np.random.Generator, tmp_path: Path) -> None:
    clip = rng.standard_normal(3000).astype(np.float32) / 9, 44100
    results = [tiny_model.interpret(clip, targets=["clock tick", "dog"])]
    results += [method.for_model(tiny_model).explain([clip])[0] for method in (Constant, Loudest)]
    for i, result in enumerate(results):
        result.save(tmp_path / str(i))
        found = Result.load(tmp_path / str(i))
        assert_equal(found, result)
        assert np.array_equal(found.removed(), result.removed())
        assert found.to_dict() == result.to_dict()


@pytest.fixture
def folder(rng: np.random.Generator, tmp_path: Path) -> Path:
    made(rng, 1000, 3).save(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("name", ["input.wav", "interpretation-rain-snow.wav", "result.safetensors"])
def test_missing_and_damaged_files_are_named(folder: Path, name: str) -> None:
    contents = (folder / name).read_bytes()
    broken = f"{folder} does not hold a whole result: {name} is damaged, or of another result; make it again"
    for damaged in (contents[:-1], b"", contents[:100] + bytes([contents[100] ^ 1]) + contents[101:]):
        (folder / name).write_bytes(damaged)
        with refused(ValueError, broken):
            Result.load(folder)
    (folder / name).unlink()
    with refused(ValueError, f"{folder} does not hold a whole result: {name} is missing; make it again"):
        Result.load(folder)


def test_files_of_another_result_are_noticed(folder: Path, rng: np.random.Generator, tmp_path: Path) -> None:
    made(rng, 1000, 3).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "input.wav", folder)
    with refused(ValueError, f"{folder} does not hold a whole result: input.wav is damaged, or of another result; ..."):
        Result.load(folder)


def test_a_missing_picture_is_no_loss(folder: Path) -> None:
    (folder / "interpretation.png").unlink()
    assert Result.load(folder).method == "l2i"


def test_folders_of_something_else(folder: Path, tmp_path: Path) -> None:
    for other in (tmp_path, tmp_path / "nowhere", folder / "result.json"):
        with refused(
            ValueError, f"folder is {str(other)!r}, but must be one that Result.save wrote: it has no result.json"
        ):
            Result.load(other)
    file = folder / "result.json"
    whole = json.loads(file.read_text())
    for text in ("[]", "{}", "5", '{"digests": {}}'):
        file.write_text(text)
        with refused(ValueError, f"{file} describes no result, but must be one that Result.save wrote"):
            Result.load(folder)
    file.write_text(json.dumps(whole)[:-5])
    with refused(ValueError, f"{file} cannot be read as JSON: ..."):
        Result.load(folder)
    for name in whole.keys() - {"explanations", "digests", "duration", "version"}:
        file.write_text(json.dumps({key: value for key, value in whole.items() if key != name}))
        with refused(ValueError, f"{folder} does not hold a whole result: there is no entry {name!r}; make it again"):
            Result.load(folder)
    for wrong in ({"digests": 5}, {"explanations": 5}, {"explanations": [5]}, {"input": 5}, {"probabilities": 5}):
        file.write_text(json.dumps(whole | wrong))
        with refused(ValueError, f"{folder} does not hold a whole result: ...; make it again"):
            Result.load(folder)


def test_an_older_result_must_be_made_again(folder: Path) -> None:
    file = folder / "result.json"
    summary = json.loads(file.read_text())
    for name in ("input", "input_gain", "arrays", "digests"):
        del summary[name]
    file.write_text(json.dumps(summary))
    with refused(ValueError, f"{file} is of an older version, which wrote no arrays: make the result again"):
        Result.load(folder)


def test_a_path_that_is_none(tmp_path: Path) -> None:
    with refused(TypeError, "folder is None, but must be a path"):
        Result.load(None)  # type: ignore[arg-type]
