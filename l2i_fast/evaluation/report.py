"""The files at the end of an evaluation: scores, records, tables, plots, the global view."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from l2i_fast.evaluation.models import Part
from l2i_fast.evaluation.overview import overview, write_overviews
from l2i_fast.evaluation.plots import write_plots
from l2i_fast.evaluation.records import Record
from l2i_fast.evaluation.scores import Scores, score, to_json
from l2i_fast.evaluation.tables import Table, tables, write_tables
from l2i_fast.evaluation.unit import write_records
from l2i_fast.files import write_whole


def report(output: Path, records: Sequence[Record], parts: Sequence[Part], seed: int = 0) -> tuple[Scores, list[Table]]:
    """Write scores.json, records.parquet, the global view of each part, tables/ and plots/ into `output`.

    Returns
    -------
    scores, tables
    """
    scores = score(records, seed)
    made = tables(scores, records, _fit_seconds(output, records))
    views = overview(records, parts)
    write_records(output / "records.parquet", list(records))
    write_tables(output / "tables", made)
    write_plots(output / "plots", scores, {row["method"]: row["title"] for row in records}, views)
    write_overviews(output, views)
    text = json.dumps(to_json(scores), indent=1, allow_nan=False)
    write_whole(output / "scores.json", lambda p: p.write_text(text + "\n"))
    return scores, made


def _fit_seconds(output: Path, records: Sequence[Record]) -> dict[str, float]:
    """Return the mean time that each method took to learn, over the parts."""
    found: dict[str, list[float]] = {}
    for part, method in dict.fromkeys((row["part"], row["method"]) for row in records):
        file = output / "methods" / part / method / "seconds.json"
        if file.exists():
            found.setdefault(method, []).append(json.loads(file.read_text())["seconds"])
    return {method: float(np.mean(seconds)) for method, seconds in found.items()}
