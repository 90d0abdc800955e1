"""`l2i train` and `l2i cross-validate`: train models on recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from l2i_fast.cli.application import interrupted
from l2i_fast.cli.console import show_progress
from l2i_fast.cli.options import Config, Data, Folds, Splits, checked, output_folder
from l2i_fast.training.stages import STAGES, Stage

ModelFolder = Annotated[Path, output_folder("Folder for the model and for checkpoints.")]
FoldsFolder = Annotated[Path, output_folder("Folder for the models and evaluation.json.")]
Stages = Annotated[
    list[str] | None,
    typer.Option(
        show_default="all in order", help="Train this stage only; repeat for several.", **checked("stage", Stage)
    ),
]


def train(
    output: ModelFolder,
    data: Data = None,
    config: Config = None,
    stage: Stages = None,
    fold: Folds = None,
    split: Splits = None,
) -> None:
    """Train a model on recordings. After Ctrl-C the same command goes on from the last checkpoint."""
    from l2i_fast.data import load_dataset
    from l2i_fast.training.config import load_config
    from l2i_fast.training.run import train

    settings = load_config(config)
    dataset = load_dataset(data).select(folds=fold or None, split=split or None)
    stages = stage or STAGES
    try:
        with show_progress() as report:
            model = train(dataset, output, settings, report, stages)
    except KeyboardInterrupt:
        raise interrupted("the same command goes on from the last checkpoint") from None
    use = f"; try it with: l2i interpret --model {output} FILE..." if model else ""
    print(f"{', '.join(stages)} trained in {output}{use}")


def cross_validate(output: FoldsFolder, data: Data = None, config: Config = None, fold: Folds = None) -> None:
    """Hold each fold out in turn, train on the others and score on it; print the figures as JSON."""
    from l2i_fast.data import load_dataset
    from l2i_fast.evaluation.cross_validation import cross_validate
    from l2i_fast.training.config import load_config

    settings = load_config(config)
    dataset = load_dataset(data)
    with show_progress() as report:
        figures = cross_validate(dataset, output, settings, report, folds=fold or None)
    print(json.dumps(figures, indent=2))
