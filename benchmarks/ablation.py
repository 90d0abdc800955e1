"""What each part of the recipe esc10 brings, by cross-validation on the same classifiers.

Usage: python benchmarks/ablation.py DATA --reuse CV, with the recordings in ESC-50's layout and the folder that
`l2i cross-validate --config esc10 --output CV` made, whose classifiers are taken over. A second call goes on where the
first one was interrupted.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from l2i_fast.data import load_dataset
from l2i_fast.evaluation.cross_validation import cross_validate
from l2i_fast.evaluation.experiments import Conditions
from l2i_fast.evaluation.models import load_parts
from l2i_fast.evaluation.report import report
from l2i_fast.evaluation.runner import run
from l2i_fast.settings import Selection
from l2i_fast.training.config import DictionaryConfig, InterpreterConfig, TrainingConfig, load_config

#: Figures of each experiment, with their decimals.
FIGURES = {
    "clean": {"AI": 0, "AD": 1, "AG": 1, "FF": 2, "Fid-In": 2, "kept": 2},
    "noise": {"ratio_gain": 1, "target_kept": 1, "si_sdr_gain": 1, "FF": 2},
    "mixture": {"ratio_gain": 1, "target_kept": 1, "si_sdr_gain": 1, "FF": 2},
}


def rungs(recipe: TrainingConfig) -> dict[str, TrainingConfig]:
    """The recipe without its parts, which come back one after another: the last one is the recipe."""
    paper = InterpreterConfig()

    def of_the_paper(*names: str) -> dict[str, Any]:
        return {name: getattr(paper, name) for name in names}

    resolution = of_the_paper("updates", "centred")
    disturbances = of_the_paper("noise", "mixing", "steady")
    losses = of_the_paper("masked_in", "masked_out", "kept")

    def without(selection: Selection, dictionary: DictionaryConfig, **changes: Any) -> TrainingConfig:
        interpreter = dataclasses.replace(recipe.interpreter, **changes)
        return dataclasses.replace(recipe, interpreter=interpreter, selection=selection, dictionary=dictionary)

    every = Selection(top_k=None)
    return {
        "the paper's losses and mask": without(Selection(), DictionaryConfig(), **resolution, **disturbances, **losses),
        "+ losses on the mask, all relevant components": without(
            every, DictionaryConfig(), **resolution, **disturbances
        ),
        "+ noise and mixtures": without(every, recipe.dictionary, **resolution),
        "+ updates, Wiener filter": recipe,
    }


def quiet(stage: str, done: int, total: int, message: str) -> None:
    """Report nothing."""


def main(
    data: Annotated[Path, typer.Argument(help="Folder of the recordings.")],
    reuse: Annotated[Path, typer.Option(help="Cross-validation whose classifiers are taken over.")],
    output: Annotated[Path, typer.Option(help="Folder for the models and their scores.")] = Path("ablation"),
    fold: Annotated[list[int] | None, typer.Option(help="Hold out these folds only.")] = None,
    seed: Annotated[int, typer.Option(help="That of the cross-validation.")] = 0,
) -> None:
    dataset = load_dataset(data)
    heads = [f"{experiment}: {name}" for experiment, names in FIGURES.items() for name in names]
    rows = []
    recipe = dataclasses.replace(load_config("esc10"), seed=seed)
    for n, (title, config) in enumerate(rungs(recipe).items()):
        folder, begin = output / f"rung{n}", time.perf_counter()
        figures = cross_validate(dataset, folder, config, quiet, ("attention",), fold, reuse)["attention"]
        seconds = time.perf_counter() - begin
        parts = load_parts([folder], dataset, fold)
        scores_folder = output / f"scores{n}"
        records = run(parts, scores_folder, ["l2i"], list(FIGURES), Conditions(), quiet, n_samples=0)
        scores, _ = report(scores_folder, records, parts)
        cells = [
            f"{scores[experiment]['l2i'][name].estimate:.{digits}f}"
            for experiment, names in FIGURES.items()
            for name, digits in names.items()
        ]
        used = sum(len(row["components"]) for row in records) / len(records)
        missed = 100 * figures["reconstruction_energy"]
        rows.append(f"| {title} | {' | '.join(cells)} | {missed:.0f} % | {used:.1f} | {seconds / 60:.0f} |")
        print(f"{title}: trained in {seconds / 60:.1f} min", flush=True)
    print(f"\n| | {' | '.join(heads)} | energy missed | components | minutes |\n|---|{'---|' * (len(heads) + 3)}")
    print("\n".join(rows))


if __name__ == "__main__":
    typer.run(main)
