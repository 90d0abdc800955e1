"""The network's opinion of what explanations keep and of what they remove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from l2i_fast.arrays import host
from l2i_fast.audio import scale_to_peak
from l2i_fast.defaults import default_settings
from l2i_fast.model import AuditedNetwork, require_spectral
from l2i_fast.results import Result
from l2i_fast.results.masking import gain_of

Float32 = NDArray[np.float32]
#: Recordings that go through the network together.
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Judgement:
    """Probabilities by the network, for one explanation.

    Attributes
    ----------
    target : int
        The explained class.
    before, kept, removed : ndarray (C,), float32
        Probabilities of the recording, of the part that the explanation keeps, and of the part that it removes.
    kept_share : float
        Share of the log magnitude that is kept, ``sum(log(1 + |Y|)) / sum(log(1 + |X|))``; for masks on the log
        magnitude this is ``sum(m V) / sum(V)``. 0 for silence.
    """

    target: int
    before: Float32
    kept: Float32
    removed: Float32
    kept_share: float


def judge(network: AuditedNetwork, results: Sequence[Result]) -> list[Judgement]:
    """Let the network hear what the first explanation of each result keeps and what it removes.

    Both parts go through audio: they are resynthesised and analysed again, at the scale of the whole recording. Results
    of equal length go through the network together.

    Parameters
    ----------
    network : AuditedNetwork
    results : sequence of Result

    Raises
    ------
    ValueError
        A result without an explanation.
    """
    scales = [scale_to_peak(result.input, network.analysis.peak)[1] for result in results]
    kept = _classify(network, [result.audio for result in results], scales)
    removed = _classify(network, [result.removed() for result in results], scales)
    return [
        Judgement(result.explanations[0].target, result.probabilities, k, r, result.kept())
        for result, k, r in zip(results, kept, removed, strict=True)
    ]


@default_settings()
@torch.inference_mode()
def judge_published(network: AuditedNetwork, results: Sequence[Result]) -> list[Judgement]:
    """Judge as SpeechBrain's recipe for L2I and L-MAC does: the features are made of the masked spectrum itself.

    Every mask acts on the log magnitude, whatever its domain, and nothing goes through audio. The features of what is
    kept are those of ``exp(m V) - 1``; those of what is removed are those of ``exp((1 - m) V) - 1`` or, for results
    with a dictionary, the features of the recording minus those of what is kept (train_l2i.py), above silence. See
    `l2i_fast.metrics.faithfulness.published_scores` for the scores of that recipe.
    """
    front_end = require_spectral(network, "SpeechBrain's protocol").front_end
    found = []
    for result in results:
        A, mask = np.abs(host(network.analyze([result.input]).X[0])), result.mask()
        whole, kept, removed = (
            front_end.of_mel((gain_of(m, A, "log") * A).T @ front_end.filters)
            for m in (np.ones_like(A), mask, 1 - mask)
        )
        if has_components(result):
            removed = front_end.silence + whole - kept
        heard = torch.from_numpy(np.stack([kept, removed])[:, None].astype(np.float32)).to(network.device)
        p = host(network.probabilities(network.run(heard).logits))
        found.append(Judgement(result.explanations[0].target, result.probabilities, p[0], p[1], result.kept()))
    return found


def has_components(result: Result) -> bool:
    """Return whether a result is made of a dictionary's components, which SpeechBrain's recipe treats apart."""
    return bool(result.dictionary.shape[1])


def _classify(network: AuditedNetwork, signals: Sequence[Float32], scales: Sequence[float]) -> list[Float32]:
    by_length: dict[int, list[int]] = {}
    for i, y in enumerate(signals):
        by_length.setdefault(len(y), []).append(i)
    answers: dict[int, Float32] = {}
    for indices in by_length.values():
        for start in range(0, len(indices), _BATCH):
            batch = indices[start : start + _BATCH]
            p = network.classify([signals[i] for i in batch], [scales[i] for i in batch])
            answers.update(zip(batch, p, strict=True))
    return [answers[i] for i in range(len(signals))]
