"""L2I and L-MAC where they keep the same share, by models of a cross-validation on the folds they never saw.

Usage: python benchmarks/equal_kept.py CV DATA, with the folder that `l2i cross-validate --output CV` made and the
recordings in ESC-50's layout. L-MAC learns from the other folds, on the same classifiers, once for each weight of its
mask's mean; L2I's threshold is swept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from l2i_fast.data import load_dataset
from l2i_fast.evaluation.models import Part, load_parts
from l2i_fast.explainers import LMAC, Explainer, ListenToInterpret
from l2i_fast.explainers.lmac import LMACConfig
from l2i_fast.metrics.faithfulness import scores
from l2i_fast.metrics.judging import judge

FIGURES = {"AI": 100.0, "AD": 100.0, "AG": 100.0, "FF": 1.0, "Fid-In": 1.0}
THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
#: Clips that are held in memory together.
GROUP = 16


def silent(stage: str, done: int, total: int, message: str) -> None:
    """Report nothing."""


def methods(part: Part, folder: Path, weights: list[float], epochs: int) -> Iterator[tuple[str, Explainer]]:
    """The methods of a part, by name; L-MAC learns when its turn comes."""
    for threshold in THRESHOLDS:
        selection = dataclasses.replace(part.model.selection, threshold=threshold)
        yield f"L2I, threshold {threshold:g}", ListenToInterpret(part.model, selection)
    sounds = [(part.others.audio(clip, part.model.sample_rate), part.model.sample_rate) for clip in part.others.clips]
    for weight in weights:
        explainer = LMAC(part.model.network, LMACConfig(mask_mean=weight, epochs=epochs))
        home = folder / part.name / f"{weight:g}"
        home.mkdir(parents=True, exist_ok=True)
        yield f"L-MAC, weight {weight:g}", explainer.fit(sounds, home, silent)


def main(
    cv: Annotated[Path, typer.Argument(help="Folder of the models.")],
    data: Annotated[Path, typer.Argument(help="Folder of the recordings.")],
    output: Annotated[Path, typer.Option(help="Keeps what L-MAC learns.")] = Path("equal-kept"),
    weight: Annotated[list[float] | None, typer.Option(help="Weights of the mask's mean.")] = None,
    epochs: int = 100,
    fold: Annotated[list[int] | None, typer.Option(help="Only these folds.")] = None,
) -> None:
    rows: dict[str, list[list[float]]] = {}
    for part in load_parts([cv], load_dataset(data), fold):
        rate = part.model.sample_rate
        for name, explainer in methods(part, output, weight or [0.4, 1.0, 2.0, 4.0, 8.0], epochs):
            for start in range(0, len(part.scored.clips), GROUP):
                clips = part.scored.clips[start : start + GROUP]
                judged = judge(
                    part.model.network, explainer.explain([(part.scored.audio(c, rate), rate) for c in clips])
                )
                found = [(scores(one), one.kept_share) for one in judged]
                rows.setdefault(name, []).extend(
                    [[kept, *(factor * score[k] for k, factor in FIGURES.items())] for score, kept in found]
                )
            print(f"{part.name}: {name}", flush=True)
    print(f"\n| method | kept | {' | '.join(FIGURES)} |\n|---|{'---|' * (1 + len(FIGURES))}")
    for mean, name in sorted((tuple(np.mean(x, axis=0)), name) for name, x in rows.items()):
        kept, ai, ad, ag, ff, fid = mean
        print(f"| {name} | {kept:.2f} | {ai:.0f} | {ad:.1f} | {ag:.1f} | {ff:.2f} | {fid:.2f} |")


if __name__ == "__main__":
    typer.run(main)
