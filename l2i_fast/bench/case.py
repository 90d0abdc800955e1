"""A benchmark: one operation at one size, with its contestants and the exact answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: The call that is timed; it returns an array or a tuple of arrays.
Answer = Callable[[], Any]
#: Prepares everything that is not timed, and returns the call.
Prepare = Callable[[], Answer]

LOSSES = {"frobenius": 2.0, "kullback-leibler": 1.0, "itakura-saito": 0.0}
#: Updates of the activations of a fixed dictionary.
N_UPDATES = 50


@dataclass(frozen=True)
class Case:
    """One operation at one size, on the CPU or on a GPU.

    Parameters
    ----------
    operation, variant, size, dims : str
        What is computed; `dims` states the dimensions.
    flops, bytes : float
        Operations, and bytes of inputs and outputs, of any implementation: see `l2i_fast.bench.work`.
    exact : callable
        Returns the answer in float64.
    ours : dict
        By name: "ours" on the CPU, the backends on a GPU.
    peers : dict
        Other libraries, the strongest first.
    piece : callable
        Takes the part that `exact` returns out of an answer, for answers that are too long to be computed exactly.
    in_place : bool
        Whether ours returns one of its inputs.
    tolerance : float
        Largest allowed relative L2 error.
    """

    operation: str
    size: str
    dims: str
    flops: float
    bytes: float
    exact: Callable[[], Any]
    ours: dict[str, Prepare]
    peers: dict[str, Prepare] = field(default_factory=dict)
    variant: str = ""
    piece: Callable[[Any], Any] = lambda answer: answer
    in_place: bool = False
    tolerance: float = 1e-4

    @property
    def name(self) -> str:
        """Operation and variant."""
        return f"{self.operation} {self.variant}".rstrip()
