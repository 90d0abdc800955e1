"""The interface of methods that explain an audited network in sound."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from l2i_fast.arguments import is_several, shown
from l2i_fast.arrays import host
from l2i_fast.defaults import default_settings
from l2i_fast.model import L2I, Answers, AuditedNetwork, Spectra, SpectralNetwork, require_spectral
from l2i_fast.model.batches import explain_batches
from l2i_fast.progress import Report
from l2i_fast.results import Explanation, Result
from l2i_fast.results.masking import apply_mask
from l2i_fast.settings import Domain

Float32 = NDArray[np.float32]


class Heard(NamedTuple):
    """B signals of one length, with their analysis and what the network answers, without gradients.

    Attributes
    ----------
    signals : sequence of B arrays (N,), float32
    X : ndarray or, on a GPU, Tensor (B, F, T), complex64
        Spectra of the signals scaled to their peak.
    features : Tensor (B, 1, T, n_mels), float32
        The network's input.
    logits : Tensor (B, C)
    maps : dict of Tensors (B, channels, time, frequency)
        See `Answers`.
    """

    signals: Sequence[Float32]
    X: Any
    features: Tensor
    logits: Tensor
    maps: dict[str, Tensor]


class Evidence(NamedTuple):
    """What a method finds for one class in one signal.

    Attributes
    ----------
    mask : ndarray, broadcast to (F, T), float32
        Between 0 (removed) and 1 (kept), on the engine's STFT of the signal scaled to its peak.
    relevance : ndarray (R,), float32
        Of the attributes or blocks that the method weighs, the largest 1; empty where it weighs none.
    components : tuple of int
        Those that make the mask, most relevant first.
    supported : bool
        Whether anything supports the class.
    own_probabilities : ndarray (C,), float32, or None
        Those of the method's own classifier, if it has one.
    """

    mask: Float32
    relevance: Float32 = np.zeros(0, np.float32)
    components: tuple[int, ...] = ()
    supported: bool = True
    own_probabilities: Float32 | None = None


class Explainer(ABC):
    """A method that explains the decisions of an audited network in sound.

    It uses the interface of the network and nothing else of a model.

    Parameters
    ----------
    network : AuditedNetwork

    Attributes
    ----------
    name : str
        Of the method on the command line and in tables.
    title : str
        Of the method on pages.
    paper : str
        Its source.
    domain : {"log", "magnitude", "wiener"}
        Where its masks act.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    domain: ClassVar[Domain] = "magnitude"

    def __init__(self, network: AuditedNetwork) -> None:
        if not hasattr(network, "map_frames"):
            raise TypeError(f"network is {shown(network)}, but an AuditedNetwork is needed")
        self.network = network

    @classmethod
    def for_model(cls, model: L2I) -> Self:
        """Return the method for the network of a model, with its default settings."""
        return cls(model.network)

    def on(self, network: AuditedNetwork) -> Self:
        """Return the method for another network of the same form, such as one with random weights.

        What the method has learned stays as it is.
        """
        twin = copy.copy(self)
        twin.network = network
        return twin

    @property
    def settings(self) -> dict[str, Any]:
        """The analysis and the method's own settings, as results hold them."""
        return {**dataclasses.asdict(self.network.analysis), "domain": self.domain}

    @default_settings()
    def explain(self, recordings: Iterable[Any], targets: Sequence[Any] | None = None) -> list[Result]:
        """Explain what the network hears in recordings.

        Parameters
        ----------
        recordings : iterable of path-like or (samples, sample_rate)
            Of any lengths and rates; see `L2I.interpret`.
        targets : sequence, optional
            For each recording a class, several, or None for the predicted ones, which are the default for all.

        Returns
        -------
        list of Result
            In the order of the recordings.

        Raises
        ------
        ValueError, TypeError, OSError
            A recording that cannot be read, an unknown class, or another number of targets than of recordings.
        """
        if not is_several(recordings):
            raise TypeError(f"recordings is {shown(recordings)}, but must be a list of recordings")
        sources = list(recordings)
        wanted: list[list[int] | None] = [None] * len(sources)
        if targets is not None:
            if not is_several(targets) or len(targets) != len(sources):
                needed = f"a list with an entry for each of {len(sources)} recordings"
                raise ValueError(f"targets is {shown(targets)}, but must be {needed}")
            wanted = [None if target is None else self.network.find_classes(target) for target in targets]
        rate = self.network.analysis.sample_rate
        return list(explain_batches(zip(sources, wanted, strict=True), rate, self.explain_equal))

    @abstractmethod
    def explain_equal(self, signals: Sequence[Float32], wanted: Sequence[Sequence[int] | None]) -> list[Result]:
        """Explain mono signals (N,) of one length, at the network's rate; `wanted` holds classes as in `explain`."""


