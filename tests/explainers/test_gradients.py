"""Attributions by gradients: each method against torch.autograd, without Captum."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2i_fast.data import Dataset
from l2i_fast.explainers import (
    EXPLAINERS,
    GradCam,
    GuidedBackprop,
    IntegratedGradients,
    Saliency,
    SmoothGrad,
)
from l2i_fast.explainers.gradients import Attribution
from l2i_fast.explainers.mel import bins_of_bands
from l2i_fast.model import LogMel, SpectralNetwork, TorchNetwork
from l2i_fast.model.audited import Differentiable
from l2i_fast.settings import Analysis

from ..conftest import make_model
from ..helpers import refused, relative

METHODS: tuple[type[Attribution], ...] = (Saliency, IntegratedGradients, SmoothGrad, GradCam, GuidedBackprop)


def noise(rng: np.random.Generator, n: int) -> tuple[np.ndarray, int]:
    return rng.standard_normal(n).astype(np.float32), 44100


class Small(nn.Module):
    """A network whose one ReLU, which works in place, serves twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, stride=2), nn.Conv2d(4, 6, 3, stride=4)
        self.relu, self.out = nn.ReLU(inplace=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x / 30 + 1))
        logits: Tensor = self.out(self.relu(self.second(x)).mean((2, 3)))
        return logits


def small() -> TorchNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        module = Small()
    return TorchNetwork(module, LogMel(Analysis()), ("a", "b", "c"), ("first", "second"))


def audited(kind: str, monkeypatch: pytest.MonkeyPatch) -> TorchNetwork:
    """A network that computes in float64: in float32, rounding decides a ReLU or a maximum near a tie otherwise."""
    network = small() if kind == "small" else make_model(multilabel=kind == "several labels").network
    assert isinstance(network, TorchNetwork)
    single = network.differentiable

    def double() -> Differentiable:
        parts = single()
        parts.module.double().register_forward_pre_hook(lambda _module, inputs: inputs[0].double())
        return parts

    monkeypatch.setattr(network, "differentiable", double)
    return network


def gradient(run: Callable[[Tensor], Tensor], x: Tensor, target: int) -> Tensor:
    z = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(run(z)[:, target].sum(), z)
    return found


def slow_saliency(network: TorchNetwork, x: Tensor, target: int, y: np.ndarray) -> Tensor:
    return gradient(network.differentiable().module, x, target).abs()


def slow_integral(network: TorchNetwork, x: Tensor, target: int, y: np.ndarray) -> Tensor:
    module, silence = network.differentiable().module, torch.full_like(x, -60)
    nodes, weights = np.polynomial.legendre.leggauss(50)
    total = torch.zeros_like(silence).double()
    for node, weight in zip(nodes, weights, strict=True):
        total += weight / 2 * gradient(module, silence + (node + 1) / 2 * (x - silence), target)
    return ((x - silence) * total).clamp(min=0)


def slow_smooth(network: TorchNetwork, x: Tensor, target: int, y: np.ndarray) -> Tensor:
    module = network.differentiable().module
    seed = int.from_bytes(hashlib.blake2b(y.tobytes(), digest_size=8).digest(), "big")
    generator = torch.Generator().manual_seed(seed)
    sigma = 0.15 * (x.max() - x.min())
    copies = torch.cat([x + sigma * torch.randn(x.shape, generator=generator) for _ in range(25)])
    # In groups of the same size: other sizes round otherwise, and at a kink of the network that changes the slope.
    groups = copies.split(SmoothGrad(network).together(x))
    return torch.cat([gradient(module, group, target) for group in groups]).mean(0, keepdim=True).abs()


def slow_cam(network: TorchNetwork, x: Tensor, target: int, y: np.ndarray) -> Tensor:
    parts = network.differentiable()
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        kept.append(output)

    with parts.layers[network.layers[-1]].register_forward_hook(keep):
        logits = parts.module(x.clone().requires_grad_())
    (slopes,) = torch.autograd.grad(logits[0, target], kept[0])
    cam = torch.zeros(kept[0].shape[2:])
    for values, slope in zip(kept[0][0], slopes[0], strict=True):
        cam += slope.mean() * values.detach()
    return F.interpolate(cam.clamp(min=0)[None, None], x.shape[2:], mode="bilinear")


