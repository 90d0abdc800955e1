"""Settings: values are checked in the constructor as well as from plain data, and errors name place and value."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Annotated, Any

import numpy as np
import pytest
from annotated_types import Lt

from l2i_fast.settings import Analysis, Domain, PositiveInt, Section, Selection, from_dict, from_text
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
        (Analysis, {"amin": float("nan")}, "amin is nan, but must be at least 1e-30"),
        (Analysis, {"peak": "x"}, "peak is 'x', but must be one of absolute, signed"),
        (Selection, {"threshold": 2.0}, "threshold is 2.0, but must be less than 1"),
        (Selection, {"threshold": -0.5}, "threshold is -0.5, but must be at least 0"),
        (Selection, {"threshold": "x"}, "threshold is 'x', but must be a number"),
        (Selection, {"top_k": 0}, "top_k is 0, but must be at least 1"),
        (ClassifierConfig, {"batch_size": 1}, "batch_size is 1, but must be at least 2"),
        (ClassifierConfig, {"width": 5}, "width is 5, but must be at most 4"),
        (InterpreterConfig, {"anneal": 1}, "anneal is 1, but must be a Boolean"),
        (InterpreterConfig, {"beta": [[0, "x"]]}, "beta[0][1] is 'x', but must be a number"),
        (InterpreterConfig, {"beta": [[0]]}, "beta[0] is (0,), but must be a list of at least 2"),
        (InterpreterConfig, {"beta": []}, "beta is (), but must begin with a pair for epoch 0"),
        (TrainingConfig, {"classes": [1]}, "classes[0] is 1, but must be a string"),
        (TrainingConfig, {"classes": "dog"}, "classes is 'dog', but must be a list"),
    ],
)
def test_wrong_values_are_named(cls: type[Section], values: dict[str, Any], message: str) -> None:
    with refused(ValueError, message) as raised:
        cls(**values)
    assert type(raised.value) is ValueError
    with refused(ValueError, f"section.{message}"):
        from_dict(cls, values, "section")


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
        ("phase", Domain, "x is 'phase', but must be one of log, magnitude"),
    ],
)
def test_texts_that_stand_for_no_allowed_value_are_named(text: str, hint: Any, message: str) -> None:
    with refused(ValueError, message):
        from_text("x", text, hint)
