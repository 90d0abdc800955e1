"""`l2i evaluate`: explain a data set with several methods, and score them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from l2i_fast.cli.application import interrupted
from l2i_fast.cli.console import make_console, show_progress
from l2i_fast.cli.options import Data, Folds, Splits, checked, output_folder

#: Experiments and protocols, stated here so that the command's help needs no library.
EXPERIMENTS = ("clean", "mixture", "noise", "misclassified", "labels", "onsets", "clicks", "sanity")
PROTOCOLS = ("right", "published")

Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        "-m",
        help="Name of a shipped model, a model folder, or a folder of l2i cross-validate; repeat for several.",
    ),
]
Folder = Annotated[Path, output_folder("Folder for scores, tables, plots and the results that a page shows.")]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        show_default="L2I and its controls", help="Method to score, or all; repeat for several: see docs/methods.md."
    ),
]
Experiments = Annotated[
    list[str] | None,
    typer.Option(
        metavar=f"<{'|'.join(EXPERIMENTS)}>",
        show_default="clean, mixture, noise, misclassified",
        help="Experiment, or all; repeat for several.",
    ),
]
Clips = Annotated[
    int | None,
    typer.Option(
        help="Explain at most this number of clips by each model, as many of each class as possible.",
        show_default="all",
        min=1,
    ),
]
Protocol = Annotated[
    str, typer.Option(metavar=f"<{'|'.join(PROTOCOLS)}>", help="How explanations are judged: see docs/evaluation.md.")
]
Level = Annotated[
    float | None,
    typer.Option(show_default="-3", help="Level of the clip that is mixed in, in dB.", **checked("level", float)),
]
Snr = Annotated[
    float | None,
    typer.Option(show_default="0", help="Signal-to-noise ratio of the noise, in dB.", **checked("snr", float)),
]
Samples = Annotated[int, typer.Option(help="Results to keep for a page, for each experiment.", min=0)]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.", min=0)]
Jobs = Annotated[
    int, typer.Option("--jobs", "-j", help="Processes that share the work; for many methods on few cores.", min=1)
]
Json = Annotated[bool, typer.Option("--json", help="Print the scores as JSON instead of tables.")]

_USUAL_METHODS = ("l2i", "l2i-all", "equal-energy", "random-components", "constant", "loudest")
_USUAL_EXPERIMENTS = ("clean", "mixture", "noise", "misclassified")


def evaluate(
    output: Folder,
    model: Models = ["esc10"],  # noqa: B006 - typer copies it
    data: Data = None,
    method: Methods = None,
    experiment: Experiments = None,
    fold: Folds = None,
    split: Splits = None,
    clips: Clips = None,
    protocol: Protocol = "right",
    level: Level = None,
    snr: Snr = None,
    samples: Samples = 12,
    seed: Seed = 0,
    jobs: Jobs = 1,
    as_json: Json = False,
) -> None:
    """Score how models explain recordings that they were not trained on. After Ctrl-C the same command goes on."""
    from l2i_fast.data import load_dataset
    from l2i_fast.evaluation.experiments import Conditions
    from l2i_fast.evaluation.methods import possible_methods
    from l2i_fast.evaluation.models import load_parts
    from l2i_fast.evaluation.report import report
    from l2i_fast.evaluation.runner import run
    from l2i_fast.evaluation.scores import to_json
    from l2i_fast.evaluation.tables import to_rich

    for name in experiment or ():
        if name not in (*EXPERIMENTS, "all"):
            raise typer.BadParameter(f"experiment is {name!r}, but must be one of {', '.join(EXPERIMENTS)}, all")
    conditions = Conditions(protocol, level, snr, seed)  # type: ignore[arg-type]
    parts = load_parts(model, load_dataset(data), fold or None, split or None, clips)
    variants = [name for name in parts[0].variants if all(name in part.variants for part in parts)]
    usual = [_USUAL_METHODS[0], *variants, *_USUAL_METHODS[1:]]
    methods = possible_methods(parts) if "all" in (method or ()) else method or usual
    chosen: Any = EXPERIMENTS if "all" in (experiment or ()) else experiment or _USUAL_EXPERIMENTS
    try:
        with show_progress() as progress:
            records = run(
                parts,
                output,
                list(dict.fromkeys(methods)),
                list(dict.fromkeys(chosen)),
                conditions,
                progress,
                samples,
                jobs,
            )
    except KeyboardInterrupt:
        raise interrupted("the same command goes on from the last finished unit") from None
    scores, made = report(output, records, parts, seed)
    if as_json:
        print(json.dumps(to_json(scores)))
        return
    console = make_console()
    for table in made:
        console.print(*to_rich(table, console.width), sep="\n")
    for name in chosen:
        if name not in scores:
            print(f"{name}: no recordings")
    print(f"scores, tables, plots and records in {output}; listen to them with: l2i page {output} --output PAGE")
