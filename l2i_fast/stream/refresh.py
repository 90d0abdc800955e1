"""Settings of streams, and the records that they publish."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import EllipsisType
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Refresh:
    """Answer of the networks at one time; it holds until the next one.

    Attributes
    ----------
    frame : int
        Number of frames of the signal that had been analysed.
    prediction : tuple of str
        The predicted classes, most probable first.
    probabilities : ndarray (C,), float32
        Of all classes.
    targets : tuple of str
        The explained classes.
    relevance : ndarray (K,), float32
        Of each component, as in `Explanation`; with several targets, the largest.
    components : tuple of int
        The components selected for any of the targets; the output consists of them.
    start : ndarray (K,), float32
        Mean of the interpreter's latest activations, from which the updates of each frame begin: several balances of
        components fit a frame alike, and the interpreter has learnt which one reflects the classifier's evidence.
    scale : float
        Divisor of the samples.
    """

    frame: int
    prediction: tuple[str, ...]
    probabilities: NDArray[np.float32]
    targets: tuple[str, ...]
    relevance: NDArray[np.float32]
    components: tuple[int, ...]
    start: NDArray[np.float32]
    scale: float


@dataclass
class StreamStatistics:
    """Counts of a stream.

    Attributes
    ----------
    hops : int
        Frames that were analysed.
    refreshes : int
        Runs of the networks.
    overruns : int
        Refreshes that were skipped because the networks were still busy with an earlier one.
    failures : int
        Runs that raised an exception.
    """

    hops: int = 0
    refreshes: int = 0
    overruns: int = 0
    failures: int = 0


class StreamSettings(TypedDict, total=False):
    """Settings of a stream; all are optional.

    Attributes
    ----------
    refresh : float
        Seconds from one run of the networks to the next; 0.25.
    n_iter : int
        Updates of the activations of each frame; the interpreter's own number, or 10 where it has none.
    targets, threshold, top_k, domain
        As in `L2I.interpret`.
    window : float
        Seconds of sound that the networks read each time, less at the beginning of a signal; 5.
    incremental : bool or None
        Let the networks compute only what new frames change. The window then begins on a grid of 64 frames, and the
        signal before it counts as its surroundings; False computes the same from scratch each time. By default
        wherever the model can (it was trained with `streamable`); True is an error where it cannot.
    """

    refresh: float
    n_iter: int
    targets: int | str | Iterable[int | str] | None
    threshold: float | None
    top_k: int | EllipsisType | None
    domain: str | None
    window: float
    incremental: bool | None
