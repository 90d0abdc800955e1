"""`l2i train` and `l2i cross-validate`: train models on recordings."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l2i_fast.cli.application import interrupted
from l2i_fast.cli.console import show_progress
from l2i_fast.cli.options import Config, Data, Folds, Splits, checked, output_folder
from l2i_fast.training.stages import STAGES, Stage, Theta

if TYPE_CHECKING:
    from l2i_fast.training.config import TrainingConfig

ModelFolder = Annotated[Path, output_folder("Folder for the model and for checkpoints.")]
FoldsFolder = Annotated[Path, output_folder("Folder for the models and evaluation.json.")]
Stages = Annotated[
    list[str] | None,
    typer.Option(
        show_default="all in order", help="Train this stage only; repeat for several.", **checked("stage", Stage)
    ),
]
Thetas = Annotated[
    list[str] | None,
    typer.Option(show_default="both", help="Train models with this kind of Theta only.", **checked("theta", Theta)),
]
Seed = Annotated[
    int | None, typer.Option(show_default="that of the settings", help="Seed of every random choice.", min=0)
]
Reuse = Annotated[
    Path | None,
    typer.Option(help="Folder of another run: take over its dictionary and classifier if settings and clips agree."),
]


def train(
    output: ModelFolder,
    data: Data = None,
    config: Config = None,
    seed: Seed = None,
    stage: Stages = None,
    fold: Folds = None,
    split: Splits = None,
    reuse: Reuse = None,
) -> None:
    """Train a model on recordings. After Ctrl-C the same command goes on from the last checkpoint."""
    from l2i_fast.data import load_dataset
    from l2i_fast.training.run import train

    settings = _settings(config, seed)
    dataset = load_dataset(data).select(folds=fold or None, split=split or None)
    stages = stage or STAGES
    try:
        with show_progress() as report:
            model = train(dataset, output, settings, report, stages, reuse=reuse)
    except KeyboardInterrupt:
        raise interrupted("the same command goes on from the last checkpoint") from None
    use = f"; try it with: l2i interpret --model {output} FILE..." if model else ""
    print(f"{', '.join(stages)} trained in {output}{use}")


def cross_validate(
    output: FoldsFolder,
    data: Data = None,
    config: Config = None,
    seed: Seed = None,
    theta: Thetas = None,
    fold: Folds = None,
    reuse: Reuse = None,
) -> None:
    """Hold each fold out in turn, train on the others and score on it; print the figures as JSON."""
    from l2i_fast.data import load_dataset
    from l2i_fast.evaluation.cross_validation import cross_validate

    settings = _settings(config, seed)
    dataset = load_dataset(data)
    thetas: Any = tuple(dict.fromkeys(theta or ("attention", "max")))
    with show_progress() as report:
        figures = cross_validate(dataset, output, settings, report, thetas, fold or None, reuse)
    print(json.dumps(figures, indent=2))


def _settings(config: str | None, seed: int | None) -> TrainingConfig:
    from l2i_fast.training.config import load_config

    settings = load_config(config)
    return settings if seed is None else dataclasses.replace(settings, seed=seed)
