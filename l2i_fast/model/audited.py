"""The audited network: from features to logits, probabilities and named hidden maps, whatever runs it."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from l2i_fast.arguments import flag, integer, is_several, number, shown
from l2i_fast.arrays import host
from l2i_fast.backends.dispatch import find_device
from l2i_fast.backends.precision import exact_convolutions
from l2i_fast.defaults import default_settings
from l2i_fast.networks.classifier import Classifier
from l2i_fast.networks.incremental import State
from l2i_fast.networks.interpreter import Interpreter
from l2i_fast.settings import Analysis


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

    Parameters
    ----------
    classes : sequence of str
        Names of the C classes.
    analysis : Analysis
        The engine's spectrum, in which components are found and masked; its rate is that of the network's input.
    layers : sequence of str
        Names of the hidden maps that `run` returns.
    multilabel : bool
        Whether a clip may have several classes (sigmoid) or exactly one (softmax).
    decision : sequence of float, optional
        With several labels, the lowest probability at which each class is predicted; 0.5 by default.

    Attributes
    ----------
    device : torch.device
        Device of the network.
    """

    def __init__(
        self,
        classes: Sequence[str],
        analysis: Analysis,
        layers: Sequence[str],
        multilabel: bool = False,
        decision: Sequence[float] | None = None,
    ) -> None:
        self.classes = _names(classes, "classes")
        self.analysis = analysis
        self.layers = _names(layers, "layers")
        self.multilabel = flag(multilabel, "multilabel")
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
    def analyze(
        self, signals: Sequence[NDArray[np.float32]], scales: Sequence[float] | NDArray[np.float32] | None = None
    ) -> Spectra:
        """Analyse mono signals of one length, at the rate of `analysis`.

        Parameters
        ----------
        signals : sequence of B arrays (N,), float32
        scales : sequence of B floats, optional
            Divisors of the signals; their peaks by default.

        Returns
        -------
        Spectra
        """

    @abstractmethod
    def _run(self, features: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Return logits and the maps of `layers`."""

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
        """Run the network on the features of `analyze`."""
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

    @property
    @abstractmethod
    def live_filters(self) -> NDArray[np.float32] | None:
        """Filters (F, n) of the magnitudes that a stream keeps of each frame; None if it keeps the samples."""

    @abstractmethod
    def of_live(self, columns: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
        """Return the features of one signal, divided by `scale`, from what a stream has kept of n frames (n, ...)."""

    def map_frames(self, n_frames: int) -> int:
        """Return how many frames the maps of a signal of `n_frames` frames cover."""
        return n_frames

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
        """Return the network in parts that read each moment alone; None where none are known."""
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
        n_classes, n_bins = interpreter.config["n_classes"], self.analysis.n_fft // 2 + 1
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
