"""Figures of a model on each clip, for cross-validation: L2I beside its random controls, and how W H fits.

They need none of the optional libraries of an evaluation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from l2i_fast.data import Dataset
from l2i_fast.defaults import default_settings
from l2i_fast.evaluation.models import in_classes_of
from l2i_fast.evaluation.summary import Record
from l2i_fast.explainers import EqualEnergy, ListenToInterpret, RandomComponents
from l2i_fast.metrics.faithfulness import scores
from l2i_fast.metrics.fidelity import rank
from l2i_fast.metrics.judging import Judgement, judge
from l2i_fast.model import L2I
from l2i_fast.nmf.activations import activations
from l2i_fast.progress import Report
from l2i_fast.results import Result
from l2i_fast.results.masking import log_magnitude

#: Clips that are held in memory together.
_GROUP = 16


@default_settings()
def evaluate(model: L2I, dataset: Dataset, report: Report) -> list[Record]:
    """Score `model` on every clip of `dataset`.

    Raises
    ------
    ValueError
        The dataset has a class that the model does not know.

    Returns
    -------
    list of dict, one per clip
        clip, labels, predicted (class indices), correct, target (the explained class: the most probable one),
        confidence (its probability), kept_p (its probability for the part that the mask keeps), inside (whether that
        part is classified the same), rank (of that class in the interpreter's logits, from 0), n_components (selected),
        error (relative, L2, of W H to V), dictionary_error (the same for the H that NMF finds), norm (of V), energy and
        dictionary_energy (of each component, by either H), kept (share of V that the mask keeps), and the drop of the
        class's probability when the selected components are removed (drop), when as many random components are removed
        (drop_random) or random ones of at least the same energy (drop_energy).
    """
    dataset = in_classes_of(model, dataset)
    methods = {
        "drop": ListenToInterpret(model),
        "drop_random": RandomComponents(model),
        "drop_energy": EqualEnergy(model),
    }
    records: list[Record] = []
    for start in range(0, len(dataset.clips), _GROUP):
        clips = dataset.clips[start : start + _GROUP]
        sounds = [(dataset.audio(clip, model.sample_rate), model.sample_rate) for clip in clips]
        targets = [int(model.network.classify([y])[0].argmax()) for y, _ in sounds]
        results = {name: method.explain(sounds, targets) for name, method in methods.items()}
        judged = {name: judge(model.network, found) for name, found in results.items()}
        for i, clip in enumerate(clips):
            row = _record(model, results["drop"][i], judged["drop"][i])
            row |= {"clip": clip.name, "labels": list(clip.labels)}
            row["correct"] = sorted(row["predicted"]) == sorted(clip.labels)
            row |= {name: scores(judged[name][i])["FF"] for name in methods}
            records.append(row)
        report("evaluate", len(records), len(dataset.clips), "")
    return records


def _record(model: L2I, result: Result, judgement: Judgement) -> Record:
    explanation, W, H = result.explanations[0], result.dictionary, result.activations
    target, own = explanation.target, result.own_probabilities
    V = log_magnitude(result.input, result.settings)
    norm = float(np.linalg.norm(V))
    best = activations(V, W, n_iter=100)
    errors = [float(np.linalg.norm(V - W @ h)) / norm if norm else 0.0 for h in (H, best)]
    return {
        "target": target,
        "predicted": model.network.find_classes(result.prediction),
        "confidence": explanation.probability,
        "kept_p": float(judgement.kept[target]),
        "inside": target in model.network.predict(judgement.kept),
        "rank": rank(np.asarray(own), target),
        "n_components": len(explanation.components),
        "norm": norm,
        "error": errors[0],
        "dictionary_error": errors[1],
        "energy": _rounded(W.sum(axis=0) * H.sum(axis=1)),
        "dictionary_energy": _rounded(W.sum(axis=0) * best.sum(axis=1)),
        "kept": judgement.kept_share,
    }


def _rounded(values: NDArray[np.float32]) -> list[float]:
    return [float(f"{v:.3g}") for v in values]
