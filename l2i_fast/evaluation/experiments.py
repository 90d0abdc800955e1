"""The experiments: recordings to explain, with what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from l2i_fast.arguments import one_of
from l2i_fast.data import Clip, Dataset
from l2i_fast.data.corruptions import add_noise, mix_at_level
from l2i_fast.data.scene import SOUNDS
from l2i_fast.settings import Section
from l2i_fast.training.loop import seed_of

Float32 = NDArray[np.float32]
Protocol: TypeAlias = Literal["right", "published"]
Decibel: TypeAlias = Annotated[float, Ge(-200), Le(200)]
Experiment: TypeAlias = Literal["clean", "mixture", "noise", "misclassified", "labels", "onsets", "clicks", "sanity"]
EXPERIMENTS: tuple[Experiment, ...] = get_args(Experiment)

#: Length of an excerpt whose place in time is known, and of the recording around it, in seconds.
_EXCERPT, _AROUND = 1.0, 5.0
#: Level of the noise around an excerpt relative to it, in dB.
_AROUND_DB = -30.0
#: Length of a click, and of its fades, in seconds, and clicks in a recording.
_CLICK, _FADE, _CLICKS = 0.01, 0.001, 10
#: Synthesised scenes of each kind.
_SCENES = 4
#: Recordings whose explanations are repeated with random weights, as they are and in noise.
_SANITY_CLIPS = 8


@dataclass(frozen=True)
class Conditions(Section):
    """What is done to the recordings.

    Attributes
    ----------
    protocol : {"right", "published"}
        How explanations are judged: see docs/evaluation.md.
    level_db : float or None
        Level of the clip of another class in `mixture`, relative to the recording; None is -3, or -12 for "published"
        (norms of 0.8 and 0.2).
    snr_db : float or None
        Signal-to-noise ratio in `noise`; None is 0, or 6 for "published" (norms of 1 and 0.5).
    seed : int
    """

    protocol: Protocol = "right"
    level_db: Decibel | None = None
    snr_db: Decibel | None = None
    seed: Annotated[int, Ge(0), Le(2**63 - 1)] = 0

    @property
    def level(self) -> float:
        """Level of the disturbance in `mixture`, in dB."""
        published = 20 * float(np.log10(0.2 / 0.8))
        return self.level_db if self.level_db is not None else published if self.protocol == "published" else -3.0

    @property
    def snr(self) -> float:
        """Signal-to-noise ratio in `noise`, in dB."""
        published = 20 * float(np.log10(1 / 0.5))
        return self.snr_db if self.snr_db is not None else published if self.protocol == "published" else 0.0


@dataclass(frozen=True, eq=False)
class Sample:
    """A recording to explain.

    Attributes
    ----------
    audio : ndarray (N,), float32
    true : tuple of int
        Indices of its classes.
    parts : dict of ndarrays (N,)
        Known parts, which add up to `audio`: "target" and "disturbance", or one for each class.
    events : tuple of (start, end)
        Times in seconds at which what is to be explained sounds, if known.
    note : str
        What was done to the recording, for the reader.
    """

    audio: Float32
    true: tuple[int, ...]
    parts: dict[str, Float32] = field(default_factory=dict)
    events: tuple[tuple[float, float], ...] = ()
    note: str = ""


class Planned(NamedTuple):
    """A sample that is made when it is needed.

    Attributes
    ----------
    name : str
        Different for each sample of an experiment, and a valid file name.
    source : str
        Name of the clip behind it; samples of one clip are not independent.
    true : tuple of int
    make : callable
        Returns the `Sample`.
    """

    name: str
    source: str
    true: tuple[int, ...]
    make: Callable[[], Sample]


def plan(experiment: Experiment, dataset: Dataset, others: Dataset, rate: int, conditions: Conditions) -> list[Planned]:
    """Return the samples of an experiment over all clips of a data set.

    Parameters
    ----------
    experiment : str
        One of `EXPERIMENTS`. "misclassified" returns every clip: which of them the network gets wrong is for the caller
        to find out.
    dataset : Dataset
        Clips to explain.
    others : Dataset
        Clips that disturb: of the same classes, such as `dataset` itself.
    rate : int
        Hz.
    conditions : Conditions

    Raises
    ------
    ValueError
        An unknown experiment, or a data set without the parts that it needs.
    """
    one_of(experiment, "experiment", EXPERIMENTS)
    if not dataset.clips:
        raise ValueError(f"dataset {dataset.name} holds no clips to score")
    plans = {
        "clean": _clean,
        "misclassified": _clean,
        "mixture": _mixture,
        "noise": _noise,
        "labels": _labels,
        "onsets": _onsets,
        "clicks": _clicks,
        "sanity": _sanity,
    }
    return list(plans[experiment](dataset, others, rate, conditions))


def _generator(conditions: Conditions, *parts: str) -> np.random.Generator:
    return np.random.default_rng(seed_of(conditions.seed, *parts))


def _clean(dataset: Dataset, others: Dataset, rate: int, conditions: Conditions) -> Iterator[Planned]:
    for clip in dataset.clips:
        yield Planned(clip.name, clip.name, clip.labels, partial(_as_it_is, dataset, clip, rate))


def _as_it_is(dataset: Dataset, clip: Clip, rate: int) -> Sample:
    return Sample(dataset.audio(clip, rate), clip.labels)


def _sanity(dataset: Dataset, others: Dataset, rate: int, conditions: Conditions) -> Iterator[Planned]:
    chosen = spread([clip.labels for clip in dataset.clips], _SANITY_CLIPS)
    some = replace(dataset, clips=tuple(dataset.clips[i] for i in chosen))
    yield from _clean(some, others, rate, conditions)
    for one in _noise(some, others, rate, conditions):
        yield one._replace(name=f"{one.name}-in-noise")


def spread(labels: Sequence[tuple[int, ...]], n: int) -> list[int]:
    """Return which of some samples to choose, at most `n`: as many of each class as possible, in their order.

    Parameters
    ----------
    labels : sequence of tuples
        The classes of each sample.
    n : int
    """
    turns: dict[tuple[int, ...], int] = {}
    ranked = []
    for i, true in enumerate(labels):
        turns[true] = turns.get(true, 0) + 1
        ranked.append((turns[true], i))
    return sorted(i for _, i in sorted(ranked)[:n])


def _noise(dataset: Dataset, others: Dataset, rate: int, conditions: Conditions) -> Iterator[Planned]:
    for clip in dataset.clips:
        yield Planned(clip.name, clip.name, clip.labels, partial(_in_noise, dataset, clip, rate, conditions))


def _in_noise(dataset: Dataset, clip: Clip, rate: int, conditions: Conditions) -> Sample:
    target = dataset.audio(clip, rate)
    audio = add_noise(target, conditions.snr, _generator(conditions, "noise", clip.name))
    parts = {"target": target, "disturbance": audio - target}
    return Sample(audio, clip.labels, parts, note=f"white noise at {conditions.snr:.0f} dB SNR")


def _mixture(dataset: Dataset, others: Dataset, rate: int, conditions: Conditions) -> Iterator[Planned]:
    for clip in dataset.clips:
        (other,) = _of_other_classes(clip, others, 1, _generator(conditions, "mixture", clip.name))
        make = partial(_mixed, dataset, clip, others, other, rate, conditions.level)
        yield Planned(clip.name, clip.name, clip.labels, make)


def _mixed(dataset: Dataset, clip: Clip, others: Dataset, other: Clip, rate: int, level: float) -> Sample:
    target = dataset.audio(clip, rate)
    audio = mix_at_level(target, others.audio(other, rate), level)
    names = ", ".join(dataset.classes[c] for c in other.labels)
    note = f"mixed with {names} ({other.name}) at {level:.0f} dB"
    return Sample(audio, clip.labels, {"target": target, "disturbance": audio - target}, note=note)


def _of_other_classes(clip: Clip, others: Dataset, n: int, rng: np.random.Generator) -> list[Clip]:
    """Return `n` clips whose classes are not those of `clip`, nor of one another."""
    chosen = [clip]
    for _ in range(n):
        taken = {c for one in chosen for c in one.labels}
        possible = [one for one in others.clips if one.labels and not taken.intersection(one.labels)]
        if not possible:
            needed = f"clips of {n + 1} different classes to mix: choose more clips, or experiments without mixtures"
            raise ValueError(f"dataset {others.name} has no clips to mix with {clip.name}, but needs {needed}")
        chosen.append(possible[int(rng.integers(len(possible)))])
    return chosen[1:]


def _labels(dataset: Dataset, others: Dataset, rate: int, conditions: Conditions) -> Iterator[Planned]:
    if dataset.multilabel:
        yield from _clean(dataset, others, rate, conditions)
        return
    for i, clip in enumerate(dataset.clips):
        rng = _generator(conditions, "labels", clip.name)
        clips = [clip, *_of_other_classes(clip, others, 1 + i % 2, rng)]
        name = "-with-".join(c.name for c in clips)
        make = partial(_together, dataset, clip, others, clips[1:], rate)
        yield Planned(name, clip.name, tuple(c.labels[0] for c in clips), make)


def _together(dataset: Dataset, clip: Clip, others: Dataset, added: list[Clip], rate: int) -> Sample:
    first = dataset.audio(clip, rate)
    parts = {dataset.classes[clip.labels[0]]: first}
    for other in added:
        parts[dataset.classes[other.labels[0]]] = mix_at_level(first, others.audio(other, rate), 0.0) - first
    audio = np.sum(list(parts.values()), axis=0)
    true = tuple(c.labels[0] for c in (clip, *added))
    return Sample(audio, true, parts, note=f"{len(true)} sounds of equal level")


def _onsets(dataset: Dataset, others: Dataset, rate: int, conditions: Conditions) -> Iterator[Planned]:
    for i, clip in enumerate(dataset.clips):
        make = partial(_excerpt, dataset, clip, rate, bool(i % 2), conditions)
        yield Planned(clip.name, clip.name, clip.labels, make)
    for kind in sorted(set(SOUNDS).intersection(dataset.classes)):
        for number in range(_SCENES):
            name = f"scene-{kind}-{number}"
            target = (dataset.classes.index(kind),)
            yield Planned(name, name, target, partial(_scene, kind, name, target, rate, conditions))


def _excerpt(dataset: Dataset, clip: Clip, rate: int, noisy: bool, conditions: Conditions) -> Sample:
    """Place the loudest second of a clip at a random time, in silence or in soft noise."""
    y = dataset.audio(clip, rate)
    n = min(len(y), round(_EXCERPT * rate))
    sums = np.concatenate(([0.0], np.cumsum(np.square(y, dtype=np.float64))))
    first = int((sums[n:] - sums[:-n]).argmax())
    where = "in white noise" if noisy else "in silence"
    note = f"the loudest second of the recording {where}"
    return _placed([y[first : first + n]], clip.labels, rate, noisy, _generator(conditions, "onsets", clip.name), note)


def _scene(kind: str, name: str, target: tuple[int, ...], rate: int, conditions: Conditions) -> Sample:
    """Place two synthesised sounds of a second at random times in soft noise."""
    rng = _generator(conditions, "onsets", name)
    sounds = [SOUNDS[kind](rate, _EXCERPT, rng) for _ in range(2)]
    return _placed(sounds, target, rate, True, rng, "synthesised sounds of a second in white noise")


def _clicks(dataset: Dataset, others: Dataset, rate: int, conditions: Conditions) -> Iterator[Planned]:
    for clip in dataset.clips:
        yield Planned(clip.name, clip.name, clip.labels, partial(_clicking, dataset, clip, rate, conditions))


def _clicking(dataset: Dataset, clip: Clip, rate: int, conditions: Conditions) -> Sample:
    """Place the 10 ms around the largest sample of a clip at random times in soft noise."""
    y = dataset.audio(clip, rate)
    n, fade = min(len(y), round(_CLICK * rate)), round(_FADE * rate)
    first = min(max(0, int(np.abs(y).argmax()) - n // 2), len(y) - n)
    at = np.arange(n) + 0.5
    edges = np.sin(np.pi / 2 * np.minimum(1, np.minimum(at, n - at) / max(1, fade))) ** 2
    click = (y[first : first + n] * edges).astype(np.float32)
    rng = _generator(conditions, "clicks", clip.name)
    return _placed([click] * _CLICKS, clip.labels, rate, True, rng, f"{_CLICKS} clicks of 10 ms in white noise")


def _placed(
    sounds: list[Float32], true: tuple[int, ...], rate: int, noisy: bool, rng: np.random.Generator, note: str
) -> Sample:
    """Place sounds without overlap: each in an equal part of the recording, at a random time of it."""
    total = round(_AROUND * rate)
    target, events = np.zeros(total, np.float32), []
    room = total // len(sounds)
    for i, y in enumerate(sounds):
        start = i * room + int(rng.integers(room - len(y) + 1))
        target[start : start + len(y)] = y
        events.append((start / rate, (start + len(y)) / rate))
    if not noisy:
        return Sample(target, true, events=tuple(events), note=note)
    loudest = sounds[0]
    noise = rng.standard_normal(total) * np.sqrt(np.mean(np.square(loudest, dtype=np.float64)))
    disturbance = (noise * 10 ** (_AROUND_DB / 20)).astype(np.float32)
    audio = target + disturbance
    note = f"{note} at {_AROUND_DB:.0f} dB"
    return Sample(audio, true, {"target": target, "disturbance": audio - target}, tuple(events), note)
