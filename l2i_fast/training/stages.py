"""What the command line's help names of training; a module without imports that cost time."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

#: How activations are pooled over time.
Theta: TypeAlias = Literal["attention", "max"]
Stage: TypeAlias = Literal["dictionary", "classifier", "interpreter"]
#: All stages, in the order in which they run.
STAGES: tuple[Stage, ...] = get_args(Stage)
