"""analyze beside frame-major torch and librosa."""

from __future__ import annotations

from typing import Any

import librosa
import numpy as np
import pytest

import l2i_fast as l2i
from benchmarks import peers
from l2i_fast import reference


@pytest.mark.parametrize("peer", [peers.analyze_tuned, peers.analyze_librosa])
def test_analyze(peer: Any, problem: peers.Problem, compare: Any) -> None:
    X = reference.stft(problem.y, problem.window, peers.HOP)
    bands = librosa.filters.mel(sr=44100, n_fft=peers.N_FFT, n_mels=128)
    exact = X.T, np.log1p(np.abs(X)).T, reference.log_mel(X, bands).T
    ours = lambda: tuple(a.T for a in l2i.analyze(problem.y, hop_length=peers.HOP))  # noqa: E731
    compare("analyze", ours, peer.__name__, peer(problem), exact)
