"""Checks of single arguments: which values pass, as what, and what is said of the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from l2i_fast.arguments import (
    flag,
    function_or_none,
    generator_of,
    integer,
    is_several,
    number,
    one_of,
    positive_float32,
    shown,
)

from ..helpers import refused


@pytest.mark.parametrize("kind", [int, np.int8, np.uint64, np.array, torch.tensor])
def test_integers_of_any_library_are_ints(kind: Callable[[int], Any]) -> None:
    assert type(integer(kind(7), "n")) is int
    assert integer(kind(7), "n", 7, 7) == 7


@pytest.mark.parametrize("kind", [int, float, Fraction, np.float16, np.int32, np.array, torch.tensor])
def test_numbers_of_any_library_are_floats(kind: Callable[[int], Any]) -> None:
    assert type(number(kind(7), "x")) is float
    assert number(kind(7), "x", 7, 7) == positive_float32(kind(7), "x") == 7


@given(st.integers(), st.integers(), st.integers())
def test_integers_in_range_pass(n: int, least: int, most: int) -> None:
    if least <= n <= most:
        assert integer(n, "n", least, most) == n
    else:
        with pytest.raises(ValueError, match=f"^n is {n}, but must be at (least {least}|most {most})$"):
            integer(n, "n", least, most)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: integer(0, "n"), ValueError, "n is 0, but must be at least 1"),
        (lambda: integer(2**31, "n"), ValueError, "n is 2147483648, but must be at most 2147483647"),
        (lambda: integer(10**5000, "n"), ValueError, "n is an integer of thousands of digits, but must be at most ..."),
        (lambda: integer(True, "n"), TypeError, "n is True, but must be an integer"),
        (lambda: integer(np.True_, "n"), TypeError, "n is True, but must be an integer"),
        (lambda: integer(torch.tensor(True), "n"), TypeError, "n is True, but must be an integer"),
        (lambda: integer(2.0, "n"), TypeError, "n is 2.0, but must be an integer"),
        (lambda: integer(np.float32(2.5), "n"), TypeError, "n is 2.5, but must be an integer"),
        (lambda: integer(np.zeros((2, 2)), "n"), TypeError, "n is array([[0., 0.], [0., 0.]]), but must be an integer"),
        (lambda: number(math.nan, "x"), ValueError, "x is nan, but must be finite"),
        (lambda: number(np.float64("-inf"), "x"), ValueError, "x is -inf, but must be finite"),
        (lambda: number(-(10**400), "x"), ValueError, "x is -1000...0000, but must be finite"),
        (lambda: number(-0.5, "x", 0), ValueError, "x is -0.5, but must be at least 0"),
        (lambda: number(1.5, "x", 0, 1), ValueError, "x is 1.5, but must be at most 1"),
        (lambda: number("1", "x"), TypeError, "x is '1', but must be a number"),
        (lambda: number(False, "x"), TypeError, "x is False, but must be a number"),
        (lambda: number(1j, "x"), TypeError, "x is 1j, but must be a number"),
        (lambda: number(torch.tensor([1.0]), "x"), TypeError, "x is tensor([1.]), but must be a number"),
        *(
            (lambda x=x: positive_float32(x, "x"), ValueError, f"x is {x}, but must be positive, and a normal ...")
            for x in (0, -1, 1e-39, 1e39, math.inf, math.nan)
        ),
        (lambda: flag(1, "f"), TypeError, "f is 1, but must be True or False"),
        (lambda: flag("no", "f"), TypeError, "f is 'no', but must be True or False"),
        (lambda: one_of("c", "kind", ("a", "b")), ValueError, "kind is 'c', but must be one of a, b"),
        (lambda: one_of(np.array(["a", "b"]), "kind", "ab"), ValueError, "kind is array(['a', 'b'], ...), but ..."),
        (lambda: function_or_none(3, "callback"), TypeError, "callback is 3, but must be callable or None"),
        (lambda: generator_of(-1, "seed"), ValueError, "seed is -1, but must be at least 0"),
        (lambda: generator_of("a", "seed"), TypeError, "seed is 'a', but must be an integer"),
    ],
)
def test_others_are_named(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with refused(error, message):
        call()


def test_generators() -> None:
    rng = np.random.default_rng(3)
    assert generator_of(rng, "seed") is rng
    assert generator_of(3, "seed").random() == np.random.default_rng(3).random()
    assert generator_of(None, "seed").random() != generator_of(None, "seed").random()


@pytest.mark.parametrize(
    ("value", "several"), [([1], True), (range(2), True), ({}, True), ("ab", False), (b"ab", False), (3, False)]
)
def test_what_counts_as_several(value: Any, several: bool) -> None:
    assert is_several(value) == several
    assert is_several(np.zeros(1))
    assert is_several(torch.zeros(1))
    assert not is_several(np.zeros(()))
    assert not is_several(torch.zeros(()))


def test_values_are_shown_on_one_short_line() -> None:
    nested: list[Any] = []
    for _ in range(10_000):
        nested = [nested]
    for value in (np.zeros((99, 99)), torch.zeros(99, 99), "a" * 1000, nested, list(range(1000)), 10**4000):
        assert "\n" not in shown(value)
        assert len(shown(value)) <= 100