class Guided(torch.autograd.Function):
    """A ReLU that passes on only gradients that are positive where its input was positive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return slope.clamp(min=0) * (x > 0)


class GuidedReLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = Guided.apply(x)  # type: ignore[no-untyped-call]
        return y


def slow_guided(network: TorchNetwork, x: Tensor, target: int, y: np.ndarray) -> Tensor:
    module = network.differentiable().module
    for part in list(module.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.ReLU):
                setattr(part, name, GuidedReLU())
    return gradient(module, x, target).clamp(min=0)


SLOW = {
    "saliency": slow_saliency,
    "integrated-gradients": slow_integral,
    "smoothgrad": slow_smooth,
    "grad-cam": slow_cam,
    "guided-backprop": slow_guided,
}


@pytest.mark.parametrize("kind", ["one label", "several labels", "small"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_masks_equal_a_slow_computation(
    method: type[Attribution], kind: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = audited(kind, monkeypatch)
    y, rate = noise(rng, 80000)
    (result,) = method(network).explain([(y, rate)], [1])
    x = network.analyze([y]).features.clone()
    attributed = SLOW[method.name](network, x, 1, y)[0, 0].detach().numpy().astype(np.float64)
    scale = np.sort(attributed, axis=None)
    place = 0.99 * (scale.size - 1)
    below = int(place)
    largest = scale[below] + (place - below) * (scale[below + 1] - scale[below])
    assert largest > 0
    expected = bins_of_bands(np.minimum(attributed / largest, 1).astype(np.float32), network.front_end.filters)
    assert relative(result.mask(), expected) < 1e-4
    assert result.method == method.name
    assert result.settings["domain"] == "magnitude"
    assert EXPLAINERS[method.name] is method


def test_integrated_gradients_are_complete(rng: np.random.Generator) -> None:
    network = small()
    x = network.analyze([noise(rng, 80000)[0]]).features.clone()
    attributed = IntegratedGradients(network).signed(x, 2)
    assert (attributed < 0).any()
    with torch.no_grad():
        rise = network.run(x).logits[0, 2] - network.run(torch.full_like(x, network.front_end.silence)).logits[0, 2]
    assert abs(float(attributed.sum() - rise)) < 0.02 * abs(float(rise))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_answers_depend_on_the_recording_alone(
    method: type[Attribution], esc10: Dataset, rng: np.random.Generator
) -> None:
    explainer = method.for_model(make_model())
    clips = [
        *(noise(rng, n) for n in (66000, 66000, 300, 1)),
        (np.zeros(66000, np.float32), 44100),
        esc10.clips[0].path,
    ]
    state = torch.get_rng_state()
    with torch.inference_mode():
        together = explainer.explain(clips)
    for clip, result in zip(clips, together, strict=True):
        (alone,) = explainer.explain([clip], [result.explanations[0].target])
        assert relative(alone.mask(), result.mask()) < 1e-4
        assert result.mask().min() >= 0
        assert result.mask().max() <= 1
    torch.testing.assert_close(torch.get_rng_state(), state, rtol=0, atol=0)
    first, second = explainer.explain([clips[0]], [[0, 1]])[0].explanations
    assert relative(first.mask, second.mask) > 1e-3


class Point(nn.Module):
    """Decides by one point of the spectrogram."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight, self.relu = weight, nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x + 100)
        return self.weight * torch.stack([x[:, 0, 20, 64], -x[:, 0, 20, 64]], 1)


@pytest.mark.parametrize("method", [m for m in METHODS if m is not GradCam], ids=lambda method: method.name)
def test_one_decisive_point_is_found(method: type[Attribution], rng: np.random.Generator) -> None:
    network = TorchNetwork(Point(0.01), LogMel(Analysis()), ("a", "b"), ("relu",))
    (result,) = method(network).explain([noise(rng, 30000)], ["a"])
    point = np.zeros((result.mask().shape[1], 128), np.float32)
    point[20, 64] = 1
    np.testing.assert_allclose(result.mask(), bins_of_bands(point, network.front_end.filters), atol=1e-6)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_without_gradients_nothing_supports_a_class(method: type[Attribution], rng: np.random.Generator) -> None:
    network = TorchNetwork(Point(0.0), LogMel(Analysis()), ("a", "b"), ("relu",))
    (result,) = method(network).explain([noise(rng, 30000)], ["a"])
    assert not result.explanations[0].supported
    assert not result.mask().any()
    assert not result.audio.any()


@pytest.mark.parametrize("method", [IntegratedGradients, SmoothGrad], ids=lambda method: method.name)
def test_few_frames_run_at_a_time(method: type[Attribution], rng: np.random.Generator) -> None:
    explainer = method(small())
    sizes: list[int] = []
    explainer.module.register_forward_pre_hook(lambda _module, x: sizes.append(x[0].shape[0] * x[0].shape[2]))
    explainer.explain([noise(rng, 100 * 512)] * 3, [0, 1, 2])
    assert max(sizes) == 10 * 101
    sizes.clear()
    explainer.explain([noise(rng, 1500 * 512)], [0])
    assert max(sizes) == 1501


def test_errors_name_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Foreign(SpectralNetwork):
        def _run(self, features: Tensor) -> tuple[Tensor, list[Tensor]]:
            raise AssertionError("only constructed, never run")

    foreign = Foreign(("a", "b"), LogMel(Analysis()), ("early",))
    for method in METHODS:
        with refused(ValueError, "the network is a Foreign, which has no gradients, but a TorchNetwork is needed"):
            method(foreign)
    functional = TorchNetwork(nn.Sequential(nn.Tanh()), LogMel(Analysis()), ("a", "b"), ("0",))
    with refused(ValueError, "the network has no nn.ReLU, but guided backpropagation needs modules of that type"):
        GuidedBackprop(functional)
    monkeypatch.setitem(sys.modules, "captum", None)
    with refused(ImportError, "captum is needed to explain by Grad-CAM; install it with: pip install captum"):
        GradCam(small())
