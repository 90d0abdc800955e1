"""One row for each recording, method and experiment."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2i_fast.evaluation.experiments import Protocol, Sample
from l2i_fast.metrics.complexity import complexity, published_complexity
from l2i_fast.metrics.curves import masks_at
from l2i_fast.metrics.faithfulness import published_scores, scores
from l2i_fast.metrics.fidelity import rank
from l2i_fast.metrics.judging import Judgement, has_components
from l2i_fast.metrics.localization import localization
from l2i_fast.metrics.separation import separation
from l2i_fast.model import AuditedNetwork
from l2i_fast.results import Result
from l2i_fast.results.masking import apply_masks, log_magnitude

Float32 = NDArray[np.float32]
Record = dict[str, Any]

#: Shares of the log magnitude at which all methods are compared.
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)


def record(
    sample: Sample, result: Result, judgement: Judgement, protocol: Protocol, multilabel: bool = False
) -> Record:
    """Return the scores of a result; those that are not defined for it are left out.

    The names are those of docs/evaluation.md. A network with several labels (`multilabel`) is correct if it predicts
    exactly the true classes, any other if it predicts one of them.
    """
    explanation = result.explanations[0]
    labels, own = result.labels, result.own_probabilities
    predicted = [labels.index(name) for name in result.prediction]
    published = protocol == "published"
    faithful = published_scores(judgement, has_components(result)) if published else scores(judgement)
    row: Record = {
        "true": [labels[c] for c in sample.true],
        "predicted": list(result.prediction),
        "target": explanation.label,
        "correct": sorted(predicted) == sorted(sample.true) if multilabel else predicted[0] in sample.true,
        "heard": explanation.target in sample.true,
        "confidence": explanation.probability,
        "confidence_kept": float(judgement.kept[explanation.target]),
        "confidence_removed": float(judgement.removed[explanation.target]),
        "kept": judgement.kept_share,
        **faithful,
        "supported": explanation.supported,
        "components": list(explanation.components),
        "relevance": [float(f"{r:.4g}") for r in explanation.relevance],
        **(published_complexity if published else complexity)(result)._asdict(),
    }
    if own is not None:
        row["rank"] = rank(own, explanation.target)
        row["own_probabilities"] = [float(p) for p in own]
        row["decided"] = [c in predicted for c in range(len(labels))]
    if sample.parts and row["heard"]:
        target = sample.parts.get("target", sample.parts.get(explanation.label))
        if target is not None:
            row |= separation(result, target, sample.audio - target)._asdict()
    if sample.events and row["heard"]:
        row |= localization(result, sample.events)._asdict()
    return row


def curve(network: AuditedNetwork, result: Result) -> Record:
    """Return the probabilities of the explained class for what is kept and removed at each of `SHARES`.

    The threshold of the mask is swept: see `l2i_fast.metrics.curves.masks_at`.
    """
    V = log_magnitude(result.input, result.settings)
    masks = masks_at(result.mask(), V, SHARES)
    settings = {**result.settings, "domain": "log"}  # where a bin kept by a fraction counts as that fraction
    parts = apply_masks(result.input, (*masks, *(1 - m for m in masks)), settings)
    peak = network.analyze([result.input]).scales[0]
    c = result.explanations[0].target
    p = [float(x) for x in network.classify(parts, [peak] * len(parts))[:, c]]
    return {"curve_kept": p[: len(SHARES)], "curve_removed": p[len(SHARES) :]}
