"""Log-magnitude spectrograms of a dataset, computed once and kept on disk for all stages of training."""

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


@dataclass(frozen=True)
class Features:
    """Spectrograms and labels of the clips of a dataset.

    Attributes
    ----------
    V : array (clips, T, F), float16, frame-major, mapped from disk
        log(1 + |X|); half precision changes magnitudes above the floor of the features by at most 0.004 dB.
    labels : Tensor (clips, C), float32
        1 where the class is present.
    multilabel : bool
        Whether a clip may hold several classes.
    """

    V: np.ndarray
    labels: Tensor
    multilabel: bool

    def __len__(self) -> int:
        return len(self.labels)

    def magnitude(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return |X| of the clips `indices`: Tensor (B, T, F), float32."""
        return torch.from_numpy(self.V[np.asarray(indices)]).float().expm1_()

    def subset(self, keep: Sequence[int]) -> Features:
        """Return the features of some of the clips, copied into memory."""
        return Features(self.V[np.asarray(keep)], self.labels[list(keep)], self.multilabel)


def compute_features(dataset: Dataset, analysis: Analysis, folder: Path, report: Report) -> Features:
    """Analyse every clip of `dataset`, or map the file of an earlier run with the same clips and settings."""
    stats = [(str(clip.path), clip.path.stat().st_size, clip.path.stat().st_mtime_ns) for clip in dataset.clips]
    identity = repr((asdict(analysis), dataset.duration, stats))
    file = folder / f"features-{hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()}.npy"
    if not file.exists():
        write_whole(file, lambda temporary: _analyse(dataset, analysis, temporary, report))
    labels = torch.zeros(len(dataset.clips), len(dataset.classes), dtype=torch.float32)
    for row, clip in zip(labels, dataset.clips, strict=True):
        row[list(clip.labels)] = 1
    try:
        values = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{file} is damaged ({error}), but must be whole: remove it") from error
    return Features(values, labels, dataset.multilabel)


def _analyse(dataset: Dataset, analysis: Analysis, file: Path, report: Report) -> None:
    n_samples = round(dataset.duration * analysis.sample_rate)
    shape = (len(dataset.clips), 1 + n_samples // analysis.hop_length, analysis.n_fft // 2 + 1)
    V = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=shape)
    for i, clip in enumerate(dataset.clips):
        y, _ = scale_to_peak(dataset.audio(clip, analysis.sample_rate), analysis.peak)
        X = stft(y, n_fft=analysis.n_fft, hop_length=analysis.hop_length)
        V[i] = np.log1p(np.abs(X)).T
        report("features", i + 1, len(dataset.clips), clip.name)
    V.flush()
