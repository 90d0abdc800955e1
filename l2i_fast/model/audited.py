"""The audited network: from features to logits, probabilities and named hidden maps, whatever runs it."""

from __future__ import annotations

import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from l2i_fast.arguments import flag, integer, is_several, number, shown
from l2i_fast.arrays import host
from l2i_fast.audio import scale_to_peak
from l2i_fast.backends.dispatch import find_device
from l2i_fast.backends.precision import exact_convolutions
from l2i_fast.defaults import default_settings
from l2i_fast.model.front_end import FrontEnd
from l2i_fast.networks.classifier import Classifier
from l2i_fast.networks.evaluating import evaluating
from l2i_fast.networks.hidden import HiddenMaps
from l2i_fast.networks.incremental import IncrementalNetwork, State, why_not_incremental
from l2i_fast.networks.interpreter import Interpreter


class Answers(NamedTuple):
    """Output of an audited network for B inputs.

    Attributes
    ----------
    logits : Tensor (B, C), float32
    maps : dict of Tensors (B, channels, time, frequency), float32
        Output of each audited layer, in the order of `AuditedNetwork.layers`.
    """

    logits: Tensor
    maps: dict[str, Tensor]


class Spectra(NamedTuple):
    """Analysis of B signals of one length by a front end: see `AuditedNetwork.analyze`.

    Attributes
    ----------
    X : ndarray or, on a GPU, Tensor (B, F, T), complex64
        Spectra of the scaled signals.
    V : ndarray or Tensor (B, F, T), float32
        ``log(1 + |X|)``.
    scales : ndarray (B,), float32
        Divisors of the signals.
    features : Tensor (B, 1, T, n_mels), float32
        The network's input.
    """

    X: Any
    V: Any
    scales: NDArray[np.float32]
    features: Tensor


