"""IBA: against a slow computation, copy by copy in float64, and on networks whose reasons are planted."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from scipy.integrate import quad
from scipy.ndimage import gaussian_filter1d
from scipy.stats import norm
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from l2i_fast.data import Dataset
from l2i_fast.explainers import IBA
from l2i_fast.explainers.iba import information
from l2i_fast.explainers.mel import bins_of_bands
from l2i_fast.model import LogMel, SpectralNetwork, TorchNetwork
from l2i_fast.settings import Analysis

from ..conftest import make_model
from ..helpers import refused, relative

Samples = np.ndarray


def quiet(*_: Any) -> None:
    """Receive progress, and say nothing."""


def noise(rng: np.random.Generator, n: int, level: float = 1.0) -> tuple[Samples, int]:
    return (level * rng.standard_normal(n)).astype(np.float32), 44100


class Planted(nn.Module):
    """Decides by one cell of its map alone: the means of 8 x 8 points of the spectrogram, passed through a ReLU."""

    def __init__(self, column: int, row: int) -> None:
        super().__init__()
        self.early = nn.Sequential(nn.AvgPool2d(8), nn.ReLU())
        self.column, self.row = column, row

    def forward(self, x: Tensor) -> Tensor:
        cell = self.early((x + 70) / 10)[:, 0, self.column, self.row]
        return torch.stack([20 * (cell - 4.6), torch.zeros_like(cell)], 1)


def planted(column: int = 4, row: int = 9) -> TorchNetwork:
    return TorchNetwork(Planted(column, row), LogMel(Analysis()), ("heard", "not heard"), ("early",))


def sharp(multilabel: bool = False, seed: int = 0) -> TorchNetwork:
    """Return a network of random weights that is sure of its classes, so that information is worth its cost."""
    network = make_model(multilabel=multilabel, seed=seed).network
    assert isinstance(network, TorchNetwork)
    assert isinstance(network.module.out, nn.Linear)
    network.module.out.weight.data *= 10_000
    return TorchNetwork(network.module, network.front_end, network.classes, multilabel=multilabel)


class Wrapped(nn.Module):
    """A classifier that is known as a module only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.min_frames = network, network.min_frames

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


