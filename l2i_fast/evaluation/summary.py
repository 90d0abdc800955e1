"""Figures of merit over the records of many clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2i_fast.arguments import number

Record = dict[str, Any]


def unused_components(records: Sequence[Record], by: str = "energy") -> int:
    """Count the components with less than a thousandth of the average energy, over all records of one model.

    `by` names the energies: "energy" for the activations of the interpreter, "dictionary_energy" for those of NMF.
    """
    energy = np.sum([r[by] for r in records], axis=0)
    return int((energy < 1e-3 * energy.mean()).sum())


def _pooled(errors: NDArray[np.float64], norms: NDArray[np.float64]) -> float:
    """Return the squared error of all clips together, relative to their squared norm."""
    return float(((errors * norms) ** 2).sum() / max((norms**2).sum(), 1e-300))


def duplicate_components(dictionary: NDArray[np.float32], cosine: float = 0.95) -> int:
    """Count the pairs of columns of W (F, K), of unit norm, whose cosine is greater than `cosine`."""
    return int((np.triu(dictionary.T @ dictionary, 1) > number(cosine, "cosine")).sum())


def summarize(records: Sequence[Record]) -> dict[str, float]:
    """Return figures of merit over the records of `evaluate`."""

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
