"""L2I: an audited network with its interpreter, as one model that explains its decisions in sound."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from l2i_fast.arguments import is_several, shown
from l2i_fast.arrays import host
from l2i_fast.backends.precision import exact_convolutions
from l2i_fast.defaults import default_settings
from l2i_fast.model.audited import AuditedNetwork
from l2i_fast.model.batches import explain_batches
from l2i_fast.model.folder import Contents, read_model, write_model
from l2i_fast.model.windowed import WindowedNetwork
from l2i_fast.networks.evaluating import evaluating
from l2i_fast.networks.interpreter import UNEXPLAINED, Interpreter
from l2i_fast.nmf.activations import activations
from l2i_fast.ops.soft_mask import decode
from l2i_fast.results.explanation import Explanation
from l2i_fast.results.masking import fade_end
from l2i_fast.results.result import Result
from l2i_fast.settings import Analysis, Domain, Selection

if TYPE_CHECKING:
    from l2i_fast.stream import Stream, StreamPool, StreamSettings
    from l2i_fast.stream.stream import Mode

#: From the relevance (K,) and the energy (K,) of the components to those that make an interpretation.
Choice: TypeAlias = Callable[[NDArray[np.float32], NDArray[np.float32]], tuple[int, ...]]


class L2I:
    """An audited network and the interpreter that explains its decisions in sound: Listen to Interpret.

    Parameters
    ----------
    network : AuditedNetwork
        The network to explain, with its front end and its classes.
    interpreter : Interpreter
        Psi, Theta and the dictionary; reads the hidden maps of `network`.
    selection : Selection
        Which components make an interpretation.
    name : str
        Name of the model, for reports.
    training : mapping
        Record of the training, saved with the model.

    Raises
    ------
    TypeError
        A network that is not an `AuditedNetwork`, such as a bare torch module.
    ValueError
        Network and interpreter differ in their classes or in the length of their spectra.
    """

    def __init__(
        self,
        network: AuditedNetwork,
        interpreter: Interpreter,
        selection: Selection = Selection(),  # noqa: B008 - frozen
        name: str = "",
        training: Mapping[str, Any] | None = None,
    ) -> None:
        if not hasattr(network, "map_frames"):
            kind = type(network).__name__
            raise TypeError(f"network is a {kind}, but an AuditedNetwork is needed: wrap torch modules in TorchNetwork")
        if not hasattr(interpreter, "dictionary"):
            raise TypeError(f"interpreter is a {type(interpreter).__name__}, but an Interpreter is needed")
        network.check_interpreter(interpreter)
        if not isinstance(selection, Selection):
            raise TypeError(f"selection is {shown(selection)}, but a Selection is needed")
        if not isinstance(name, str):
            raise TypeError(f"name is {shown(name)}, but must be a string")
        if not isinstance(training, Mapping | None):
            raise TypeError(f"training is {shown(training)}, but must be a mapping")
        self.network = network
        # Channels last: two to three times faster convolutions on the CPU.
        self.interpreter: Interpreter = interpreter.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.selection = selection
        self.name = name
        self.training = dict(training or {})

    @property
    def dictionary(self) -> NDArray[np.float32]:
        """W (F, K): a copy of the interpreter's, whose memory torch may move, for example to share it."""
        W: NDArray[np.float32] = host(self.interpreter.dictionary).copy()
        return W

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the C classes."""
        return self.network.classes

    @property
    def analysis(self) -> Analysis:
        """Settings of the front end."""
        return self.network.analysis

    @property
    def sample_rate(self) -> int:
        """Rate of the model's input and output in Hz."""
        return self.analysis.sample_rate

    @property
    def device(self) -> torch.device:
        """Device of networks and operations: see `to`."""
        return self.network.device

    @property
    def settings(self) -> dict[str, Any]:
        """The model's name, the analysis and the selection: the settings behind a result."""
        return {
            "model": self.name,
            **dataclasses.asdict(self.analysis),
            **dataclasses.asdict(self.selection),
        }

    def __repr__(self) -> str:
        n_components = self.interpreter.dictionary.shape[1]
        return f"L2I({self.name!r}, {len(self.classes)} classes, {n_components} components, {self.sample_rate} Hz)"

    def to(self, device: str | torch.device) -> L2I:
        """Move networks and operations to a device, "cpu" or a GPU ("cuda", "cuda:1"); return the model itself.

        Results stay on the CPU; streams run there, too.

        Raises
        ------
        ValueError
            This machine has no such device.
        """
        self.network.to(device)
        self.interpreter.to(self.device)
        return self

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write config.json and model.safetensors into `folder`, each whole or not at all.

        Raises
        ------
        ValueError
            A network of a kind that `load` could not build again from its configuration.
        """
        return write_model(folder, Contents(self.network, self.interpreter, self.selection, self.name, self.training))

    @classmethod
    @default_settings()
    @torch.inference_mode(False)  # the model may be trained later
    def load(cls, name_or_folder: str | os.PathLike[str], network: WindowedNetwork | str | None = None) -> L2I:
        """Read a model: the name of one that ships with the package, or a folder made by `save`.

        Nothing is unpickled and nothing is fetched, and no code is run that a folder names.

        Parameters
        ----------
        name_or_folder : str or path-like
        network : WindowedNetwork or str, optional
            For a model that was fitted to a network of yours: that network, or the function that makes it, as
            ``file.py:function`` or ``package.module:function``.

        Raises
        ------
        ValueError
            An unknown name, a folder whose files are not a model of this format, or a network that is missing or has
            changed.
        """
        return cls(*read_model(name_or_folder, network))

    def interpret(
        self,
        source: Any,
        targets: int | str | Iterable[int | str] | None = None,
        threshold: float | None = None,
        top_k: int | EllipsisType | None = ...,
        domain: str | None = None,
    ) -> Result:
        """Classify a recording and extract the sound that made the network decide so.

        Parameters
        ----------
        source : path-like or (samples, sample_rate)
            Any rate, any number of channels (they are averaged), any format that libsndfile reads; samples (N,) or
            (N, channels) as floats or integer PCM, NumPy or torch.
        targets : class names or indices, optional
            Classes to explain; by default the predicted one(s).
        threshold : float, optional
            tau in [0, 1): components with a greater relevance are selected. The model's own by default.
        top_k : int or None
            Largest number of components; None is no limit; the model's own setting by default.
        domain : {"log", "magnitude", "wiener"}, optional
            How the mask acts; the model's own by default.

        Returns
        -------
        Result

        Raises
        ------
        ValueError, TypeError, OSError
            A source that cannot be read or holds NaN, an unknown class, a setting out of range.

        Warns
        -----
        RuntimeWarning
            A recording that ends before the length that its header states, or is damaged; see `Result.complete`.
        """
        return next(self.interpret_batch([source], targets, threshold, top_k, domain))

    @default_settings()
    def interpret_batch(
        self,
        sources: Iterable[Any],
        targets: int | str | Iterable[int | str] | None = None,
        threshold: float | None = None,
        top_k: int | EllipsisType | None = ...,
        domain: str | None = None,
    ) -> Iterator[Result]:
        """Interpret several recordings of any lengths, as `interpret` does each, in the same order.

        Recordings are read as results are asked for, so `sources` may be an iterator over any number of them. Those of
        equal length that follow one another closely go through the networks together; none is padded to the length of
        another.

        Yields
        ------
        Result
        """
        if not is_several(sources):
            raise TypeError(
                f"sources is {shown(sources)}, but must be a list of recordings; interpret takes a single one"
            )
        selection = self.selection_with(threshold, top_k, domain)
        wanted = None if targets is None else self.network.find_classes(targets)
        return explain_batches(
            ((source, wanted) for source in sources),
            self.sample_rate,
            lambda signals, wanted: self.interpret_equal(signals, wanted, selection),
        )

    @default_settings()
    @torch.inference_mode()
    def analyze(
        self, signals: Sequence[NDArray[np.float32]], scales: Sequence[float] | NDArray[np.float32] | None = None
    ) -> Analyzed:
        """Run analysis and networks on mono signals of one length, at the model's rate.

        Parameters
        ----------
        signals : sequence of B arrays (N,), float32
        scales : sequence of B floats, optional
            Divisors of the signals; their peaks by default.

        Returns
        -------
        Analyzed
        """
        X, V, divisors, features = self.network.analyze(signals, scales)
        logits, H, z, own_logits = self.hear(features, V.shape[2])
        return Analyzed(X, divisors, logits, self.fit(H, V), z, own_logits)

    @default_settings()
    def hear(self, features: Tensor, n_frames: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run the networks on the features of signals of `n_frames` frames.

        Returns
        -------
        logits (B, C) of the network, H (B, K, T), z (B, K), logits (B, C) of the interpreter
        """
        logits, maps = self.network.run(features)
        return logits, *self.read(maps, n_frames)

    @default_settings()
    def read(self, maps: Mapping[str, Tensor], n_frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """Run the interpreter on the hidden maps of the network for signals of `n_frames` frames.

        Returns
        -------
        H (B, K, T), z (B, K), logits (B, C) of the interpreter
        """
        with exact_convolutions(self.device), evaluating(self.interpreter):
            H = self.interpreter.psi(list(maps.values()), self.network.map_frames(n_frames))[..., :n_frames]
            return H, *self.interpreter.theta(H)

    def fit(self, H: Tensor, V: Any) -> Tensor:
        """Fit Psi's activations (B, K, T) to log magnitudes `V` (B, F, T): see `Interpreter.fit`."""
        n_iter = self.interpreter.updates
        if not n_iter:
            return H
        W = self.interpreter.dictionary.detach()
        V = torch.as_tensor(V)
        fitted: Tensor = activations(V, W, n_iter=n_iter, H0=H + UNEXPLAINED * (W.T @ V))
        return fitted

    def stream(
        self,
        samplerate: int | None = None,
        channels: int = 1,
        mode: Mode = "realtime",
        **settings: Unpack[StreamSettings],
    ) -> Stream:
        """Interpret a live signal as it arrives: see `l2i_fast.stream.Stream`."""
        from l2i_fast.stream import Stream

        return Stream(self, samplerate, channels, mode, **settings)

    def stream_pool(
        self,
        n: int = 0,
        samplerate: int | None = None,
        mode: Mode = "realtime",
        **settings: Unpack[StreamSettings],
    ) -> StreamPool:
        """Interpret many live signals at once: see `l2i_fast.stream.StreamPool`."""
        from l2i_fast.stream import StreamPool

        return StreamPool(self, n, samplerate, mode, **settings)

    @torch.inference_mode()
    def relevance(self, z: Tensor, target: int) -> NDArray[np.float32]:
        """Return the relevance (K,) of the components for a class, from pooled activations `z` (K,)."""
        relevance: NDArray[np.float32] = host(
            self.interpreter.relevance(z[None], torch.tensor([target], device="cpu"))[0]
        )
        return relevance

    def select(self, relevance: NDArray[np.float32], selection: Selection) -> tuple[int, ...]:
        """Return the components above the threshold, most relevant first, at most `selection.top_k`."""
        order = np.argsort(-relevance, kind="stable")[: selection.top_k]
        return tuple(int(k) for k in order if relevance[k] > selection.threshold)

    @default_settings()
    def audible(
        self, analyzed: Analyzed, b: int, components: Iterable[int], length: int, domain: Domain | None = None
    ) -> NDArray[np.float32]:
        """Decode some components of signal b of `analyzed` to `length` samples at the signal's own level."""
        W = self.interpreter.dictionary.detach()
        weights = np.zeros(W.shape[1], np.float32)
        weights[list(components)] = 1
        y = decode(
            analyzed.X[b],
            W,
            analyzed.H[b],
            torch.from_numpy(weights).to(self.device),
            hop_length=self.analysis.hop_length,
            domain=domain or self.selection.domain,
            length=length,
        )
        return fade_end(host(y) * analyzed.scales[b], self.analysis.n_fft, self.analysis.hop_length)

    @default_settings()
    @torch.inference_mode()
    def interpret_equal(
        self,
        signals: Sequence[NDArray[np.float32]],
        wanted: Sequence[Sequence[int] | None],
        selection: Selection,
        choose: Choice | None = None,
    ) -> list[Result]:
        """Interpret mono signals of one length, at the model's rate.

        Parameters
        ----------
        signals : sequence of B arrays (N,), float32
        wanted : sequence of B lists
            Indices of the classes to explain in each signal, or None for the predicted ones.
        selection : Selection
        choose : callable, optional
            From the relevance (K,) and the energy of each component (K,), ``sum_f W_fk sum_t H_kt``, to the components
            of an interpretation: `select` by default.
        """
        analyzed = self.analyze(signals)
        probabilities = host(self.network.probabilities(analyzed.logits))
        own = host(self.network.probabilities(analyzed.own_logits))
        results, dictionary = [], self.dictionary
        for b, y in enumerate(signals):
            prediction = self.network.predict(probabilities[b])
            H = host(analyzed.H[b])
            explanations = []
            energy = dictionary.sum(axis=0) * H.sum(axis=1)
            chosen = wanted[b]
            for target in prediction if chosen is None else chosen:
                relevance = self.relevance(analyzed.z[b], target)
                components = choose(relevance, energy) if choose else self.select(relevance, selection)
                audio = self.audible(analyzed, b, components, len(y), selection.domain)
                explanations.append(
                    Explanation(
                        target=target,
                        label=self.classes[target],
                        probability=float(probabilities[b, target]),
                        supported=bool(relevance.max() > 0),
                        relevance=relevance,
                        components=components,
                        audio=audio,
                    )
                )
            results.append(
                Result(
                    source="",
                    sample_rate=self.sample_rate,
                    input=y,
                    labels=self.classes,
                    probabilities=probabilities[b],
                    prediction=tuple(self.classes[c] for c in prediction),
                    activations=H,
                    dictionary=dictionary,
                    explanations=explanations,
                    settings={**self.settings, **dataclasses.asdict(selection)},
                    own_probabilities=own[b],
                )
            )
        return results

    def selection_with(
        self, threshold: float | None, top_k: int | EllipsisType | None, domain: str | None
    ) -> Selection:
        """Return the model's selection with the given settings replaced: see `interpret`."""
        chosen: dict[str, Any] = {"threshold": threshold, "domain": domain}
        changes = {name: value for name, value in chosen.items() if value is not None}
        if top_k is not ...:
            changes["top_k"] = top_k
        return dataclasses.replace(self.selection, **changes)


@dataclasses.dataclass(frozen=True, eq=False)
class Analyzed:
    """Spectra and answers of the networks for B signals of T frames: see `L2I.analyze`.

    Attributes
    ----------
    X : ndarray or, on a GPU, Tensor (B, F, T), complex64
        Spectra of the signals scaled to their peak.
    scales : ndarray (B,), float32
        Divisors of the signals.
    logits : Tensor (B, C)
        Of the network.
    H : Tensor (B, K, T)
        Activations.
    z : Tensor (B, K)
        Activations pooled over time.
    own_logits : Tensor (B, C)
        Of the interpreter.
    """

    X: Any
    scales: NDArray[np.float32]
    logits: Tensor
    H: Tensor
    z: Tensor
    own_logits: Tensor


def load(name_or_folder: str | os.PathLike[str], network: WindowedNetwork | str | None = None) -> L2I:
    """Load a model by the name of a shipped one, or from a folder: see `L2I.load`."""
    return L2I.load(name_or_folder, network)
