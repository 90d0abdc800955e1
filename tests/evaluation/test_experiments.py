"""Samples of the experiments: levels, known parts and known times, by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from l2i_fast.audio import write_audio
from l2i_fast.data import Clip, Dataset
from l2i_fast.evaluation.experiments import EXPERIMENTS, Conditions, Planned, plan, spread

from ..helpers import refused, relative
from .conftest import RATE


def decibel(one: np.ndarray, other: np.ndarray) -> float:
    """The level of one sound relative to another."""
    a, b = (np.square(y.astype(np.float64)).sum() for y in (one, other))
    return 10 * float(np.log10(a / b))


def planned(experiment: str, dataset: Dataset, **conditions: object) -> list[Planned]:
    return plan(experiment, dataset, dataset, RATE, Conditions(**conditions))  # type: ignore[arg-type]


def test_levels_of_the_protocols() -> None:
    assert (Conditions().level, Conditions().snr) == (-3.0, 0.0)
    published = Conditions("published")
    assert 10 ** (published.level / 20) == pytest.approx(0.2 / 0.8)
    assert 10 ** (-published.snr / 20) == pytest.approx(0.5 / 1.0)
    chosen = Conditions("published", level_db=0.0, snr_db=-5.0)
    assert (chosen.level, chosen.snr) == (0.0, -5.0)


def test_clean_recordings_stay_as_they_are(noises: Dataset) -> None:
    for one, clip in zip(planned("clean", noises), noises.clips, strict=True):
        sample = one.make()
        assert (one.name, one.source, one.true, sample.true) == (clip.name, clip.name, clip.labels, clip.labels)
        assert np.array_equal(sample.audio, noises.audio(clip, RATE))
        assert sample.parts == {}
        assert sample.events == ()


@pytest.mark.parametrize(
    ("conditions", "level"), [({}, -3.0), ({"level_db": 6.0}, 6.0), ({"protocol": "published"}, -12.0412)]
)
def test_mixtures_with_a_clip_of_another_class(noises: Dataset, conditions: dict[str, object], level: float) -> None:
    used = set()
    for one, clip in zip(planned("mixture", noises, **conditions), noises.clips, strict=True):
        sample = one.make()
        target, disturbance = sample.parts["target"], sample.parts["disturbance"]
        assert np.array_equal(target, noises.audio(clip, RATE))
        assert relative(target + disturbance, sample.audio) < 1e-6
        assert decibel(disturbance, target) == pytest.approx(level, abs=1e-3)
        (other,) = (c for c in noises.clips if f"({c.name})" in sample.note)
        assert other.labels != clip.labels
        assert noises.classes[other.labels[0]] in sample.note
        y = noises.audio(other, RATE)
        assert np.corrcoef(y, disturbance)[0, 1] == pytest.approx(1, abs=1e-5)
        used.add(other.name)
    assert len(used) > 3


@pytest.mark.parametrize(
    ("conditions", "snr"), [({}, 0.0), ({"snr_db": 12.0}, 12.0), ({"protocol": "published"}, 6.0206)]
)
def test_white_noise(noises: Dataset, conditions: dict[str, object], snr: float) -> None:
    for one, clip in zip(planned("noise", noises, **conditions), noises.clips, strict=True):
        sample = one.make()
        target, disturbance = sample.parts["target"], sample.parts["disturbance"]
        assert np.array_equal(target, noises.audio(clip, RATE))
        assert relative(target + disturbance, sample.audio) < 1e-6
        assert decibel(target, disturbance) == pytest.approx(snr, abs=1e-3)
        power = np.abs(np.fft.rfft(disturbance)) ** 2
        halves = power[: len(power) // 2].sum(), power[len(power) // 2 :].sum()
        assert halves[0] / halves[1] == pytest.approx(1, abs=0.1)
        assert abs(np.corrcoef(target, disturbance)[0, 1]) < 0.05


@pytest.mark.parametrize("experiment", ["mixture", "noise", "labels", "onsets", "clicks"])
def test_the_seed_and_the_clip_fix_every_choice(experiment: str, noises: Dataset) -> None:
    one, two, other = (planned(experiment, noises, seed=seed) for seed in (3, 3, 4))
    assert [p.name for p in one] == [p.name for p in two]
    a, b, c = ([p.make().audio for p in plans[:6]] for plans in (one, two, other))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert any(not np.array_equal(x, y) for x, y in zip(a, c, strict=True))


def test_noise_does_not_depend_on_the_other_clips(noises: Dataset) -> None:
    alone = dataclasses.replace(noises, clips=noises.clips[5:6])
    a, b = planned("noise", noises)[5].make(), planned("noise", alone)[0].make()
    assert np.array_equal(a.audio, b.audio)
    x, y = (p.make().parts["disturbance"] for p in planned("noise", noises)[:2])
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.1


def test_mixtures_of_several_labels(noises: Dataset) -> None:
    every = planned("labels", noises)
    assert [len(one.true) for one in every] == [2, 3] * 6
    assert len({one.name for one in every}) == 12
    for one, clip in zip(every, noises.clips, strict=True):
        sample = one.make()
        assert one.source == clip.name
        assert sample.true == one.true
        assert len(set(one.true)) == len(one.true)
        assert list(sample.parts) == [noises.classes[c] for c in one.true]
        first, *others = sample.parts.values()
        assert np.array_equal(first, noises.audio(clip, RATE))
        assert relative(sum([first.astype(np.float64), *others]), sample.audio) < 1e-6
        assert [decibel(y, first) for y in others] == pytest.approx([0.0] * len(others), abs=1e-3)
        for name, part in zip(one.name.split("-with-"), sample.parts.values(), strict=True):
            (source,) = (c for c in noises.clips if c.name == name)
            assert np.corrcoef(noises.audio(source, RATE), part)[0, 1] == pytest.approx(1, abs=1e-5)


def test_clips_of_several_labels_are_explained_as_they_are(noises: Dataset) -> None:
    clips = (dataclasses.replace(noises.clips[0], labels=(0, 2)), dataclasses.replace(noises.clips[1], labels=()))
    one, two = planned("labels", dataclasses.replace(noises, clips=clips, multilabel=True))
    assert one.true == one.make().true == (0, 2)
    assert two.true == ()
    assert np.array_equal(one.make().audio, noises.audio(clips[0], RATE))
    assert not one.make().parts


@pytest.fixture
def bursts(tmp_path: Path) -> Dataset:
    """Two seconds of soft noise; from 0.7 s to 1.7 s it is loud."""
    rng = np.random.default_rng(0)
    clips = []
    for i in range(4):
        y = 0.01 * rng.standard_normal(2 * RATE)
        y[round(0.7 * RATE) : round(1.7 * RATE)] *= 30
        path = write_audio(tmp_path / f"{i}.wav", np.float32(y), RATE)
        clips.append(Clip(path, (i % 2,), 1, path.stem))
    return Dataset("bursts", ("hiss", "rain"), tuple(clips), False, 2.0)


def test_excerpts_at_known_times(bursts: Dataset) -> None:
    starts = set()
    for i, (one, clip) in enumerate(zip(planned("onsets", bursts)[:4], bursts.clips, strict=True)):
        sample = one.make()
        assert len(sample.audio) == 5 * RATE
        assert sample.true == clip.labels
        ((start, end),) = sample.events
        first, last = round(start * RATE), round(end * RATE)
        assert last - first == RATE
        assert first >= 0
        assert last <= 5 * RATE
        target = sample.parts["target"] if i % 2 else sample.audio
        assert not target[:first].any()
        assert not target[last:].any()
        # The loudest second is the burst, but for soft samples at its edges.
        y = bursts.audio(clip, RATE)
        best = int(np.correlate(y[: round(1.9 * RATE)], target[first : first + 99], "valid").argmax())
        assert abs(best - round(0.7 * RATE)) < 20
        assert np.array_equal(target[first:last], y[best : best + RATE])
        if i % 2:
            disturbance = sample.parts["disturbance"]
            assert relative(target + disturbance, sample.audio) < 1e-6
            rms = [float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (disturbance, target[first:last])]
            assert 20 * np.log10(rms[0] / rms[1]) == pytest.approx(-30, abs=0.1)
        starts.add(start)
    assert len(starts) == 4


def test_scenes_of_synthesised_sounds(bursts: Dataset) -> None:
    scenes = planned("onsets", bursts)[4:]
    assert [one.name for one in scenes] == [f"scene-rain-{i}" for i in range(4)]
    assert all(one.true == (1,) and one.source == one.name for one in scenes)
    sample = scenes[0].make()
    (a, b), (c, d) = sample.events
    assert (b - a, d - c) == pytest.approx((1, 1), abs=1e-3)
    assert a >= 0
    assert b <= c
    assert d <= 5
    target = sample.parts["target"]
    inside = np.zeros(len(target), bool)
    for start, end in sample.events:
        inside[round(start * RATE) : round(end * RATE)] = True
        assert np.square(target[round(start * RATE) : round(end * RATE)]).mean() > 1e-4
    assert not target[~inside].any()
    assert sample.audio[~inside].any()


def test_clicks_at_known_times(bursts: Dataset) -> None:
    for one, clip in zip(planned("clicks", bursts), bursts.clips, strict=True):
        sample, y = one.make(), bursts.audio(clip, RATE)
        assert sample.true == clip.labels
        assert len(sample.audio) == 5 * RATE
        target, n = sample.parts["target"].copy(), round(0.01 * RATE)
        middle = int(np.abs(y).argmax())
        for start, end in sample.events:
            assert end - start == pytest.approx(0.01)
            first = round(start * RATE)
            click = target[first : first + n].copy()
            fade = round(0.001 * RATE)
            expected = y[middle - n // 2 :][:n]
            assert np.array_equal(click[fade:-fade], expected[fade:-fade])
            assert abs(click[0]) < 0.1 * np.abs(expected[0]) + 1e-9
            target[first : first + n] = 0
        assert not target.any()
        assert [int(2 * start) for start, _ in sample.events] == list(range(10))
        rms = [float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (sample.parts["disturbance"], click)]
        assert 20 * np.log10(rms[0] / rms[1]) == pytest.approx(-30, abs=0.1)


def test_short_clips_have_known_times_too(noises: Dataset) -> None:
    for one, clip in zip(planned("onsets", noises), noises.clips, strict=False):
        sample = one.make()
        ((start, end),) = sample.events
        assert end - start == pytest.approx(0.4)
        target = sample.parts.get("target", sample.audio)
        assert np.array_equal(target[round(start * RATE) : round(end * RATE)], noises.audio(clip, RATE))


def test_silence_stays_silence(tmp_path: Path, noises: Dataset) -> None:
    path = write_audio(tmp_path / "silence.wav", np.zeros(4000, np.float32), RATE)
    silent = dataclasses.replace(noises, clips=(Clip(path, (0,), 1, "silence"), *noises.clips[1:4]))
    for experiment in ("mixture", "noise", "labels", "onsets", "clicks"):
        sample = planned(experiment, silent)[0].make()
        assert not sample.audio.any(), experiment


def test_spread_takes_classes_in_turn() -> None:
    labels = [(0,), (0,), (0,), (1,), (2,), (1,)]
    assert [spread(labels, n) for n in (0, 1, 3, 4, 5, 9)] == [
        [], [0], [0, 3, 4], [0, 1, 3, 4], [0, 1, 3, 4, 5], [0, 1, 2, 3, 4, 5],
    ]  # fmt: skip


def test_sanity_takes_a_few_clips(noises: Dataset) -> None:
    clean, noisy = planned("sanity", noises)[:8], planned("sanity", noises)[8:]
    assert [one.name for one in clean] == [str(i) for i in range(8)]
    assert [one.name for one in noisy] == [f"{i}-in-noise" for i in range(8)]
    assert [one.source for one in noisy] == [str(i) for i in range(8)]
    for one, alone in zip(noisy, planned("noise", noises), strict=False):
        assert np.array_equal(one.make().audio, alone.make().audio)


def test_refusals(noises: Dataset) -> None:
    empty = dataclasses.replace(noises, clips=())
    for experiment in EXPERIMENTS:
        with refused(ValueError, "dataset noises holds no clips to score"):
            planned(experiment, empty)
    message = "dataset noises has no clips to mix with {}, but needs clips of {} different classes to mix: ..."
    with refused(ValueError, message.format(0, 2)):
        planned("mixture", dataclasses.replace(noises, clips=noises.clips[::4]))
    two = tuple(clip for clip in noises.clips if clip.labels[0] < 2)
    with refused(ValueError, message.format(1, 3)):
        planned("labels", dataclasses.replace(noises, clips=two))
    with refused(ValueError, "experiment is 'dirty', but must be one of ..."):
        planned("dirty", noises)
    with refused(ValueError, "protocol is 'wrong', but must be ..."):
        Conditions("wrong")  # type: ignore[arg-type]
    with refused(ValueError, "level_db is 300, but must be ..."):
        Conditions(level_db=300)
