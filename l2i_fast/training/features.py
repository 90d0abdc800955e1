"""Sound and log-magnitude spectrograms of a dataset, computed once and kept on disk for all stages of training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from l2i_fast.audio import scale_to_peak
from l2i_fast.data import Dataset
from l2i_fast.files import write_whole
from l2i_fast.ops.stft import stft
from l2i_fast.progress import Report
from l2i_fast.settings import Analysis

#: The integer that stands for a sample of 1.
_FULL = 32767


@dataclass(frozen=True)
class Features:
    """Sound, spectrograms and labels of the clips of a dataset.

    Attributes
    ----------
    y : array (clips, N), int16, mapped from disk
        Samples at the rate of the analysis, scaled to the largest one of each clip. Not in half precision, whose
        rounding of loud samples lies far above the floor of the features.
    V : array (clips, T, F), float16, frame-major, mapped from disk
        log(1 + |X|); half precision changes magnitudes above the floor of the features by at most 0.004 dB.
    labels : Tensor (clips, C), float32
        1 where the class is present.
    multilabel : bool
        Whether a clip may hold several classes.
    """

    y: np.ndarray
    V: np.ndarray
    labels: Tensor
    multilabel: bool

    def __len__(self) -> int:
        return len(self.labels)

    def magnitude(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return |X| of the clips `indices`: Tensor (B, T, F), float32."""
        return torch.from_numpy(self.V[np.asarray(indices)]).float().expm1_()

    def sound(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return the samples of the clips `indices`: Tensor (B, N), float32."""
        return torch.from_numpy(self.y[np.asarray(indices)]).float() / _FULL

    def subset(self, keep: Sequence[int]) -> Features:
        """Return the features of some of the clips, copied into memory."""
        chosen = np.asarray(keep)
        return Features(self.y[chosen], self.V[chosen], self.labels[list(keep)], self.multilabel)


def compute_features(dataset: Dataset, analysis: Analysis, folder: Path, report: Report) -> Features:
    """Analyse every clip of `dataset`, or map the file of an earlier run with the same clips and settings."""
    stats = [(str(clip.path), clip.path.stat().st_size, clip.path.stat().st_mtime_ns) for clip in dataset.clips]
    identity = repr((asdict(analysis), dataset.duration, stats))
    name = hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()
    sound, spectra = folder / f"sound-{name}.npy", folder / f"features-{name}.npy"
    if not (sound.exists() and spectra.exists()):
        write_whole(sound, lambda y: write_whole(spectra, lambda V: _analyse(dataset, analysis, y, V, report)))
    labels = torch.zeros(len(dataset.clips), len(dataset.classes), dtype=torch.float32)
    for row, clip in zip(labels, dataset.clips, strict=True):
        row[list(clip.labels)] = 1
    return Features(_mapped(sound), _mapped(spectra), labels, dataset.multilabel)


def _mapped(file: Path) -> np.ndarray:
    try:
        values: np.ndarray = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{file} is damaged ({error}), but must be whole: remove it") from error
    return values


def _analyse(dataset: Dataset, analysis: Analysis, sound: Path, spectra: Path, report: Report) -> None:
    n_samples = round(dataset.duration * analysis.sample_rate)
    shape = (len(dataset.clips), 1 + n_samples // analysis.hop_length, analysis.n_fft // 2 + 1)
    y = np.lib.format.open_memmap(sound, mode="w+", dtype=np.int16, shape=(len(dataset.clips), n_samples))
    V = np.lib.format.open_memmap(spectra, mode="w+", dtype=np.float16, shape=shape)
    for i, clip in enumerate(dataset.clips):
        audio = dataset.audio(clip, analysis.sample_rate)
        y[i] = np.rint(scale_to_peak(audio)[0] * _FULL)
        scaled, _ = scale_to_peak(audio, analysis.peak)
        X = stft(scaled, n_fft=analysis.n_fft, hop_length=analysis.hop_length)
        V[i] = np.log1p(np.abs(X)).T
        report("features", i + 1, len(dataset.clips), clip.name)
    y.flush()
    V.flush()
