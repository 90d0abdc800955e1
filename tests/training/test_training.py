"""Training: resumes to the same result, stages in any call, losses by hand, Ctrl-C, refusals."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import l2i_fast as l2i
from l2i_fast import reference
from l2i_fast.audio import scale_to_peak, write_audio
from l2i_fast.data import Clip, Dataset
from l2i_fast.evaluation import evaluate, summarize
from l2i_fast.evaluation.cross_validation import cross_validate, train
from l2i_fast.model import LogMel, TorchNetwork
from l2i_fast.networks.interpreter import Interpreter
from l2i_fast.settings import DOMAINS, Domain, Selection
from l2i_fast.training.classifier import augment, classification_loss, one_cycle, warp_each
from l2i_fast.training.config import ClassifierConfig, DictionaryConfig, InterpreterConfig, TrainingConfig, load_config
from l2i_fast.training.features import compute_features
from l2i_fast.training.interpreter import fidelity_loss, mask_loss, masked, soft_weights, unsteadiness

from ..conftest import make_model
from ..helpers import refused

CONFIG = TrainingConfig(
    dictionary=DictionaryConfig(n_components=6, max_iter=12),
    classifier=ClassifierConfig(width=0.0625, embedding=16, epochs=3, batch_size=4),
    interpreter=InterpreterConfig(width=0.0625, epochs=3, batch_size=4, beta=((0, 0.5), (1, 1.0))),
)


def quiet(stage: str, done: int, total: int, text: str) -> None:
    """A report that says nothing."""


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twelve clips of low tones and of hiss, in two folds."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    time = np.arange(66150) / 44100
    clips = []
    for i in range(12):
        y = np.sin(2 * np.pi * (200 + 20 * i) * time) if i % 2 else rng.standard_normal(len(time)) * 0.3
        path = write_audio(folder / f"{i}.wav", (0.5 * y).astype(np.float32), 44100)
        clips.append(Clip(path, (i % 2,), 1 + (i // 2) % 2, path.stem))
    return Dataset("tones", ("hiss", "tone"), tuple(clips), False, 1.5)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All weights of a saved model."""
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def whole(tones: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that was trained with CONFIG in one go."""
    folder = tmp_path_factory.mktemp("whole")
    train(tones, folder, CONFIG, quiet)
    return folder


class Interrupt:
    """A report that presses Ctrl-C when a stage has done so many epochs."""

    def __init__(self, stage: str, epoch: int) -> None:
        self.at = (stage, epoch)

    def __call__(self, stage: str, done: int, total: int, text: str) -> None:
        if (stage, done) == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("theta", "noise"), [("attention", 0.5), ("max", 0.0)])
def test_an_interrupted_run_resumes_to_the_same_result(
    theta: str, noise: float, tones: Dataset, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"theta": theta, "masked_in": 1.0, "noise": noise, "mixing": noise}
    config = dataclasses.replace(
        CONFIG,
        classifier=dataclasses.replace(CONFIG.classifier, noise=noise),
        interpreter=dataclasses.replace(CONFIG.interpreter, **changes),
    )
    train(tones, tmp_path / "whole", config, quiet)
    for stage, epoch in (("features", 5), ("dictionary", 4), ("classifier", 1), ("classifier", 2), ("interpreter", 2)):
        with pytest.raises(KeyboardInterrupt):
            train(tones, tmp_path / "cut", config, Interrupt(stage, epoch))
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    assert (tmp_path / "cut" / "training" / "interpreter.checkpoint").exists()
    train(tones, tmp_path / "cut", config, quiet)
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    leftovers = [p for p in (tmp_path / "cut").rglob("*") if p.name.startswith(".")]
    assert leftovers == []


def test_stages_alone_equal_all_in_a_row(tones: Dataset, tmp_path: Path, whole: Path) -> None:
    for stages in (["classifier"], ["dictionary"]):
        assert train(tones, tmp_path / "alone", CONFIG, quiet, stages) is None
    model = train(tones, tmp_path / "alone", CONFIG, quiet, ["interpreter"])
    assert model is not None
    a, b = weights(whole), weights(tmp_path / "alone")
    assert all(torch.equal(a[name], b[name]) for name in a)
    again = l2i.load(tmp_path / "alone")
    assert again.training["config"]["interpreter"]["alpha"] == 5.0
    assert again.classes == ("hiss", "tone")


def test_another_run_is_reused_where_it_agrees(tones: Dataset, tmp_path: Path, whole: Path) -> None:
    seen: list[str] = []
    report: Any = lambda stage, done, total, text: seen.append(stage)  # noqa: E731
    louder = dataclasses.replace(CONFIG, interpreter=dataclasses.replace(CONFIG.interpreter, alpha=7.0))
    train(tones, tmp_path / "same", louder, report, reuse=whole)
    assert not {"dictionary", "classifier"} & set(seen)
    a, b = weights(whole), weights(tmp_path / "same")
    taken = [name for name in a if name.startswith("classifier.") or "dictionary" in name]
    assert taken
    assert all(torch.equal(a[name], b[name]) for name in taken)
    assert not all(torch.equal(a[name], b[name]) for name in a)

    # With a seed of its own the classifier is the same for all seeds of the run; the dictionary is not.
    fixed = dataclasses.replace(CONFIG, seed=1, classifier=dataclasses.replace(CONFIG.classifier, seed=CONFIG.seed))
    with pytest.warns(RuntimeWarning, match="has no dictionary of the same settings and clips: it is trained anew"):
        train(tones, tmp_path / "seed", fixed, quiet, reuse=whole)
    train(tones, tmp_path / "alone", fixed, quiet)
    b, c = weights(tmp_path / "seed"), weights(tmp_path / "alone")
    assert all(torch.equal(b[name], c[name]) for name in b)
    assert all(torch.equal(a[name], b[name]) for name in a if name.startswith("classifier."))

    wider = dataclasses.replace(CONFIG, classifier=dataclasses.replace(CONFIG.classifier, width=0.125))
    with pytest.warns(RuntimeWarning, match="has no classifier of"):
        train(tones, tmp_path / "wider", wider, quiet, ["classifier"], reuse=whole)
    fewer = dataclasses.replace(tones, clips=tones.clips[1:])
    with pytest.warns(RuntimeWarning, match="has no classifier of"):
        train(fewer, tmp_path / "fewer", CONFIG, quiet, ["classifier"], reuse=whole)
    with refused(ValueError, f"reuse is {str(tmp_path / 'nowhere')!r}, but must be the folder of another run"):
        train(tones, tmp_path / "none", CONFIG, quiet, ["classifier"], reuse=tmp_path / "nowhere")
    assert not (tmp_path / "none").exists()


def test_the_callers_modes_and_random_numbers_stay(tones: Dataset, tmp_path: Path, whole: Path) -> None:
    before = torch.random.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), np.errstate(all="raise"):
            train(tones, tmp_path, CONFIG, quiet)
            assert torch.is_inference_mode_enabled()
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.random.get_rng_state(), before)
    a, b = weights(whole), weights(tmp_path)
    assert {name: (x.shape, x.dtype) for name, x in a.items()} == {name: (x.shape, x.dtype) for name, x in b.items()}
    assert all(x.isfinite().all() for x in b.values())


def test_a_model_can_be_trained_to_stream(tones: Dataset, tmp_path: Path, whole: Path) -> None:
    interpreter = dataclasses.replace(CONFIG.interpreter, streamable=True)
    train(tones, tmp_path, dataclasses.replace(CONFIG, interpreter=interpreter), quiet)
    for folder, streamable in ((tmp_path, True), (whole, False)):
        model = l2i.load(folder)
        assert (model.network.why_not_incremental(model.interpreter) is None) is streamable


def test_what_does_not_fit_is_refused(tones: Dataset, tmp_path: Path) -> None:
    message = "the interpreter needs the dictionary: run the stage 'dictionary' first, or all stages in a row"
    with refused(ValueError, message):
        train(tones, tmp_path, CONFIG, quiet, ["interpreter"])
    with refused(ValueError, "stages names 'psi', but must be among dictionary, classifier, interpreter"):
        train(tones, tmp_path, CONFIG, quiet, ["psi"])
    with refused(ValueError, "decision has length 1, but one probability for each of 2 classes is needed"):
        train(tones, tmp_path, dataclasses.replace(CONFIG, decision=(0.5,)), quiet)
    with refused(ValueError, "dataset holds no clips to train on"):
        train(dataclasses.replace(tones, clips=()), tmp_path, CONFIG, quiet)
    alone = tones.select(classes=tones.classes[:1])
    with refused(ValueError, f"dataset has the class {alone.classes[0]} alone, but a classifier needs two to tell ..."):
        train(alone, tmp_path, CONFIG, quiet)
    train(tones, tmp_path, CONFIG, quiet, ["dictionary"])
    other = dataclasses.replace(CONFIG, dictionary=DictionaryConfig(n_components=5))
    advice = "choose another output folder or remove the file"
    dictionary = tmp_path / "training" / "dictionary.safetensors"
    with refused(ValueError, f"{dictionary} was made with other settings or clips; {advice}"):
        train(tones, tmp_path, other, quiet, ["dictionary"])
    with pytest.raises(KeyboardInterrupt):
        train(tones, tmp_path, CONFIG, Interrupt("classifier", 1), ["classifier"])
    wider = dataclasses.replace(CONFIG, classifier=dataclasses.replace(CONFIG.classifier, width=0.125))
    checkpoint = tmp_path / "training" / "classifier.checkpoint"
    with refused(ValueError, f"{checkpoint} was made with other settings or data; {advice}"):
        train(tones, tmp_path, wider, quiet, ["classifier"])


def test_training_learns(tones: Dataset, tmp_path: Path) -> None:
    config = dataclasses.replace(
        CONFIG,
        classifier=dataclasses.replace(CONFIG.classifier, epochs=20, masks=0, mixing=0.0, averaging=0.5),
        interpreter=dataclasses.replace(CONFIG.interpreter, epochs=50, learning_rate=3e-3, shift=True, mixing=0.5),
    )
    model = train(tones, tmp_path, config, quiet)
    assert model is not None
    records = evaluate(model, tones, quiet)
    summary = summarize(records)
    assert summary["clips"] == 12
    assert summary["accuracy"] > 0.8
    assert summary["fidelity_top1"] > 0.8
    assert summary["reconstruction_error"] < 0.9
    assert json.loads(json.dumps(records)) == records


def test_cross_validation_holds_out_each_fold(tones: Dataset, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        cross_validate(tones, tmp_path, CONFIG, Interrupt("fold 2 attention: classifier", 2))
    assert not (tmp_path / "evaluation.json").exists()
    part = cross_validate(tones, tmp_path, CONFIG, quiet, folds=[1])
    assert part["max"]["clips"] == 6
    figures = cross_validate(tones, tmp_path, CONFIG, quiet)
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["all"] == figures
    for theta in ("attention", "max"):
        assert figures[theta]["clips"] == 12
        assert set(written["folds"][theta]) == {"1", "2"}
    held_out = {c.name for c in tones.clips if c.fold == 2}
    records = json.loads((tmp_path / "fold2-max" / "evaluation.json").read_text())["clips"]
    assert {r["clip"] for r in records} == held_out
    seen: list[str] = []
    report: Any = lambda stage, done, total, text: seen.append(stage)  # noqa: E731
    softer = dataclasses.replace(CONFIG, interpreter=dataclasses.replace(CONFIG.interpreter, alpha=1.0))
    again = cross_validate(tones, tmp_path / "again", softer, report, ["attention"], reuse=tmp_path)
    assert list(again) == ["attention"]
    cross_validate(tones, tmp_path / "max", softer, report, ["max"], reuse=tmp_path / "again")  # has the other Theta
    assert not any("dictionary" in stage or "classifier" in stage for stage in seen)
    message = f"reuse is {str(tmp_path / 'nowhere')!r}, but must be a folder of l2i cross-validate with fold 1"
    with refused(ValueError, message):
        cross_validate(tones, tmp_path / "none", CONFIG, quiet, reuse=tmp_path / "nowhere")
    assert not (tmp_path / "none").exists()
    earlier = tmp_path / "fold1-attention" / "evaluation.json"
    with refused(ValueError, f"{earlier} was made with other settings or clips; choose another output folder"):
        cross_validate(tones, tmp_path, dataclasses.replace(CONFIG, seed=1), quiet)
    with refused(ValueError, "dataset tones has the folds [1], but at least two are needed"):
        cross_validate(tones.select(folds=[1]), tmp_path, CONFIG, quiet)
    with refused(ValueError, "folds names 9, but the data set has: 1, 2"):
        cross_validate(tones, tmp_path / "other", CONFIG, quiet, folds=[9])
    assert not (tmp_path / "other").exists()


def test_several_labels_train_too(tones: Dataset, tmp_path: Path) -> None:
    both = tuple(dataclasses.replace(c, labels=(0, 1)) if i % 3 == 0 else c for i, c in enumerate(tones.clips))
    several = dataclasses.replace(tones, clips=both, multilabel=True)
    config = dataclasses.replace(
        CONFIG, interpreter=dataclasses.replace(CONFIG.interpreter, masked_in=1.0, masked_out=0.1, kept=0.1)
    )
    model = train(several, tmp_path, config, quiet)
    assert model is not None
    again = l2i.load(tmp_path)
    assert again.network.multilabel
    assert all(0 <= r["confidence"] <= 1 for r in evaluate(again, several, quiet))


def test_features_are_computed_once(tones: Dataset, tmp_path: Path) -> None:
    seen: list[str] = []
    report: Any = lambda stage, done, total, text: seen.append(text)  # noqa: E731
    first = compute_features(tones, CONFIG.analysis, tmp_path, report)
    assert len(seen) == 12
    second = compute_features(tones, CONFIG.analysis, tmp_path, report)
    assert len(seen) == 12
    assert np.array_equal(first.V, second.V)
    y = tones.audio(tones.clips[3], 44100)
    X = l2i.stft(y / np.abs(y).max(), n_fft=1024, hop_length=512)
    np.testing.assert_allclose(first.V[3].T, np.log1p(np.abs(X)), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(first.magnitude([3])[0].T, np.abs(X), rtol=5e-3, atol=1e-6)
    assert first.labels[3].tolist() == [0.0, 1.0]
    np.testing.assert_allclose(first.sound([3])[0], y / np.abs(y).max(), rtol=0, atol=1.6e-5)
    assert first.subset([3, 5]).sound([1]).equal(first.sound([5]))


def test_damaged_files_are_named(tones: Dataset, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tones, str(tmp_path), CONFIG, Interrupt("classifier", 1))  # type: ignore[arg-type]
    work = tmp_path / "training"
    (features,), (sound,) = work.glob("features-*.npy"), work.glob("sound-*.npy")
    for file, reason in (
        (work / "classifier.checkpoint", ""),
        (work / "dictionary.safetensors", " (...)"),
        (features, " (...)"),
        (sound, " (...)"),
    ):
        for contents in (b"", b"junk" * 30, file.read_bytes()[:-1000]):
            file.write_bytes(contents)
            with refused(ValueError, f"{file} is damaged{reason}, but must be whole: remove it"):
                train(tones, tmp_path, CONFIG, quiet)


def test_losses_by_hand(rng: np.random.Generator) -> None:
    a, b = torch.from_numpy(rng.standard_normal((2, 5, 3)))
    p, q = torch.exp(b) / torch.exp(b).sum(1, keepdim=True), torch.exp(a) / torch.exp(a).sum(1, keepdim=True)
    torch.testing.assert_close(fidelity_loss(a, b, False), -(p * q.log()).sum() / 5)
    s, t = 1 / (1 + torch.exp(-a)), 1 / (1 + torch.exp(-b))
    wanted = -(t * s.log() + (1 - t) * (1 - s).log()).mean()
    torch.testing.assert_close(fidelity_loss(a, b, True), wanted)
    labels = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0, 1]]
    smooth = 0.9 * labels + 0.1 / 3
    torch.testing.assert_close(classification_loss(a, labels, False, 0.1, None), -(smooth * q.log()).sum() / 5)
    weight = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    wanted = -(weight * labels * s.log() + (1 - labels) * (1 - s).log()).mean()
    torch.testing.assert_close(classification_loss(a, labels, True, 0.1, weight), wanted)


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_trained_mask_is_the_one_that_is_heard(domain: Domain, rng: np.random.Generator) -> None:
    X = rng.standard_normal((33, 9)) + 1j * rng.standard_normal((33, 9))
    W, H, weights = rng.random((33, 5)), rng.random((5, 9)), rng.random(5)
    m = W @ (weights[:, None] * H) / (1e-6 + W @ H)
    ours = masked(torch.from_numpy(abs(X)), torch.from_numpy(m), domain)
    np.testing.assert_allclose(ours, abs(reference.soft_mask(X, W, H, weights, domain)), rtol=1e-9)


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_loss_of_the_mask_by_hand(multilabel: bool) -> None:
    model = make_model(multilabel=multilabel)
    network, net = model.network, model.interpreter
    assert isinstance(network, TorchNetwork)
    c = InterpreterConfig(masked_in=2.0, masked_out=3.0, kept=5.0, noise=0.5, steady=7.0, softness=0.1)
    config = TrainingConfig(interpreter=c, selection=Selection(threshold=0.3))
    A, H = torch.rand(3, 140, 513) * 9, torch.rand(3, 12, 140)
    quiet = torch.stack([A[0], 0.7 * A[1], torch.zeros(140, 513)])
    with torch.no_grad():
        z, _ = net.theta(H)
        logits = network.run(network.front_end.of_magnitude(A)).logits
        loss = mask_loss(net, network, network.front_end, A, quiet, H, z, logits, config)
        expected, W, steady = 0.0, net.dictionary, []

        def mask(h: torch.Tensor, pooled: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            r = net.relevance(pooled[None], target[None])[0]
            w = 1 / (1 + torch.exp(-(r - 0.3) / 0.1))
            return ((W @ (w[:, None] * h)) / (1e-6 + W @ h)).T

        for a, b, h, one, target in zip(A, quiet, H, z, logits.argmax(1), strict=True):
            m = mask(h, one, target)
            kept, removed = (torch.exp(x * torch.log(1 + a)) - 1 for x in (m, 1 - m))
            heard = [network.run(network.front_end.of_magnitude(x[None])).logits for x in (kept, removed)]
            p, q = (network.probabilities(x)[0, target] for x in heard)
            share = torch.log(1 + kept).sum() / torch.log(1 + a).sum()
            expected += float(-2 * torch.log(p) - 3 * torch.log(1 - q) + 5 * share) / 3
            answers = network.run(network.front_end.of_magnitude(b[None]))
            again, pooled, _ = net(list(answers.maps.values()), 140)
            decided = answers.logits[0].argmax()
            steady.append(bool(decided == target and not b.equal(a)))
            if steady[-1]:
                wanted = mask(again[0], pooled[0], target) * torch.log(1 + b)
                excess = (m * torch.log(1 + a) - wanted).clamp(min=0)
                expected += 7 * float(excess.square().mean()) / 3
        decided = network.run(network.front_end.of_magnitude(quiet)).logits.argmax(1)
        other = (decided + 1) % logits.shape[1]
        same, changed = (
            unsteadiness(net, network, network.front_end, A, quiet, A, target, config) for target in (decided, other)
        )
    assert float(same) > 0
    assert float(changed) == 0, "noise that changes the decision may change the explanation"
    assert steady[:2] == [False, True]
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_settings_of_the_recipe_do_what_they_say(tones: Dataset, tmp_path: Path, whole: Path) -> None:
    """Theta's weights are centred, logits divided, and a weight on what is kept makes it less."""
    before = weights(whole)
    changes = {"updates": 4, "centred": True, "masked_in": 1.0, "epochs": 8}
    config = dataclasses.replace(
        CONFIG,
        classifier=dataclasses.replace(CONFIG.classifier, temperature=0.5),
        interpreter=dataclasses.replace(CONFIG.interpreter, **changes),
    )
    model = train(tones, tmp_path / "recipe", config, quiet)
    assert model is not None
    after = weights(tmp_path / "recipe")
    torch.testing.assert_close(after["classifier.out.weight"], 2 * before["classifier.out.weight"])
    torch.testing.assert_close(after["classifier.out.bias"], 2 * before["classifier.out.bias"])
    theta = after["interpreter.theta.out.weight"]
    torch.testing.assert_close(theta.mean(0), torch.zeros(6), rtol=0, atol=1e-6)
    assert float(theta.abs().max()) > 1e-3
    assert l2i.load(tmp_path / "recipe").interpreter.updates == 4
    strict = dataclasses.replace(config, interpreter=dataclasses.replace(config.interpreter, kept=50.0))
    other = train(tones, tmp_path / "strict", strict, quiet, reuse=tmp_path / "recipe")
    assert other is not None
    shares = [np.mean([r["kept"] for r in evaluate(m, tones, quiet)]) for m in (model, other)]
    assert shares[1] < shares[0]


def test_the_dictionary_learns_from_noise_too(tones: Dataset, tmp_path: Path) -> None:
    pure = tones.select(classes=["tone"])
    y = pure.audio(pure.clips[0], 44100)
    y, _ = scale_to_peak(y + np.random.default_rng(1).standard_normal(len(y)).astype(np.float32) * y.std())
    V = np.log1p(abs(l2i.stft(y, n_fft=1024, hop_length=512)))

    def error(share: float) -> float:
        noisy = dataclasses.replace(CONFIG.dictionary, noise=share, snr_db=(0.0, 0.0))
        folder = tmp_path / str(share)
        train(pure, folder, dataclasses.replace(CONFIG, dictionary=noisy), quiet, ["dictionary"])
        W = load_file(folder / "training" / "dictionary.safetensors")["W"].numpy()
        return float(np.linalg.norm(V - W @ l2i.activations(V, W, n_iter=100)))

    assert error(1.0) < 0.7 * error(0.0)


def test_one_cycle_rises_and_falls() -> None:
    values = [one_cycle(x / 200, 0.15) for x in range(201)]
    assert np.argmax(values) == 30
    assert values[30] == 1.0
    assert values[-1] == pytest.approx(0, abs=1e-12)
    assert np.diff(values[:31]).min() > 0 > np.diff(values[31:]).max()


def test_augmentation_keeps_shapes_and_labels() -> None:
    log_mel = LogMel(TrainingConfig().analysis)
    mel = torch.rand(4, 200, 128)
    labels = torch.eye(4)
    off = ClassifierConfig(mixing=0.0, gain_db=0.0, equaliser_db=0.0, masks=0)
    x, same = augment(mel, labels, False, log_mel, torch.zeros(128), off)
    assert torch.equal(same, labels)
    # Only rotated: the same frames in another order.
    torch.testing.assert_close(x[:, 0].sort(1).values, log_mel.of_mel(mel).sort(1).values)
    x, mixed = augment(mel, labels, False, log_mel, torch.zeros(128), ClassifierConfig(warping=0.2))
    assert x.shape == (4, 1, 200, 128)
    torch.testing.assert_close(mixed.sum(1), torch.ones(4))
    _, several = augment(mel, labels, True, log_mel, torch.zeros(128), ClassifierConfig())
    assert set(several.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(warp_each(mel, 0.0), mel)


def test_configuration_files(tmp_path: Path) -> None:
    assert load_config(None) == TrainingConfig()
    full = tmp_path / "full.json"
    full.write_text(json.dumps(CONFIG.to_dict()))
    assert load_config(full) == CONFIG
    assert load_config("esc10").classifier.width < 1
    assert len(load_config("sonyc").decision) == 8
    assert load_config("sonyc").selection.top_k is None
    part = tmp_path / "part.json"
    part.write_text('{"interpreter": {"theta": "max", "alpha": 4}}')
    assert load_config(part).interpreter == InterpreterConfig(theta="max", alpha=4.0)
    settings = ", ".join(sorted(field.name for field in dataclasses.fields(InterpreterConfig)))
    for text, message in (
        ("{", " cannot be read as JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ('{"interpreter": {"gamma": 1}}', f".interpreter has no setting 'gamma'; it has {settings}"),
        ('{"interpreter": {"epochs": "many"}}', ".interpreter.epochs is 'many', but must be an integer"),
        ('{"seed": true}', ".seed is True, but must be an integer"),
        ("[1]", " is [1], but must be an object with named values"),
        ('{"interpreter": {"epochs": null}}', ".interpreter.epochs is None, but must be an integer"),
        ('{"interpreter": {"epochs": 0}}', ".interpreter.epochs is 0, but must be at least 1"),
        ('{"interpreter": {"theta": "mean"}}', ".interpreter.theta is 'mean', but must be one of attention, max"),
        ('{"interpreter": {"beta": 5}}', ".interpreter.beta is 5, but must be a list"),
        (
            '{"interpreter": {"beta": [[5, 1.0]]}}',
            ".interpreter.beta is ((5, 1.0),), but must begin with a pair for epoch 0",
        ),
        (
            '{"interpreter": {"beta": [[0, 1.0, 2]]}}',
            ".interpreter.beta[0] is (0, 1.0, 2), but must be a list of 2",
        ),
        (
            '{"interpreter": {"crop": 3}}',
            ".interpreter.crop is 3, but must be 0 or at least 128, the frames that the classifier needs",
        ),
        (
            '{"classifier": {"precision": "float16"}}',
            ".classifier.precision is 'float16', but must be one of float32, bfloat16",
        ),
        ('{"classifier": {"mask_bands": 0}}', ".classifier.mask_bands is 0, but must be at least 1"),
        ('{"analysis": {"n_mels": 100}}', ".analysis.n_mels is 100, but must be a multiple of 64 and at least 128"),
        ('{"decision": [0.5, 7]}', ".decision[1] is 7, but must be at most 1"),
        ('{"interpreter": {"kept": -1}}', ".interpreter.kept is -1, but must be at least 0"),
        ('{"interpreter": {"beta": [[0, -1]]}}', ".interpreter.beta[0][1] is -1, but must be at least 0"),
        (
            '{"interpreter": {"beta": [[0, 1], [20, 1], [10, 2]]}}',
            ".interpreter.beta has the epochs [0, 20, 10], but each must be later than the one before",
        ),
        (
            '{"interpreter": {"steady": 5}}',
            ".interpreter.steady is 5.0, but needs noise above 0, whose share of what is kept it weighs",
        ),
        ('{"dictionary": {"mixing_db": [3, 0]}}', ".dictionary.mixing_db is [3.0, 0.0], but must begin with the ..."),
        (
            '{"classifier": {"snr_db": [9, -3]}}',
            ".classifier.snr_db is [9.0, -3.0], but must begin with the lower level",
        ),
        ('{"classes": ["a", "b", "a"]}', ".classes names 'a' twice, but each class must be named once"),
    ):
        part.write_text(text)
        with refused(ValueError, f"{part}{message}"):
            load_config(part)
    with refused(ValueError, "config is 'nowhere', but must be a JSON file or one of esc10, sonyc"):
        load_config("nowhere")


def test_ctrl_c_on_the_command_line_leaves_a_checkpoint_that_resumes(tones: Dataset, tmp_path: Path) -> None:
    for needed in ("librosa", "soundfile"):  # by the command
        pytest.importorskip(needed)
    data = tmp_path / "data"
    (data / "audio").mkdir(parents=True)
    (data / "meta").mkdir()
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for i, clip in enumerate(tones.clips):
        name = f"{clip.fold}-{i}-A-{clip.labels[0]}.wav"
        (data / "audio" / name).write_bytes(clip.path.read_bytes())
        rows.append(f"{name},{clip.fold},{clip.labels[0]},{tones.classes[clip.labels[0]]},True,{i},A")
    (data / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG.to_dict()))
    command = [sys.executable, "-P", "-c", "from l2i_fast.cli import main; main()", "train"]
    command += ["--data", str(data), "--output", str(tmp_path / "out"), "--config", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("classifier 1/3"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "the same command goes on from the last checkpoint" in rest
    assert "Traceback" not in rest
    assert not (tmp_path / "out" / "config.json").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "classifier 0/3" not in done.stderr
    assert l2i.load(tmp_path / "out").classes == ("hiss", "tone")


def test_gradients_are_finite_where_hardly_anything_supports_a_class() -> None:
    """As with hundreds of classes, some of which no component speaks for."""
    interpreter = Interpreter(torch.rand(9, 3), 2, (8, 8, 8), width=0.0625)
    with torch.no_grad():
        interpreter.theta.out.weight.copy_(torch.tensor([[-1.0, -2.0, -0.5], [1e-30, -1.0, 0.0]]))
    z = torch.tensor([[1.0, 20.0, 0.0], [1.0, 20.0, 3.0]], requires_grad=True)
    weights = soft_weights(interpreter, z, torch.tensor([0, 1]), 0.1, 0.05)
    weights.sum().backward()
    assert z.grad is not None
    assert bool(z.grad.isfinite().all())
    assert bool((weights < 0.2).all())
