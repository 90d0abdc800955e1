"""Scores of faithfulness, against cases computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from l2i_fast.metrics.faithfulness import (
    average_drop,
    average_gain,
    average_increase,
    faithfulness,
    published_scores,
    scores,
)
from l2i_fast.metrics.judging import Judgement

UNIT = st.floats(0, 1)


def judgement(before: ArrayLike, kept: ArrayLike, removed: ArrayLike, target: int = 0) -> Judgement:
    p, o, r = (np.asarray(x, np.float32) for x in (before, kept, removed))
    return Judgement(target, p, o, r, 0.5)


def test_scores_by_hand() -> None:
    p, o = [0.5, 0.8, 0.25, 0.4], [0.7, 0.6, 0.25, 0.1]
    assert average_increase(p, o).tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(average_drop(p, o), [0, 0.2 / 0.8, 0, 0.3 / 0.4])
    np.testing.assert_allclose(average_gain(p, o), [0.2 / 0.5, 0, 0, 0])
    np.testing.assert_allclose(faithfulness(p, [0.1, 0.9, 0.25, 0.0]), [0.4, -0.1, 0, 0.4])


def test_certain_and_impossible_classes_have_defined_scores() -> None:
    assert average_gain([1.0, 1.0], [1.0, 0.3]).tolist() == [0, 0]
    assert average_drop([0.0], [0.5]).tolist() == [0]


def test_scores_are_for_the_explained_class() -> None:
    found = scores(judgement([0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8], target=1))
    assert found == pytest.approx({"AI": 1, "AD": 0, "AG": 0.1 / 0.8, "FF": 0.1, "Fid-In": 1})
    assert scores(judgement([0.7, 0.3], [0.4, 0.6], [0.5, 0.5]))["Fid-In"] == 0


def test_published_arithmetic_takes_the_softmax_twice() -> None:
    before, kept = [0.9, 0.1], [0.2, 0.8]
    p, o = (math.exp(x[0]) / (math.exp(x[0]) + math.exp(x[1])) for x in (before, kept))
    found = published_scores(judgement(before, kept, [0.5, 0.5]), has_components=False)
    assert found["AD"] == pytest.approx((p - o) / p, rel=1e-6)
    assert found["FF"] == pytest.approx(0.4)
    assert found["Fid-In"] == 0


@given(st.integers(0, 2**31), st.integers(2, 60))
def test_published_average_drop_is_capped_at_63(seed: int, n_classes: int) -> None:
    p, o = np.random.default_rng(seed).dirichlet(np.full(n_classes, 0.05), 2)
    assert published_scores(judgement(p, o, o), has_components=False)["AD"] <= 0.632121
    certain, another = np.eye(n_classes)[:2]
    found = published_scores(judgement(certain, another, another), has_components=False)
    assert found["AD"] == pytest.approx(1 - 1 / math.e, rel=1e-6)  # where the right figure is 1


def test_published_scores_are_for_the_most_probable_class() -> None:
    found = published_scores(judgement([0.2, 0.8], [0.1, 0.9], [0.7, 0.3], target=0), has_components=False)
    assert found["AI"] == 1
    assert found["AG"] == pytest.approx(0.1 / 0.2, rel=1e-6)
    assert found["FF"] == pytest.approx(0.5)
    assert found["AD"] == 0


@pytest.mark.parametrize(("kept", "expected"), [([0.1, 0.9], (1, 0)), ([0.9, 0.1], (0, 1))])
def test_published_fidelity_of_methods_with_components_compares_with_class_0(
    kept: list[float], expected: tuple[int, int]
) -> None:
    judged = judgement([0.2, 0.8], kept, [0.5, 0.5])
    assert tuple(published_scores(judged, has_components)["Fid-In"] for has_components in (False, True)) == expected


@given(st.lists(st.tuples(UNIT, UNIT), min_size=1, max_size=9))
def test_bounds(pairs: list[tuple[float, float]]) -> None:
    p, o = np.array(pairs).T
    increase, drop, gain = average_increase(p, o), average_drop(p, o), average_gain(p, o)
    for score in (increase, drop, gain):
        assert ((score >= 0) & (score <= 1)).all()
    assert ((gain == 0) | (increase == 1)).all()
    assert ((drop == 0) | (increase == 0)).all()
    same = np.zeros(len(p))
    np.testing.assert_array_equal([average_increase(p, p), average_drop(p, p), average_gain(p, p)], [same] * 3)
