"""The model: interpretations by their definition, batches, saving and loading, long and short clips, errors."""

from __future__ import annotations

import copy
import fcntl
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.signal import get_window

import l2i_fast as l2i
from l2i_fast import reference
from l2i_fast.audio import write_audio
from l2i_fast.data import Dataset
from l2i_fast.files import locked
from l2i_fast.model import L2I, batches

from ..conftest import make_model
from ..helpers import refused

HANN = get_window("hann", 1024)


def sound(rng: np.random.Generator, n: int) -> np.ndarray:
    """Noise whose colour and level change, so that clips differ."""
    y = rng.standard_normal(n + 4) * np.exp(rng.standard_normal())
    y = np.convolve(y, rng.standard_normal(5), mode="valid") * np.linspace(1, rng.random(), n)
    return (0.1 * y).astype(np.float32)


def interpret_by_hand(model: L2I, y: np.ndarray, target: int, threshold: float, top_k: int | None) -> dict[str, Any]:
    """Every step written out, with the float64 references around the networks."""
    peak = np.abs(y).max()
    X = reference.stft(y / peak, HANN, 512)
    M = l2i.log_mel(X.astype(np.complex64), amin=model.analysis.amin)
    with torch.inference_mode():
        x = torch.from_numpy(np.ascontiguousarray(M.T))[None, None]
        x = torch.nn.functional.pad(x, (0, 0, 0, max(0, 128 - x.shape[2])), value=-60.0)
        logits, maps = model.network.run(x)
        H = model.interpreter.psi(list(maps.values()), x.shape[2])[:, :, : X.shape[1]]
        z, _ = model.interpreter.theta(H)
    W = model.interpreter.dictionary.detach().numpy()
    h = fitted_by_hand(H[0].numpy(), np.log1p(np.abs(X)), W, model.interpreter.updates)
    product = z[0].numpy() * model.interpreter.theta.out.weight[target].detach().numpy()
    relevance = product / product.max() if product.max() > 0 else 0 * product
    chosen = [int(k) for k in np.argsort(-relevance) if relevance[k] > threshold][:top_k]
    weights = np.isin(np.arange(len(relevance)), chosen).astype(float)
    audio = reference.decode(X, W, h, weights, HANN, 512, length=len(y)) * peak
    return {"logits": logits[0], "relevance": relevance, "components": chosen, "audio": audio, "H": h}


def fitted_by_hand(H: np.ndarray, V: np.ndarray, W: np.ndarray, updates: int) -> np.ndarray:
    """Multiplicative updates for the Euclidean loss (Lee and Seung, 2001), from H + 0.02 W' V."""
    h = H.astype(np.float64) + 0.02 * (W.T @ V) if updates else H
    for _ in range(updates):
        h = h * (W.T @ V) / np.maximum(W.T @ W @ h, 1e-30)
    return h


