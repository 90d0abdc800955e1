"""Runs of an evaluation: resumption, records by hand, kept results, refusals."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor

from l2i_fast import reference
from l2i_fast.audio import read_audio
from l2i_fast.data import Dataset
from l2i_fast.evaluation import runner, unit
from l2i_fast.evaluation.experiments import EXPERIMENTS, Conditions, plan
from l2i_fast.evaluation.methods import make_explainer, possible_methods
from l2i_fast.evaluation.models import Part
from l2i_fast.evaluation.records import SHARES, Record
from l2i_fast.evaluation.report import report
from l2i_fast.evaluation.runner import run
from l2i_fast.evaluation.scores import score
from l2i_fast.explainers import EXPLAINERS, Evidence, FittedExplainer, Heard
from l2i_fast.metrics.separation import separation
from l2i_fast.model import L2I, LogMel, SpectralNetwork
from l2i_fast.networks.classifier import Classifier
from l2i_fast.progress import Report
from l2i_fast.results import Result
from l2i_fast.results.masking import apply_mask, kept_share, log_magnitude
from l2i_fast.settings import Analysis

from ..helpers import refused, relative
from .conftest import RATE, a_model, quiet

METHODS = ("l2i", "constant")


def part_of(dataset: Dataset, fold: int | None = None, model: L2I | None = None, name: str = "tiny") -> Part:
    """A part that scores one fold, or all clips."""
    scored = dataset if fold is None else dataset.select(folds=[fold])
    others = tuple(clip for clip in dataset.clips if clip not in scored.clips)
    return Part(name, name, model or a_model(), scored, dataclasses.replace(dataset, clips=others))


def evaluated(parts: Sequence[Part], output: Path, **changes: Any) -> list[Record]:
    """Run with few methods on clean recordings, unless `changes` name others."""
    given: dict[str, Any] = {"methods": METHODS, "experiments": ("clean",), "conditions": Conditions()}
    given |= {"report": quiet, "n_samples": 2} | changes
    return run(parts, output, **given)


def untimed(records: Sequence[Record]) -> list[Record]:
    """The records without what differs from run to run."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "peak_memory_mb")} for row in records]


class Interrupt:
    """A report that presses Ctrl-C at its n-th call."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self, stage: str, done: int, total: int, text: str) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several units for few clips."""
    monkeypatch.setattr(runner, "_GROUP", 4)


