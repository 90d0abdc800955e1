"""Audited networks whose input is a spectrum that the engine computes, and those of them that run in torch."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from l2i_fast.arguments import flag, integer, shown
from l2i_fast.audio import scale_to_peak
from l2i_fast.backends.precision import exact_convolutions
from l2i_fast.defaults import default_settings
from l2i_fast.model.audited import Answers, AuditedNetwork, Differentiable, Incremental, Local, Spectra, Split
from l2i_fast.model.front_end import FrontEnd
from l2i_fast.networks.classifier import Classifier
from l2i_fast.networks.evaluating import evaluating
from l2i_fast.networks.hidden import HiddenMaps
from l2i_fast.networks.incremental import IncrementalNetwork, why_not_incremental
from l2i_fast.networks.interpreter import Interpreter


class SpectralNetwork(AuditedNetwork):
    """An audited network whose input is made of the engine's spectrum, such as log-mel decibels.

    A subclass for another runtime implements `_run`, and `to` where it has weights to move.

    Parameters
    ----------
    classes, layers, multilabel, decision
        See `AuditedNetwork`.
    front_end : FrontEnd
        Makes the network's input.
    min_frames : int
        Fewest frames that the network takes; shorter inputs are padded with silence.
    """

    def __init__(
        self,
        classes: Sequence[str],
        front_end: FrontEnd,
        layers: Sequence[str],
        multilabel: bool = False,
        decision: Sequence[float] | None = None,
        min_frames: int = 1,
    ) -> None:
        if not hasattr(front_end, "analysis"):
            raise TypeError(f"front_end is {shown(front_end)}, but a FrontEnd is needed, such as LogMel")
        super().__init__(classes, front_end.analysis, layers, multilabel, decision)
        self.front_end = front_end
        self.min_frames = integer(min_frames, "min_frames")

    @default_settings()
    @torch.inference_mode()
    def analyze(
        self, signals: Sequence[NDArray[np.float32]], scales: Sequence[float] | NDArray[np.float32] | None = None
    ) -> Spectra:
        """Analyse mono signals of one length; features are (B, 1, T, n_mels): see `AuditedNetwork.analyze`."""
        if scales is None:
            scales = [scale_to_peak(y, self.analysis.peak)[1] for y in signals]
        divisors = np.asarray(scales, np.float32)
        X, V, features = self.front_end.analyze(np.stack(signals) / divisors[:, None], self.device)
        return Spectra(X, V, divisors, features)

    def run(self, features: Tensor) -> Answers:
        """Run the network on features (B, 1, T, n_mels) of any number of frames.

        Maps of inputs shorter than `min_frames` are those of the padded input.
        """
        return super().run(self.padded(features))

    def padded(self, features: Tensor) -> Tensor:
        """Return features (B, 1, T, n_mels) with silence behind them up to `min_frames` frames."""
        short = self.min_frames - features.shape[2]
        return F.pad(features, (0, 0, 0, short), value=self.front_end.silence) if short > 0 else features

    @property
    def live_filters(self) -> NDArray[np.float32]:
        """Those of the front end: see `AuditedNetwork.live_filters`."""
        return self.front_end.filters

    def of_live(self, columns: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
        """Return features (1, n, n_mels): see `AuditedNetwork.of_live`."""
        return self.front_end.of_mel(columns / np.float32(scale))[None]

    def map_frames(self, n_frames: int) -> int:
        """Return `n_frames`, or `min_frames` for shorter signals: see `AuditedNetwork.map_frames`."""
        return max(n_frames, self.min_frames)

    @default_settings()
    @torch.no_grad()
    def map_channels(self) -> tuple[int, ...]:
        """Return the number of channels of each map, in the order of `layers`, found by a run on silence."""
        shape = (1, 1, self.min_frames, self.analysis.n_mels)
        silence = torch.full(shape, self.front_end.silence, dtype=torch.float32, device=self.device)
        return tuple(x.shape[1] for x in self.run(silence).maps.values())


def require_spectral(network: AuditedNetwork, what: str) -> SpectralNetwork:
    """Return a network if its input is made of the engine's spectrum, which `what` needs.

    Raises
    ------
    TypeError
        It has a front end of its own.
    """
    if not isinstance(network, SpectralNetwork):
        raise TypeError(
            f"the network is a {type(network).__name__} with a front end of its own, but {what} needs a SpectralNetwork"
        )
    return network


class TorchNetwork(SpectralNetwork):
    """An audited network that runs in torch.

    Parameters
    ----------
    module : nn.Module
        Takes features (B, 1, T, n_mels) and returns logits (B, C). It is set to evaluation, which also holds whenever
        it runs, and has hooks only then; its weights are those that are saved. If it takes no input shorter than some
        number of frames, its attribute `min_frames` says so.
    front_end, classes, multilabel, decision
        See `AuditedNetwork`.
    layers : sequence of str
        Names of submodules of `module`, as in ``module.named_modules()``; each must return one tensor.
    fold : bool
        For a `Classifier`, run a copy whose batch normalisations are folded into the convolutions: faster, and equal
        but for rounding. Without it `module` itself runs, and gradients reach its weights.

    Attributes
    ----------
    module : nn.Module
    hidden : HiddenMaps
        The module that runs.

    Raises
    ------
    ValueError
        A layer that the module does not have, or a number of decisions that is not the number of classes.
    """

    def __init__(
        self,
        module: nn.Module,
        front_end: FrontEnd,
        classes: Sequence[str],
        layers: Sequence[str] = Classifier.layers,
        multilabel: bool = False,
        decision: Sequence[float] | None = None,
        fold: bool = True,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"module is {shown(module)}, but a torch module is needed")
        super().__init__(classes, front_end, layers, multilabel, decision, getattr(module, "min_frames", 1))
        self.module = module.eval()
        running = module.fused() if flag(fold, "fold") and isinstance(module, Classifier) else module
        # Channels last: two to three times faster convolutions on the CPU.
        self.hidden = HiddenMaps(running.to(memory_format=torch.channels_last), layers)  # type: ignore[call-overload]

    def to(self, device: str | torch.device) -> Self:
        """Move the module that runs to a device: see `AuditedNetwork.to`."""
        super().to(device)
        self.hidden.network.to(self.device)
        return self

    def _run(self, features: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        return self.hidden(features)

    @torch.inference_mode(False)
    def differentiable(self) -> Differentiable:
        """Return a copy of the network that gradients pass through."""
        module = copy.deepcopy(self.hidden.network).eval().requires_grad_(False)
        for part in module.modules():
            if hasattr(part, "inplace"):
                setattr(part, "inplace", False)  # noqa: B010 - not known to mypy
        modules = dict(module.named_modules())
        return Differentiable(module, {name: modules[name] for name in self.layers})

    def split(self) -> Split | None:
        """Return the first four blocks of a `Classifier` and what follows; None for another module."""
        network = self.hidden.network
        if not isinstance(network, Classifier):
            return None

        def guarded(part: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            def run(x: Tensor) -> Tensor:
                with evaluating(network), exact_convolutions(self.device):
                    return part(x)

            return run

        blocks = [functools.partial(network.pooled_block, i) for i in range(4)]
        local = tuple(Local(guarded(block), network.stride, network.reach) for block in blocks)
        return Split(local, guarded(functools.partial(network.back, first=len(local))))

    @property
    def weighted(self) -> tuple[str, ...]:
        """Names of the layers that hold weights, from the input to the output as the module lists them."""
        return tuple(
            name
            for name, module in self.module.named_modules()
            if next(module.parameters(recurse=False), None) is not None
        )

    @torch.inference_mode(False)
    def randomized(self, layers: Iterable[str], seed: int = 0) -> TorchNetwork:
        """Return a copy whose `layers`, names of `weighted`, have the random weights that torch would start with.

        Raises
        ------
        ValueError
            A layer without weights, or one that cannot start anew.
        """
        module = copy.deepcopy(self.module)
        modules = dict(module.named_modules())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name in layers:
                if name not in self.weighted or not hasattr(modules[name], "reset_parameters"):
                    raise ValueError(
                        f"layers names {name!r}, but must name layers with weights: {', '.join(self.weighted)}"
                    )
                modules[name].reset_parameters()
        return TorchNetwork(module, self.front_end, self.classes, self.layers, self.multilabel, self.decision).to(
            self.device
        )

    def check_interpreter(self, interpreter: Interpreter) -> None:
        """Check also that an interpreter reads the maps of a `Classifier`: see `AuditedNetwork.check_interpreter`."""
        super().check_interpreter(interpreter)
        if isinstance(self.module, Classifier):  # others may not take the shortest input
            channels, read = self.map_channels(), tuple(interpreter.config["hidden_channels"])
            if channels != read:
                raise ValueError(f"interpreter reads maps of {read} channels, but those of the network have {channels}")

    def why_not_incremental(self, interpreter: nn.Module) -> str | None:
        """Return why network and interpreter cannot follow a signal frame by frame; None if they can."""
        return why_not_incremental(self.hidden.network, self.layers, interpreter)

    def incremental(self, interpreter: nn.Module, window_frames: int) -> Incremental:
        """Return an `IncrementalNetwork` of network and interpreter."""
        return IncrementalNetwork(self.hidden.network, self.layers, interpreter, window_frames, self.front_end.silence)
