"""Recordings of any lengths, explained in batches of equal length."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2i_fast.audio import read_sound
from l2i_fast.files import printable
from l2i_fast.results.result import Result

#: Largest number of clips of equal length, and of their samples, that go through the networks together.
_BATCH, _BATCH_SAMPLES = 16, 8_000_000


def explain_batches(
    sources: Sequence[Any],
    wanted: Sequence[Sequence[int] | None],
    sample_rate: int,
    explain: Callable[[list[NDArray[np.float32]], list[Sequence[int] | None]], list[Result]],
) -> list[Result]:
    """Read recordings and explain those of equal length together; none is padded to the length of another.

    Parameters
    ----------
    sources : sequence of path-like or (samples, sample_rate)
    wanted : sequence
        For each recording the indices of the classes to explain, or None for the predicted ones.
    sample_rate : int
        Rate in Hz of the signals that `explain` takes.
    explain : callable
        Takes signals (N,) and an entry of `wanted` for each.

    Returns
    -------
    list of Result
        In the order of `sources`.
    """
    sounds = [read_sound(source, sample_rate) for source in sources]
    names = [_name(source) for source in sources]
    by_length: dict[int, list[int]] = {}
    for i, sound in enumerate(sounds):
        by_length.setdefault(len(sound.samples), []).append(i)
    results: dict[int, Result] = {}
    for length, indices in by_length.items():
        size = max(1, min(_BATCH, _BATCH_SAMPLES // length))
        for start in range(0, len(indices), size):
            batch = indices[start : start + size]
            answers = explain([sounds[i].samples for i in batch], [wanted[i] for i in batch])
            for i, answer in zip(batch, answers, strict=True):
                results[i] = dataclasses.replace(answer, source=names[i], complete=sounds[i].complete)
    return [results[i] for i in range(len(sources))]


def _name(source: Any) -> str:
    return "samples" if isinstance(source, (tuple, list)) else printable(source)