@pytest.fixture(scope="module")
def whole(noises: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], Path]:
    """A run over every experiment, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_GROUP", 4)
        patch.setattr(unit, "_SANITY_STEPS", 3)
        return evaluated([part_of(_few(noises))], folder, experiments=_without_onsets()), folder


def _few(dataset: Dataset) -> Dataset:
    return dataclasses.replace(dataset, clips=dataset.clips[:6])


def _without_onsets() -> tuple[str, ...]:
    return tuple(name for name in EXPERIMENTS if name != "onsets")


def test_an_interrupted_run_resumes_to_the_same_records(
    noises: Dataset, whole: tuple[list[Record], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit, "_SANITY_STEPS", 3)
    for n in (1, 9, 14, 22):
        with pytest.raises(KeyboardInterrupt):
            evaluated([part_of(_few(noises))], tmp_path, experiments=_without_onsets(), report=Interrupt(n))
    records = evaluated([part_of(_few(noises))], tmp_path, experiments=_without_onsets())
    expected, folder = whole
    assert untimed(records) == untimed(expected)
    files = [{p.relative_to(place) for p in place.rglob("*")} for place in (folder, tmp_path)]
    assert files[0] == files[1]
    assert not [p for p in files[1] if p.name.startswith(".")]


def test_what_is_finished_is_not_computed_again(noises: Dataset, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluated([part_of(noises)], tmp_path, report=Interrupt(4))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.parquet")}
    assert len(before) == 4
    first = evaluated([part_of(noises)], tmp_path)
    assert {p: p.read_bytes() for p in before} == before
    assert evaluated([part_of(noises)], tmp_path) == first  # timings, too
    assert len(first) == 12 * len(METHODS)


@pytest.mark.parametrize("by_groups", [True, False])
def test_processes_share_the_work_to_the_same_records(
    by_groups: bool, noises: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_FEW", 0 if by_groups else 100)
    experiments = ("clean", "mixture", "noise", "labels", "misclassified", "sanity")
    few = [part_of(_few(noises), name=name) for name in ("one", "two")]
    stages: list[tuple[str, int, int]] = []
    report: Any = lambda stage, done, total, text: stages.append((stage, done, total))  # noqa: E731

    def refuse(name: str, **given: Any) -> None:
        raise AssertionError(f"nothing of {name} is left for this process")

    with monkeypatch.context() as patch:
        patch.setattr(runner, "fitted_explainer", refuse)  # the other processes have their own
        shared = evaluated(few, tmp_path / "shared", experiments=experiments, report=report, n_jobs=2)
    # Of four and two recordings, of one that is misclassified, and of twelve for random weights.
    groups = 2 * (len(experiments) - 2) + 1 + 3
    n = len(few) * (groups if by_groups else len(experiments) * len(METHODS))
    assert [one for one in stages if one[0] == "explain"] == [("explain", i + 1, n) for i in range(n)]
    alone = evaluated(few, tmp_path / "alone", experiments=experiments)
    assert len(shared) == len(alone)
    for one, other in zip(untimed(shared), untimed(alone), strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():  # sums of other numbers of threads are rounded differently
            assert value == (
                pytest.approx(other[name], rel=1e-4, abs=1e-5) if isinstance(value, float) else other[name]
            )
    files = [{p.relative_to(place) for p in place.rglob("*")} for place in (tmp_path / "shared", tmp_path / "alone")]
    assert files[0] == files[1]


def test_each_process_uses_what_a_method_has_learned_once(
    noises: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_GROUP", 20)
    part = part_of(noises, 1)
    stages: list[str] = []
    report: Any = lambda stage, done, total, text: stages.append(f"{stage} {done}/{total} {text}")  # noqa: E731
    given: dict[str, Any] = {"methods": ("constant", "iba"), "experiments": ("clean", "noise"), "n_jobs": 2}
    first = evaluated([part], tmp_path, report=report, **given)
    assert [one for one in stages if one.startswith("learn")] == ["learn 1/1 tiny: iba"]
    stages.clear()
    assert evaluated([part], tmp_path, report=report, **given) == first
    assert not [one for one in stages if one.startswith(("learn", "explain"))]


def test_scores_hold_what_earlier_runs_have_finished(noises: Dataset, tmp_path: Path) -> None:
    parts = [part_of(_few(noises), name=name) for name in ("cv/one", "cv/two")]
    first = evaluated(parts, tmp_path, methods=["l2i"], experiments=["clean", "sanity"])
    both = evaluated(parts, tmp_path, methods=["constant"], experiments=["clean", "noise"])
    assert {(row["experiment"], row["method"]) for row in both} == {
        ("clean", "constant"), ("noise", "constant"), ("clean", "l2i"), ("sanity", "l2i"),
    }  # fmt: skip
    key = lambda row: (row["experiment"], row["part"], row["sample"], row.get("randomized", 0))  # noqa: E731
    assert sorted((row for row in both if row["method"] == "l2i"), key=key) == sorted(first, key=key)
    described = [json.loads(file.read_text()) for file in (tmp_path / "samples" / "clean").rglob("sample.json")]
    assert [one["methods"] for one in described] == [["constant", "l2i"]] * 2
    # What an interrupted run has begun is left out: here one of its two groups is missing.
    (tmp_path / "records" / "cv" / "two" / "clean" / "l2i-000004.parquet").unlink()
    rest = evaluated(parts, tmp_path, methods=["constant"], experiments=["clean", "noise"])
    assert {(row["experiment"], row["method"]) for row in rest} == {
        ("clean", "constant"), ("noise", "constant"), ("sanity", "l2i"),
    }  # fmt: skip


def test_a_recording_of_other_contents_is_another_run(noises: Dataset, tmp_path: Path) -> None:
    copies = tuple(
        dataclasses.replace(clip, path=Path(shutil.copy(clip.path, tmp_path / clip.path.name)))
        for clip in noises.clips[:2]
    )
    few = dataclasses.replace(noises, clips=copies)
    given: dict[str, Any] = {"methods": ["constant"]}
    evaluated([part_of(few)], tmp_path / "out", **given)
    contents = copies[0].path.read_bytes()
    copies[0].path.write_bytes(contents[:-1] + bytes([contents[-1] ^ 1]))
    with refused(ValueError, "output ... holds another run, but must be empty or hold this one: it has other data"):
        evaluated([part_of(few)], tmp_path / "out", **given)


def test_files_of_something_else_are_named(noises: Dataset, tmp_path: Path) -> None:
    part = part_of(_few(noises))
    given: dict[str, Any] = {"methods": ["constant"], "experiments": ["clean", "noise"]}
    expected = evaluated([part], tmp_path, **given)
    clean = tmp_path / "records" / "tiny" / "clean" / "constant-000000.parquet"
    before = clean.read_bytes()
    clean.write_bytes((tmp_path / "records" / "tiny" / "noise" / clean.name).read_bytes())
    with refused(ValueError, f"{clean} is damaged (it holds records of something else), but must be whole: remove it"):
        evaluated([part], tmp_path, **given)
    clean.write_bytes(before)
    (one, _) = sorted((tmp_path / "samples" / "clean" / "tiny").iterdir())
    (one / "sample.json").unlink()
    assert untimed(evaluated([part], tmp_path, **given)) == untimed(expected)
    assert json.loads((one / "sample.json").read_text())["methods"] == ["constant"]
    (one / "sample.json").write_text("{")
    with refused(ValueError, f"{one / 'sample.json'} ..."):
        evaluated([part], tmp_path, **given)


def test_names_that_no_folder_can_have(noises: Dataset, tmp_path: Path) -> None:
    few = _few(noises)
    long = tuple(dataclasses.replace(clip, name=clip.name + "ä" * 90) for clip in few.clips)
    records = evaluated([part_of(dataclasses.replace(few, clips=long))], tmp_path, experiments=["labels"], n_samples=6)
    samples = {row["sample"] for row in records}
    homes = list((tmp_path / "samples" / "labels" / "tiny").iterdir())
    assert len(homes) == len(samples) == 6
    assert {json.loads((home / "sample.json").read_text())["name"] for home in homes} == samples


@pytest.mark.skipif(not Path("/proc").exists(), reason="this system has no /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(
        """
