"""Training from recordings to a model folder: dictionary, classifier, interpreter."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from l2i_fast.data import Dataset
from l2i_fast.defaults import default_settings
from l2i_fast.files import as_path, write_whole
from l2i_fast.model import L2I, LogMel, TorchNetwork
from l2i_fast.networks.classifier import Classifier
from l2i_fast.progress import Report
from l2i_fast.training.classifier import train_classifier
from l2i_fast.training.config import TrainingConfig
from l2i_fast.training.dictionary import train_dictionary
from l2i_fast.training.features import Features, compute_features
from l2i_fast.training.finished import fingerprint, finished, finished_with
from l2i_fast.training.interpreter import train_interpreter
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
    reuse: Path | None = None,
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
    reuse : Path, optional
        Folder of another run: what it has finished of the dictionary and the classifier, by the same settings from the
        same clips, is taken over.

    Returns
    -------
    The model, or None if the interpreter was not among the stages.

    Raises
    ------
    ValueError
        An unknown stage, a stage that is missing, or an output folder made with other settings or clips.

    Warns
    -----
    RuntimeWarning
        For each of dictionary and classifier that `reuse` does not have.
    """
    output = as_path("output", output)
    for stage in stages:
        if stage not in STAGES:
            raise ValueError(f"stages names {stage!r}, but must be among {', '.join(STAGES)}")
    dataset = chosen_part(dataset, config)
    if "classifier" in stages and not dataset.multilabel and len(dataset.classes) < 2:
        raise ValueError(f"dataset has the class {dataset.classes[0]} alone, but a classifier needs two to tell apart")
    if reuse is not None and not as_path("reuse", reuse).is_dir():
        raise ValueError(f"reuse is {str(reuse)!r}, but must be the folder of another run")
    work = output / "training"
    if features is None:
        features = compute_features(dataset, config.analysis, work, report)
    clips = [clip.identity() for clip in dataset.clips]
    common = (config.analysis, clips, dataset.classes)
    prints = {
        "dictionary": fingerprint(config.seed, common, config.dictionary),
        "classifier": fingerprint(config.classifier_seed, common, dataclasses.replace(config.classifier, seed=None)),
        "interpreter": fingerprint(common, config),
    }

    def make_dictionary() -> dict[str, Tensor]:
        return {"W": train_dictionary(features, config, report)}

    def make_classifier() -> dict[str, Tensor]:
        checkpoint = work / "classifier.checkpoint"
        return train_classifier(features, config, checkpoint, prints["classifier"], report).state_dict()

    made: dict[str, Mapping[str, Tensor]] = {}
    for stage, make in (("dictionary", make_dictionary), ("classifier", make_classifier)):
        if stage in stages or "interpreter" in stages:
            made[stage] = _stage(work, stage, prints[stage], make if stage in stages else None, reuse)
    if "interpreter" not in stages:
        return None
    c = config.classifier
    with torch.random.fork_rng(devices=[]):
        classifier = Classifier(len(dataset.classes), config.analysis.n_mels, c.embedding, c.width, c.dropout)
    classifier.load_state_dict(made["classifier"])
    classifier.requires_grad_(False)

    front_end, decision = LogMel(config.analysis), config.decision or None
    network = TorchNetwork(classifier, front_end, dataset.classes, multilabel=dataset.multilabel, decision=decision)
    checkpoint = work / "interpreter.checkpoint"
    interpreter = train_interpreter(
        features, network, made["dictionary"]["W"], config, checkpoint, prints["interpreter"], report
    )
    record = {"dataset": dataset.name, "clips": len(clips), "config": config.to_dict()}
    model = L2I(network, interpreter, config.selection, output.name, record)
    model.save(output)
    return model


def chosen_part(dataset: Dataset, config: TrainingConfig) -> Dataset:
    """Return the part of `dataset` that `config` selects."""
    if config.classes:
        dataset = dataset.select(classes=config.classes)
    if not dataset.clips:
        raise ValueError("dataset holds no clips to train on")
    if config.decision and len(config.decision) != len(dataset.classes):
        n, needed = len(config.decision), len(dataset.classes)
        raise ValueError(f"decision has length {n}, but one probability for each of {needed} classes is needed")
    return dataset


def _stage(
    work: Path, stage: str, print_: str, make: Callable[[], Mapping[str, Tensor]] | None, reuse: Path | None
) -> Mapping[str, Tensor]:
    """Return the weights of a stage: from its file, from that of the run to reuse if it is the same, or by `make`."""
    file = work / f"{stage}.safetensors"
    if reuse is not None and not file.exists():
        other = reuse / "training" / file.name
        if finished_with(other, print_):
            write_whole(file, lambda p: p.write_bytes(other.read_bytes()))
        else:
            warnings.warn(
                f"{reuse} has no {stage} of the same settings and clips: it is trained anew",
                RuntimeWarning,
                stacklevel=3,
            )
    if make is None and not file.exists():
        raise ValueError(f"the interpreter needs the {stage}: run the stage {stage!r} first, or all stages in a row")
    return finished(file, print_, make or dict)