def slow_saliency(
    network: SpectralNetwork, y: Samples, target: int, statistics: dict[str, Any], beta: float
) -> Samples:
    """Return the saliency in bits by the definition: one copy at a time, the whole network, float64."""
    parts = network.differentiable()
    module, layer = parts.module.double(), parts.layers[network.layers[0]]
    features = network.padded(network.analyze([y]).features).clone().double()
    seen: list[Tensor] = []
    with layer.register_forward_hook(lambda _module, _inputs, x: seen.append(x)), torch.no_grad():
        module(features)
    R = seen[0][0]
    mean = torch.from_numpy(statistics["mean"]).double().expand(R.shape)
    std = torch.from_numpy(statistics["deviation"]).double().clamp(min=0.01).expand(R.shape)
    active = torch.from_numpy(statistics["activity"] > 0.01).expand(R.shape)
    blurs = [torch.from_numpy(gaussian_filter1d(np.eye(n), 1.0, mode="nearest", radius=2, axis=0)) for n in R.shape[1:]]
    seed = int.from_bytes(hashlib.blake2b(y.tobytes(), digest_size=8).digest(), "big")
    generator = torch.Generator().manual_seed(seed)

    def bottleneck(alpha: Tensor) -> tuple[Tensor, Tensor]:
        kept = torch.stack([blurs[0] @ channel @ blurs[1].T for channel in alpha.sigmoid()])
        of_R = Normal(kept * R + (1 - kept) * mean, (1 - kept) * std)
        return kept, torch.where(active, kl_divergence(of_R, Normal(mean, std)), 0.0)

    alpha = torch.full_like(R, 5.0)
    first = second = torch.zeros_like(R)
    for step in range(1, 11):
        alpha.requires_grad_()
        kept, nats = bottleneck(alpha)
        loss = beta * nats.mean()
        drawn = torch.randn((10, *R.shape), generator=generator).double()
        for copy in drawn:
            Z = torch.where(active, kept * R + (1 - kept) * (mean + std * copy), 0.0)
            with layer.register_forward_hook(lambda *_, Z=Z: Z[None]):
                logits = module(features)
            right = torch.tensor([target])
            if network.multilabel:
                loss = loss + F.binary_cross_entropy_with_logits(logits[:, right], torch.ones(1, 1).double()) / 10
            else:
                loss = loss + F.cross_entropy(logits, right) / 10
        (gradient,) = torch.autograd.grad(loss, alpha)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        alpha = alpha.detach() - (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    bits: Samples = (bottleneck(alpha)[1].sum(0) / np.log(2)).numpy()
    return bits


@pytest.mark.parametrize("multilabel", [False, True])
def test_masks_equal_a_slow_computation(
    multilabel: bool, rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = sharp(multilabel)
    clip = noise(rng, 70000)
    explainer = IBA(network).fit([noise(rng, 66000), noise(rng, 80000, 0.01), clip], tmp_path, quiet)
    seen: list[Tensor] = []
    saliency = explainer.saliency
    monkeypatch.setattr(explainer, "saliency", lambda *given: seen.append(saliency(*given)) or seen[-1])
    (result,) = explainer.explain([clip], [0])
    (bits,) = seen
    assert relative(bits, slow_saliency(network, clip[0], 0, load_file(tmp_path / "iba.safetensors"), 10.0)) < 1e-3
    # From the same bits: Adam makes much of the rounding of small gradients, and the maximum divides all others.
    n_frames = result.mask().shape[1]
    on_mel = F.interpolate(bits[None, None].double(), (n_frames, 128), mode="bilinear")[0, 0].numpy()
    expected = bins_of_bands((on_mel / on_mel.max()).astype(np.float32), network.front_end.filters)
    assert relative(result.mask(), expected) < 1e-5
    assert result.method == "iba"
    assert result.settings["layer"] == "blocks.3"
    assert result.settings["beta"] == 10
    assert result.settings["domain"] == "magnitude"


def test_information_of_gaussians(rng: np.random.Generator) -> None:
    # lambda = 1/2, R = 2: (1/4 + 1 - 1) / 2 + log 2; lambda = 0: the noise says nothing of R.
    nats = information(torch.tensor([2.0, 7.0]), torch.tensor([0.5, 1.0]))
    np.testing.assert_allclose(nats, [0.125 + np.log(2), 0], rtol=1e-6)
    R, kept = rng.normal(), rng.uniform(0.1, 0.9)
    of_R = norm(kept * R, 1 - kept)
    integral, _ = quad(lambda z: of_R.pdf(z) * (of_R.logpdf(z) - norm.logpdf(z)), *of_R.interval(1 - 1e-14))
    np.testing.assert_allclose(information(torch.tensor(R), torch.tensor(1 - kept)), integral, rtol=1e-6)


def burst(rng: np.random.Generator, column: int, row: int) -> tuple[Samples, int]:
    """Return noise with a tone in the bands and frames of one cell of `Planted`, and a louder one elsewhere."""
    y, rate = noise(rng, 70000, 0.003)
    filters = LogMel(Analysis()).filters
    for t, band, level in ((column, 8 * row + 4, 0.5), (12, 20, 1.0)):
        hertz = filters[:, band].argmax() * rate / 1024
        span = np.arange(8 * t * 512, (8 * t + 8) * 512)
        y[span] += level * np.sin(2 * np.pi * hertz * span / rate).astype(np.float32)
    return y, rate


def test_the_planted_band_and_moment_are_found(rng: np.random.Generator, tmp_path: Path) -> None:
    network = planted(column=4, row=9)
    clips = [burst(rng, 4, 9) for _ in range(3)]
    results = IBA(network).fit(clips, tmp_path, quiet).explain(clips, ["heard"] * 3)
    centre = network.front_end.filters[:, 76].argmax()
    for result in results:
        assert result.prediction == ("heard",)
        mask = result.mask()
        assert mask[centre, 36] > 0.9
        assert mask[centre, 12 * 8 + 4] < 0.2
        assert mask[network.front_end.filters[:, 20].argmax(), 12 * 8 + 4] < 0.2
        assert mask.mean() < 0.1


def test_statistics_are_those_of_all_recordings(rng: np.random.Generator, tmp_path: Path) -> None:
    network = make_model().network
    clips = [noise(rng, n, level) for n, level in ((66000, 1.0), (100, 0.1), (90000, 0.001))]
    clips.append((np.zeros(70000, np.float32), 44100))
    IBA(network).fit(clips, tmp_path, quiet)
    with torch.no_grad():
        maps = [network.run(network.analyze([y]).features).maps["blocks.3"][0].numpy() for y, _ in clips]
    x = np.concatenate(maps, axis=1).astype(np.float64)
    found = load_file(tmp_path / "iba.safetensors")
    np.testing.assert_allclose(found["mean"][:, 0], x.mean(axis=1), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found["deviation"][:, 0], x.std(axis=1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["activity"][:, 0], (x != 0).mean(axis=1), rtol=1e-6)


def test_a_second_fit_reads_what_the_first_has_learned(rng: np.random.Generator, tmp_path: Path) -> None:
    clips = [noise(rng, 66000), noise(rng, 70000)]
    network = make_model().network
    steps: list[tuple[int, int]] = []

    def report(stage: str, done: int, total: int, words: str) -> None:
        assert stage == "iba"
        steps.append((done, total))

    first = IBA(network).fit(clips, tmp_path, report)
    assert steps == [(0, 2), (1, 2), (2, 2)]
    second = IBA(make_model().network).fit(clips, tmp_path, report)
    assert len(steps) == 3
    for a, b in zip(first.explain(clips), second.explain(clips), strict=True):
        np.testing.assert_array_equal(a.mask(), b.mask())
    file = tmp_path / "iba.safetensors"
    made = f"{file} was made with other settings or clips; choose another output folder or remove the file"
    with refused(ValueError, made):
        IBA(make_model(seed=1).network).fit(clips, tmp_path, quiet)
    with refused(ValueError, made):
        IBA(network).fit(clips[::-1], tmp_path, quiet)
    with refused(ValueError, made):
        IBA(network, layer="blocks.4").fit(clips, tmp_path, quiet)


def test_a_network_that_is_only_a_module_gets_the_same_answer(rng: np.random.Generator, tmp_path: Path) -> None:
    ours = sharp()
    wrapped = Wrapped(ours.differentiable().module)
    theirs = TorchNetwork(wrapped, ours.front_end, ours.classes, [f"network.{name}" for name in ours.layers])
    clips = [noise(rng, 66000), noise(rng, 90000)]
    for layer in (0, 2):
        masks = [
            [
                result.mask()
                for result in IBA(network, network.layers[layer]).fit(clips, tmp_path / name, quiet).explain(clips)
            ]
            for name, network in ((f"ours{layer}", ours), (f"theirs{layer}", theirs))
        ]
        assert relative(masks[1][0], masks[0][0]) < 1e-4
        assert relative(masks[1][1], masks[0][1]) < 1e-4


def test_answers_depend_on_the_recording_alone(esc10: Dataset, rng: np.random.Generator, tmp_path: Path) -> None:
    explainer = IBA(sharp())
    clips = [noise(rng, n) for n in (66000, 66000, 300, 1)]
    clips += [(np.zeros(66000, np.float32), 44100), esc10.clips[0].path]
    explainer.fit(clips, tmp_path, quiet)
    state = torch.get_rng_state()
    with torch.inference_mode():
        together = explainer.explain(clips)
    for clip, result in zip(clips, together, strict=True):
        (alone,) = explainer.explain([clip], [result.explanations[0].target])
        assert relative(alone.mask(), result.mask()) < 1e-4
        assert 0.9 < result.mask().max() <= 1
        assert result.mask().min() >= 0
        assert result.explanations[0].supported
    torch.testing.assert_close(torch.get_rng_state(), state, rtol=0, atol=0)
    first, second = explainer.explain([clips[0]], [[0, 1]])[0].explanations
    assert relative(first.mask, second.mask) > 0.05


def test_more_weight_on_information_keeps_less(rng: np.random.Generator, tmp_path: Path) -> None:
    network, clip = planted(), burst(rng, 4, 9)
    means = [
        IBA(network, beta=beta)
        .fit([clip, noise(rng, 70000)], tmp_path / str(beta), quiet)
        .explain([clip], [0])[0]
        .mask()
        .mean()
        for beta in (0, 10)
    ]
    assert means[1] < means[0] / 2


def test_silent_recordings_teach_a_deviation_above_zero(rng: np.random.Generator, tmp_path: Path) -> None:
    silence = (np.zeros(66000, np.float32), 44100)
    explainer = IBA(make_model().network).fit([silence], tmp_path, quiet)
    assert all(np.isfinite(result.mask()).all() for result in explainer.explain([silence, noise(rng, 66000)]))


def test_a_dead_layer_supports_nothing(rng: np.random.Generator, tmp_path: Path) -> None:
    network = planted()
    clip = noise(rng, 66000, 1e-30)
    network.module.register_forward_pre_hook(lambda _module, x: (x[0] - 1000,))
    network = TorchNetwork(network.module, network.front_end, network.classes, ("early",))
    (result,) = IBA(network).fit([clip], tmp_path, quiet).explain([clip], [0])
    assert not result.explanations[0].supported
    assert not result.audio.any()


def test_errors_name_what_is_needed(rng: np.random.Generator, tmp_path: Path) -> None:
    network = make_model().network
    with refused(ValueError, "iba has not learned yet, but must learn from recordings first: call fit"):
        IBA(network).explain([noise(rng, 66000)])
    with refused(ValueError, "layer is 'blocks.9', but must be one of blocks.3, blocks.4, blocks.5"):
        IBA(network, "blocks.9")
    with refused(ValueError, "beta is -1, but must be at least 0"):
        IBA(network, beta=-1)
    for nothing in ([], "clip.wav"):
        with refused(ValueError, f"recordings is {nothing!r}, but must be a list of at least one recording"):
            IBA(network).fit(nothing, tmp_path, quiet)

    class Foreign(SpectralNetwork):
        def _run(self, features: Tensor) -> tuple[Tensor, list[Tensor]]:
            raise AssertionError("only constructed, never run")

    needed = "the network is a Foreign, which has no gradients, but a TorchNetwork is needed"
    with refused(ValueError, needed):
        IBA(Foreign(("a", "b"), LogMel(Analysis()), ("early",)))
