"""How well a model classifies, and how faithful its interpretations are: always through audio and back.

Every figure that asks the classifier about a part of a recording makes that part audible first, then analyses the sound
at the scale of the whole recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from l2i_fast.data import Dataset
from l2i_fast.model import L2I, Analyzed
from l2i_fast.nmf.activations import activations
from l2i_fast.progress import Report

Record = dict[str, Any]


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
        confidence (its probability), kept_p (its probability for what the mask keeps), inside (whether what is kept is
        classified the same), rank (of that class in the interpreter's logits, 0 is the first), n_components (selected),
        error (relative, L2, of W H to V), dictionary_error (the same for the H that NMF finds), norm (of V), energy and
        dictionary_energy (of each component, by either H), kept (share of V that the mask keeps), and the drop of the
        class's probability when the selected components are removed (drop), when as many random components are removed
        (drop_random) or random ones of at least the same energy (drop_energy).
    """
    if dataset.classes != model.classes:
        raise ValueError(
            f"dataset must have the model's classes ({', '.join(model.classes)}), got {', '.join(dataset.classes)}"
        )
    records: list[Record] = []
    rng = np.random.default_rng(seed)
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
            p = model.probabilities(model.analyze([s[part] for s in sounds], scales=analyzed.scales).logits).numpy()
            for b, row in enumerate(rows):
                c = row["target"]
                if name == "kept_p":
                    row["kept_p"], row["inside"] = float(p[b, c]), c in model.predict(p[b])
                else:
                    row[name] = row["confidence"] - float(p[b, c])
        records += rows
        report("evaluate", len(records), len(dataset.clips), "")
    return records


def _explain(
    model: L2I, analyzed: Analyzed, b: int, n_samples: int, rng: np.random.Generator
) -> tuple[Record, list[NDArray[np.float32]]]:
    """Record of clip b, and what the selection keeps and each removal leaves, as audio at the clip's own level."""
    probabilities = model.probabilities(analyzed.logits[b : b + 1])[0].numpy()
    target = int(probabilities.argmax())
    relevance = model.interpreter.relevance(analyzed.z[b : b + 1], torch.tensor([target]))[0].numpy()
    selected = list(model.select(relevance, model.selection))
    H, X, W = analyzed.H[b].numpy(), analyzed.X[b], model.interpreter.dictionary.detach().numpy()
    V = np.log1p(np.abs(X))
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
        "predicted": model.predict(probabilities),
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


def unused_components(records: Sequence[Record], by: str = "energy") -> int:
    """Components that, over all records of one model, hold less than a thousandth of the average energy.

    `by` names the energies: "energy" for the activations of the interpreter, "dictionary_energy" for those of NMF.
    """
    energy = np.sum([r[by] for r in records], axis=0)
    return int((energy < 1e-3 * energy.mean()).sum())


def _pooled(errors: NDArray[np.float64], norms: NDArray[np.float64]) -> float:
    """Squared error of all clips together, relative to their squared norm."""
    return float(((errors * norms) ** 2).sum() / max((norms**2).sum(), 1e-300))


def duplicate_components(dictionary: NDArray[np.float32], cosine: float = 0.95) -> int:
    """Pairs of columns of W (F, K), of unit norm, that are more alike than `cosine`."""
    return int((np.triu(dictionary.T @ dictionary, 1) > cosine).sum())


def summarize(records: Sequence[Record]) -> dict[str, float]:
    """Figures of merit over the records of `evaluate`."""

    def column(name: str) -> NDArray[np.float64]:
        return np.asarray([r[name] for r in records], dtype=np.float64)

    rank = column("rank")
    figures = {
        "clips": len(records),
        "accuracy": column("correct").mean(),
        "confidence": column("confidence").mean(),
        **{f"fidelity_top{k}": (rank < k).mean() for k in (1, 3, 5)},
        **{f"median_{name}": np.median(column(name)) for name in ("drop", "drop_random", "drop_energy")},
        **{f"mean_{name}": column(name).mean() for name in ("drop", "drop_random", "drop_energy")},
        "inside": column("inside").mean(),
        "kept": column("kept").mean(),
        "n_components": column("n_components").mean(),
        "reconstruction_error": column("error").mean(),
        "dictionary_error": column("dictionary_error").mean(),
        "reconstruction_energy": _pooled(column("error"), column("norm")),
        "dictionary_energy": _pooled(column("dictionary_error"), column("norm")),
    }
    return {name: float(value) for name, value in figures.items()}
