"""An iteration of NMF, and activations of a fixed dictionary, beside NumPy, torch and scikit-learn."""

from __future__ import annotations

from typing import Any

import pytest

from l2i_fast.bench.case import LOSSES
from l2i_fast.bench.cases_cpu import cases


@pytest.mark.parametrize("loss", LOSSES)
def test_nmf(loss: str, compare: Any) -> None:
    compare(next(case for case in cases("nmf", "archive") if case.variant == loss))


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_activations(loss: str, compare: Any) -> None:
    compare(next(case for case in cases("activations", "clip") if case.variant == loss))
