"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol, get_args, get_origin

import typer
from annotated_types import Ge, Lt

from l2i_fast.settings import Domain, PositiveInt, from_text


class Classes(Protocol):
    """The part of `l2i_fast.L2I` that the options refer to."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""


def checked(name: str, hint: Any) -> dict[str, Any]:
    """Return the settings of an option whose values are checked against an annotation; errors are as in Python.

    The option may be repeatable: then each of its values is checked.
    """

    def parse(text: Any) -> Any:
        try:
            return from_text(name, text, hint)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    allowed = "|".join(get_args(kind)) or kind.__name__
    return {"parser": parse, "metavar": f"<{allowed}>"}


def output_folder(help: str) -> Any:
    """Return the option that names the folder of a command's files; a file there is an error before the work."""
    return typer.Option("--output", "-o", help=help, callback=check_folder)


def check_folder(folder: Path | None) -> Path | None:
    """Return the folder of a command's files, if one is given, or raise an error if there is a file in its place."""
    if folder is None:
        return None
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        raise typer.BadParameter(f"output is {str(folder)!r}, but must be a folder: {existing} is a file")
    return folder


Model = Annotated[str, typer.Option("--model", "-m", help="Name of a shipped model, or a model folder.")]
Network = Annotated[
    str | None,
    typer.Option(
        metavar="FILE.py:FUNCTION",
        show_default="that of the model",
        help="Function that makes the network of a model by l2i fit; also PACKAGE.MODULE:FUNCTION.",
    ),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        "-t",
        metavar="CLASS",
        show_default="the predicted ones",
        help="Class to explain, by name or number; repeat for several.",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        **checked("threshold", Annotated[float, Ge(0), Lt(1)]),
        show_default="the model's",
        help="Select components whose relevance is above this; at least 0, below 1.",
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        show_default="the model's", help="Maximum number of selected components.", **checked("top_k", PositiveInt)
    ),
]
MaskDomain = Annotated[
    Domain | None,
    typer.Option(
        "--domain",
        show_default="the model's",
        help="Apply the mask to log magnitudes, to magnitudes, or as a Wiener filter.",
        **checked("domain", Domain),
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="Device of the networks and operations: cpu, cuda, or cuda:1 and so on.")
]
Data = Annotated[
    Path | None, typer.Option("--data", "-d", envvar="L2I_DATA", help="Folder of recordings: ESC-50 or SONYC-UST.")
]
Config = Annotated[
    str | None, typer.Option("--config", "-c", help="JSON file with settings, or name of a shipped recipe.")
]
Folds = Annotated[
    list[int] | None,
    typer.Option("--fold", show_default="all", help="Use this fold only; repeat for several.", **checked("fold", int)),
]
Splits = Annotated[
    list[str] | None,
    typer.Option(
        "--split",
        show_default="all",
        help="Use this split only (SONYC-UST has train, validate and test); repeat for several.",
    ),
]


def selection(
    model: Classes, target: list[str] | None, threshold: float | None, top_k: int | None, domain: Domain | None
) -> dict[str, Any]:
    """Return the model's keyword arguments for the options that choose classes and components."""
    settings: dict[str, Any] = {"threshold": threshold, "domain": domain}
    if top_k is not None:
        settings["top_k"] = top_k
    if target:
        settings["targets"] = [_find_class(name, model.classes) for name in target]
    return settings


def _find_class(name: str, classes: Sequence[str]) -> str | int:
    """Return the class that `--target` names, or its number."""
    if name in classes:
        return name
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    allowed = f"{', '.join(classes)}, or a number from 0 to {len(classes) - 1}"
    raise typer.BadParameter(f"target is {name!r}, but must be one of {allowed}", param_hint="'--target'")