class MaskExplainer(Explainer):
    """A method whose results are made of masks alone: a subclass implements `find`."""

    def explain_equal(self, signals: Sequence[Float32], wanted: Sequence[Sequence[int] | None]) -> list[Result]:
        """Explain signals of one length: see `Explainer.explain_equal`."""
        network = self.network
        spectra = network.analyze(signals)
        with torch.inference_mode():
            answers = network.run(spectra.features)
            probabilities = host(network.probabilities(answers.logits))
        predicted = [network.predict(p) for p in probabilities]
        targets = [predicted[b] if chosen is None else list(chosen) for b, chosen in enumerate(wanted)]
        rows = [b for b, chosen in enumerate(targets) for _ in chosen]
        flat = [c for chosen in targets for c in chosen]
        found = iter(self.find(_heard(signals, spectra, answers, rows), flat) if rows else ())
        settings, results = self.settings, []
        for b, y in enumerate(signals):
            explanations, own = [], None
            for target in targets[b]:
                evidence = next(found)
                own = evidence.own_probabilities
                explanations.append(
                    Explanation(
                        target=target,
                        label=network.classes[target],
                        probability=float(probabilities[b, target]),
                        supported=evidence.supported,
                        relevance=evidence.relevance,
                        components=evidence.components,
                        audio=apply_mask(y, evidence.mask, settings),
                        mask=np.broadcast_to(evidence.mask, spectra.X.shape[1:]),
                    )
                )
            results.append(
                Result(
                    source="",
                    sample_rate=network.analysis.sample_rate,
                    input=np.asarray(y),
                    labels=network.classes,
                    probabilities=probabilities[b],
                    prediction=tuple(network.classes[c] for c in predicted[b]),
                    activations=np.zeros((0, spectra.X.shape[2]), np.float32),
                    dictionary=np.zeros((spectra.X.shape[1], 0), np.float32),
                    explanations=explanations,
                    settings=settings,
                    method=self.name,
                    own_probabilities=own,
                )
            )
        return results

    @abstractmethod
    def find(self, heard: Heard, targets: Sequence[int]) -> list[Evidence]:
        """Return the evidence for one class in each of B signals."""


class SpectralExplainer(MaskExplainer):
    """A method that works on the network's input, which must be made of the engine's spectrum.

    Raises
    ------
    TypeError
        A network with a front end of its own.
    """

    network: SpectralNetwork

    def __init__(self, network: AuditedNetwork) -> None:
        super().__init__(network)
        require_spectral(network, f"the method {self.name}")


class FittedExplainer(SpectralExplainer):
    """A method that learns from recordings before it explains."""

    #: Whether `fit` or `load` was called.
    fitted: bool = False

    @abstractmethod
    def fit(self, recordings: Sequence[Any], folder: Path, report: Report, seed: int = 0) -> Self:
        """Learn from recordings, or read what an earlier call with the same ones has learned.

        Parameters
        ----------
        recordings : sequence of path-like or (samples, sample_rate)
        folder : Path
            Keeps what is learned, and checkpoints from which an interrupted call resumes.
        report : callable
            Receives the progress.
        seed : int

        Raises
        ------
        ValueError
            A folder made with other recordings, settings or another network.
        """

    def _require_fit(self) -> None:
        if not self.fitted:
            raise ValueError(f"{self.name} has not learned yet, but must learn from recordings first: call fit")


def _heard(signals: Sequence[Float32], spectra: Spectra, answers: Answers, rows: list[int]) -> Heard:
    """Return signals and answers, each as often as `rows` has it."""
    maps = {name: x[rows] for name, x in answers.maps.items()}
    return Heard([signals[b] for b in rows], spectra.X[rows], spectra.features[rows], answers.logits[rows], maps)
