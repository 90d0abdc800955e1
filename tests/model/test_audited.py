"""The audited network as an interface: a network of another runtime is interpreted, streamed and evaluated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from l2i_fast.audio import write_audio
from l2i_fast.data import Clip, Dataset
from l2i_fast.evaluation import evaluate
from l2i_fast.model import L2I, LogMel, SpectralNetwork, TorchNetwork
from l2i_fast.networks.classifier import Classifier
from l2i_fast.networks.interpreter import Interpreter
from l2i_fast.settings import Analysis

from ..conftest import make_model
from ..helpers import refused

Samples = np.ndarray


class Foreign(SpectralNetwork):
    """A network in another runtime: NumPy arrays go in, and NumPy arrays come out."""

    def __init__(self, runtime: Callable[[np.ndarray], list[np.ndarray]], classes: Sequence[str]) -> None:
        layers = ("early", "middle", "late")
        super().__init__(classes, LogMel(Analysis()), layers, min_frames=Classifier.min_frames)
        self.runtime = runtime

    def _run(self, features: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        logits, *maps = map(torch.from_numpy, self.runtime(features.numpy()))
        return logits, maps


@pytest.fixture
def models() -> tuple[L2I, L2I]:
    """A model that torch runs, and the same network behind a foreign interface."""
    ours = make_model()

    @torch.inference_mode()
    def runtime(x: np.ndarray) -> list[np.ndarray]:
        logits, maps = ours.network.run(torch.from_numpy(x))
        return [logits.numpy(), *(one.numpy() for one in maps.values())]

    return ours, L2I(Foreign(runtime, ours.classes), ours.interpreter, name="foreign")


def test_a_foreign_network_is_interpreted(models: tuple[L2I, L2I], rng: np.random.Generator) -> None:
    clips = [(rng.standard_normal(n).astype(np.float32), 44100) for n in (60000, 700)]
    for ours, theirs in zip(*(model.interpret_batch(clips) for model in models), strict=True):
        assert ours.prediction == theirs.prediction
        np.testing.assert_array_equal(theirs.audio, ours.audio)
    assert models[1].network.map_channels() == models[0].network.map_channels() == (8, 16, 32)


def test_a_foreign_network_is_streamed(models: tuple[L2I, L2I], rng: np.random.Generator) -> None:
    y = rng.standard_normal(90000).astype(np.float32)
    ours, theirs = (model.stream(mode="synchronous").push(y, last=True) for model in models)
    np.testing.assert_array_equal(theirs, ours)
    reason = "the network is a Foreign, and only a TorchNetwork runs incrementally"
    with refused(ValueError, f"incremental is True, but {reason}"):
        models[1].stream(incremental=True)
    with refused(ValueError, f"these networks cannot run incrementally: {reason}"):
        models[1].network.incremental(models[1].interpreter, 128)


def test_a_foreign_network_is_evaluated(models: tuple[L2I, L2I], tmp_path: Path, rng: np.random.Generator) -> None:
    path = write_audio(tmp_path / "a.wav", rng.standard_normal(66150).astype(np.float32) / 9, 44100)
    data = Dataset("noise", models[0].classes, (Clip(path, (0,), 1, "a"),), False, 1.5)
    ours, theirs = (evaluate(model, data, lambda *_: None) for model in models)
    assert ours == theirs


def test_a_foreign_network_is_not_saved(models: tuple[L2I, L2I], tmp_path: Path) -> None:
    allowed = "save can write only Classifier of l2i_fast.networks.classifier"
    with refused(ValueError, f"the network is a Foreign, but {allowed}"):
        models[1].save(tmp_path / "model")
    module = torch.nn.Sequential(torch.nn.Linear(4, 4))
    network = TorchNetwork(module, LogMel(Analysis()), models[0].classes, ["0"])
    with refused(ValueError, f"the network is a Sequential, but {allowed}"):
        L2I(network, models[0].interpreter).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_maps_are_named_in_the_order_of_the_layers() -> None:
    classifier = Classifier(3, width=0.0625, embedding=16)
    layers = ("blocks.5", "blocks.3")
    answers = TorchNetwork(classifier, LogMel(Analysis()), ["a", "b", "c"], layers).run(torch.zeros(2, 1, 130, 128))
    assert tuple(answers.maps) == layers
    assert answers.maps["blocks.3"].shape[1] < answers.maps["blocks.5"].shape[1]
    with torch.no_grad():
        fused = TorchNetwork(classifier, LogMel(Analysis()), ["a", "b", "c"]).run(torch.zeros(1, 1, 40, 128)).logits
        plain = (
            TorchNetwork(classifier, LogMel(Analysis()), ["a", "b", "c"], fold=False)
            .run(torch.zeros(1, 1, 40, 128))
            .logits
        )
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-5)


def test_gradients_pass_through_a_folded_network() -> None:
    module = Classifier(3, width=0.0625, embedding=16).requires_grad_(False)
    x = torch.randn(1, 1, 130, 128)
    gradients = []
    for fold in (False, True):
        x.grad = None
        x.requires_grad_()
        TorchNetwork(module, LogMel(Analysis()), ["a", "b", "c"], fold=fold).run(x).logits.sum().backward()
        assert x.grad is not None
        gradients.append(x.grad)
    assert gradients[0].any()
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-6)


def test_a_network_may_compute_in_another_precision(models: tuple[L2I, L2I], rng: np.random.Generator) -> None:
    class Coarse(Foreign):
        def _run(self, features: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
            logits, maps = super()._run(features)
            return logits.bfloat16(), [x.bfloat16() for x in maps]

    ours, theirs = models
    assert isinstance(theirs.network, Foreign)
    coarse = L2I(Coarse(theirs.network.runtime, ours.classes), ours.interpreter)
    y = rng.standard_normal(60000).astype(np.float32)
    wanted, result = ours.interpret((y, 44100)), coarse.interpret((y, 44100))
    assert result.probabilities.dtype == result.activations.dtype == np.float32
    np.testing.assert_allclose(result.probabilities, wanted.probabilities, atol=0.01)
    with coarse.stream(mode="synchronous") as stream:
        stream.push(y, last=True)
        assert stream.error is None


def test_wrong_numbers_are_named() -> None:
    with refused(ValueError, "decision has length 2, but one probability for each of 3 classes is needed"):
        TorchNetwork(Classifier(3, width=0.0625), LogMel(Analysis()), ["a", "b", "c"], decision=[0.5, 0.5])
    with refused(ValueError, "hidden_channels has length 2, but one for each of three maps is needed"):
        Interpreter(torch.rand(513, 4), 3, (8, 8))
    interpreter = Interpreter(torch.rand(513, 4), 3, (8, 8, 8), width=0.0625)
    with refused(ValueError, "maps has length 4, but one for each of three maps is needed"):
        interpreter([torch.zeros(1, 8, 16, 16)] * 4, 128)


class Net(torch.nn.Module):
    """Returns whatever a function makes of two linear maps of the features."""

    def __init__(self, answer: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.used, self.unused = (torch.nn.Conv2d(1, 3, 1) for _ in range(2))
        self.flat = torch.nn.Flatten()
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        """Return the answer."""
        maps = self.used(x)
        return self.answer(maps, self.flat(maps))


@pytest.mark.parametrize(
    ("answer", "layers", "message"),
    [
        (lambda maps, _: maps, ["used"], "the network returns a tensor of shape (1, 3, 5, 128), but ..."),
        (lambda maps, _: (maps, maps), ["used"], "the network returns a tuple, but logits of shape (B, C) are needed"),
        (lambda maps, _: maps.mean((2, 3)), ["unused"], "layers names 'unused', but must name submodules that ..."),
        (
            lambda maps, _: maps.mean((2, 3)),
            ["used", "flat"],
            "the layer 'flat' returns a tensor of shape (1, 1920), but a map of shape (B, channels, time, frequency) "
            "is needed",
        ),
    ],
)
def test_answers_that_do_not_fit_are_named(
    answer: Callable[[Tensor, Tensor], Any], layers: list[str], message: str
) -> None:
    network = TorchNetwork(Net(answer), LogMel(Analysis()), ["a", "b", "c"], layers)
    with refused(ValueError, message):
        network.run(torch.zeros(1, 1, 5, 128))


def test_maps_that_the_interpreter_cannot_read_are_named() -> None:
    interpreter = Interpreter(torch.rand(513, 4), 3, (8, 16, 32), width=0.0625)
    maps = [torch.zeros(2, 8, 20, 16), torch.zeros(2, 16, 10, 8), torch.zeros(2, 32, 5, 4)]
    interpreter(maps, 160)
    for i, shape in enumerate(((2, 9, 20, 16), (2, 16, 9, 8), (2, 32, 5, 8))):
        found = ", ".join(map(str, shape))
        with refused(ValueError, f"maps[{i}] has shape ({found}), but (2, {(8, 16, 32)[i]}, ...) is needed"):
            interpreter([*maps[:i], torch.zeros(shape), *maps[i + 1 :]], 160)


def test_parts_that_do_not_match_are_refused(tiny_model: L2I) -> None:
    network, interpreter = tiny_model.network, tiny_model.interpreter
    assert isinstance(network, TorchNetwork)
    front_end, classes = network.front_end, network.classes

    def wrapped(**changed: Any) -> TorchNetwork:
        return TorchNetwork(network.module, front_end, **{"classes": classes, **changed})

    with refused(TypeError, "network is a ..., but an AuditedNetwork is needed: wrap torch modules in TorchNetwork"):
        L2I(network.module, interpreter)  # type: ignore[arg-type]
    with refused(ValueError, "classes is 'abcd', but must be a list of names"):
        wrapped(classes="abcd")
    with refused(ValueError, "classes is [], but must be a list of names"):
        wrapped(classes=[])
    with refused(ValueError, "classes names 'a' twice, but each name must stand once"):
        wrapped(classes=["a", "b", "a"])
    with refused(ValueError, "decision[3] is nan, but must be finite"):
        wrapped(decision=[0.5] * (len(classes) - 1) + [float("nan")])
    fewer = wrapped(classes=classes[:-1])
    with refused(ValueError, "classes has length 3, but the network returns 4 logits"):
        fewer.map_channels()
    with refused(ValueError, "interpreter has 4 classes, but the network has 3"):
        L2I(fewer, interpreter)
    shorter = Interpreter(interpreter.dictionary[:100], len(classes), interpreter.config["hidden_channels"])
    shape = (100, interpreter.dictionary.shape[1])
    with refused(ValueError, f"the interpreter's dictionary has shape {shape}, but (..., K) is needed"):
        L2I(network, shorter)


def test_a_network_goes_on_after_a_layer(rng: np.random.Generator) -> None:
    network = make_model().network
    assert isinstance(network, TorchNetwork)
    features = torch.from_numpy(rng.normal(-30, 10, (2, 1, 150, 128)).astype(np.float32))
    wrapped = TorchNetwork(
        torch.nn.Sequential(network.differentiable().module), network.front_end, network.classes, ("0.blocks.4",)
    )
    with torch.no_grad():
        answers = network.run(features)
    for name, x in answers.maps.items():
        logits = network.differentiable().after(name, features[:1])(x)
        torch.testing.assert_close(logits, answers.logits, rtol=1e-5, atol=1e-6)
    whole = wrapped.differentiable()
    ours = network.differentiable().after("blocks.4", features[:1])
    theirs = whole.after("0.blocks.4", features[:1])
    x = answers.maps["blocks.4"].clone().requires_grad_()
    slopes = [torch.autograd.grad(run(x)[:, 1].sum(), x)[0] for run in (ours, theirs)]
    assert slopes[0].any()
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-4, atol=1e-6)
    with torch.no_grad():  # no hook is left
        torch.testing.assert_close(whole.module(features.flip(0)), answers.logits.flip(0), rtol=1e-5, atol=1e-6)
