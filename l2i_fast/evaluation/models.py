"""The models of an evaluation, each with the recordings that it has not been trained on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from l2i_fast.data import Dataset
from l2i_fast.evaluation.experiments import spread
from l2i_fast.model import L2I


@dataclass(frozen=True, eq=False)
class Part:
    """A model with the clips that it explains.

    Attributes
    ----------
    name : str
        Different for each part, and a valid path below the output folder.
    run : str
        Name of the model or of the cross-validation that the part belongs to.
    model : L2I
    scored, others : Dataset
        Clips to explain, and the other clips of the data set, from which methods learn.
    variants : dict of L2I
        Models of the same classifier with another interpreter, by the name of their method.
    """

    name: str
    run: str
    model: L2I
    scored: Dataset
    others: Dataset
    variants: dict[str, L2I] = field(default_factory=dict)


def load_parts(
    models: Iterable[str | os.PathLike[str]],
    dataset: Dataset,
    folds: Sequence[int] | None = None,
    split: Sequence[str] | None = None,
    n_clips: int | None = None,
) -> list[Part]:
    """Load models, shipped ones or folders, and cross-validations, whose folds are scored by models without them.

    Parameters
    ----------
    models : iterable
        Each the name of a shipped model, a model folder, or a folder that `l2i cross-validate` wrote.
    dataset : Dataset
    folds, split : sequence, optional
        Score only these clips.
    n_clips : int, optional
        Of those, score at most this number by each model, as many of each class as possible.

    Raises
    ------
    ValueError
        An unknown model, a class that a model does not know, or a fold that a cross-validation lacks.
    """
    scored = dataset.select(folds=folds, split=split)
    parts: list[Part] = []
    for model in models:
        run = Path(model).resolve().name
        found = sorted(Path(model).glob("fold*-attention/config.json"))
        if found:
            parts += _cross_validation(Path(model), run, dataset, scored)
        else:
            parts.append(_part(run, run, L2I.load(model), dataset, scored))
    names = [part.name for part in parts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"models names {twice!r} twice, but each model must have a name of its own")
    if n_clips is not None:
        parts = [dataclasses.replace(part, scored=_some(part.scored, n_clips)) for part in parts]
    return parts


def _some(dataset: Dataset, n: int) -> Dataset:
    chosen = spread([clip.labels for clip in dataset.clips], n)
    return dataclasses.replace(dataset, clips=tuple(dataset.clips[i] for i in chosen))


def in_classes_of(model: L2I, dataset: Dataset) -> Dataset:
    """Return a data set with its labels as indices into the classes of a model.

    Raises
    ------
    ValueError
        A data set with a class that the model does not know.
    """
    unknown = [name for name in dataset.classes if name not in model.classes]
    if unknown:
        known = ", ".join(model.classes)
        raise ValueError(f"dataset has the classes {', '.join(unknown)}, but all must be among the model's, {known}")
    index = [model.classes.index(name) for name in dataset.classes]
    clips = (dataclasses.replace(clip, labels=tuple(index[i] for i in clip.labels)) for clip in dataset.clips)
    return dataclasses.replace(dataset, classes=model.classes, clips=tuple(clips))


def _part(name: str, run: str, model: L2I, dataset: Dataset, scored: Dataset) -> Part:
    dataset, scored = in_classes_of(model, dataset), in_classes_of(model, scored)
    chosen = {clip.name for clip in scored.clips}
    others = tuple(clip for clip in dataset.clips if clip.name not in chosen)
    return Part(name, run, model, scored, dataclasses.replace(dataset, clips=others))


def _cross_validation(folder: Path, run: str, dataset: Dataset, scored: Dataset) -> list[Part]:
    parts = []
    folds = {clip.fold for clip in scored.clips if clip.fold is not None}
    if any(clip.fold is None for clip in scored.clips):
        raise ValueError(f"dataset {scored.name} has clips without a fold, but {folder} has a model for each fold")
    for fold in sorted(folds):
        home = folder / f"fold{fold}-attention"
        if not (home / "config.json").is_file():
            raise ValueError(
                f"{folder} has no model for fold {fold}, but each scored fold needs one: {home} is missing"
            )
        one = _part(f"{run}/fold{fold}", run, L2I.load(home), dataset, scored.select(folds=[fold]))
        other = folder / f"fold{fold}-max"
        variants = {"l2i-max": L2I.load(other)} if (other / "config.json").is_file() else {}
        parts.append(dataclasses.replace(one, variants=variants))
    return parts
