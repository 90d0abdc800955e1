"""Scores of a model on each clip: how well it classifies, and how faithful its interpretations are.

Parts of a recording are decoded to audio before the classifier judges them, and analysed again at the scale of the
whole recording.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from l2i_fast.arguments import generator_of, integer
from l2i_fast.arrays import host
from l2i_fast.data import Dataset
from l2i_fast.defaults import default_settings
from l2i_fast.evaluation.summary import Record
from l2i_fast.model import L2I, Analyzed
from l2i_fast.nmf.activations import activations
from l2i_fast.progress import Report


@default_settings()
@torch.inference_mode()
def evaluate(model: L2I, dataset: Dataset, report: Report, seed: int = 0, batch_size: int = 16) -> list[Record]:
    """Score `model` on every clip of `dataset`.

    Raises
    ------
    ValueError
        The dataset's classes are not the model's.

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
    if dataset.classes != model.classes:
        found, needed = (", ".join(classes) for classes in (dataset.classes, model.classes))
        raise ValueError(f"dataset has the classes {found}, but must have the model's, {needed}")
    records: list[Record] = []
    rng, batch_size = generator_of(seed, "seed"), integer(batch_size, "batch_size")
    for start in range(0, len(dataset.clips), batch_size):
        clips = dataset.clips[start : start + batch_size]
        signals = [dataset.audio(clip, model.sample_rate) for clip in clips]
        analyzed = model.analyze(signals)
        rows, sounds = [], []
        for b, clip in enumerate(clips):
            row, parts = _explain(model, analyzed, b, len(signals[b]), rng)
            row |= {"clip": clip.name, "labels": list(clip.labels)}
            row["correct"] = sorted(row["predicted"]) == sorted(clip.labels)
            rows.append(row)
            sounds.append(parts)
        for part, name in enumerate(("kept_p", "drop", "drop_random", "drop_energy")):
            again = model.analyze([s[part] for s in sounds], scales=analyzed.scales)
            p = host(model.network.probabilities(again.logits))
            for b, row in enumerate(rows):
                c = row["target"]
                if name == "kept_p":
                    row["kept_p"], row["inside"] = float(p[b, c]), c in model.network.predict(p[b])
                else:
                    row[name] = row["confidence"] - float(p[b, c])
        records += rows
        report("evaluate", len(records), len(dataset.clips), "")
    return records


def _explain(
    model: L2I, analyzed: Analyzed, b: int, n_samples: int, rng: np.random.Generator
) -> tuple[Record, list[NDArray[np.float32]]]:
    """Return the record of clip b, and audio of the selected components and of the rest after each removal."""
    probabilities = host(model.network.probabilities(analyzed.logits[b : b + 1])[0])
    target = int(probabilities.argmax())
    relevance = model.relevance(analyzed.z[b], target)
    selected = list(model.select(relevance, model.selection))
    H, W = host(analyzed.H[b]), model.dictionary
    V = np.log1p(np.abs(host(analyzed.X[b])))
    energy = W.sum(axis=0) * H.sum(axis=1)
    order = rng.permutation(len(relevance))
    needed = 1 + int(np.searchsorted(np.cumsum(energy[order]), energy[selected].sum()))
    choices = [selected, order[: len(selected)].tolist(), order[: needed if selected else 0].tolist()]

    every = set(range(len(relevance)))
    kept = [selected, *(sorted(every.difference(chosen)) for chosen in choices)]
    parts = [model.audible(analyzed, b, components, n_samples) for components in kept]
    WH = W @ H
    error = float(np.linalg.norm(V - WH))
    mask = (W[:, selected] @ H[selected]) / (1e-6 + WH)
    norm = float(np.linalg.norm(V))
    best = activations(V, W, n_iter=100)
    nmf_error = float(np.linalg.norm(V - W @ best))
    record: Record = {
        "target": target,
        "predicted": model.network.predict(probabilities),
        "confidence": float(probabilities[target]),
        "rank": int((analyzed.own_logits[b] > analyzed.own_logits[b, target]).sum()),
        "n_components": len(selected),
        "norm": norm,
        "error": error / norm if norm else 0.0,
        "dictionary_error": nmf_error / norm if norm else 0.0,
        "energy": _rounded(energy),
        "dictionary_energy": _rounded(W.sum(axis=0) * best.sum(axis=1)),
        "kept": float((mask * V).sum() / V.sum()) if norm else 0.0,
    }
    return record, parts


def _rounded(values: NDArray[np.float32]) -> list[float]:
    return [float(f"{v:.3g}") for v in values]
