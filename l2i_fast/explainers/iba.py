"""IBA: the information that a decision needs, found by a bottleneck of noise within the network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from l2i_fast.arguments import number, one_of
from l2i_fast.arrays import host
from l2i_fast.defaults import default_settings
from l2i_fast.explainers.explainer import Evidence, FittedExplainer, Heard
from l2i_fast.explainers.learning import Sounds, key_of
from l2i_fast.explainers.mel import bins_of_bands
from l2i_fast.explainers.seeds import content_seed
from l2i_fast.model import AuditedNetwork
from l2i_fast.progress import Report
from l2i_fast.training.finished import finished

#: Settings of the paper and of the authors' own code.
_ALPHA, _SIGMA, _LEARNING_RATE, _STEPS, _COPIES = 5.0, 1.0, 1.0, 10, 10
#: Smallest deviation of a neuron, and the share of non-zero values up to which it counts as inactive.
_MIN_STD, _ACTIVE = 0.01, 0.01


class IBA(FittedExplainer):
    """Information bottlenecks for attribution, the per-sample bottleneck of Schulz et al. (2020).

    Noise replaces a part of the output R of a layer, whose neurons are normalised to mean 0 and deviation 1 over the
    recordings of `fit`:

        Z = lambda R + (1 - lambda) noise,   noise ~ N(0, 1),   lambda = blur(sigmoid(alpha))
        I = KL( N(lambda R, (1 - lambda)^2) || N(0, 1) ) = ((1 - lambda)^2 + (lambda R)^2 - 1) / 2 - log(1 - lambda)

    (sections 3.1 and 3.2 of the paper). alpha, a number for each neuron, is fitted to one recording and class: ten
    steps of Adam make ``cross-entropy + beta mean(I)`` small, its first term the mean over ten copies with noise of
    their own. The information I that is left, summed over channels, is the saliency. Resized to the mel spectrogram
    and divided by its maximum, it is the mask.

    Mean and deviation belong to a channel and a row of frequency, over the time of all recordings. In the paper each
    position has its own; but moments of different recordings do not correspond, and recordings differ in length.

    Parameters
    ----------
    network : AuditedNetwork
    layer : str, optional
        One of ``network.layers``; the first by default.
    beta : float
        Weight of the mean information in nats: with more of it, less is kept.

    Raises
    ------
    ValueError
        A network without gradients, or one without this layer.
    """

    name = "iba"
    title = "IBA"
    paper = "Schulz, Sixt, Tombari and Landgraf: Restricting the Flow. ICLR 2020, arXiv 2001.00396"

    def __init__(self, network: AuditedNetwork, layer: str | None = None, beta: float = 10.0) -> None:
        super().__init__(network)
        self.layer = network.layers[0] if layer is None else one_of(layer, "layer", network.layers)
        self.beta = number(beta, "beta", 0)
        self._network = network.differentiable()
        self._statistics: Mapping[str, Tensor] = {}

    def on(self, network: AuditedNetwork) -> Self:
        """Return the method for another network, with the statistics of this one: see `Explainer.on`."""
        twin = super().on(network)
        twin._network = network.differentiable()
        return twin

    @property
    def settings(self) -> dict[str, Any]:
        """The analysis, the layer and the weight of information."""
        return {**super().settings, "layer": self.layer, "beta": self.beta}

    @default_settings()
    def fit(self, recordings: Sequence[Any], folder: Path, report: Report, seed: int = 0) -> Self:
        """Learn mean and deviation of the layer's neurons: see `FittedExplainer.fit`.

        Nothing is drawn at random. The folder keeps the statistics as ``iba.safetensors``.
        """
        sounds = Sounds(self.network, recordings)
        key = key_of(self.network, self._network, sounds, self.layer)
        self._statistics = finished(Path(folder) / "iba.safetensors", key, lambda: self._learn(sounds, report))
        self.fitted = True
        return self

    @torch.inference_mode(False)
    @torch.no_grad()
    def _learn(self, sounds: Sounds, report: Report) -> dict[str, Tensor]:
        """Return mean, deviation and activity (channels, 1, frequency) over the time of all recordings."""
        sums, n = torch.zeros(1, dtype=torch.float64, device=self.network.device), 0
        for i, y in enumerate(sounds):
            report("iba", i, len(sounds), "")
            x = self.network.run(self.network.analyze([y]).features).maps[self.layer][0].double()
            sums = sums + torch.stack([x, x**2, (x != 0).double()]).sum(2, keepdim=True)
            n += x.shape[1]
        report("iba", len(sounds), len(sounds), "")
        mean, square, activity = (sums / n).cpu()
        deviation = (square - mean**2).clamp(min=0).sqrt()
        return {"mean": mean.float(), "deviation": deviation.float(), "activity": activity.float()}

    @torch.inference_mode(False)
    def find(self, heard: Heard, targets: Sequence[int]) -> list[Evidence]:
        """Return masks from the saliency of each signal alone: see `MaskExplainer.find`."""
        self._require_fit()
        features = self.network.padded(heard.features).clone()  # outside of the inference mode
        maps, filters, found = heard.maps[self.layer].clone(), self.network.front_end.filters, []
        for b, (y, target) in enumerate(zip(heard.signals, targets, strict=True)):
            saliency = self.saliency(features[b : b + 1], maps[b], content_seed(y), target)
            resized = F.interpolate(saliency[None, None], features.shape[2:], mode="bilinear", align_corners=False)
            mask = host(resized[0, 0, : heard.features.shape[2]])
            supported = bool(mask.max() > 0)
            found.append(
                Evidence(bins_of_bands(mask / mask.max() if supported else mask, filters), supported=supported)
            )
        return found

    def saliency(self, features: Tensor, R: Tensor, seed: int, target: int) -> Tensor:
        """Return the bits (time, frequency) that a class needs of a map.

        Parameters
        ----------
        features : Tensor (1, 1, T, n_mels)
            The network's input, at least `min_frames` of them.
        R : Tensor (channels, time, frequency)
            Output of the layer for them.
        seed : int
            Of the noise.
        target : int
        """
        mean, deviation, activity = (self._statistics[k].to(R.device) for k in ("mean", "deviation", "activity"))
        std, active = deviation.clamp(min=_MIN_STD), activity > _ACTIVE
        normalized = (R - mean) / std
        noise = torch.Generator().manual_seed(seed)
        decide = self._network.after(self.layer, features)

        with torch.enable_grad():
            alpha = torch.full_like(R, _ALPHA, requires_grad=True)
            optimizer = torch.optim.Adam([alpha], lr=_LEARNING_RATE)
            for _ in range(_STEPS):
                removed = _blur((-alpha).sigmoid())  # 1 - lambda
                drawn = torch.randn((_COPIES, *R.shape), generator=noise).to(R.device)
                Z = ((1 - removed) * normalized + removed * drawn) * std + mean
                loss = (
                    self._loss(decide(Z * active), target)
                    + self.beta * (information(normalized, removed) * active).mean()
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            left = information(normalized, _blur((-alpha).sigmoid())) * active
            return left.sum(0).clamp(min=0) / math.log(2)  # rounding may leave less than nothing

    def _loss(self, logits: Tensor, target: int) -> Tensor:
        """Return the mean cross-entropy of logits (copies, C); with several labels, the binary one of the target."""
        if self.network.multilabel:
            return F.softplus(-logits[:, target]).mean()
        return -logits.log_softmax(1)[:, target].mean()


def information(R: Tensor, removed: Tensor) -> Tensor:
    """Return what the bottleneck lets through of each neuron, ``KL(N(lambda R, (1 - lambda)^2) || N(0, 1))``, in nats.

    Parameters
    ----------
    R : Tensor
        Normalised output of the neurons.
    removed : Tensor, of the same shape
        ``1 - lambda``, above 0: as small as it becomes, lambda itself would have too few digits.
    """
    return (removed**2 + ((1 - removed) * R) ** 2 - 1) / 2 - removed.log()


def _blur(x: Tensor) -> Tensor:
    """Return maps (channels, time, frequency) smoothed by a Gaussian over 5 x 5 points, edges repeated."""
    reach = round(2 * _SIGMA)
    steps = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    line = (-(steps**2) / (2 * _SIGMA**2)).exp()
    line = line / line.sum()
    return F.conv2d(F.pad(x[:, None], (reach,) * 4, mode="replicate"), torch.outer(line, line)[None, None])[:, 0]
