"""The global view: which components speak for which class, and a map of the recordings by relevance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from l2i_fast.evaluation.records import Record

Float64 = NDArray[np.float64]


class Overview(NamedTuple):
    """Relevance over many recordings that one model explains.

    Attributes
    ----------
    classes : list of str
    relevance : ndarray (C, K)
        Mean relevance of each component for each explained class; NaN for classes that are never explained.
    names, labels : list of str
        Recordings and their explained classes.
    places : ndarray (N, 2)
        The recordings on the two main axes of their relevances.
    """

    classes: list[str]
    relevance: Float64
    names: list[str]
    labels: list[str]
    places: Float64

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with three digits."""
        rounded = [[None if np.isnan(x) else round(float(x), 3) for x in row] for row in self.relevance]
        return {
            "classes": self.classes,
            "relevance": rounded,
            "map": [
                {"name": name, "class": label, "x": round(float(x), 3), "y": round(float(y), 3)}
                for name, label, (x, y) in zip(self.names, self.labels, self.places, strict=True)
            ],
        }


def overview(records: Sequence[Record]) -> dict[str, Overview]:
    """Return the global view of each part, since each has a dictionary of its own, by L2I on clean recordings."""
    chosen = [row for row in records if row["experiment"] == "clean" and row["method"] == "l2i"]
    views = {}
    for part in dict.fromkeys(row["part"] for row in chosen):
        rows = [row for row in chosen if row["part"] == part]
        r = np.array([row["relevance"] for row in rows], np.float64)
        classes = sorted({row["target"] for row in rows})
        mean = np.array([r[[row["target"] == c for row in rows]].mean(axis=0) for c in classes])
        places = np.zeros((len(rows), 2))
        if len(rows) > 1:
            n = min(2, *r.shape)
            places[:, :n] = PCA(n, svd_solver="full").fit_transform(np.maximum(r, 0))
        views[part] = Overview(classes, mean, [row["sample"] for row in rows], [row["target"] for row in rows], places)
    return views
