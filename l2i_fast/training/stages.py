"""The stages of training; a module without imports that cost time, for the command line's help."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Stage: TypeAlias = Literal["dictionary", "classifier", "interpreter"]
#: All stages, in the order in which they run.
STAGES: tuple[Stage, ...] = get_args(Stage)
