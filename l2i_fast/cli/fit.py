"""`l2i fit`: learn to explain a network of your own from recordings without labels."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from l2i_fast.cli.application import interrupted
from l2i_fast.cli.console import show_progress
from l2i_fast.cli.options import output_folder

if TYPE_CHECKING:
    from l2i_fast.model.windowed import WindowedNetwork

Network = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK",
        help="Function that returns a wrapped network, as FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, or an adapter.",
    ),
]
Recordings = Annotated[
    list[str],
    typer.Option("--data", "-d", help="Recording, folder, pattern or manifest, as for l2i batch; repeat for several."),
]
Output = Annotated[Path, output_folder("Folder for the model and for checkpoints.")]
Settings = Annotated[
    Path | None, typer.Option("--config", "-c", help="JSON file with settings that differ from the defaults.")
]
Seed = Annotated[
    int | None, typer.Option(show_default="that of the settings", help="Seed of every random choice.", min=0)
]
Json = Annotated[bool, typer.Option("--json", help="Print the figures as JSON instead of words.")]


def fit(
    network: Network,
    data: Recordings,
    output: Output,
    config: Settings = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Learn to explain a network from recordings without labels, and say what its interpretations are worth.

    After Ctrl-C the same command goes on where it was.
    """
    from l2i_fast.archive.inputs import list_inputs
    from l2i_fast.evaluation.fitting import fit, trust_of
    from l2i_fast.settings import from_dict, read_json
    from l2i_fast.training.post_hoc import FitConfig

    settings = FitConfig() if config is None else from_dict(FitConfig, read_json(config), str(config))
    if seed is not None:
        settings = dataclasses.replace(settings, seed=seed)
    wrapped = _network(network)
    recordings = [entry.path for entry in list_inputs(data)]
    try:
        with show_progress() as report:
            model = fit(wrapped, recordings, output, settings, report)
    except KeyboardInterrupt:
        raise interrupted("the same command goes on where it was") from None
    trust = trust_of(model)
    if as_json:
        print(json.dumps(dataclasses.asdict(trust), indent=2))
        return
    print(trust)
    given = "" if network.isidentifier() else f" --network {network}"
    print(f"fitted in {output}; try it with: l2i interpret --model {output}{given} FILE...")


def _network(where: str) -> WindowedNetwork:
    from l2i_fast.adapters import ADAPTERS
    from l2i_fast.model.wrapping import find_network, wrap

    if ":" not in where and where not in ADAPTERS:
        adapters = ", ".join(ADAPTERS)
        raise ValueError(
            f"network is {where!r}, but must be FILE.py:FUNCTION, PACKAGE.MODULE:FUNCTION or an adapter: {adapters}"
        )
    return find_network(where) if ":" in where else wrap(where)
