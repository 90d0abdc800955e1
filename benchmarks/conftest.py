"""The cases of `l2i bench` as benchmarks of pytest, with one thread and every peer; the tables come last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from rich.console import Console

from l2i_fast.bench.case import Case
from l2i_fast.bench.machine import measure_ceilings
from l2i_fast.bench.measurements import Measurements, Row
from l2i_fast.bench.report import render
from l2i_fast.bench.timing import measure, threads

Compare = Callable[..., None]

_rows: list[Row] = []


@pytest.fixture
def compare(benchmark: Any) -> Compare:
    """Time ours and each peer of cases alternately for two seconds, and check both against the exact answer."""

    def run(*cases: Case) -> None:
        rows = [measure(case, case.exact(), 1, case.peers, seconds=2) for case in cases]
        _rows.extend(rows)
        benchmark.extra_info["cases"] = [asdict(row) for row in rows]
        with threads(1):
            benchmark.pedantic(cases[0].ours["ours"](), rounds=10)

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables."""
    if _rows:
        terminalreporter.ensure_newline()
        measurements = Measurements(ceilings=[measure_ceilings(1)], rows=_rows)
        Console(width=130).print(*render(measurements))