@pytest.mark.parametrize(("theta", "updates"), [("attention", 0), ("max", 0), ("attention", 7)])
@pytest.mark.parametrize("n", [1, 700, 30011, 70000])
def test_interpretation_follows_its_definition(theta: str, updates: int, n: int, rng: np.random.Generator) -> None:
    model = make_model(theta, updates=updates)
    y = sound(rng, n)
    for target in range(4):
        result = model.interpret((y, 44100), target, threshold=0.1, top_k=3)
        wanted = interpret_by_hand(model, y, target, 0.1, 3)
        explanation = result.explanations[0]
        assert list(explanation.components) == wanted["components"]
        np.testing.assert_allclose(explanation.relevance, wanted["relevance"], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(result.activations, wanted["H"], rtol=1e-3, atol=1e-4)
        assert explanation.audio.shape == (n,)
        norm = np.linalg.norm(wanted["audio"])
        assert np.linalg.norm(explanation.audio - wanted["audio"]) <= 1e-3 * norm + 1e-6
        np.testing.assert_allclose(result.probabilities, wanted["logits"].softmax(0), atol=1e-4)
        assert explanation.supported == bool(wanted["relevance"].max() > 0)


def test_every_component_gives_the_input_back(tiny_model: L2I, rng: np.random.Generator) -> None:
    y = sound(rng, 50000)
    X = l2i.stft(y, n_fft=1024, hop_length=512)
    H = tiny_model.interpret((y, 44100)).activations
    W = tiny_model.interpreter.dictionary.detach().numpy()
    back = l2i.decode(X, W, H, np.ones(W.shape[1], np.float32), hop_length=512, length=len(y), eps=1e-12)
    np.testing.assert_allclose(back, y, atol=1e-5 * np.abs(y).max())


def test_alone_equals_in_a_ragged_batch(tiny_model: L2I, rng: np.random.Generator) -> None:
    clips = [(sound(rng, n), 44100) for n in (44100, 1, 90000, 44100, 511, 44100)]
    together = list(tiny_model.interpret_batch(clips, targets=[0, 2]))
    assert len(together) == len(clips)
    for clip, b in zip(clips, together, strict=True):
        a = tiny_model.interpret(clip, targets=[0, 2])
        assert a.prediction == b.prediction
        np.testing.assert_allclose(b.probabilities, a.probabilities, atol=1e-5)
        for one, other in zip(a.explanations, b.explanations, strict=True):
            assert one.components == other.components
            np.testing.assert_allclose(other.audio, one.audio, atol=1e-5 * max(1e-3, np.abs(clip[0]).max()))


def test_a_single_name_is_not_a_batch(tiny_model: L2I) -> None:
    with refused(TypeError, "sources is 'clip.wav', but must be a list of recordings; interpret takes a single one"):
        tiny_model.interpret_batch("clip.wav")


def test_an_empty_batch_gives_nothing(tiny_model: L2I) -> None:
    assert list(tiny_model.interpret_batch([])) == []


def test_a_batch_reads_recordings_as_results_are_asked_for(tiny_model: L2I, rng: np.random.Generator) -> None:
    taken = 0

    def endless() -> Iterator[tuple[np.ndarray, int]]:
        nonlocal taken
        while True:
            taken += 1
            yield sound(rng, 2000 if taken % 3 else 3000), 44100

    results = tiny_model.interpret_batch(endless())
    assert taken == 0
    lengths = [len(next(results).input) for _ in range(100)]
    assert lengths == [2000 if i % 3 else 3000 for i in range(1, 101)]
    assert taken < 200


def test_a_batch_holds_a_bounded_number_of_samples(
    tiny_model: L2I, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_AHEAD_SAMPLES", 1000)
    results = tiny_model.interpret_batch([(sound(rng, 2000), 44100), (np.full(10, np.nan), 44100)])
    assert len(next(results).input) == 2000  # before the next one is read
    with refused(ValueError, "samples holds NaN or infinity (first at sample 0), but finite samples are needed"):
        next(results)


def test_silence_stays_silence(tiny_model: L2I) -> None:
    result = tiny_model.interpret((np.zeros(30000, np.float32), 44100))
    assert not result.audio.any()
    assert np.isfinite(result.probabilities).all()


def test_level_does_not_change_the_decision_and_scales_the_sound(tiny_model: L2I, rng: np.random.Generator) -> None:
    y = sound(rng, 40000)
    loud, quiet = tiny_model.interpret((y, 44100)), tiny_model.interpret((y / 64, 44100))
    np.testing.assert_allclose(quiet.probabilities, loud.probabilities, atol=1e-5)
    np.testing.assert_allclose(64 * quiet.audio, loud.audio, atol=1e-4 * np.abs(y).max())


def test_a_class_that_nothing_supports_is_silent_and_says_so() -> None:
    model = make_model("max")
    with torch.no_grad():
        model.interpreter.theta.out.weight[1] = -1.0
    result = model.interpret((np.random.default_rng(1).standard_normal(30000).astype(np.float32), 44100), "rain")
    explanation = result.explanations[0]
    assert not explanation.supported
    assert explanation.components == ()
    assert not explanation.relevance.any()
    assert not explanation.audio.any()


def test_several_labels_explain_each_predicted_class(rng: np.random.Generator) -> None:
    model = make_model(multilabel=True)
    clip = (sound(rng, 40000), 44100)
    p = model.interpret(clip, targets=[]).probabilities
    order = np.argsort(-p)
    model.network.decision = tuple(0.0 if c in order[:2] else 1.0 for c in range(4))
    result = model.interpret(clip)
    assert result.prediction == tuple(model.classes[c] for c in order[:2])
    assert [e.target for e in result.explanations] == list(order[:2])
    model.network.decision = (1.0,) * 4
    nothing = model.interpret(clip)
    assert nothing.prediction == ()
    assert nothing.explanations == []


def test_settings_choose_components(tiny_model: L2I, rng: np.random.Generator) -> None:
    clip = (sound(rng, 40000), 44100)
    everything = tiny_model.interpret(clip, threshold=0.0, top_k=None)
    r = everything.relevance
    assert set(everything.components) == set(np.flatnonzero(r > 0))
    assert everything.components == tuple(sorted(everything.components, key=lambda k: -r[k]))
    one = tiny_model.interpret(clip, threshold=0.0, top_k=1)
    assert one.components == everything.components[:1]
    magnitude = tiny_model.interpret(clip, domain="magnitude")
    assert magnitude.settings["domain"] == "magnitude"
    assert not np.array_equal(magnitude.audio, tiny_model.interpret(clip).audio)


def test_sources_of_any_kind_agree(tiny_model: L2I, tmp_path: Path, rng: np.random.Generator) -> None:
    y = np.round(sound(rng, 30000).clip(-0.99, 0.99) * 32767).astype(np.int16)
    file = write_audio(tmp_path / "clip.wav", y.astype(np.float32) / 32768, 44100)
    wanted = tiny_model.interpret(file).audio
    stereo = np.stack([y, y], axis=1)
    for samples in (y, torch.from_numpy(y), stereo, y.astype(np.float64) / 32768, np.repeat(y, 2)[::2]):
        np.testing.assert_allclose(tiny_model.interpret((samples, 44100)).audio, wanted, atol=1e-6)


@pytest.mark.parametrize("theta", ["attention", "max"])
def test_save_and_load_give_the_same_model(theta: str, tmp_path: Path, rng: np.random.Generator) -> None:
    model = make_model(theta)
    assert model.save(tmp_path / "m") == tmp_path / "m"
    again = l2i.load(tmp_path / "m")
    clip = (sound(rng, 40000), 44100)
    a, b = model.interpret(clip), again.interpret(clip)
    assert np.array_equal(a.audio, b.audio)
    assert a.components == b.components
    assert again.settings == model.settings
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]


def test_a_copy_answers_the_same(tiny_model: L2I, rng: np.random.Generator) -> None:
    clip = (sound(rng, 40000), 44100)
    assert np.array_equal(copy.deepcopy(tiny_model).interpret(clip).audio, tiny_model.interpret(clip).audio)


def broken(folder: Path, change: str) -> None:
    """Damage a saved model in one way."""
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    match change:
        case "no config":
            (folder / "config.json").unlink()
            return
        case "not json":
            (folder / "config.json").write_text("{")
            return
        case "other format":
            config["format"] = 99
        case "unknown setting":
            config["analysis"]["fft"] = 3
        case "bad setting":
            config["selection"]["threshold"] = 7.0
        case "fewer names":
            config["classes"], config["decision"] = config["classes"][:3], config["decision"][:3]
            config["interpreter"]["n_classes"] = 3
            weights["interpreter.theta.out.weight"] = weights["interpreter.theta.out.weight"][:3].contiguous()
        case "other channels":
            config["layers"].reverse()
        case "other bands":
            config["analysis"]["n_mels"] = 192
        case "no entry":
            del config["decision"]
        case "list of names":
            config["classes"][1] = ["rain"]
        case "large decision":
            config["decision"][1] = 1e30
        case "flat section":
            config["classifier"] = 3
        case "unknown argument":
            config["interpreter"]["depth"] = 3
        case "bad argument":
            config["classifier"]["width"] = "wide"
        case "no label":
            config["multilabel"] = "no"
        case "NaN weights":
            weights["classifier.out.weight"][1, 2] = torch.nan
        case "flat dictionary":
            weights["interpreter.dictionary"] = weights["interpreter.dictionary"][:, 0].contiguous()
        case "negative dictionary":
            weights["interpreter.dictionary"] *= -1
        case "no dictionary":
            del weights["interpreter.dictionary"]
        case "fewer classes":
            config["classes"], config["decision"] = config["classes"][:3], config["decision"][:3]
        case "missing weight":
            del weights["classifier.out.weight"]
        case "other shape":
            weights["classifier.out.weight"] = torch.zeros(3, 3)
        case "pickle":
            (folder / "model.safetensors").unlink()
            torch.save({"weights": 1}, folder / "model.safetensors")
            return
    (folder / "model.safetensors").unlink()  # the old one is still mapped
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no config", "model is '...', but must be the name of a shipped model (esc10) or a folder with a config.json"),
        (
            "not json",
            "...config.json cannot be read as JSON: "
            "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        ("other format", "the format of ...config.json is 99, but must be 1"),
        (
            "unknown setting",
            "... does not hold a model of this format: "
            "analysis has no setting 'fft'; it has amin, hop_length, n_fft, n_mels, peak, sample_rate",
        ),
        (
            "bad setting",
            "... does not hold a model of this format: selection.threshold is 7.0, but must be less than 1",
        ),
        (
            "fewer classes",
            "... does not hold a model of this format: interpreter has 4 classes, but the network has 3",
        ),
        ("fewer names", "... of this format: classes has length 3, but the network returns 4 logits"),
        (
            "other channels",
            "... of this format: "
            "interpreter reads maps of (8, 16, 32) channels, but those of the network have (32, 16, 8)",
        ),
        ("other bands", "... of this format: x has 192 mel bands, but 128 are needed"),
        ("no entry", "... of this format: config.json has no entry 'decision'"),
        (
            "list of names",
            "... of this format: classes is ['dog', ['rain'], 'clock tick', 'helicopter'], but must be a list of names",
        ),
        ("large decision", "... of this format: decision[1] is 1e+30, but must be at most 1"),
        ("flat section", "... of this format: classifier is 3, but must be an object with named values"),
        (
            "unknown argument",
            "... of this format: interpreter does not fit Interpreter: got an unexpected keyword argument 'depth'",
        ),
        ("bad argument", "... of this format: classifier.width is 'wide', but must be a number"),
        ("no label", "... of this format: multilabel is 'no', but must be True or False"),
        ("NaN weights", "... of this format: the weight classifier.out.weight holds NaN or infinity"),
        ("flat dictionary", "... of this format: interpreter.dictionary has shape (513,), but (F, K) is needed"),
        (
            "negative dictionary",
            "... of this format: interpreter.dictionary holds negative numbers, NaN or infinity, "
            "but must be non-negative and finite",
        ),
        ("no dictionary", "... of this format: the weight interpreter.dictionary is missing"),
        (
            "missing weight",
            "... does not hold a model of this format: the weight classifier.out.weight is missing",
        ),
        ("pickle", "...model.safetensors cannot be read as safetensors: ..."),
    ],
)
def test_broken_model_folders_are_named(change: str, message: str, tmp_path: Path, tiny_model: L2I) -> None:
    tiny_model.save(tmp_path)
    broken(tmp_path, change)
    with refused(ValueError, message):
        l2i.load(tmp_path)


