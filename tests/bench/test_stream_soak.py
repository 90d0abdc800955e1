"""benchmarks/stream_soak.py: capacity of a core, deadlines in real time, and memory over time."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread


@pytest.fixture(scope="module")
def soak():
    """The module, which is no part of the package."""
    path = Path(__file__).parents[2] / "benchmarks" / "stream_soak.py"
    spec = importlib.util.spec_from_file_location("stream_soak", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["stream_soak"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    module.demo_scene = functools.cache(module.demo_scene)
    yield module
    del sys.modules["stream_soak"]


def test_streams_are_watched_over_time(soak, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(soak, "SECONDS", 0.1)
    assert soak._load(tiny_model, 2, None, False) > 0
    assert soak._load(tiny_model, 2, 2.5, False) > 0
    every = soak.Soak()
    with soak.threads(1):
        every.memories = [soak.measure_memory(tiny_model, 2 / 3600)]
        every.lives = [soak.measure_live(tiny_model, 0.01, busy, refresh=0.5) for busy in (False, True)]
    for one in every.lives:
        assert one.deadline == 512 / 44100
        assert len(one.times) == round(0.6 / one.deadline)
        assert min(one.times) > 0
        assert 0 <= one.late <= one.missed <= len(one.times)
    assert every.memories[0].end > 0
    (written,) = soak.save_picture(tmp_path, every)
    assert imread(written).shape[2] == 4
    assert soak.save_picture(tmp_path, soak.Soak()) == []
    every.save(tmp_path / "new" / "soak.json")
    assert soak.Soak.load(tmp_path / "new" / "soak.json") == every


@pytest.mark.parametrize("cost", [3.0, 0.3, 1 / 41, 1 / 900])
def test_the_capacity_is_found(soak, cost, monkeypatch):
    monkeypatch.setattr(soak, "_load", lambda model, n, *_: cost * n**1.01)
    one = soak.measure_capacity(None, "none")
    most = max(1, (1 / cost) ** (1 / 1.01))
    assert 0.9 * most <= one.streams <= most
    assert one.load == cost * one.streams**1.01


def test_a_soak_in_markdown(soak):
    every = soak.Soak(
        {"processor": "Z80", "path": "scalar", "date": "1976-07-01"},
        [soak.Capacity("none", None, 1000, 1.0), soak.Capacity("full window", 0.5, 50, 1.0)],
        [soak.Live(10, True, 0.25, 0.0116, 3, 1, 2399, 1, [1e-5] * 99 + [0.02])],
        [soak.Memory(1, 120, 2**29, 2**29 + 2**20, 2**29 + 2**20)],
    )
    lines = soak.markdown(every).splitlines()
    assert "| none | 1,000 | 1.00 |  |  |" in lines
    assert "| full window | 50 | 1.00 | 9.50 | 95 % |" in lines
    assert "| 10 min | a process that never rests | 100 | 3 | 1 | 10 | 210 | 18,021 | 20,000 | 2,399 | 1 |" in lines
    assert "| 1 h | 120 | 512.0 | 513.0 | 513.0 |" in lines
