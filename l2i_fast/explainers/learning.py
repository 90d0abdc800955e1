"""What methods share that learn from recordings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
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

Float32 = NDArray[np.float32]

#: Bytes of decoded recordings that stay in memory: decoding them in every epoch was a third of the learning.
_SOUNDS = 2**30


class Sounds:
    """Recordings at a network's rate, each of them decoded once, as far as they fit into memory.

    Parameters
    ----------
    network : AuditedNetwork
    recordings : sequence of path-like or (samples, sample_rate)

    Raises
    ------
    ValueError
        If there are no recordings.
    """

    def __init__(self, network: AuditedNetwork, recordings: Sequence[Any]) -> None:
        if not is_several(recordings) or not len(recordings):
            raise ValueError(f"recordings is {shown(recordings)}, but must be a list of at least one recording")
        self._rate = network.analysis.sample_rate
        self._recordings = recordings
        self._kept: dict[int, Float32] = {}
        self._room = _SOUNDS

    def __len__(self) -> int:
        """Return the number of recordings."""
        return len(self._recordings)

    def __getitem__(self, i: int) -> Float32:
        """Return a recording: mono samples (N,)."""
        if i in self._kept:
            return self._kept[i]
        y: Float32 = read_sound(self._recordings[i], self._rate).samples
        if y.nbytes <= self._room:
            self._kept[i] = y
            self._room -= y.nbytes
        return y

    def __iter__(self) -> Iterator[Float32]:
        """Yield the recordings in their order."""
        return (self[i] for i in range(len(self)))


def key_of(network: AuditedNetwork, weights: Differentiable, sounds: Sounds, *settings: Any) -> str:
    """Return a fingerprint of all that a method learns from: network, recordings and settings."""
    parameters = [(name, _digest(host(x))) for name, x in weights.module.state_dict().items()]
    heard = [_digest(y) for y in sounds]
    return fingerprint(network.analysis, network.layers, network.multilabel, parameters, heard, *settings)


def _digest(x: Any) -> str:
    return hashlib.blake2b(np.ascontiguousarray(x).tobytes(), digest_size=16).hexdigest()


def crops(network: AuditedNetwork, sounds: Sounds, indices: Tensor, n_frames: int) -> tuple[Tensor, Tensor]:
    """Analyse a random part of each of some recordings, at the scale of the whole recording.

    Parameters
    ----------
    network : AuditedNetwork
    sounds : Sounds
    indices : Tensor (B,)
        Of the recordings.
    n_frames : int
        Length of the parts; shorter recordings are padded with silence. The place is drawn from torch's generator.

    Returns
    -------
    A : Tensor (B, T, F)
        Magnitudes.
    features : Tensor (B, 1, T, n_mels)
        The network's input.
    """
    analysis = network.analysis
    length = (n_frames - 1) * analysis.hop_length
    signals, scales = [], []
    for i in indices.tolist():
        y = sounds[i]
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
