"""Fidelity of a method's own classifier, against cases computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2i_fast.metrics.fidelity import multilabel, rank


def test_rank_of_the_networks_class() -> None:
    own = [0.15, 0.5, 0.3, 0.05]
    assert [rank(own, c) for c in range(4)] == [2, 0, 1, 3]


def test_a_classifier_without_an_opinion_does_not_agree() -> None:
    assert [rank([0.25] * 4, c) for c in range(4)] == [0, 1, 2, 3]


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5]), min_size=1, max_size=6))
def test_ranks_are_places_in_a_stable_order(own: list[float]) -> None:
    order = sorted(range(len(own)), key=lambda c: -own[c])
    assert [rank(own, c) for c in order] == list(range(len(own)))


def test_several_labels_by_hand() -> None:
    decided = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]])
    own = np.array([[0.9, 0.2, 0.4], [0.1, 0.8, 0.3], [0.4, 0.6, 0.2], [0.5, 0.1, 0.1]])
    found = multilabel(own, decided)
    # Class 0: 0.9 right, 0.5 wrong, 0.4 right: 1/2 * 1 + 1/2 * 2/3. Class 1: 0.8 right. Class 2 is never decided on.
    assert found.macro == pytest.approx((1 / 2 + 1 / 2 * 2 / 3 + 1) / 2)
    # All together: 0.9 right, 0.8 right, 0.6 wrong, 0.5 wrong, 0.4 right and 0.4 wrong at once.
    assert found.micro == pytest.approx(2 / 3 + 1 / 3 * 3 / 6)
    assert found.max_f1 == pytest.approx(2 * 1 * (2 / 3) / (1 + 2 / 3))
    assert found.n_classes == 2


def test_several_labels_without_decisions() -> None:
    found = multilabel(np.ones((2, 2)), np.zeros((2, 2)))
    assert all(map(math.isnan, found[:3]))
    assert found.n_classes == 0
