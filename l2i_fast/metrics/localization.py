"""Whether explanations keep the moments in which an event sounds, where these are known."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from l2i_fast.audio import scale_to_peak
from l2i_fast.ops.stft import stft
from l2i_fast.results import Result
from l2i_fast.results.masking import gain_of

#: Frames within this of the loudest kept one count as kept, in dB.
ACTIVE_DB = 30.0
#: Pauses of at most this are part of the sound around them, in seconds.
PAUSE = 0.2
#: The mask around an event is judged within this of it, in seconds.
AROUND = 0.25
#: An event counts as found if its IoU with one interval that is kept is at least this.
FOUND_IOU = 0.5

Interval = tuple[float, float]


class Localization(NamedTuple):
    """Agreement in time, each from 0 to 1.

    Attributes
    ----------
    iou : float
        Intersection over union of the frames that are kept and those of the events.
    precision, recall, f1 : float
        Of the frames that are kept.
    event_f1 : float
        F1 of whole events: an event and an interval that is kept match if their IoU is at least 0.5.
    pointing : float
        1 if the loudest frame that is kept lies within an event (the pointing game of Zhang et al., ECCV 2016).
    """

    iou: float
    precision: float
    recall: float
    f1: float
    event_f1: float
    pointing: float


def localization(result: Result, events: Sequence[Interval]) -> Localization:
    """Compare what the first explanation of a result keeps with the times at which events sound.

    A frame counts as kept if its energy in the interpretation is at most 30 dB below the loudest one or if it lies in a
    pause of at most 0.2 s between such frames, and as part of an event if its middle is.

    Parameters
    ----------
    result : Result
    events : sequence of (start, end)
        In seconds; they do not overlap.
    """
    settings = result.settings
    X = stft(result.explanations[0].audio, n_fft=settings["n_fft"], hop_length=settings["hop_length"])
    energy = np.square(np.abs(X), dtype=np.float64).sum(axis=0)
    times = np.arange(len(energy)) * settings["hop_length"] / result.sample_rate
    sounding = np.zeros(len(energy), bool)
    for start, end in events:
        sounding |= (times >= start) & (times < end)
    loudest = float(energy.max(initial=0.0))
    kept = energy >= loudest * 10 ** (-ACTIVE_DB / 10) if loudest else np.zeros(len(energy), bool)
    for (_, end), (start, _) in itertools.pairwise(_runs(kept)):
        if times[start] - times[end] <= PAUSE:
            kept[end:start] = True
    both, either = int((kept & sounding).sum()), int((kept | sounding).sum())
    precision = both / kept.sum() if kept.any() else 0.0
    recall = both / sounding.sum() if sounding.any() else 0.0
    return Localization(
        iou=both / either if either else 0.0,
        precision=float(precision),
        recall=float(recall),
        f1=_f1(float(precision), float(recall)),
        event_f1=_event_f1(_runs(kept), _runs(sounding)),
        pointing=float(bool(loudest) and sounding[int(energy.argmax())]),
    )


def opening(result: Result, events: Sequence[Interval]) -> float:
    """Return for how long the mask of the first explanation stays open around an event, in seconds.

    The gain that the mask stands for has a mean over frequency, with a peak within 0.25 s of an event. Counted are the
    frames around the peak, to either side as far as they follow one another, in which the mean is over half of that:
    the median over the events. Around an event shorter than a frame, this is for how long the background is kept with
    it. NaN where the mask is 0 around each event.

    Parameters
    ----------
    result : Result
    events : sequence of (start, end)
        In seconds.
    """
    settings = result.settings
    scaled, _ = scale_to_peak(result.input, settings["peak"])
    A = np.abs(stft(scaled, n_fft=settings["n_fft"], hop_length=settings["hop_length"]))
    mean = gain_of(result.mask(), A, settings["domain"]).mean(axis=0, dtype=np.float64)
    per_frame = settings["hop_length"] / result.sample_rate
    lengths = []
    for start, end in events:
        first, last = max(0, round((start - AROUND) / per_frame)), round((end + AROUND) / per_frame) + 1
        peak = first + int(mean[first:last].argmax())
        if mean[peak]:
            lengths += [b - a for a, b in _runs(mean > mean[peak] / 2) if a <= peak < b]
    return float(np.median(lengths) * per_frame) if lengths else float("nan")


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _runs(active: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first frame of each run of active frames, and the one after its last."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], active.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _event_f1(kept: list[tuple[int, int]], events: list[tuple[int, int]]) -> float:
    if not kept or not events:
        return 0.0
    found = sum(any(_iou(event, run) >= FOUND_IOU for run in kept) for event in events)
    return 2 * found / (len(kept) + len(events))  # no run has an IoU of 0.5 or more with two events


def _iou(one: tuple[int, int], other: tuple[int, int]) -> float:
    both = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    return both / (one[1] - one[0] + other[1] - other[0] - both)
