"""The methods of an evaluation: which of them can explain a part, and what they have learned from it."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l2i_fast.data import Dataset
from l2i_fast.evaluation.models import Part
from l2i_fast.explainers import EXPLAINERS, Explainer, FittedExplainer, ListenToInterpret
from l2i_fast.files import write_whole
from l2i_fast.progress import Report


def make_explainer(name: str, part: Part) -> Explainer:
    """Return a method for a part, which has learned nothing yet.

    Raises
    ------
    ValueError
        An unknown name, a method that the network cannot serve, or one that has nothing to learn from.
    """
    if name in part.variants:
        explainer: Explainer = ListenToInterpret.for_model(part.variants[name])
        explainer.name, explainer.title = name, "L2I, Theta-MAX"  # type: ignore[misc]
        return explainer
    if name not in EXPLAINERS:
        known = ", ".join([*EXPLAINERS, *part.variants])
        raise ValueError(f"method is {name!r}, but must be one of {known}")
    try:
        explainer = EXPLAINERS[name].for_model(part.model)
    except ValueError as error:
        raise ValueError(f"the method {name} cannot explain {part.run}: {error}") from None
    if learns(name) and not part.others.clips:
        raise ValueError(
            f"the method {name} learns from recordings, but none of {part.scored.name} are left for that: "
            "name the folds to score with --fold, and it learns from the others"
        )
    return explainer


def learns(name: str) -> bool:
    """Return whether a method learns from recordings before it explains."""
    return issubclass(EXPLAINERS.get(name, Explainer), FittedExplainer)


def possible_methods(parts: Sequence[Part]) -> list[str]:
    """Return the names of all methods that every part can serve; warn about the others.

    Warns
    -----
    RuntimeWarning
        With the reason, for each method that is left out.
    """
    names = [*EXPLAINERS, *(name for name in parts[0].variants if all(name in part.variants for part in parts))]
    possible = []
    for name in names:
        try:
            for part in parts:
                make_explainer(name, part)
        except (ValueError, ImportError) as error:
            warnings.warn(f"{name} is left out: {error}", RuntimeWarning, stacklevel=2)
        else:
            possible.append(name)
    return possible


def fitted_explainer(name: str, part: Part, output: Path, seed: int, report: Report) -> Explainer:
    """Return a method for a part that has learned, if it does; the seconds that this took the first time are kept."""
    explainer = make_explainer(name, part)
    if not isinstance(explainer, FittedExplainer):
        return explainer
    folder = output / "methods" / part.name / explainer.name
    start = time.perf_counter()
    fitted = explainer.fit(_Recordings(part.others, part.model.sample_rate), folder, report, seed)
    file = folder / "seconds.json"
    if not file.exists():
        seconds = time.perf_counter() - start
        write_whole(file, lambda p: p.write_text(json.dumps({"seconds": seconds})))
    return fitted


class _Recordings(Sequence[tuple[Any, int]]):
    """The clips of a data set as the experiments hear them, of its duration; each is read when it is needed."""

    def __init__(self, dataset: Dataset, rate: int) -> None:
        self._dataset, self._rate = dataset, rate

    def __len__(self) -> int:
        return len(self._dataset.clips)

    def __getitem__(self, i: Any) -> Any:
        return self._dataset.audio(self._dataset.clips[i], self._rate), self._rate
