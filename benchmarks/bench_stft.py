"""stft and istft beside torch and librosa."""

from __future__ import annotations

from typing import Any

import pytest

import l2i_fast as l2i
from benchmarks import peers
from l2i_fast import reference


@pytest.mark.parametrize("peer", [peers.stft_tuned, peers.stft_torch, peers.stft_librosa])
def test_stft(peer: Any, problem: peers.Problem, compare: Any) -> None:
    exact = reference.stft(problem.y, problem.window, peers.HOP)
    compare("stft", lambda: l2i.stft(problem.y, hop_length=peers.HOP), peer.__name__, peer(problem), exact)


@pytest.mark.parametrize("peer", [peers.istft_tuned, peers.istft_torch, peers.istft_librosa])
def test_istft(peer: Any, problem: peers.Problem, compare: Any) -> None:
    n = problem.y.size
    exact = reference.istft(problem.X, problem.window, peers.HOP, length=n)
    compare("istft", lambda: l2i.istft(problem.X, peers.HOP, length=n), peer.__name__, peer(problem), exact)
