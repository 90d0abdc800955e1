"""Figures of merit against hand-made records and hand-made models."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from l2i_fast import reference
from l2i_fast.audio import write_audio
from l2i_fast.data import Clip, Dataset
from l2i_fast.evaluation import Record, duplicate_components, evaluate, summarize, unused_components

from ..conftest import make_model
from ..helpers import refused


def quiet(stage: str, done: int, total: int, text: str) -> None:
    """A report that says nothing."""


def record(**values: object) -> Record:
    base: Record = dict.fromkeys(
        ("confidence", "n_components", "error", "dictionary_error", "kept", "drop", "drop_random", "drop_energy"), 0.0
    )
    return base | {"rank": 0, "inside": True, "norm": 1.0, "correct": True, "energy": [1.0, 1.0]} | values


def test_summary_by_hand() -> None:
    records = [record(rank=r, drop=d, correct=r < 2) for r, d in ((0, 0.5), (1, 0.1), (2, 0.9), (4, -0.2), (5, 0.3))]
    s = summarize(records)
    assert s["clips"] == 5
    assert s["accuracy"] == pytest.approx(0.4)
    assert [s[f"fidelity_top{k}"] for k in (1, 3, 5)] == pytest.approx([0.2, 0.6, 0.8])
    assert s["median_drop"] == pytest.approx(0.3)
    assert s["mean_drop"] == pytest.approx(0.32)
    s = summarize([record(error=0.5, norm=2.0), record(error=0.1, norm=10.0)])
    assert s["reconstruction_error"] == pytest.approx(0.3)
    assert s["reconstruction_energy"] == pytest.approx((1 + 1) / (4 + 100))


def test_dead_and_duplicate_components() -> None:
    records = [record(energy=[1.0, 1e-4, 2.0, 0.0], dictionary_energy=[1.0, 1.0, 1.0, 1e-5])] * 2
    assert unused_components(records) == 2
    assert unused_components(records, "dictionary_energy") == 1
    W = np.eye(4, 3, dtype=np.float32)
    assert duplicate_components(W) == 0
    W[:, 2] = W[:, 0]
    assert duplicate_components(W) == 1


@pytest.fixture
def noises(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("noises")
    rng = np.random.default_rng(5)
    clips = []
    for i in range(5):
        y = 0.0 if i == 4 else 0.2 * np.convolve(rng.standard_normal(66150), rng.standard_normal(9), mode="same")
        path = write_audio(folder / f"{i}.wav", np.float32(y) * np.ones(66150, np.float32), 44100)
        clips.append(Clip(path, (i % 4,), 1, path.stem))
    return Dataset("noises", ("dog", "rain", "clock tick", "helicopter"), tuple(clips), False, 1.5)


def test_drops_go_through_audio_and_back(noises: Dataset) -> None:
    model = make_model("max")
    model.selection = dataclasses.replace(model.selection, threshold=0.1, top_k=4)
    records = evaluate(model, noises, quiet)
    assert [r["clip"] for r in records] == ["0", "1", "2", "3", "4"]
    for r, clip in zip(records[:4], noises.clips, strict=False):
        y = noises.audio(clip, 44100)
        result = model.interpret((y, 44100))
        e = result.explanations[0]
        assert (r["target"], r["n_components"]) == (e.target, len(e.components))
        assert r["correct"] == (e.target == clip.labels[0])
        peak = np.abs(y).max()
        W, H = result.dictionary, result.activations
        window = np.hanning(1025)[:-1]
        X = reference.stft(y / peak, window, 512)
        keep = np.isin(np.arange(12), e.components).astype(float)
        for name, weights in (("kept_p", keep), ("drop", 1 - keep)):
            part = reference.decode(X, W, H, weights, window, 512, length=len(y)) * peak
            analyzed = model.analyze([part.astype(np.float32)], scales=[peak])
            p = float(model.network.probabilities(analyzed.logits)[0, e.target])
            wanted = p if name == "kept_p" else e.probability - p
            assert r[name] == pytest.approx(wanted, abs=1e-4)
        V = np.log1p(np.abs(X))
        assert r["error"] == pytest.approx(np.linalg.norm(V - W @ H) / np.linalg.norm(V), rel=1e-3)
        assert r["dictionary_error"] < r["error"]
    silent = records[4]
    assert silent["kept"] == silent["error"] == 0


def test_other_classes_are_refused(noises: Dataset) -> None:
    message = "dataset has the classes helicopter, but all must be among the model's, dog, rain, clock tick"
    with refused(ValueError, message):
        evaluate(make_model(n_classes=3), noises, quiet)


def test_the_same_clips_get_the_same_random_controls(noises: Dataset) -> None:
    model = make_model()
    a, b = (evaluate(model, noises, quiet) for _ in range(2))
    assert a == b


def test_a_backend_for_tensors_gives_the_same_scores(noises: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = evaluate(make_model(), noises, quiet)
    monkeypatch.setenv("L2I_BACKEND", "torch")
    for ours, theirs in zip(evaluate(make_model(), noises, quiet), expected, strict=True):
        assert ours.keys() == theirs.keys()
        assert (ours["target"], ours["predicted"]) == (theirs["target"], theirs["predicted"])
        for name in ("confidence", "kept_p", "error", "dictionary_error", "norm", "kept", "drop"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-4), name
