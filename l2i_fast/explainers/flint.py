"""FLINT: an interpretable classifier beside the network, and inputs that excite its attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from numpy.typing import NDArray
from torch import Tensor, nn

from l2i_fast.arguments import integer
from l2i_fast.arrays import host
from l2i_fast.audio import read_sound
from l2i_fast.defaults import default_settings
from l2i_fast.explainers.explainer import Evidence, FittedExplainer, Heard
from l2i_fast.explainers.learning import Sounds, crops, key_of
from l2i_fast.explainers.mel import bins_of_bands
from l2i_fast.model import AuditedNetwork, Differentiable
from l2i_fast.networks.evaluating import evaluating
from l2i_fast.progress import Report
from l2i_fast.results.masking import apply_mask
from l2i_fast.settings import PositiveInt, Section, Selection
from l2i_fast.training.finished import finished
from l2i_fast.training.loop import Stateful, run_epochs

Float32 = NDArray[np.float32]
NonNegative = Annotated[float, Ge(0)]

#: Rows of frequency that maps are pooled to, and the grid from which the decoder begins.
_ROWS, _GRID, _CHANNELS = 4, (7, 8), 32
#: The features are decoded in units of ten decibels, so that their errors are of the size of the other terms.
_UNIT_DB = 10.0


@dataclass(frozen=True)
class FlintConfig(Section):
    """Attributes, training and activation maximisation.

    Attributes
    ----------
    n_attributes : int
        J.
    accuracy, fidelity, reconstruction, conciseness, sparsity : float
        Weights of the terms of the loss: see `Losses`.
    start : int
        First epoch in which fidelity, conciseness and sparsity count.
    epochs, batch_size : int
    learning_rate : float
        Of Adam.
    crop : int
        Frames of a random part of each recording; at least 128.
    threshold : float
        Attributes of a greater relevance are selected.
    initial : float
        Share of the recording's features, above silence, from which maximisation begins.
    rounds, steps : int
        Maximisation takes `rounds` of `steps` steps of Adam, each with half the rate of the one before.
    step_size : float
        Rate of the first round. The paper takes 12 rounds of 50 steps from a rate of 0.05, twelve times the work.
    bound, variation : float
        Weights of the penalties on features beyond those of the recording or below silence, and on total variation.
    """

    n_attributes: PositiveInt = 80
    accuracy: NonNegative = 0.5
    fidelity: NonNegative = 0.5
    reconstruction: NonNegative = 0.8
    conciseness: NonNegative = 0.2
    sparsity: NonNegative = 0.1
    start: Annotated[int, Ge(0)] = 5
    epochs: PositiveInt = 40
    batch_size: PositiveInt = 16
    learning_rate: NonNegative = 1e-3
    crop: Annotated[int, Ge(128)] = 216
    threshold: Annotated[float, Ge(0), Le(1)] = Selection.threshold
    initial: Annotated[float, Ge(0), Le(1)] = 0.3
    rounds: PositiveInt = 3
    steps: PositiveInt = 16
    step_size: NonNegative = 0.1
    bound: NonNegative = 100.0
    variation: NonNegative = 0.5


class Attributes(nn.Module):
    """The interpretable classifier: attributes of the hidden maps, their decoder, and a linear layer.

    Parameters
    ----------
    map_channels : sequence of int
        Channels of the maps.
    n_attributes, n_classes : int
    """

    def __init__(self, map_channels: Sequence[int], n_attributes: int, n_classes: int) -> None:
        super().__init__()
        self.reads = nn.ModuleList(nn.Conv2d(c, _CHANNELS, 3, padding=1) for c in map_channels)
        self.attend = nn.Linear(2 * _CHANNELS * _ROWS * len(map_channels), n_attributes)
        self.spread = nn.Linear(n_attributes, _CHANNELS * _GRID[0] * _GRID[1])
        self.refine = nn.Conv2d(_CHANNELS, _CHANNELS // 2, 3, padding=1)
        self.last = nn.Conv2d(_CHANNELS // 2, 1, 3, padding=1)
        self.out = nn.Linear(n_attributes, n_classes)
        self.float()  # whatever the default dtype is

    def attributes(self, maps: Sequence[Tensor]) -> Tensor:
        """Return attributes Phi (B, J), non-negative, of maps (B, channels, time, frequency)."""
        return torch.relu(self.before(maps))

    def before(self, maps: Sequence[Tensor]) -> Tensor:
        """Return attributes (B, J) before their ReLU: each map is convolved, and pooled over time in two ways."""
        pooled = []
        for read, x in zip(self.reads, maps, strict=True):
            y = torch.relu(read(x))
            pooled += [F.adaptive_avg_pool2d(y, (1, _ROWS)), F.adaptive_max_pool2d(y, (1, _ROWS))]
        attended: Tensor = self.attend(torch.cat(pooled, 1).flatten(1))
        return attended

    def decode(self, phi: Tensor, n_frames: int, n_mels: int) -> Tensor:
        """Return the features (B, T, n_mels) that attributes (B, J) stand for, above silence, in units of 10 dB."""
        x = torch.relu(self.spread(phi)).unflatten(1, (_CHANNELS, *_GRID))
        x = F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
        x = torch.relu(self.refine(x))
        decoded: Tensor = self.last(F.interpolate(x, (n_frames, n_mels), mode="bilinear", align_corners=False))
        return decoded[:, 0]


class Losses(NamedTuple):
    """The terms of the loss, each a mean over the batch (Parekh et al., 2021).

    Attributes
    ----------
    accuracy : Tensor
        Cross-entropy of the own classifier against the network's decision, which stands for the label: the network is
        explained as it is, after its training.
    fidelity : Tensor
        Cross-entropy against the network's probabilities.
    reconstruction : Tensor
        Mean squared error of the decoded features.
    conciseness : Tensor
        Entropy of the attributes of a recording, minus that of their mean over the batch: few attributes for each
        recording, different ones for different recordings.
    sparsity : Tensor
        Mean attribute.
    """

    accuracy: Tensor
    fidelity: Tensor
    reconstruction: Tensor
    conciseness: Tensor
    sparsity: Tensor

    def total(self, config: FlintConfig, epoch: int) -> Tensor:
        """Return the weighted sum; the schedule begins with accuracy and reconstruction."""
        loss = config.accuracy * self.accuracy + config.reconstruction * self.reconstruction
        if epoch >= config.start:
            loss = loss + config.fidelity * self.fidelity
            loss = loss + config.conciseness * self.conciseness + config.sparsity * self.sparsity
        return loss


def conciseness(phi: Tensor) -> Tensor:
    """Return the mean entropy of attributes (B, J) minus the entropy of their mean, in nats, of their softmax."""
    return _entropy(phi).mean() - _entropy(phi.mean(0))


def _entropy(phi: Tensor) -> Tensor:
    return -(phi.softmax(-1) * phi.log_softmax(-1)).sum(-1)


def relevance_of(phi: Float32, weights: Float32) -> Float32:
    """Return the relevance (J,) of attributes (J,) with the weights (J,) of a class: ``phi w / max |phi w|``."""
    product = phi * weights
    largest = float(np.abs(product).max())
    relevance: Float32 = (product / largest if largest else product).astype(np.float32)
    return relevance


class Flint(FittedExplainer):
    """A framework to learn with interpretation, fitted to a network as it is.

    Attributes Phi of the network's hidden maps feed a linear classifier that learns to decide as the network does. The
    relevance of an attribute is its contribution to the class, ``r_j = Phi_j w_cj / max_i |Phi_i w_ci|``. What excites
    the relevant attributes is found by activation maximisation: from 0.3 times the features of the recording, Adam
    raises ``sum_j r_j Phi_j`` relative to its value for the recording, under penalties that keep the features between
    silence and those of the recording, and smooth. What this restores of the magnitude of each band is the mask. All
    relevant attributes are maximised together, and before their ReLU: behind it, most of them have no gradient where
    maximisation begins.

    Parameters
    ----------
    network : AuditedNetwork
    config : FlintConfig, optional

    Raises
    ------
    ValueError
        A network without gradients.
    """

    name = "flint"
    title = "FLINT"
    paper = "Parekh, Mozharovskyi and d'Alché-Buc: A Framework to Learn with Interpretation. NeurIPS 2021"

    def __init__(self, network: AuditedNetwork, config: FlintConfig = FlintConfig()) -> None:
        super().__init__(network)
        self.config = config
        self._differentiable: Differentiable = network.differentiable()
        self.net = self._start(0)

    def on(self, network: AuditedNetwork) -> Self:
        """Return the method with the same attributes on another network: see `Explainer.on`."""
        twin = super().on(network)
        twin._differentiable = network.differentiable()
        return twin

    @property
    def settings(self) -> dict[str, Any]:
        """The analysis and those of the method."""
        return {**super().settings, **asdict(self.config)}

    def _start(self, seed: int) -> Attributes:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Attributes(self.network.map_channels(), self.config.n_attributes, len(self.network.classes))

    @default_settings()
    @torch.inference_mode(False)
    def fit(self, recordings: Sequence[Any], folder: Path, report: Report, seed: int = 0) -> Self:
        """Train attributes, decoder and classifier on recordings, without labels: see `FittedExplainer.fit`.

        The folder keeps them as ``flint.safetensors``, and a checkpoint of each epoch.
        """
        sounds = Sounds(self.network, recordings)
        key = key_of(self.network, self._differentiable, sounds, self.config, seed)

        def learn() -> Mapping[str, Tensor]:
            self.net = self._start(seed)
            self._train(sounds, Path(folder) / "flint.checkpoint", key, report, seed)
            return self.net.state_dict()

        self.net.load_state_dict(dict(finished(Path(folder) / "flint.safetensors", key, learn)))
        self.net.eval().requires_grad_(False)
        self.fitted = True
        return self

    def _train(self, sounds: Sounds, checkpoint: Path, key: str, report: Report, seed: int) -> None:
        c = self.config
        optimizer = torch.optim.Adam(self.net.parameters(), lr=c.learning_rate)

        def epoch(i: int) -> str:
            total = 0.0
            for batch in torch.randperm(len(sounds)).split(c.batch_size):
                _, features = crops(self.network, sounds, batch, c.crop)
                loss = self.losses(features).total(c, i)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
                optimizer.step()
                total += float(loss.detach()) * len(batch)
            return f"loss {total / len(sounds):.3f}"

        states: dict[str, Stateful] = {"net": self.net, "optimizer": optimizer}
        with torch.enable_grad():
            run_epochs("flint", c.epochs, epoch, states, checkpoint, key, seed, report)

    def losses(self, features: Tensor) -> Losses:
        """Return the terms of the loss for features (B, 1, T, n_mels)."""
        with torch.no_grad():
            answers = self.network.run(features)
            p = self.network.probabilities(answers.logits).cpu()
        maps = [x.cpu() for x in answers.maps.values()]
        phi = self.net.attributes(maps)
        logits = self.net.out(phi)
        level = (features[:, 0].cpu() - self.network.front_end.silence) / _UNIT_DB
        decoded = self.net.decode(phi, *features.shape[2:])
        if self.network.multilabel:
            decided = (p >= torch.tensor(self.network.decision)).float()
            accuracy, fidelity = (F.binary_cross_entropy_with_logits(logits, y) for y in (decided, p))
        else:
            accuracy, fidelity = F.cross_entropy(logits, p.argmax(1)), F.cross_entropy(logits, p)
        return Losses(accuracy, fidelity, F.mse_loss(decoded, level), conciseness(phi), phi.mean())

    def find(self, heard: Heard, targets: Sequence[int]) -> list[Evidence]:
        """Return what excites the relevant attributes of one class in each signal: see `MaskExplainer.find`."""
        self._require_fit()
        with torch.inference_mode(), evaluating(self.net):
            phi = self.net.attributes([x.cpu() for x in heard.maps.values()])
            own = host(self.network.probabilities(self.net.out(phi)))
            weights = host(self.net.out.weight)
        relevance = [relevance_of(p, weights[c]) for p, c in zip(host(phi), targets, strict=True)]
        threshold = self.config.threshold
        chosen = [tuple(int(j) for j in np.argsort(-r, kind="stable") if r[j] > threshold) for r in relevance]
        wanted = np.stack([np.where(r > threshold, r, 0) for r in relevance])
        # One by one: Adam makes much of the rounding of small gradients, which depends on the batch.
        masks = [self._maximize(heard.features[b : b + 1], wanted[b : b + 1])[0] for b in range(len(wanted))]
        return [
            Evidence(mask * bool(components), r, components, bool(components), p)
            for mask, r, components, p in zip(masks, relevance, chosen, own, strict=True)
        ]

    @default_settings()
    def attribute_audible(self, recording: Any, attribute: int) -> Float32:
        """Return what excites one attribute in a recording: samples (N,) at the network's rate.

        Parameters
        ----------
        recording : path-like or (samples, sample_rate)
        attribute : int
            From 0 to J - 1.
        """
        self._require_fit()
        attribute = integer(attribute, "attribute", 0, self.config.n_attributes - 1)
        y = read_sound(recording, self.network.analysis.sample_rate).samples
        wanted = np.zeros((1, self.config.n_attributes), np.float32)
        wanted[0, attribute] = 1
        (mask,) = self._maximize(self.network.analyze([y]).features, wanted)
        return apply_mask(y, mask, self.settings)

    @torch.inference_mode(False)
    def _maximize(self, features: Tensor, wanted: Float32) -> Float32:
        """Return masks (B, F, T) of what excites weighted attributes (B, J) in features (B, 1, T, n_mels)."""
        c, silence = self.config, self.network.front_end.silence
        n_frames = features.shape[2]
        full = self.network.padded(features).clone()
        scale = (full.amax((1, 2, 3), keepdim=True) - silence).clamp(min=1e-3)
        level = (full - silence) / scale
        weights = torch.from_numpy(wanted)
        with evaluating(self.net), torch.enable_grad():
            usual = (weights * self._excited(full)).sum(1).detach().abs().clamp(min=1e-3)
            x = (c.initial * level).requires_grad_()
            for turn in range(c.rounds):
                optimizer = torch.optim.Adam([x], lr=c.step_size / 2**turn)
                for _ in range(c.steps):
                    excited = (weights * self._excited(silence + scale * x)).sum(1) / usual
                    outside = (torch.relu(x - level) ** 2 + torch.relu(-x) ** 2).mean((1, 2, 3))
                    rough = x.diff(dim=2).abs().mean((1, 2, 3)) + x.diff(dim=3).abs().mean((1, 2, 3))
                    loss = (-excited + c.bound * outside + c.variation * rough).sum()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
        share = 10 ** ((scale * (x.detach() - level) / 10).clamp(max=0))  # of the magnitude of each band
        return bins_of_bands(host(share[:, 0, :n_frames]), self.network.front_end.filters)

    def _excited(self, features: Tensor) -> Tensor:
        """Return attributes (B, J) of features (B, 1, T, n_mels) before their ReLU, differentiable."""
        return self.net.before([x.cpu() for x in self._differentiable.maps(features)])
