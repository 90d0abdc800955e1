"""Settings: values are checked in the constructor as well as from plain data, and errors name place and value."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from annotated_types import Lt

from l2i_fast.settings import Analysis, Domain, PositiveInt, Section, Selection, from_dict, from_text, read_json
from l2i_fast.training.config import ClassifierConfig, InterpreterConfig, TrainingConfig

from ..helpers import refused


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (Analysis, {"n_fft": 1}, "n_fft is 1, but must be at least 2"),
        (Analysis, {"n_fft": True}, "n_fft is True, but must be an integer"),
        (Analysis, {"n_fft": 1024.0}, "n_fft is 1024.0, but must be an integer"),
        (Analysis, {"hop_length": 2048}, "hop_length is 2048, but must be at most n_fft, 1024"),
        (Analysis, {"amin": 0}, "amin is 0, but must be at least 1e-30"),
        (Analysis, {"amin": float("nan")}, "amin is nan, but must be finite"),
        (Analysis, {"sample_rate": 2**40}, "sample_rate is 1099511627776, but must be at most 2147483647"),
        (Analysis, {"n_mels": 10**5000}, "n_mels is an integer of thousands of digits, but must be at most 2147483647"),
        (Analysis, {"amin": float("inf")}, "amin is inf, but must be finite"),
        (Analysis, {"peak": "x"}, "peak is 'x', but must be one of absolute, signed"),
        (Selection, {"threshold": 2.0}, "threshold is 2.0, but must be less than 1"),
        (Selection, {"threshold": -0.5}, "threshold is -0.5, but must be at least 0"),
        (Selection, {"threshold": "x"}, "threshold is 'x', but must be a number"),
        (Selection, {"top_k": 0}, "top_k is 0, but must be at least 1"),
        (ClassifierConfig, {"batch_size": 1}, "batch_size is 1, but must be at least 2"),
        (ClassifierConfig, {"width": 5}, "width is 5, but must be at most 4"),
        (InterpreterConfig, {"anneal": 1}, "anneal is 1, but must be a Boolean"),
        (InterpreterConfig, {"beta": [[0, "x"]]}, "beta[0][1] is 'x', but must be a number"),
        (InterpreterConfig, {"beta": [[0]]}, "beta[0] is (0,), but must be a list of 2"),
        (InterpreterConfig, {"beta": [[0, float("nan")]]}, "beta[0][1] is nan, but must be finite"),
        (InterpreterConfig, {"learning_rate": float("inf")}, "learning_rate is inf, but must be finite"),
        (InterpreterConfig, {"crop": -1}, "crop is -1, but must be at least 0"),
        (InterpreterConfig, {"beta": []}, "beta is (), but must begin with a pair for epoch 0"),
        (TrainingConfig, {"classes": [1]}, "classes[0] is 1, but must be a string"),
        (TrainingConfig, {"seed": -1}, "seed is -1, but must be at least 0"),
        (TrainingConfig, {"seed": 2**63}, "seed is 9223372036854775808, but must be at most 9223372036854775807"),
        (TrainingConfig, {"classes": "dog"}, "classes is 'dog', but must be a list"),
    ],
)
def test_wrong_values_are_named(cls: type[Section], values: dict[str, Any], message: str) -> None:
    with refused(ValueError, message) as raised:
        cls(**values)
    assert type(raised.value) is ValueError
    with refused(ValueError, f"section.{message}"):
        from_dict(cls, values, "section")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 100_000, "it is nested too deeply"),
        (b"[" * 51 + b"]" * 51, "it is nested too deeply"),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "an object has 'c' twice"),
        (b'{"a": [NaN]}', "it holds NaN"),
        (b"-Infinity", "it holds -Infinity"),
        (b"1e999", "it holds 1e999"),
        (b"1" * 5000, "Exceeds the limit (4300 digits) for integer string conversion: ..."),
        (b'"\xff"', "'utf-8' codec can't decode byte 0xff in position 1: invalid start byte"),
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (None, "[Errno 21] Is a directory: ..."),
    ],
)
def test_what_is_not_json_is_named(content: bytes | None, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with refused(ValueError, f"{file} cannot be read as JSON: {reason}"):
        read_json(file)


def test_json_is_read(tmp_path: Path) -> None:
    values = {"deep": [[[[[1]]]]], "text": "größer", "numbers": [1, -2.5, 1e30, 10**50], "none": None, "flag": True}
    file = tmp_path / "config.json"
    for encoding in ("utf-8", "utf-8-sig"):
        file.write_text(json.dumps(values, ensure_ascii=False), encoding)
        assert read_json(file) == values
    file.write_text("[" * 50 + "]" * 50)
    assert json.dumps(read_json(file)) == file.read_text()


def test_places_in_nested_sections_are_named() -> None:
    with refused(ValueError, "run.interpreter.epochs is 'x', but must be an integer"):
        from_dict(TrainingConfig, {"interpreter": {"epochs": "x"}}, "run")
    known = "amin, hop_length, n_fft, n_mels, peak, sample_rate"
    with refused(ValueError, f"run.analysis has no setting 'foo'; it has {known}"):
        from_dict(TrainingConfig, {"analysis": {"foo": 1}}, "run")
    with refused(ValueError, "analysis is 3, but must be of type Analysis"):
        TrainingConfig(analysis=3)  # type: ignore[arg-type]


def test_what_is_converted() -> None:
    assert repr(InterpreterConfig(alpha=4, beta=[[0, 1]])) == repr(InterpreterConfig(alpha=4.0, beta=((0, 1.0),)))  # type: ignore[arg-type]
    assert Selection(np.float32(0.5), np.int64(3)) == Selection(0.5, 3)  # type: ignore[arg-type]
    assert type(Selection(np.float32(0.5)).threshold) is float  # type: ignore[arg-type]


def test_sections_are_plain_dataclasses() -> None:
    """Fingerprints of training depend on the repr."""
    assert repr(Selection()) == "Selection(threshold=0.2, top_k=5, domain='log')"
    assert dataclasses.asdict(Selection()) == {"threshold": 0.2, "top_k": 5, "domain": "log"}
    assert dataclasses.replace(Selection(), top_k=None).top_k is None
    assert hash(Analysis()) == hash(Analysis())
    with pytest.raises(dataclasses.FrozenInstanceError):
        Selection().top_k = 3  # type: ignore[misc]


@pytest.mark.parametrize("module", ["l2i_fast", "l2i_fast.settings", "l2i_fast.training.stages"])
def test_pydantic_is_not_imported_before_it_is_needed(module: str) -> None:
    code = f"import sys, {module}; sys.exit('pydantic' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


def test_texts_become_values() -> None:
    assert from_text("top_k", "3", PositiveInt) == 3
    assert from_text("threshold", "0.5", Annotated[float, Lt(1)]) == 0.5
    assert from_text("threshold", 0.5, float) == 0.5
    assert from_text("domain", "log", Domain) == "log"


@pytest.mark.parametrize(
    ("text", "hint", "message"),
    [
        ("0", PositiveInt, "x is 0, but must be at least 1"),
        ("1.5", PositiveInt, "x is '1.5', but must be an integer"),
        ("", PositiveInt, "x is '', but must be an integer"),
        ("1", Annotated[float, Lt(1)], "x is 1.0, but must be less than 1"),
        ("nan", Annotated[float, Lt(1)], "x is nan, but must be less than 1"),
        ("one", float, "x is 'one', but must be a number"),
        ("phase", Domain, "x is 'phase', but must be one of log, magnitude, wiener"),
    ],
)
def test_texts_that_stand_for_no_allowed_value_are_named(text: str, hint: Any, message: str) -> None:
    with refused(ValueError, message):
        from_text("x", text, hint)
