"""log_mel beside torch and librosa."""

from __future__ import annotations

from typing import Any

import librosa
import pytest

import l2i_fast as l2i
from benchmarks import peers
from l2i_fast import reference


@pytest.mark.parametrize("peer", [peers.log_mel_tuned, peers.log_mel_librosa])
def test_log_mel(peer: Any, problem: peers.Problem, compare: Any) -> None:
    exact = reference.log_mel(problem.X, librosa.filters.mel(sr=44100, n_fft=peers.N_FFT, n_mels=128))
    compare("log_mel", lambda: l2i.log_mel(problem.X), peer.__name__, peer(problem), exact)