def test_a_training_record_that_json_cannot_hold_is_refused(tmp_path: Path, tiny_model: L2I) -> None:
    for value, reason in ((float("nan"), "Out of range float values ..."), ({1}, "Object of type set ...")):
        model = L2I(tiny_model.network, tiny_model.interpreter, training={"loss": value})
        with refused(ValueError, f"training holds what JSON cannot write: {reason}"):
            model.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_weights_of_another_shape_are_named(tmp_path: Path, tiny_model: L2I) -> None:
    tiny_model.save(tmp_path)
    broken(tmp_path, "other shape")
    why = "the weight classifier.out.weight has shape (3, 3), but (4, 32) is needed"
    with refused(ValueError, f"{tmp_path} does not hold a model of this format: {why}"):
        l2i.load(tmp_path)


def test_loading_waits_for_a_writer(tmp_path: Path, tiny_model: L2I) -> None:
    make_model(seed=1).save(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    tiny_model.save(tmp_path)
    with ThreadPoolExecutor(1) as other:
        with locked(tmp_path, fcntl.LOCK_EX):  # as a writer holds it between its two files
            own = (tmp_path / "model.safetensors").read_bytes()
            (tmp_path / "model.safetensors").write_bytes(weights)
            loaded = other.submit(l2i.load, tmp_path)
            time.sleep(0.5)
            (tmp_path / "model.safetensors").write_bytes(own)
        assert loaded.result().classes == tiny_model.classes


def test_files_of_two_models_do_not_go_together(tmp_path: Path, tiny_model: L2I) -> None:
    for name, model in (("one", tiny_model), ("other", make_model(seed=1))):
        model.save(tmp_path / name)
    weights = "model.safetensors"
    (tmp_path / "one" / weights).write_bytes((tmp_path / "other" / weights).read_bytes())
    with refused(ValueError, f"the fingerprint of {tmp_path / 'one' / weights} is ..., but config.json is of ..."):
        l2i.load(tmp_path / "one")


def test_settings_may_be_edited_and_weights_be_replaced_by_hand(tmp_path: Path, tiny_model: L2I) -> None:
    tiny_model.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["selection"]["top_k"] = 2
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = load_file(tmp_path / "model.safetensors")
    weights["classifier.mean"] -= 1
    save_file(weights, tmp_path / "model.safetensors")
    assert l2i.load(tmp_path).selection.top_k == 2


def test_models_saved_at_once_leave_one_of_them(tmp_path: Path) -> None:
    models = [make_model(seed=seed) for seed in range(4)]
    threads = [threading.Thread(target=model.save, args=(tmp_path / "m",)) for model in models for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]
    found = l2i.load(tmp_path / "m").dictionary
    assert any(np.array_equal(found, model.dictionary) for model in models)


def test_what_is_no_path_is_named(tiny_model: L2I) -> None:
    with refused(TypeError, "folder is None, but must be a path"):
        tiny_model.save(None)  # type: ignore[arg-type]
    with refused(TypeError, "model is 3, but must be a path"):
        l2i.load(3)  # type: ignore[arg-type]


TARGETS = "must name classes (dog, rain, clock tick, helicopter) or hold indices from 0 to 3"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": "cat"}, f"targets names 'cat', but {TARGETS}"),
        ({"targets": [0, 4]}, f"targets names 4, but {TARGETS}"),
        ({"threshold": 1.0}, "threshold is 1.0, but must be less than 1"),
        ({"threshold": float("nan")}, "threshold is nan, but must be finite"),
        ({"top_k": 0}, "top_k is 0, but must be at least 1"),
        ({"domain": "phase"}, "domain is 'phase', but must be one of log, magnitude, wiener"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str, tiny_model: L2I) -> None:
    with refused(ValueError, message):
        tiny_model.interpret((np.ones(2000, np.float32), 44100), **options)


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (np.array([0.0, np.nan]), "holds NaN or infinity (first at sample 1), but finite samples are needed"),
        (np.array([np.inf]), "holds NaN or infinity (first at sample 0), but finite samples are needed"),
        (np.zeros(0), "is empty, but at least one sample is needed"),
    ],
)
def test_bad_audio_is_named(bad: np.ndarray, what: str, tiny_model: L2I) -> None:
    with refused(ValueError, f"samples {what}"):
        tiny_model.interpret((bad.astype(np.float32), 44100))


