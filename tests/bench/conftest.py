"""Benchmarks that take seconds instead of minutes."""

from __future__ import annotations

import pytest

from l2i_fast.bench import cases_cpu, cpu, problem, timing
from l2i_fast.bench.machine import Ceilings


@pytest.fixture
def small(monkeypatch):
    """Clips of 3 s, a few of them in every size, a short race, and one thread: threads of BLAS spin between calls."""
    monkeypatch.setattr(problem, "CLIP", 3 * problem.SAMPLE_RATE)  # frames for two slices of each peer
    monkeypatch.setattr(problem, "SIZES", {"clip": 1, "batch": 2, "archive": 2, "hour": 3})
    monkeypatch.setattr(cases_cpu, "N_TARGET", 5)
    monkeypatch.setattr(cases_cpu, "RACE_CLIPS", 1)
    with timing.threads(1):
        yield


@pytest.fixture
def quick(small, monkeypatch):
    """`small` with clips of 1 s, without pauses, and without measuring ceilings and memory."""
    monkeypatch.setattr(problem, "CLIP", problem.SAMPLE_RATE)
    monkeypatch.setattr(timing, "REST", 0.0)
    monkeypatch.setattr(cpu, "measure_ceilings", lambda n: Ceilings(n, 1e11, [1e11, 1e10, 1e9]))
    monkeypatch.setattr(cpu, "extra_memory", lambda operation, size, n: [])
