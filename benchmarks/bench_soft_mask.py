"""soft_mask and decode of 6 components out of 100 beside torch; of 5 and of all beside the published loop."""

from __future__ import annotations

from typing import Any

import pytest

import l2i_fast as l2i
from benchmarks import peers
from l2i_fast import reference


@pytest.mark.parametrize("peer", [peers.soft_mask_tuned, peers.soft_mask_torch])
def test_soft_mask(peer: Any, problem: peers.Problem, compare: Any) -> None:
    p = problem
    exact = reference.soft_mask(p.X, p.W, p.H, p.weights)
    compare("soft_mask", lambda: l2i.soft_mask(p.X, p.W, p.H, p.weights), peer.__name__, peer(p), exact)


def run_decode(peer: Any, p: peers.Problem, operation: str, compare: Any) -> None:
    exact = reference.decode(p.X, p.W, p.H, p.weights, p.window, peers.HOP, length=p.y.size)
    ours = lambda: l2i.decode(p.X, p.W, p.H, p.weights, peers.HOP, length=p.y.size)  # noqa: E731
    compare(operation, ours, peer.__name__, peer(p), exact)


@pytest.mark.parametrize("peer", [peers.decode_tuned, peers.decode_torch])
def test_decode(peer: Any, problem: peers.Problem, compare: Any) -> None:
    run_decode(peer, problem, "decode", compare)


@pytest.mark.parametrize("peer", [peers.decode_loop, peers.decode_loop_audible])
@pytest.mark.parametrize("n_selected", [5, 100])
def test_decode_loop(peer: Any, n_selected: int, compare: Any) -> None:
    run_decode(peer, peers.Problem(n_selected=n_selected), f"decode, {n_selected}", compare)
