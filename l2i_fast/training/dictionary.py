"""Train a dictionary on the spectra of a data set (Le Roux et al., 2015)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from l2i_fast.nmf.dictionary import learn_dictionary
from l2i_fast.progress import Report
from l2i_fast.training.config import DictionaryConfig, TrainingConfig
from l2i_fast.training.corruption import corrupted
from l2i_fast.training.features import Features
from l2i_fast.training.loop import seed_of

#: Clips whose spectra are computed, and mixed with one another, together.
_TOGETHER = 16


def train_dictionary(features: Features, config: TrainingConfig, report: Report) -> Tensor:
    """Learn W (F, K) from the frames of `features`, or from a random part of them: see `DictionaryConfig`."""
    d = config.dictionary
    n_frames = features.V.shape[1]
    rng = np.random.default_rng(seed_of(config.seed, "frames"))
    chosen = np.sort(rng.permutation(len(features) * n_frames)[: d.max_frames])
    parts = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(config.seed, "dictionary"))
        for batch in torch.randperm(len(features)).split(_TOGETHER):
            V = corrupted(features, batch, d, config.analysis)[0].log1p()
            for clip, v in zip(batch.tolist(), V, strict=True):
                first, last = np.searchsorted(chosen, [clip * n_frames, (clip + 1) * n_frames])
                parts.append(v[chosen[first:last] - clip * n_frames])
    return learn_from(torch.cat(parts), d, config.seed, report)


def learn_from(V: Tensor, d: DictionaryConfig, seed: int, report: Report) -> Tensor:
    """Learn W (F, K) from frames `V` (T, F)."""
    W: Tensor = learn_dictionary(
        V.T,
        d.n_components,
        d.beta_loss,
        d.sparsity,
        d.max_iter,
        random_state=seed,
        max_cosine=d.max_cosine,
        callback=lambda i, n, objective: report("dictionary", i, n, f"objective {objective:.4g}"),
    )
    return W
