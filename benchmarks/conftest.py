"""Pairs of ours and a peer, timed in turns in one process, and the table of their ratios at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

import l2i_fast as l2i
from benchmarks.peers import Answer, Problem

Compare = Callable[[str, Answer, str, Answer, Any], None]

_rows: list[tuple[str, ...]] = []


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread for all, denormals flushed for torch."""
    before, ours = torch.get_num_threads(), l2i.get_num_threads()
    l2i.set_num_threads(1)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    with threadpool_limits(1):
        yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(before)
    l2i.set_num_threads(ours)


@pytest.fixture(scope="session")
def problem() -> Problem:
    return Problem()


def _error(answer: Any, exact: Any) -> float:
    if isinstance(exact, tuple):  # of several arrays
        return max(map(_error, answer, exact))
    return float(np.linalg.norm(answer - exact) / np.linalg.norm(exact))


def _seconds(call: Answer) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@pytest.fixture
def compare(benchmark: Any) -> Compare:
    """Time ours and a peer in turns for about a second; record the median ratio of the pairs and both errors."""

    def run(operation: str, ours: Answer, name: str, peer: Answer, exact: Any) -> None:
        errors = _error(ours(), exact), _error(peer(), exact)
        assert max(errors) < 1e-4, "the peer or ours computes something else"
        n_pairs = int(np.clip(1 / (_seconds(ours) + _seconds(peer)), 10, 500))
        pairs = np.array([(_seconds(ours), _seconds(peer)) for _ in range(n_pairs)])
        ratio = float(np.median(pairs[:, 1] / pairs[:, 0]))
        best = 1e3 * pairs.min(0)
        benchmark.extra_info.update(peer=name, ratio=ratio, errors=errors, best_ms=best.tolist())
        benchmark.pedantic(ours, rounds=10)
        _rows.append(
            (
                operation,
                name,
                f"{best[0]:.3f}",
                f"{best[1]:.3f}",
                f"{best[1] / best[0]:.2f}",
                f"{ratio:.2f}",
                f"{errors[0]:.1e}",
                f"{errors[1]:.1e}",
            )
        )

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of ratios."""
    if not _rows:
        return
    table = Table(
        title="One 5 s clip, one thread, timed in turns: peer / ours, of the minima and as the median of the pairs"
    )
    for column in ("operation", "peer", "ours ms", "peer ms", "of minima", "median", "our error", "peer error"):
        table.add_column(column, justify="left" if column in ("operation", "peer") else "right")
    for row in _rows:
        table.add_row(*row)
    terminalreporter.ensure_newline()
    Console(width=110).print(table)
