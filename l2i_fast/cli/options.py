"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol, get_args

import typer

from l2i_fast.settings import Domain


class Classes(Protocol):
    """The part of `l2i_fast.L2I` that the options refer to."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""


def one_of(literal: Any) -> dict[str, Any]:
    """Return the settings of an option of type list[str] that accepts the values of a Literal only.

    Typer takes a Literal as the type of an option, but not a list of them. The error is worded as typer's.
    """
    allowed = get_args(literal)

    def check(values: list[str] | None) -> list[str] | None:
        for value in values or ():
            if value not in allowed:
                raise typer.BadParameter(f"{value!r} is not one of {', '.join(map(repr, allowed))}")
        return values

    return {"metavar": f"<{'|'.join(allowed)}>", "callback": check}


def _check_threshold(value: float | None) -> float | None:
    if value is not None and not 0 <= value < 1:
        raise typer.BadParameter(f"{value} is not in the range 0<=x<1")
    return value


Model = Annotated[str, typer.Option("--model", "-m", help="Name of a shipped model, or a model folder.")]
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
        callback=_check_threshold,
        show_default="the model's",
        help="Select components whose relevance is above this; at least 0, below 1.",
    ),
]
TopK = Annotated[
    int | None, typer.Option(min=1, show_default="the model's", help="Maximum number of selected components.")
]
MaskDomain = Annotated[
    Domain | None,
    typer.Option("--domain", show_default="the model's", help="Apply the mask to log magnitudes or to magnitudes."),
]
Data = Annotated[
    Path | None, typer.Option("--data", "-d", envvar="L2I_DATA", help="Folder of recordings: ESC-50 or SONYC-UST.")
]
Config = Annotated[
    str | None, typer.Option("--config", "-c", help="JSON file with settings, or name of a shipped recipe.")
]
Folds = Annotated[
    list[int] | None, typer.Option("--fold", show_default="all", help="Use this fold only; repeat for several.")
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
