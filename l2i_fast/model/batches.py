"""Recordings of any lengths, explained in batches of equal length."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from l2i_fast.audio import Sound, read_sound
from l2i_fast.files import printable
from l2i_fast.results.result import Result

#: Largest number of clips of equal length, and of their samples, that go through the networks together.
_BATCH, _BATCH_SAMPLES = 16, 8_000_000
#: Recordings, and samples of them, that are read ahead, since those of equal length may not follow one another.
_AHEAD, _AHEAD_SAMPLES = 64, 16_000_000


def explain_batches(
    sources: Iterable[tuple[Any, Sequence[int] | None]],
    sample_rate: int,
    explain: Callable[[list[NDArray[np.float32]], list[Sequence[int] | None]], list[Result]],
) -> Iterator[Result]:
    """Read recordings and explain those of equal length together; none is padded to the length of another.

    Parameters
    ----------
    sources : iterable of pairs
        Each one a path or (samples, sample_rate), and the indices of the classes to explain, or None for the predicted
        ones.
    sample_rate : int
        Rate in Hz of the signals that `explain` takes.
    explain : callable
        Takes signals (N,) and the classes of each.

    Yields
    ------
    Result
        In the order of `sources`, of which a bounded number is held.
    """
    held: list[_Read] = []
    for source, wanted in sources:
        sound = read_sound(source, sample_rate)
        held.append(_Read(_name(source), sound, wanted))
        if len(held) >= _AHEAD or sum(len(one.sound.samples) for one in held) >= _AHEAD_SAMPLES:
            yield from _explain(held, explain)
            held = []
    yield from _explain(held, explain)


class _Read(NamedTuple):
    name: str
    sound: Sound
    wanted: Sequence[int] | None


def _explain(
    held: Sequence[_Read],
    explain: Callable[[list[NDArray[np.float32]], list[Sequence[int] | None]], list[Result]],
) -> Iterator[Result]:
    by_length: dict[int, list[int]] = {}
    for i, one in enumerate(held):
        by_length.setdefault(len(one.sound.samples), []).append(i)
    results: dict[int, Result] = {}
    for length, indices in by_length.items():
        size = max(1, min(_BATCH, _BATCH_SAMPLES // length))
        for start in range(0, len(indices), size):
            batch = indices[start : start + size]
            answers = explain([held[i].sound.samples for i in batch], [held[i].wanted for i in batch])
            for i, answer in zip(batch, answers, strict=True):
                results[i] = dataclasses.replace(answer, source=held[i].name, complete=held[i].sound.complete)
    for i in range(len(held)):
        yield results.pop(i)


def _name(source: Any) -> str:
    return "samples" if isinstance(source, (tuple, list)) else printable(source)
