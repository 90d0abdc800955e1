"""What an adapter knows about a published network, and where installed packages keep their files."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

from l2i_fast.networks.inputs import Input

#: What a network's scores are, and how the probabilities of windows make those of a recording.
Output = Literal["logits", "probabilities"]
Pooling = Literal["mean", "max"]


class Parts(NamedTuple):
    """A network and what is needed to explain it.

    Attributes
    ----------
    network : callable
        From the front end's output to scores (B, C): a module, or a function that returns (scores, {layer: values}).
    classes : tuple of str
        Names of the C classes.
    front_end : Input
    layers : dict
        Names of the layers to audit, and how their outputs are laid out.
    window, hop : float or None
        Seconds that the network reads at once, and from the beginning of one to that of the next; None for a whole
        recording.
    multilabel : bool
        Whether several classes may hold at once.
    output : str
        What the scores are: "logits" or "probabilities".
    pooling : str
        How the probabilities of windows make those of a recording: "mean" or "max".
    decision : float
        With several labels, the lowest probability at which a class is predicted.
    """

    network: Callable[[Any], Any]
    classes: tuple[str, ...]
    front_end: Input
    layers: dict[str, str]
    window: float | None
    hop: float | None
    multilabel: bool
    output: Output
    pooling: Pooling = "mean"
    decision: float = 0.5


def installed_file(package: str, name: str, purpose: str) -> Path:
    """Return a file of an installed package, whose code is not imported.

    Raises
    ------
    ImportError
        The package is not installed, or does not have the file.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (path := Path(folder, name)).is_file():
            return path
    distribution = package.replace("_", "-")
    has = "is needed" if spec is None else f"with {os.path.basename(name)} is needed"
    raise ImportError(f"{package} {has} to {purpose}; install it with: pip install --no-deps {distribution}")
