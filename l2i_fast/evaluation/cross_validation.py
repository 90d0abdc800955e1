"""Cross-validation: train on all folds but one, and score on that one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from l2i_fast.data import Dataset
from l2i_fast.defaults import default_settings
from l2i_fast.evaluation.scoring import evaluate
from l2i_fast.evaluation.summary import Record, duplicate_components, summarize, unused_components
from l2i_fast.files import as_path, write_whole
from l2i_fast.progress import Report
from l2i_fast.training.config import TrainingConfig
from l2i_fast.training.features import Features, compute_features
from l2i_fast.training.finished import fingerprint as fingerprint_of
from l2i_fast.training.run import chosen_part, train
from l2i_fast.training.stages import Theta


@default_settings()
@torch.inference_mode(False)
def cross_validate(
    dataset: Dataset,
    output: Path,
    config: TrainingConfig,
    report: Report,
    thetas: Sequence[Theta] = ("attention", "max"),
    folds: Sequence[int] | None = None,
    reuse: Path | None = None,
) -> dict[str, dict[str, float]]:
    """Train on all folds except one and score on that one, for each fold and each kind of Theta.

    Finished folds are kept. Writes ``evaluation.json`` into `output` once every fold of the dataset is done.

    Parameters
    ----------
    folds : sequence of int, optional
        Hold out only these folds; the others are left to another call.
    reuse : Path, optional
        Folder of another cross-validation: dictionaries and classifiers that it has learned by the same settings from
        the same clips are taken over.

    Returns
    -------
    dict
        For each Theta the figures of `l2i_fast.evaluation.summarize` over the clips of all finished folds.
    """
    output, dataset = as_path("output", output), chosen_part(dataset, config)
    fingerprint = fingerprint_of(config, dataset.classes, [(clip.identity(), clip.fold) for clip in dataset.clips])
    known = sorted({clip.fold for clip in dataset.clips if clip.fold is not None})
    if len(known) < 2:
        raise ValueError(f"dataset {dataset.name} has the folds {known}, but at least two are needed")
    if folds is not None:
        dataset.select(folds=folds)  # raises for an unknown fold, before hours of work
    sources: dict[int, Path | None] = {
        fold: None if reuse is None else _fold_of(as_path("reuse", reuse), fold, thetas[0]) for fold in folds or known
    }
    features = compute_features(dataset, config.analysis, output / "training", report)
    records: dict[str, list[Record]] = {theta: [] for theta in thetas}
    per_fold: dict[str, dict[str, dict[str, float]]] = {theta: {} for theta in thetas}
    for fold in known:
        for theta in thetas:
            folder = output / f"fold{fold}-{theta}"
            file = folder / "evaluation.json"
            if not file.exists():
                if folds is not None and fold not in folds:
                    continue
                figures = _cross_validate_fold(
                    dataset, features, fold, theta, thetas[0], output, config, report, sources[fold]
                )
                text = json.dumps({"fingerprint": fingerprint, **figures})
                write_whole(file, lambda p, text=text: p.write_text(text + "\n"))  # type: ignore[misc]
            found = json.loads(file.read_text())
            if found["fingerprint"] != fingerprint:
                raise ValueError(f"{file} was made with other settings or clips; choose another output folder")
            records[theta] += found["clips"]
            per_fold[theta][str(fold)] = found["summary"]
    summaries = {theta: summarize(r) for theta, r in records.items() if r}
    if all(len(done) == len(known) for done in per_fold.values()):
        text = json.dumps({"config": config.to_dict(), "all": summaries, "folds": per_fold}, indent=2)
        write_whole(output / "evaluation.json", lambda p: p.write_text(text + "\n"))
    return summaries


def _fold_of(reuse: Path, fold: int, first: Theta) -> Path:
    """Return the folder of a fold in another cross-validation: of the `first` Theta, or of one that it has."""
    folders = [reuse / f"fold{fold}-{theta}" for theta in (first, *get_args(Theta))]
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        raise ValueError(f"reuse is {str(reuse)!r}, but must be a folder of l2i cross-validate with fold {fold}")
    return found


def _cross_validate_fold(
    dataset: Dataset,
    features: Features,
    fold: int,
    theta: Theta,
    first: str,
    output: Path,
    config: TrainingConfig,
    report: Report,
    reuse: Path | None,
) -> dict[str, Any]:
    """Train the model of one fold, with the dictionary and classifier of the `first` Theta; return its figures."""
    folder = output / f"fold{fold}-{theta}"
    named: Report = lambda stage, done, total, text: report(f"fold {fold} {theta}: {stage}", done, total, text)  # noqa: E731
    inside = [i for i, clip in enumerate(dataset.clips) if clip.fold != fold]
    fold_config = dataclasses.replace(config, interpreter=dataclasses.replace(config.interpreter, theta=theta))
    clips = tuple(dataset.clips[i] for i in inside)
    model = train(
        dataclasses.replace(dataset, clips=clips),
        folder,
        fold_config,
        named,
        features=features.subset(inside),
        reuse=reuse if theta == first else output / f"fold{fold}-{first}",
    )
    assert model is not None
    records = evaluate(model, dataset.select(folds=[fold]), named)
    summary = summarize(records)
    summary["dead_components"] = unused_components(records, "dictionary_energy")
    summary["unused_components"] = unused_components(records)
    summary["duplicate_components"] = duplicate_components(model.dictionary)
    return {"summary": summary, "clips": records}
