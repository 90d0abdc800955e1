"""What a stream lets hear beside what `interpret` does, by models of a cross-validation on the folds they never saw.

Usage: python benchmarks/stream_quality.py CV DATA, with the folder that `l2i cross-validate --output CV` made, or its
folders foldN-attention alone, and the recordings in ESC-50's layout. Everything is judged as audio, by the classifier.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

import l2i_fast as l2i
from l2i_fast.audio import scale_to_peak
from l2i_fast.data import load_dataset
from l2i_fast.model import L2I

#: The clip, what `interpret` keeps of it, and what a stream lets hear.
KINDS = ("the whole clip", "`interpret`", "a stream")


def probabilities(model: L2I, y: NDArray[np.float32], target: int) -> tuple[float, bool]:
    """The class's probability in some audio, as it is, and whether it is what is heard."""
    p = model.network.probabilities(model.analyze([y], [1.0]).logits)[0]
    return float(p[target]), int(p.argmax()) == target


def level(y: NDArray[np.float32]) -> float:
    """In dB of full scale."""
    return float(10 * np.log10(np.mean(np.square(y, dtype=np.float64)) + 1e-12))


def judge(model: L2I, y: NDArray[np.float32], refresh: float) -> list[tuple[float, bool, float]]:
    """Probability, whether it is heard, and level, of each kind."""
    y, _ = scale_to_peak(y)
    (explanation, *_) = model.interpret((y, model.sample_rate)).explanations
    stream = model.stream(mode="synchronous", targets=explanation.target, refresh=refresh)
    heard = stream.push(y, last=True)[stream.latency :]
    return [(*probabilities(model, one, explanation.target), level(one)) for one in (y, explanation.audio, heard)]


def main(
    cv: Annotated[Path, typer.Argument(help="Folder of the models.")],
    data: Annotated[Path, typer.Argument(help="Folder of the recordings.")],
    refresh: float = 0.25,
) -> None:
    dataset = load_dataset(data)
    rows = []
    for folder in sorted(cv.glob("fold*-attention")):
        model, fold = l2i.load(folder), int(folder.name.removeprefix("fold").removesuffix("-attention"))
        part = dataset.select(folds=[fold])
        clips = [part.audio(clip, model.sample_rate) for clip in part.clips]
        rows += [judge(model, y, refresh) for y in clips if y.any()]
        print(f"fold {fold}: {len(rows)} clips so far", flush=True)
    found = np.array(rows, dtype=np.float64)  # clips, kinds, figures
    print(
        f"\n| {len(rows)} clips | probability of the class, mean | heard as the class | level beside the clip, median |"
    )
    print("|---|---|---|---|")
    for i, kind in enumerate(KINDS):
        p, same, loud = found[:, i].T
        print(f"| {kind} | {p.mean():.2f} | {100 * same.mean():.1f} % | {np.median(loud - found[:, 0, 2]):.1f} dB |")


if __name__ == "__main__":
    typer.run(main)