import os, sys, time
from joblib import Parallel, delayed
from l2i_fast.evaluation.runner import _in_worker

def work(task, run):
    open(task, "a").write(f"{os.getpid()}\\n")
    time.sleep(60)

Parallel(2)(delayed(_in_worker)(work, sys.argv[1], os.getpid(), "run") for _ in range(2))
"""
    )
    parent = subprocess.Popen([sys.executable, str(program), str(tmp_path / "pids")])
    pids: list[str] = []
    while len(pids) < 2 and parent.poll() is None:
        time.sleep(0.1)
        pids = (tmp_path / "pids").read_text().split() if (tmp_path / "pids").exists() else []
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while (left := [pid for pid in pids if Path("/proc", pid).exists()]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(pids) == 2
    assert not left


def test_a_worker_that_is_killed_is_one_sentence(
    noises: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(task: Any, run: str) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return run

    monkeypatch.setattr(runner, "_do", killed)
    with refused(RuntimeError, "a process was killed, perhaps for lack of memory: ..."):
        evaluated([part_of(_few(noises))], tmp_path, n_jobs=2)


def test_a_killed_run_leaves_no_half_unit(noises: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = unit._write, []

    def cut(file: Path, rows: list[Record], n_samples: int) -> None:
        calls.append(file)
        if len(calls) == 2:
            file.write_bytes(b"PAR1")
            raise KeyboardInterrupt
        real(file, rows, n_samples)

    monkeypatch.setattr(unit, "_write", cut)
    with pytest.raises(KeyboardInterrupt):
        evaluated([part_of(noises)], tmp_path)
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert len(evaluated([part_of(noises)], tmp_path)) == 12 * len(METHODS)


def test_an_unfinished_run_file_is_no_other_run(noises: Dataset, tmp_path: Path) -> None:
    (tmp_path / ".partial-0123-run.json").write_text("{")
    assert evaluated([part_of(_few(noises))], tmp_path, methods=["constant"])


def test_records_by_hand(noises: Dataset, whole: tuple[list[Record], Path]) -> None:
    model = a_model()
    network = model.network
    rows = [row for row in whole[0] if (row["experiment"], row["method"]) == ("mixture", "l2i")]
    few = _few(noises)
    planned = plan("mixture", few, few, RATE, Conditions())
    assert [row["sample"] for row in rows] == [one.name for one in planned]
    for row, one in zip(rows, planned, strict=True):
        sample = one.make()
        peak = float(np.abs(sample.audio).max())
        (p,) = network.classify([sample.audio])
        c = int(p.argmax())
        result = model.interpret((sample.audio, RATE), targets=c)
        kept, removed = result.audio, result.removed()
        (o,), (q,) = (network.classify([y], [peak]) for y in (kept, removed))
        assert row["target"] == model.classes[c]
        assert row["predicted"] == [model.classes[c]]
        assert row["true"] == [model.classes[one.true[0]]]
        assert row["correct"] == row["heard"] == (c == one.true[0])
        assert row["confidence"] == pytest.approx(float(p[c]), abs=1e-5)
        assert row["confidence_kept"] == pytest.approx(float(o[c]), abs=1e-4)
        assert row["confidence_removed"] == pytest.approx(float(q[c]), abs=1e-4)
        before, after = row["confidence"], row["confidence_kept"]
        assert row["AI"] == float(before < after)
        assert row["AD"] == pytest.approx(max(0, before - after) / before)
        assert row["AG"] == pytest.approx(max(0, after - before) / (1 - before))
        assert row["FF"] == pytest.approx(before - row["confidence_removed"])
        assert row["Fid-In"] == float(o.argmax() == c)
        V = np.log1p(np.abs(reference.stft(sample.audio / peak, np.hanning(1025)[:-1], 512)))
        assert row["kept"] == pytest.approx(float((result.mask() * V).sum() / V.sum()), abs=1e-3)
        assert row["rank"] == int((result.own_probabilities > result.own_probabilities[c]).sum())
        assert row["components"] == list(result.components)
        assert ("ratio_gain" in row) == row["heard"]
        if row["heard"]:
            expected = separation(result, sample.parts["target"], sample.parts["disturbance"])
            assert row["ratio_gain"] == pytest.approx(expected.ratio_gain, abs=0.01)
            assert row["si_sdr_gain"] == pytest.approx(expected.si_sdr_gain, abs=0.01)
    assert len({row["target"] for row in rows}) > 1, "the model must not answer the same for all"


def test_only_wrong_answers_are_misclassified(noises: Dataset, whole: tuple[list[Record], Path]) -> None:
    rows = [row for row in whole[0] if row["experiment"] == "misclassified" and row["method"] == "l2i"]
    network = a_model().network
    few = _few(noises)
    answers = {clip.name: int(network.classify([few.audio(clip, RATE)])[0].argmax()) for clip in few.clips}
    wrong = [clip.name for clip in few.clips if answers[clip.name] != clip.labels[0]]
    assert [row["sample"] for row in rows] == wrong
    assert 0 < len(wrong) <= 6
    assert [row["target"] for row in rows] == [few.classes[answers[name]] for name in wrong]
    assert not any(row["correct"] or row["heard"] for row in rows)


def test_one_label_of_several_is_right(whole: tuple[list[Record], Path]) -> None:
    rows = [row for row in whole[0] if row["experiment"] == "labels"]
    assert all(row["correct"] == (row["predicted"][0] in row["true"]) for row in rows)
    assert {len(row["true"]) for row in rows} == {2, 3}
    assert {row["correct"] for row in rows} == {True, False}
    assert all(("ratio_gain" in row) == row["heard"] for row in rows)


def test_clicks_count_if_the_noise_alone_is_something_else(noises: Dataset, whole: tuple[list[Record], Path]) -> None:
    model, few = a_model(), _few(noises)
    rows = [row for row in whole[0] if row["experiment"] == "clicks"]
    plans = {one.name: one for one in plan("clicks", few, few, RATE, Conditions())}
    counted = 0
    for row in rows:
        sample = plans[row["sample"]].make()
        scale = float(np.abs(sample.audio).max())
        alone = model.network.classify([sample.parts["disturbance"]], [scale])[0].argmax()
        assert ("opening" in row) == (model.classes[int(alone)] != row["target"])
        if row["method"] == "constant" and "opening" in row:
            counted += 1
            assert row["opening"] == pytest.approx(5, abs=0.1)
    assert counted < len(rows)


def test_random_weights_change_explanations(whole: tuple[list[Record], Path]) -> None:
    rows = [row for row in whole[0] if row["experiment"] == "sanity"]
    for method in METHODS:
        chosen = [row for row in rows if row["method"] == method]
        shares = sorted({row["randomized"] for row in chosen})
        assert shares[0] == 0
        assert shares[-1] == 1
        assert len(chosen) == 2 * 6 * len(shares) == 36
        gains = [row for row in chosen if "ratio_gain" in row]
        assert gains
        assert all(row["sample"].endswith("-in-noise") for row in gains)
        noise = {row["sample"]: row for row in whole[0] if (row["experiment"], row["method"]) == ("noise", method)}
        for row in gains:
            if not row["randomized"]:
                assert row["ratio_gain"] == pytest.approx(noise[row["source"]]["ratio_gain"], abs=1e-3)
        assert all(row["spearman"] == pytest.approx(1) == row["ssim"] for row in chosen if not row["randomized"])
    last = [row["ssim"] for row in rows if row["randomized"] == 1 and row["method"] == "l2i"]
    assert max(last) < 0.9999


def test_scores_at_equal_shares(noises: Dataset, whole: tuple[list[Record], Path]) -> None:
    model = a_model()
    rows = [row for row in whole[0] if row["experiment"] == "clean" and row["method"] == "constant"]
    assert not any("curve_kept" in row for row in whole[0] if row["experiment"] != "clean")
    for row, clip in zip(rows, noises.clips, strict=False):
        y = noises.audio(clip, RATE)
        peak = float(np.abs(y).max())
        c = model.classes.index(row["target"])
        shape = log_magnitude(y, model.settings).shape
        for share, kept, removed in zip(SHARES, row["curve_kept"], row["curve_removed"], strict=True):
            settings = {**model.settings, "domain": "log"}
            parts = [apply_mask(y, np.full(shape, m, np.float32), settings) for m in (share, 1 - share)]
            p = model.network.classify(parts, [peak] * 2)[:, c]
            assert (kept, removed) == pytest.approx(tuple(p), abs=1e-4)


def test_results_are_kept_for_a_page(noises: Dataset, whole: tuple[list[Record], Path]) -> None:
    _, folder = whole
    few = _few(noises)
    for experiment in ("clean", "mixture", "noise", "misclassified", "labels"):
        homes = sorted((folder / "samples" / experiment / "tiny").iterdir())
        assert len(homes) == 2
        for home in homes:
            told = json.loads((home / "sample.json").read_text())
            assert told["name"] == home.name
            assert told["experiment"] == experiment
            assert told["methods"] == list(METHODS)
            assert told["sample_rate"] == RATE
            (one,) = (p for p in plan(experiment, few, few, RATE, Conditions()) if p.name == home.name)
            sample = one.make()
            assert told["note"] == sample.note
            assert told["true"] == [few.classes[c] for c in one.true]
            assert list(told["parts"]) == list(sample.parts)
            for name, part in sample.parts.items():
                assert np.array_equal(read_audio(home / told["parts"][name])[0], part)
            for method in METHODS:
                result = Result.load(home / method)
                assert np.array_equal(result.input, sample.audio)
                assert (result.source, result.method) == (home.name, method)
    assert not (folder / "samples" / "sanity").exists()


def test_kept_results_come_from_all_parts_and_classes(noises: Dataset, tmp_path: Path) -> None:
    parts = [part_of(noises, fold, name=f"cv/fold{fold}") for fold in (1, 2)]
    parts = [dataclasses.replace(part, run="cv") for part in parts]
    evaluated(parts, tmp_path, methods=["constant"], n_samples=4)
    homes = list((tmp_path / "samples" / "clean" / "cv").iterdir())
    told = [json.loads((home / "sample.json").read_text()) for home in homes]
    assert sorted(one["true"][0] for one in told) == sorted(noises.classes)
    folds = {clip.name: clip.fold for clip in noises.clips}
    assert {folds[one["name"]] for one in told} == {1, 2}


def test_more_results_can_be_kept_later(noises: Dataset, tmp_path: Path) -> None:
    one = evaluated([part_of(noises)], tmp_path, methods=["constant"], n_samples=0)
    assert not (tmp_path / "samples").exists()
    two = evaluated([part_of(noises)], tmp_path, methods=["constant"], n_samples=3)
    assert len(list((tmp_path / "samples" / "clean" / "tiny").iterdir())) == 3
    assert untimed(one) == untimed(two)
    evaluated([part_of(noises)], tmp_path, methods=["l2i", "constant"], n_samples=3)
    for home in (tmp_path / "samples" / "clean" / "tiny").iterdir():
        assert json.loads((home / "sample.json").read_text())["methods"] == ["l2i", "constant"]


def test_any_class_name_gives_valid_file_names(noises: Dataset, tmp_path: Path) -> None:
    classes = ("dog / wolf", "dog + wolf", "..", "a" * 300)
    model = a_model()
    network = model.network
    network.classes = classes
    few = dataclasses.replace(noises, classes=classes, clips=noises.clips[:4])
    evaluated([part_of(few, model=model)], tmp_path, methods=["constant"], experiments=["labels"], n_samples=4)
    for home in (tmp_path / "samples" / "labels" / "tiny").iterdir():
        told = json.loads((home / "sample.json").read_text())
        assert set(told["parts"]) == set(told["true"])
        total = sum(read_audio(home / file)[0].astype(np.float64) for file in told["parts"].values())
        assert relative(total, Result.load(home / "constant").input) < 1e-6


class Learner(FittedExplainer):
    """Keeps the share of the log magnitude that its recordings are many."""

    name = "learner"
    title = "Learner"
    paper = "A test"
    calls: list[tuple[list[Any], Path, int]] = []  # noqa: RUF012

    def fit(self, recordings: Sequence[Any], folder: Path, report: Report, seed: int = 0) -> Self:
        self.calls.append((list(recordings), folder, seed))
        self.fitted = True
        return self

    def find(self, heard: Heard, targets: Sequence[int]) -> list[Evidence]:
        self._require_fit()
        return [Evidence(np.full((1, 1), 0.5, np.float32)) for _ in targets]


@pytest.fixture
def learner(monkeypatch: pytest.MonkeyPatch) -> type[Learner]:
    monkeypatch.setitem(EXPLAINERS, "learner", Learner)
    monkeypatch.setattr(Learner, "calls", [])
    return Learner


def test_methods_learn_from_clips_that_are_not_scored(noises: Dataset, learner: type[Learner], tmp_path: Path) -> None:
    parts = [part_of(noises, fold, name=f"cv/fold{fold}") for fold in (1, 2)]
    evaluated(parts, tmp_path, methods=["learner"], conditions=Conditions(seed=7))
    assert len(learner.calls) == 2
    for part, (recordings, folder, seed) in zip(parts, learner.calls, strict=True):
        rate = part.model.sample_rate
        heard = [part.others.audio(clip, rate) for clip in part.others.clips]
        assert [one[1] for one in recordings] == [rate] * len(heard)
        np.testing.assert_array_equal([one[0] for one in recordings], heard)
        assert not {clip.path for clip in part.others.clips} & {clip.path for clip in part.scored.clips}
        assert folder == tmp_path / "methods" / part.name / "learner"
        assert seed == 7
        assert json.loads((folder / "seconds.json").read_text())["seconds"] >= 0


def test_a_worker_reads_what_a_method_has_learned_once_in_a_run(
    noises: Dataset, learner: type[Learner], tmp_path: Path
) -> None:
    def worker(fold: int) -> Any:
        return SimpleNamespace(part=part_of(noises, fold, name=f"cv/{fold}"), output=tmp_path, conditions=Conditions())

    one, two = worker(1), worker(2)
    first = runner._explainer("learner", one, "a")
    assert runner._explainer("learner", one, "a") is first
    assert len(learner.calls) == 1
    assert runner._explainer("learner", two, "a").network is two.part.model.network
    assert runner._explainer("learner", one, "b") is not first
    runner._explainer("constant", one, "b")
    assert list(runner._learned) == [("b", "cv/1", "learner")]


class Foreign(SpectralNetwork):
    """A network in another runtime, without gradients."""

    def __init__(self, network: SpectralNetwork) -> None:
        super().__init__(network.classes, LogMel(Analysis()), network.layers, min_frames=Classifier.min_frames)
        self.runtime = network

    @torch.inference_mode()
    def _run(self, features: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        logits, maps = self.runtime.run(features)
        return logits, list(maps.values())


def test_methods_that_a_network_or_the_data_cannot_serve(
    noises: Dataset, learner: type[Learner], tmp_path: Path
) -> None:
    whole = part_of(noises)
    message = (
        "the method learner learns from recordings, but none of noises are left for that: name the folds to score with "
        "--fold, and it learns from the others"
    )
    with refused(ValueError, message):
        evaluated([whole], tmp_path / "out", methods=["l2i", "learner"])
    model = a_model()
    foreign = part_of(noises, 1, L2I(Foreign(model.network), model.interpreter, name="foreign"))
    with refused(ValueError, "the method saliency cannot explain tiny: the network is a Foreign, ..."):
        evaluated([foreign], tmp_path / "out", methods=["saliency"])
    with refused(ValueError, "method is 'nothing', but must be one of l2i, ..."):
        evaluated([foreign], tmp_path / "out", methods=["nothing"])
    with refused(ValueError, "method is 'l2i-max', but must be one of l2i, ..."):
        make_explainer("l2i-max", foreign)
    assert not (tmp_path / "out").exists(), "refused before the work begins"
    with pytest.warns(RuntimeWarning, match="is left out: the method") as caught:
        possible = possible_methods([foreign])
    assert {"l2i", "constant", "learner"} <= set(possible)
    assert not {"saliency", "gradcam", "iba"} & set(possible)
    assert len(caught) == len(EXPLAINERS) - len(possible)


def test_the_other_theta_is_a_method(noises: Dataset, tmp_path: Path) -> None:
    other = a_model("max", seed=4)
    part = dataclasses.replace(part_of(_few(noises)), variants={"l2i-max": other})
    records = evaluated([part], tmp_path, methods=["l2i", "l2i-max"])
    assert [row["method"] for row in records[:1] + records[-1:]] == ["l2i", "l2i-max"]
    rows = [row for row in records if row["method"] == "l2i-max"]
    for row, clip in zip(rows, noises.clips, strict=False):
        result = other.interpret((noises.audio(clip, RATE), RATE), targets=row["target"])
        assert row["components"] == list(result.components)


def _relabelled(dataset: Dataset) -> Dataset:
    first, *rest = dataset.clips
    return dataclasses.replace(dataset, clips=(dataclasses.replace(first, labels=(3,)), *rest))


def test_a_folder_of_another_run_is_refused(noises: Dataset, tmp_path: Path) -> None:
    output = tmp_path / "out"
    few = _few(noises)
    given: dict[str, Any] = {"methods": ["constant"]}
    evaluated([part_of(few)], output, **given)
    evaluated([part_of(few)], output, methods=["loudest"])  # another method of the same run
    message = f"output {output} holds another run, but must be empty or hold this one: it has other "
    others: list[tuple[str, Callable[[], list[Record]]]] = [
        (
            "conditions (seed 0, not 1)",
            lambda: evaluated([part_of(few)], output, conditions=Conditions(seed=1), **given),
        ),
        (
            "conditions (level_db None, not 0.0)",
            lambda: evaluated([part_of(few)], output, conditions=Conditions(level_db=0.0), **given),
        ),
        ("models", lambda: evaluated([part_of(few, model=a_model(seed=2))], output, **given)),
        ("data", lambda: evaluated([part_of(noises)], output, **given)),
        ("models and data", lambda: evaluated([part_of(few, name="other")], output, **given)),
        ("data", lambda: evaluated([part_of(_relabelled(few))], output, **given)),
    ]
    for what, other in others:
        with refused(ValueError, message + what):
            other()
    file = output / "run.json"
    for text in ("{", "[]", '{"other": 1}'):
        file.write_text(text)
        with refused(ValueError, f"{file} is damaged (...), but must be whole: choose another output folder"):
            evaluated([part_of(few)], output, **given)
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "notes.txt").write_text("mine")
    with refused(ValueError, f"output {strange} holds other files, but must be empty or hold this run"):
        evaluated([part_of(few)], strange, **given)


def test_damaged_records_are_refused(noises: Dataset, tmp_path: Path) -> None:
    evaluated([part_of(_few(noises))], tmp_path, methods=["constant"])
    file = tmp_path / "records" / "tiny" / "clean" / "constant-000004.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with refused(ValueError, f"{file} is damaged (...), but must be whole: remove it"):
        evaluated([part_of(_few(noises))], tmp_path, methods=["constant"])


@pytest.mark.parametrize(
    ("library", "purpose"), [("pyarrow", "keep records"), ("quantus", "score sparseness and complexity")]
)
def test_missing_libraries(
    library: str, purpose: str, noises: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (library, f"{library}.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    message = f"{library} is needed to {purpose}; install it with: pip install {library}"
    with refused(ImportError, message):
        evaluated([part_of(noises)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_scores_are_those_of_the_records(whole: tuple[list[Record], Path], tmp_path: Path) -> None:
    records, _ = whole
    report(tmp_path, records, [])
    found = json.loads((tmp_path / "scores.json").read_text())
    assert list(found) == list(_without_onsets())
    rows = [row for row in records if (row["experiment"], row["method"]) == ("clean", "l2i")]
    figures = found["clean"]["l2i"]
    for name, factor in (("AI", 100), ("AD", 100), ("AG", 100), ("FF", 1), ("Fid-In", 1), ("kept", 1)):
        assert figures[name]["estimate"] == pytest.approx(factor * np.mean([row[name] for row in rows])), name
        assert figures[name]["low"] <= figures[name]["estimate"] <= figures[name]["high"]
        assert figures[name]["n"] == 6
    assert figures["accuracy"]["estimate"] == pytest.approx(np.mean([row["correct"] for row in rows]))
    for k in (1, 3, 5):
        assert figures[f"fidelity_top{k}"]["estimate"] == pytest.approx(np.mean([row["rank"] < k for row in rows]))
    assert "rank" not in found["clean"]["constant"]
    assert "fidelity_top1" not in found["clean"]["constant"]
    for i, share in enumerate(SHARES):
        drop = [row["confidence"] - row["curve_removed"][i] for row in rows]
        assert figures[f"FF_at_{share:g}"]["estimate"] == pytest.approx(np.mean(drop))
    heard = [row for row in records if (row["experiment"], row["method"]) == ("mixture", "l2i") and row["heard"]]
    gains = [row["ratio_gain"] for row in heard]
    assert found["mixture"]["l2i"]["ratio_gain"]["estimate"] == pytest.approx(np.median(gains))
    assert found["mixture"]["l2i"]["ratio_gain"]["n"] == len(gains)
    sanity = [row for row in records if row["method"] == "l2i" and row.get("randomized") == 1]
    spearman = np.mean([row["spearman"] for row in sanity])
    assert found["sanity"]["l2i"]["spearman_at_1.00"]["estimate"] == pytest.approx(spearman)
    gain = np.median([row["ratio_gain"] for row in sanity if "ratio_gain" in row])
    assert found["sanity"]["l2i"]["ratio_gain_at_1.00"]["estimate"] == pytest.approx(gain)


def test_the_spread_between_runs_by_hand(whole: tuple[list[Record], Path]) -> None:
    rows = [row for row in whole[0] if (row["experiment"], row["method"]) == ("mixture", "l2i")]
    other = [{**row, "run": "other", "FF": row["FF"] + 0.5, "sparseness": np.nan} for row in rows]
    other[0]["sparseness"] = rows[0]["sparseness"]
    figures = score([*rows, *other])["mixture"]["l2i"]
    assert figures["FF_between_runs"].estimate == pytest.approx(0.5 / np.sqrt(2))
    assert figures["FF_between_runs"].n == 2
    expected = np.std([np.mean([row["sparseness"] for row in rows]), rows[0]["sparseness"]], ddof=1)
    assert figures["sparseness_between_runs"].estimate == pytest.approx(expected)
    assert figures["FF"].n == 12


def test_no_wrong_answers_give_an_empty_table(noises: Dataset, tmp_path: Path) -> None:
    network = a_model().network
    few = _few(noises)
    clips = tuple(
        dataclasses.replace(clip, labels=(int(network.classify([few.audio(clip, RATE)])[0].argmax()),))
        for clip in few.clips
    )
    perfect = dataclasses.replace(few, clips=clips)
    records = evaluated([part_of(perfect)], tmp_path, experiments=["misclassified"])
    assert records == []
    scores, made = report(tmp_path, records, [])
    assert scores == {}
    assert [table.name for table in made] == ["cost"]


def test_the_published_protocol_is_another_arithmetic(noises: Dataset, tmp_path: Path) -> None:
    one, two = (
        evaluated([part_of(_few(noises))], tmp_path / p, methods=["l2i"], conditions=Conditions(p))
        for p in ("right", "published")
    )
    assert [row["components"] for row in one] == [row["components"] for row in two]
    assert [row["confidence_kept"] for row in one] != [row["confidence_kept"] for row in two]
    first = a_model().classes[0]
    selected = [row for row in two if row["components"]]
    assert selected
    assert all(row["AD"] < 1 - np.exp(-1) for row in two)
    network_says = [row["Fid-In"] for row in selected if row["target"] != first and row["confidence_kept"] > 0.5]
    assert not any(network_says)


def test_real_recordings(esc10: Dataset, tmp_path: Path) -> None:
    model = L2I.load("esc10")
    dataset = dataclasses.replace(esc10, clips=esc10.clips[::120])
    part = Part("esc10", "esc10", model, dataset, dataclasses.replace(esc10, clips=()))
    assert len(dataset.clips) == 3
    records = run([part], tmp_path, ["l2i", "equal-energy"], ["clean", "noise"], Conditions(), quiet, 1)
    for row, clip in zip(records[:3], dataset.clips, strict=True):
        result = model.interpret(clip.path)
        assert row["predicted"] == list(result.prediction)
        assert row["components"] == list(result.components)
        V = log_magnitude(result.input, result.settings)
        share = kept_share(result.mask(), V, result.settings["domain"])
        assert row["kept"] == pytest.approx(share, abs=1e-4)
        assert row["true"] == [esc10.classes[clip.labels[0]]]
    scores, _ = report(tmp_path, records, [part])
    assert 0.2 < scores["clean"]["l2i"]["kept"].estimate < 0.95
    assert scores["clean"]["l2i"]["FF"].estimate > 0