class Differentiable(NamedTuple):
    """A torch module that gradients pass through: see `AuditedNetwork.differentiable`.

    Attributes
    ----------
    module : nn.Module
        From features (B, 1, T, n_mels), at least `min_frames` of them, to logits (B, C). Its weights need no gradients,
        no activation works in place, and nobody else has hooks on it.
    layers : dict
        The submodule behind each name in `AuditedNetwork.layers`.
    """

    module: nn.Module
    layers: dict[str, nn.Module]

    def maps(self, features: Tensor) -> list[Tensor]:
        """Return the outputs of `layers` for features (B, 1, T, n_mels), in their order."""
        found: dict[str, Tensor] = {}

        def keep(name: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
            found[name] = output

        hooks = [layer.register_forward_hook(functools.partial(keep, name)) for name, layer in self.layers.items()]
        try:
            self.module(features)
        finally:
            for hook in hooks:
                hook.remove()
        return [found[name] for name in self.layers]

    def after(self, layer: str, features: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function from the output of a layer to the logits, through which gradients pass.

        A `Classifier` runs only what follows one of its own layers. Any other module runs as a whole, and its layer's
        output is replaced, since only the module knows which of its parts follow.

        Parameters
        ----------
        layer : str
            A name in `layers`.
        features : Tensor (1, 1, T, n_mels)
            What the module runs on.

        Returns
        -------
        callable
            Takes the output of the layer, of any number of items, and returns logits for each.
        """
        if isinstance(self.module, Classifier) and layer in Classifier.layers:
            return functools.partial(self.module.after, layer)

        def replace(x: Tensor) -> Tensor:
            hook = self.layers[layer].register_forward_hook(lambda *_: x)
            try:
                logits: Tensor = self.module(features.expand(len(x), -1, -1, -1))
            finally:
                hook.remove()
            return logits

        return replace


class Local(NamedTuple):
    """A part of a network that reads each moment alone.

    Attributes
    ----------
    run : callable
        From a map (B, channels, T, frequency) to a map of ``T // stride`` columns. Column j depends only on the
        columns from ``stride j - reach`` to ``stride (j + 1) + reach``, the last one excluded.
    stride, reach : int
    """

    run: Callable[[Tensor], Tensor]
    stride: int
    reach: int


class Split(NamedTuple):
    """A network in parts, of which the first ones read each moment alone: see `AuditedNetwork.split`.

    Attributes
    ----------
    local : tuple of Local
        One after another, from features (B, 1, T, n_mels) on.
    rest : callable
        From the map of the last of them to logits (B, C).
    """

    local: tuple[Local, ...]
    rest: Callable[[Tensor], Tensor]


class Incremental(Protocol):
    """Interface of networks that follow signals frame by frame: see `IncrementalNetwork`."""

    @property
    def history(self) -> int:
        """Frames, counted back from the newest one, that an answer depends on."""

    def first_frame(self, n_frames: int) -> int:
        """Return the latest frame at which a state may begin to answer as of `n_frames` frames."""

    def begin(self, first_frame: int = 0) -> State:
        """Return a state for a signal that is fed from `first_frame` on."""

    def advance(self, states: Sequence[State], columns: Tensor) -> tuple[Tensor, Tensor]:
        """Feed the next frames (B, n, n_mels) of B signals; return logits (B, C) and pooled activations (B, K)."""


def _names(names: Sequence[str], what: str) -> tuple[str, ...]:
    several = isinstance(names, Sequence) and not isinstance(names, str)
    if not several or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{what} is {shown(names)}, but must be a list of names")
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(f"{what} names {twice[0]!r} twice, but each name must stand once")
    return tuple(names)


def _kind(answer: Any) -> str:
    return f"a tensor of shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"


class AuditedNetwork(ABC):
    """Interface of the network under audit: everything else in the package uses only this.

    A subclass for another runtime implements `_run`, and `to` where it has weights to move.

    Parameters
    ----------
    classes : sequence of str
        Names of the C classes.
    front_end : FrontEnd
        Makes the network's input.
    layers : sequence of str
        Names of the hidden maps that `run` returns.
    multilabel : bool
        Whether a clip may have several classes (sigmoid) or exactly one (softmax).
    decision : sequence of float, optional
        With several labels, the lowest probability at which each class is predicted; 0.5 by default.
    min_frames : int
        Fewest frames that the network takes; shorter inputs are padded with silence.

    Attributes
    ----------
    device : torch.device
        Device of the network.
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
        self.classes = _names(classes, "classes")
        self.front_end = front_end
        self.layers = _names(layers, "layers")
        self.multilabel = flag(multilabel, "multilabel")
        self.min_frames = integer(min_frames, "min_frames")
        self.device = torch.device("cpu")
        if decision is None:
            decision = (0.5,) * len(self.classes)
        if not is_several(decision):
            raise TypeError(f"decision is {shown(decision)}, but must be a list of probabilities")
        self.decision = tuple(number(p, f"decision[{i}]", 0, 1) for i, p in enumerate(decision))
        if len(self.decision) != len(self.classes):
            n, needed = len(self.decision), len(self.classes)
            raise ValueError(f"decision has length {n}, but one probability for each of {needed} classes is needed")

    @abstractmethod
    def _run(self, features: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Return logits and the maps of `layers` for features of at least `min_frames` frames."""

    def to(self, device: str | torch.device) -> Self:
        """Move the network to a device, "cpu" or a GPU ("cuda", "cuda:1"); return the network itself.

        Raises
        ------
        ValueError
            This machine has no such device.
        """
        self.device = find_device(device)
        return self

    @default_settings()
    def run(self, features: Tensor) -> Answers:
        """Run the network on features (B, 1, T, n_mels) of any number of frames.

        Maps of inputs shorter than `min_frames` are those of the padded input.
        """
        features = self.padded(features)
        with exact_convolutions(self.device):
            logits, maps = self._run(features)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise ValueError(f"the network returns {_kind(logits)}, but logits of shape (B, C) are needed")
        if logits.shape[-1] != len(self.classes):
            raise ValueError(
                f"classes has length {len(self.classes)}, but the network returns {logits.shape[-1]} logits"
            )
        named = dict(zip(self.layers, maps, strict=True))
        for name, values in named.items():
            if not isinstance(values, Tensor) or values.ndim != 4:
                needed = "a map of shape (B, channels, time, frequency)"
                raise ValueError(f"the layer {name!r} returns {_kind(values)}, but {needed} is needed")
        return Answers(logits.float(), {name: x.float() for name, x in named.items()})

    def padded(self, features: Tensor) -> Tensor:
        """Return features (B, 1, T, n_mels) with silence behind them up to `min_frames` frames."""
        short = self.min_frames - features.shape[2]
        return F.pad(features, (0, 0, 0, short), value=self.front_end.silence) if short > 0 else features

    @default_settings()
    @torch.inference_mode()
    def analyze(
        self, signals: Sequence[NDArray[np.float32]], scales: Sequence[float] | NDArray[np.float32] | None = None
    ) -> Spectra:
        """Analyse mono signals of one length, at the front end's rate.

        Parameters
        ----------
        signals : sequence of B arrays (N,), float32
        scales : sequence of B floats, optional
            Divisors of the signals; their peaks by default.

        Returns
        -------
        Spectra
        """
        if scales is None:
            scales = [scale_to_peak(y, self.front_end.analysis.peak)[1] for y in signals]
        divisors = np.asarray(scales, np.float32)
        X, V, features = self.front_end.analyze(np.stack(signals) / divisors[:, None], self.device)
        return Spectra(X, V, divisors, features)

    @default_settings()
    @torch.inference_mode()
    def classify(
        self, signals: Sequence[NDArray[np.float32]], scales: Sequence[float] | NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return the probabilities (B, C) of mono signals of one length: see `analyze`."""
        p: NDArray[np.float32] = host(self.probabilities(self.run(self.analyze(signals, scales).features).logits))
        return p

    def differentiable(self) -> Differentiable:
        """Return a torch module of the network that gradients pass through.

        Raises
        ------
        ValueError
            A network without gradients.
        """
        raise ValueError(
            f"the network is a {type(self).__name__}, which has no gradients, but a TorchNetwork is needed"
        )

    def split(self) -> Split | None:
        """Return the network in parts for inputs of at least `min_frames` frames; None where none are known."""
        return None

    def randomized(self, layers: Iterable[str], seed: int = 0) -> AuditedNetwork:
        """Return a copy of the network with new random weights in some of its `weighted` layers.

        Raises
        ------
        ValueError
            A network whose weights are not known.
        """
        raise ValueError(
            f"the network is a {type(self).__name__}, whose weights are unknown, but a TorchNetwork is needed"
        )

    @property
    def weighted(self) -> tuple[str, ...]:
        """Names of the layers that hold weights, from the input to the output."""
        return ()

    @default_settings()
    @torch.no_grad()
    def map_channels(self) -> tuple[int, ...]:
        """Return the number of channels of each map, in the order of `layers`, found by a run on silence."""
        shape = (1, 1, self.min_frames, self.front_end.analysis.n_mels)
        silence = torch.full(shape, self.front_end.silence, dtype=torch.float32, device=self.device)
        return tuple(x.shape[1] for x in self.run(silence).maps.values())

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the softmax or, with several labels, the sigmoid of logits (B, C)."""
        return logits.sigmoid() if self.multilabel else logits.softmax(1)

    def predict(self, probabilities: NDArray[np.float32]) -> list[int]:
        """Return the indices of the predicted classes, most probable first, from probabilities (C,)."""
        if not self.multilabel:
            return [int(probabilities.argmax())]
        order = np.argsort(-probabilities, kind="stable")
        return [int(c) for c in order if probabilities[c] >= self.decision[c]]

    def find_classes(self, targets: int | str | Iterable[int | str]) -> list[int]:
        """Return the indices of the classes that `targets` names, each once.

        Raises
        ------
        ValueError
            A name or an index of no class.
        """
        several: Any = targets if is_several(targets) else [targets]
        return list(dict.fromkeys(self._find_class(target) for target in several))

    def _find_class(self, target: Any) -> int:
        if isinstance(target, str) and target in self.classes:
            return self.classes.index(target)
        try:
            return integer(target, "targets", 0, len(self.classes) - 1)
        except (TypeError, ValueError):
            raise ValueError(
                f"targets names {shown(target)}, but must name classes ({', '.join(self.classes)}) or hold indices "
                f"from 0 to {len(self.classes) - 1}"
            ) from None

    def check_interpreter(self, interpreter: Interpreter) -> None:
        """Check that an interpreter is for these classes and for spectra of this length.

        Raises
        ------
        ValueError
            It is not.
        """
        n_classes, n_bins = interpreter.config["n_classes"], self.front_end.analysis.n_fft // 2 + 1
        if n_classes != len(self.classes):
            raise ValueError(f"interpreter has {n_classes} classes, but the network has {len(self.classes)}")
        if interpreter.dictionary.shape[0] != n_bins:
            shape = tuple(interpreter.dictionary.shape)
            raise ValueError(f"the interpreter's dictionary has shape {shape}, but ({n_bins}, K) is needed")

    def why_not_incremental(self, interpreter: nn.Module) -> str | None:
        """Return why network and interpreter cannot follow a signal frame by frame; None if they can."""
        return f"the network is a {type(self).__name__}, and only a TorchNetwork runs incrementally"

    def incremental(self, interpreter: nn.Module, window_frames: int) -> Incremental:
        """Return network and interpreter as they follow signals frame by frame over a window.

        Raises
        ------
        ValueError
            Networks that cannot: see `why_not_incremental`.
        """
        raise ValueError(f"these networks cannot run incrementally: {self.why_not_incremental(interpreter)}")


class TorchNetwork(AuditedNetwork):
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
