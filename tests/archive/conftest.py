"""Fixtures for runs over archives."""

from __future__ import annotations

from pathlib import Path

import pytest

from l2i_fast.model import L2I

from .support import make_units_small


@pytest.fixture(scope="module")
def model(tiny_model: L2I, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model in a folder."""
    return tiny_model.save(tmp_path_factory.mktemp("model"))


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units that are small for one test."""
    make_units_small(monkeypatch)
