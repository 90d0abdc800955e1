"""Attributions from the gradients of a network, by Captum."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from l2i_fast.arrays import Float32, host
from l2i_fast.explainers.explainer import Evidence, Heard, SpectralExplainer
from l2i_fast.explainers.mel import bins_of_bands
from l2i_fast.explainers.seeds import content_seed
from l2i_fast.model import AuditedNetwork
from l2i_fast.recording import import_optional

#: Frames of features that run together: memory stays small, and so do the maps, which the processor's cache then holds.
_FRAMES = 1024
#: Share of the attributions that a mask tells apart; the largest ones count alike.
_QUANTILE = 0.99


class Attribution(SpectralExplainer):
    """A method that attributes the logit of a class to the network's input, the mel spectrogram in decibels.

    The attribution, divided by its 99th percentile and cut at 1, is the mask on the mel bands: single points far above
    all others would leave the rest inaudible (Smilkov et al., arXiv 1706.03825, cap at this percentile).
    Where fewer than one in a hundred points have any, its maximum divides.

    Parameters
    ----------
    network : AuditedNetwork

    Raises
    ------
    ValueError
        A network without gradients.
    ImportError
        Captum is not installed.
    """

    def __init__(self, network: AuditedNetwork) -> None:
        super().__init__(network)
        self.network_with_gradients = network.differentiable()
        self.methods: Any = import_optional("captum", f"explain by {self.title}").attr

    def on(self, network: AuditedNetwork) -> Self:
        """Return the method for another network: see `Explainer.on`."""
        twin = super().on(network)
        twin.network_with_gradients = network.differentiable()
        return twin

    @property
    def module(self) -> nn.Module:
        """The network as a module that gradients pass through."""
        return self.network_with_gradients.module

    @torch.inference_mode(False)
    @torch.enable_grad()
    def find(self, heard: Heard, targets: Sequence[int]) -> list[Evidence]:
        """Return masks from the attribution of each signal alone: see `MaskExplainer.find`."""
        features = self.network.padded(heard.features).clone()  # outside of the inference mode
        n_frames, filters, found = heard.features.shape[2], self.network.front_end.filters, []
        for b, (y, target) in enumerate(zip(heard.signals, targets, strict=True)):
            x = features[b : b + 1].clone().requires_grad_()
            attributed = self.attribute(x, target, content_seed(y)).detach()
            mask = _mask_of(host(attributed[0, 0, :n_frames]))
            found.append(Evidence(bins_of_bands(mask, filters), supported=bool(mask.any())))
        return found

    @abstractmethod
    def attribute(self, x: Tensor, target: int, seed: int) -> Tensor:
        """Return the attribution (1, 1, T, n_mels), non-negative, of a class to features of this shape.

        Parameters
        ----------
        x : Tensor (1, 1, T, n_mels)
        target : int
        seed : int
            Of random numbers, if the method draws any.
        """

    def together(self, x: Tensor) -> int:
        """Return how many inputs like `x` run at a time."""
        return max(1, _FRAMES // x.shape[2])


class Saliency(Attribution):
    """The absolute value of the gradient (Simonyan et al.)."""

    name = "saliency"
    title = "Saliency"
    paper = "Simonyan, Vedaldi and Zisserman: Deep Inside Convolutional Networks. ICLR workshop 2014, arXiv 1312.6034"

    def attribute(self, x: Tensor, target: int, seed: int) -> Tensor:
        """Return the attribution: see `Attribution.attribute`."""
        return self.methods.Saliency(self.module).attribute(x, target=target)  # type: ignore[no-any-return]


class IntegratedGradients(Attribution):
    """The positive part of gradients integrated from silence to the input (equation 1 of Sundararajan et al.).

    The integral is a Gauss-Legendre sum of 50 gradients. Its values add up to the logit of the input less that of
    silence, so a negative one speaks against the class, and is left out of the mask.
    """

    name = "integrated-gradients"
    title = "Integrated gradients"
    paper = "Sundararajan, Taly and Yan: Axiomatic Attribution for Deep Networks. ICML 2017, arXiv 1703.01365"
    n_steps = 50

    def attribute(self, x: Tensor, target: int, seed: int) -> Tensor:
        """Return the attribution: see `Attribution.attribute`."""
        return self.signed(x, target).relu()

    def signed(self, x: Tensor, target: int) -> Tensor:
        """Return the attribution with the parts that speak against the class."""
        integrated: Tensor = self.methods.IntegratedGradients(self.module).attribute(
            x,
            baselines=self.network.front_end.silence,
            target=target,
            n_steps=self.n_steps,
            internal_batch_size=self.together(x),
        )
        return integrated


class SmoothGrad(Attribution):
    """The absolute value of the mean gradient over copies of the input with noise (Smilkov et al., section 2).

    25 copies, and noise of 0.15 times the range of the input, are the defaults of the authors' own code.
    """

    name = "smoothgrad"
    title = "SmoothGrad"
    paper = "Smilkov, Thorat, Kim, Viégas and Wattenberg: SmoothGrad. 2017, arXiv 1706.03825"
    n_copies = 25
    noise = 0.15

    def attribute(self, x: Tensor, target: int, seed: int) -> Tensor:
        """Return the attribution: see `Attribution.attribute`."""
        gradient = self.methods.Saliency(self.module)
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
            torch.manual_seed(seed)
            mean: Tensor = self.methods.NoiseTunnel(gradient).attribute(
                x,
                nt_type="smoothgrad",
                nt_samples=self.n_copies,
                nt_samples_batch_size=self.together(x),
                stdevs=self.noise * (x.max() - x.min()).item(),
                target=target,
                abs=False,
            )
        return mean.abs()


class GradCam(Attribution):
    """The positive part of the last audited map, its channels weighted by their mean gradients (equations 1 and 2).

    The map is resized to the mel spectrogram.
    """

    name = "grad-cam"
    title = "Grad-CAM"
    paper = "Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra: Grad-CAM. ICCV 2017, arXiv 1610.02391"

    def attribute(self, x: Tensor, target: int, seed: int) -> Tensor:
        """Return the attribution: see `Attribution.attribute`."""
        layer = self.network_with_gradients.layers[self.network.layers[-1]]
        map_ = self.methods.LayerGradCam(self.module, layer).attribute(x, target=target, relu_attributions=True)
        resized: Tensor = self.methods.LayerAttribution.interpolate(map_, tuple(x.shape[2:]), "bilinear")
        return resized


class GuidedBackprop(Attribution):
    """The positive part of the gradient, of which every ReLU passes on the positive part only (Springenberg et al.).

    Raises
    ------
    ValueError
        Also for a network without modules of the type ``nn.ReLU``, whose gradients the method changes.
    """

    name = "guided-backprop"
    title = "Guided backpropagation"
    paper = (
        "Springenberg, Dosovitskiy, Brox and Riedmiller: Striving for Simplicity. ICLR workshop 2015, arXiv 1412.6806"
    )

    def __init__(self, network: AuditedNetwork) -> None:
        super().__init__(network)
        if not any(isinstance(part, nn.ReLU) for part in self.module.modules()):
            raise ValueError("the network has no nn.ReLU, but guided backpropagation needs modules of that type")

    def attribute(self, x: Tensor, target: int, seed: int) -> Tensor:
        """Return the attribution: see `Attribution.attribute`."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting backward hooks on ReLU", UserWarning)
            gradient: Tensor = self.methods.GuidedBackprop(self.module).attribute(x, target=target)
        return gradient.relu()


def _mask_of(attribution: Float32) -> Float32:
    """Return a mask from 0 to 1 of attributions of any shape, none of them negative."""
    scale = np.quantile(attribution, _QUANTILE) or attribution.max() or 1
    mask: Float32 = np.minimum(attribution / np.float32(scale), np.float32(1))
    return mask