def test_ten_minutes_need_bounded_memory_and_keep_their_length(tiny_model: L2I, rng: np.random.Generator) -> None:
    y = np.tile(sound(rng, 441000), 60)
    result = tiny_model.interpret((y, 44100))
    assert result.audio.shape == y.shape
    assert np.isfinite(result.audio).all()


def test_real_clips_equal_the_definition(tiny_model: L2I, esc10: Dataset) -> None:
    for clip in esc10.clips[:: len(esc10.clips) // 3]:
        y = esc10.audio(clip, 44100)
        result = tiny_model.interpret(clip.path)
        wanted = interpret_by_hand(tiny_model, result.input, result.explanations[0].target, 0.2, 5)
        norm = np.linalg.norm(wanted["audio"])
        assert np.linalg.norm(result.audio - wanted["audio"]) <= 1e-3 * norm + 1e-6
        assert len(y) == 220500


@pytest.fixture(scope="module")
def shipped() -> L2I:
    return l2i.load("esc10")


def test_shipped_model_knows_real_clips(shipped: L2I, esc10: Dataset) -> None:
    assert shipped.classes == esc10.classes
    clips = esc10.clips[::20]
    results = list(shipped.interpret_batch([clip.path for clip in clips]))
    # It was trained on these clips: this checks the weights and the feature chain, not how well it generalises.
    right = [r.prediction == (esc10.classes[c.labels[0]],) for c, r in zip(clips, results, strict=True)]
    assert np.mean(right) > 0.9
    assert all(r.explanations[0].supported for r in results)


def test_shipped_model_fits_the_wheel() -> None:
    folder = Path(l2i.__file__).parent / "shipped" / "esc10"
    assert sum(f.stat().st_size for f in folder.iterdir()) < 15e6
    assert (folder / "README.md").is_file()


def test_loading_draws_none_of_the_callers_random_numbers(tmp_path: Path) -> None:
    model = make_model(streamable=True)
    before = torch.random.get_rng_state()
    loaded = l2i.load(model.save(tmp_path / "model"))
    assert torch.equal(torch.random.get_rng_state(), before)
    for module, other in ((loaded.network.module, model.network.module), (loaded.interpreter, model.interpreter)):  # type: ignore[attr-defined]
        state, wanted = module.state_dict(), other.state_dict()
        assert state.keys() == wanted.keys()
        assert all(torch.equal(x, wanted[name]) for name, x in state.items())
        assert [x.requires_grad for x in module.parameters()] == [x.requires_grad for x in other.parameters()]


def test_a_model_loaded_in_inference_mode_lets_gradients_through(tmp_path: Path) -> None:
    folder = make_model().save(tmp_path / "model")
    with torch.inference_mode():
        model = l2i.load(folder)
        model.network.front_end.of_magnitude(torch.rand(1, 130, 513))  # type: ignore[attr-defined]
    A = torch.rand(1, 130, 513, requires_grad=True)
    model.network.run(model.network.front_end.of_magnitude(A)).logits.sum().backward()  # type: ignore[attr-defined]
    assert A.grad is not None
    assert A.grad.any()
