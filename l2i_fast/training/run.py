"""Training from recordings to a model folder: dictionary, classifier, interpreter."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from l2i_fast.data import Dataset
from l2i_fast.defaults import default_settings
from l2i_fast.evaluation import Record, duplicate_components, evaluate, summarize, unused_components
from l2i_fast.files import as_path, write_whole
from l2i_fast.model import L2I, LogMel, TorchNetwork
from l2i_fast.networks.classifier import Classifier
from l2i_fast.nmf.dictionary import learn_dictionary
from l2i_fast.progress import Report
from l2i_fast.training.classifier import train_classifier
from l2i_fast.training.config import Theta, TrainingConfig
from l2i_fast.training.features import Features, compute_features
from l2i_fast.training.interpreter import train_interpreter
from l2i_fast.training.loop import seed_of
from l2i_fast.training.stages import STAGES


@default_settings()
@torch.inference_mode(False)
def train(
    dataset: Dataset,
    output: Path,
    config: TrainingConfig,
    report: Report,
    stages: Sequence[str] = STAGES,
    features: Features | None = None,
) -> L2I | None:
    """Train on all clips of `dataset`; finished stages are kept, and an interrupted one resumes.

    Parameters
    ----------
    dataset : Dataset
    output : Path
        Becomes the model folder; ``output/training`` keeps features, finished stages and checkpoints.
    config : TrainingConfig
    report : callable
        Receives the progress of each stage.
    stages : sequence of str
        Stages to run: "dictionary", "classifier" and "interpreter"; the last needs the other two.
    features : Features, optional
        Those of `dataset`, if they are computed already.

    Returns
    -------
    The model, or None if the interpreter was not among the stages.

    Raises
    ------
    ValueError
        An unknown stage, a stage that is missing, or an output folder made with other settings or clips.
    """
    output = as_path("output", output)
    for stage in stages:
        if stage not in STAGES:
            raise ValueError(f"stages names {stage!r}, but must be among {', '.join(STAGES)}")
    dataset = _chosen(dataset, config)
    work = output / "training"
    if features is None:
        features = compute_features(dataset, config.analysis, work, report)
    clips = [clip.name for clip in dataset.clips]
    common = (config.seed, config.analysis, clips, dataset.classes)
    prints = {
        "dictionary": _fingerprint(common, config.dictionary),
        "classifier": _fingerprint(common, config.classifier),
        "interpreter": _fingerprint(common, config),
    }

    def make_dictionary() -> dict[str, Tensor]:
        return {"W": train_dictionary(features, config, report)}

    def make_classifier() -> dict[str, Tensor]:
        checkpoint = work / "classifier.checkpoint"
        return train_classifier(features, config, checkpoint, prints["classifier"], report).state_dict()

    made: dict[str, Mapping[str, Tensor]] = {}
    for stage, make in (("dictionary", make_dictionary), ("classifier", make_classifier)):
        if stage in stages or "interpreter" in stages:
            made[stage] = _stage(work, stage, prints[stage], make if stage in stages else None)
    if "interpreter" not in stages:
        return None
    c = config.classifier
    with torch.random.fork_rng(devices=[]):
        classifier = Classifier(len(dataset.classes), config.analysis.n_mels, c.embedding, c.width, c.dropout)
    classifier.load_state_dict(made["classifier"])
    classifier.requires_grad_(False)

    def audited(fold: bool) -> TorchNetwork:
        front_end, decision = LogMel(config.analysis), config.decision or None
        return TorchNetwork(
            classifier, front_end, dataset.classes, multilabel=dataset.multilabel, decision=decision, fold=fold
        )

    checkpoint = work / "interpreter.checkpoint"
    interpreter = train_interpreter(
        features, audited(fold=False), made["dictionary"]["W"], config, checkpoint, prints["interpreter"], report
    )
    record = {"dataset": dataset.name, "clips": len(clips), "config": config.to_dict()}
    model = L2I(audited(fold=True), interpreter, config.selection, output.name, record)
    model.save(output)
    return model


def _chosen(dataset: Dataset, config: TrainingConfig) -> Dataset:
    """Return the part of `dataset` that `config` selects."""
    if config.classes:
        dataset = dataset.select(classes=config.classes)
    if not dataset.clips:
        raise ValueError("dataset holds no clips to train on")
    if config.decision and len(config.decision) != len(dataset.classes):
        n, needed = len(config.decision), len(dataset.classes)
        raise ValueError(f"decision has length {n}, but one probability for each of {needed} classes is needed")
    return dataset


def train_dictionary(features: Features, config: TrainingConfig, report: Report) -> Tensor:
    """Learn W (F, K) from the frames of `features`, or from a random part of them: see `DictionaryConfig`."""
    d = config.dictionary
    rows = features.V.reshape(-1, features.V.shape[2])
    chosen = np.arange(len(rows))
    if len(rows) > d.max_frames:
        rng = np.random.default_rng(seed_of(config.seed, "frames"))
        chosen = np.sort(rng.choice(len(rows), d.max_frames, replace=False))
    W: Tensor = learn_dictionary(
        torch.from_numpy(rows[chosen]).float().T,
        d.n_components,
        d.beta_loss,
        d.sparsity,
        d.max_iter,
        random_state=config.seed,
        max_cosine=d.max_cosine,
        callback=lambda i, n, objective: report("dictionary", i, n, f"objective {objective:.4g}"),
    )
    return W


@default_settings()
@torch.inference_mode(False)
def cross_validate(
    dataset: Dataset,
    output: Path,
    config: TrainingConfig,
    report: Report,
    thetas: Sequence[Theta] = ("attention", "max"),
    folds: Sequence[int] | None = None,
) -> dict[str, dict[str, float]]:
    """Train on all folds except one and score on that one, for each fold and each kind of Theta.

    Finished folds are kept. Writes ``evaluation.json`` into `output` once every fold of the dataset is done.

    Parameters
    ----------
    folds : sequence of int, optional
        Hold out only these folds; the others are left to another call.

    Returns
    -------
    dict
        For each Theta the figures of `l2i_fast.evaluation.summarize` over the clips of all finished folds.
    """
    output, dataset = as_path("output", output), _chosen(dataset, config)
    fingerprint = _fingerprint(config, dataset.classes, [(clip.name, clip.labels, clip.fold) for clip in dataset.clips])
    known = sorted({clip.fold for clip in dataset.clips if clip.fold is not None})
    if len(known) < 2:
        raise ValueError(f"dataset {dataset.name} has the folds {known}, but at least two are needed")
    if folds is not None:
        dataset.select(folds=folds)  # raises for an unknown fold, before hours of work
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
                figures = _cross_validate_fold(dataset, features, fold, theta, thetas[0], output, config, report)
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


def _cross_validate_fold(
    dataset: Dataset,
    features: Features,
    fold: int,
    theta: Theta,
    first: str,
    output: Path,
    config: TrainingConfig,
    report: Report,
) -> dict[str, Any]:
    """Train the model of one fold, with the dictionary and classifier of the `first` Theta; return its figures."""
    folder = output / f"fold{fold}-{theta}"
    named: Report = lambda stage, done, total, text: report(f"fold {fold} {theta}: {stage}", done, total, text)  # noqa: E731
    inside = [i for i, clip in enumerate(dataset.clips) if clip.fold != fold]
    for stage in STAGES[:2]:
        source = output / f"fold{fold}-{first}" / "training" / f"{stage}.safetensors"
        if theta != first and source.exists():
            write_whole(folder / "training" / source.name, lambda p, s=source: p.write_bytes(s.read_bytes()))  # type: ignore[misc]
    fold_config = dataclasses.replace(config, interpreter=dataclasses.replace(config.interpreter, theta=theta))
    clips = tuple(dataset.clips[i] for i in inside)
    model = train(
        dataclasses.replace(dataset, clips=clips), folder, fold_config, named, features=features.subset(inside)
    )
    assert model is not None
    records = evaluate(model, dataset.select(folds=[fold]), named)
    summary = summarize(records)
    summary["dead_components"] = unused_components(records, "dictionary_energy")
    summary["unused_components"] = unused_components(records)
    summary["duplicate_components"] = duplicate_components(model.dictionary)
    return {"summary": summary, "clips": records}


def _fingerprint(*parts: Any) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def _stage(
    work: Path, stage: str, fingerprint: str, make: Callable[[], Mapping[str, Tensor]] | None
) -> Mapping[str, Tensor]:
    """Return the weights of a stage, from its file or, if that does not exist, by `make`."""
    file = work / f"{stage}.safetensors"
    if file.exists():
        try:
            opened = safe_open(file, "pt")
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{file} is damaged ({error}), but must be whole: remove it") from error
        with opened as saved:
            if (saved.metadata() or {}).get("fingerprint") != fingerprint:
                raise ValueError(
                    f"{file} was made with other settings or clips; choose another output folder or remove the file"
                )
            return {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118 - not a mapping
    if make is None:
        raise ValueError(f"the interpreter needs the {stage}: run the stage {stage!r} first, or all stages in a row")
    weights = {name: value.contiguous() for name, value in make().items()}
    write_whole(file, lambda p: p.write_bytes(save(weights, metadata={"fingerprint": fingerprint})))
    return weights
