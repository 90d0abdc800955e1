"""What methods share that learn from recordings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from l2i_fast.arguments import is_several, shown
from l2i_fast.arrays import host
from l2i_fast.audio import read_sound, scale_to_peak
from l2i_fast.model import AuditedNetwork, Differentiable
from l2i_fast.training.finished import fingerprint


def key_of(network: AuditedNetwork, weights: Differentiable, recordings: Sequence[Any], *settings: Any) -> str:
    """Return a fingerprint of all that a method learns from: network, recordings and settings.

    Raises
    ------
    ValueError
        If there are no recordings.
    """
    if not is_several(recordings) or not len(recordings):
        raise ValueError(f"recordings is {shown(recordings)}, but must be a list of at least one recording")
    rate = network.front_end.analysis.sample_rate
    parameters = [(name, _digest(host(x))) for name, x in weights.module.state_dict().items()]
    sounds = [_digest(read_sound(source, rate).samples) for source in recordings]
    return fingerprint(network.front_end.analysis, network.layers, network.multilabel, parameters, sounds, *settings)


def _digest(x: Any) -> str:
    return hashlib.blake2b(np.ascontiguousarray(x).tobytes(), digest_size=16).hexdigest()


def crops(network: AuditedNetwork, recordings: Sequence[Any], indices: Tensor, n_frames: int) -> tuple[Tensor, Tensor]:
    """Read recordings and analyse a random part of each, at the scale of the whole recording.

    Parameters
    ----------
    network : AuditedNetwork
    recordings : sequence of path-like or (samples, sample_rate)
    indices : Tensor (B,)
        Of the recordings to read.
    n_frames : int
        Length of the parts; shorter recordings are padded with silence. The place is drawn from torch's generator.

    Returns
    -------
    A : Tensor (B, T, F)
        Magnitudes.
    features : Tensor (B, 1, T, n_mels)
        The network's input.
    """
    analysis = network.front_end.analysis
    length = (n_frames - 1) * analysis.hop_length
    signals, scales = [], []
    for i in indices.tolist():
        y = read_sound(recordings[i], analysis.sample_rate).samples
        start = int(torch.randint(max(1, len(y) - length + 1), ()))
        part = y[start : start + length]
        signals.append(np.pad(part, (0, length - len(part))))
        scales.append(scale_to_peak(y, analysis.peak)[1])
    spectra = network.analyze(signals, scales)
    return magnitudes(spectra.X), spectra.features.clone()


def magnitudes(X: Any) -> Tensor:
    """Return |X| (B, T, F) of spectra (B, F, T) as a tensor."""
    A: NDArray[np.float32] = np.abs(host(X)).swapaxes(-1, -2)
    return torch.from_numpy(np.ascontiguousarray(A))
