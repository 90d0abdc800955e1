"""L2I: a classifier, its interpreter and the settings of both, as one model that answers with sound."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from l2i_fast.arrays import host, is_tensor, on_device
from l2i_fast.audio import read_audio, scale_to_peak
from l2i_fast.backends.dispatch import exact_convolutions, find_device
from l2i_fast.files import write_whole
from l2i_fast.networks.classifier import Classifier
from l2i_fast.networks.hidden import HiddenMaps
from l2i_fast.networks.interpreter import Interpreter
from l2i_fast.ops.analyze import analyze
from l2i_fast.ops.soft_mask import Domain, decode
from l2i_fast.results.result import Explanation, Result
from l2i_fast.settings import Analysis, Selection, from_dict

if TYPE_CHECKING:
    from l2i_fast.stream import Stream, StreamPool, StreamSettings
    from l2i_fast.stream.stream import Mode

#: Version of the layout of a model folder.
FORMAT = 1
#: Clips of equal length that go through the networks together: at most so many, of at most so many samples.
_BATCH, _BATCH_SAMPLES = 16, 8_000_000


class L2I:
    """A trained classifier that can be asked why, in sound.

    Parameters
    ----------
    classifier : nn.Module
        Takes log-mel spectrograms (B, 1, T, n_mels) in dB; answers with logits (B, C).
    interpreter : Interpreter
        Psi, Theta and the dictionary.
    classes : sequence of str
        Names of the C classes.
    layers : sequence of str
        The classifier's modules whose outputs Psi reads.
    analysis, selection
        How sound is analysed, and which components make an interpretation.
    multilabel : bool
        Whether a clip may hold several classes (sigmoid) or just one (softmax).
    decision : sequence of float, optional
        With several labels, the probability of each class from which on it is predicted; 0.5 by default.
    name : str
        Name of the model, for reports.
    training : mapping
        What the model was trained with, kept with it.
    """

    def __init__(
        self,
        classifier: nn.Module,
        interpreter: Interpreter,
        classes: Sequence[str],
        layers: Sequence[str] = Classifier.layers,
        analysis: Analysis = Analysis(),  # noqa: B008 - frozen
        selection: Selection = Selection(),  # noqa: B008 - frozen
        multilabel: bool = False,
        decision: Sequence[float] | None = None,
        name: str = "",
        training: Mapping[str, Any] | None = None,
    ) -> None:
        #: What is saved; what runs is made of it here, once.
        self.classifier = classifier.eval()
        self.interpreter = interpreter.eval()
        network = classifier.fused() if isinstance(classifier, Classifier) else classifier
        for part in (network, interpreter):  # two to three times faster convolutions on the CPU
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.hidden = HiddenMaps(network, layers)
        self.classes = tuple(classes)
        self.analysis = analysis
        self.selection = selection
        self.multilabel = multilabel
        self.decision = tuple(decision) if decision is not None else (0.5,) * len(self.classes)
        self.name = name
        self.training = dict(training or {})
        if len(self.decision) != len(self.classes):
            raise ValueError(
                f"decision must hold a probability for each of {len(self.classes)} classes, got {len(self.decision)}"
            )
        #: W (F, K).
        self.dictionary: NDArray[np.float32] = interpreter.dictionary.detach().numpy()
        #: Where networks and operations run: see `to`.
        self.device = torch.device("cpu")

    @property
    def sample_rate(self) -> int:
        """Rate, in Hz, at which the model hears and answers."""
        return self.analysis.sample_rate

    @property
    def settings(self) -> dict[str, Any]:
        """What a result is made with: the model's name, the analysis and the selection."""
        return {
            "model": self.name,
            **dataclasses.asdict(self.analysis),
            **dataclasses.asdict(self.selection),
        }

    def __repr__(self) -> str:
        n_components = self.dictionary.shape[1]
        return f"L2I({self.name!r}, {len(self.classes)} classes, {n_components} components, {self.sample_rate} Hz)"

    def to(self, device: str | torch.device) -> L2I:
        """Move networks and operations to a device, "cpu" or a GPU ("cuda", "cuda:1"); returns the model itself.

        What the model answers stays on the CPU; streams run there, too.

        Raises
        ------
        ValueError
            No such device is here.
        """
        self.device = find_device(device)
        for part in (self.hidden.network, self.interpreter):
            part.to(self.device)
        return self

    # ---- on disk

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write config.json and model.safetensors into `folder`, each whole or not at all.

        Raises
        ------
        ValueError
            The classifier is not one that `load` could build again from its configuration.
        """
        if not isinstance(self.classifier, Classifier):
            raise ValueError(
                f"save knows how to write the classifier of l2i_fast.networks, got {type(self.classifier).__name__}"
            )
        folder = Path(folder)
        config = {
            "format": FORMAT,
            "name": self.name,
            "classes": list(self.classes),
            "multilabel": self.multilabel,
            "decision": list(self.decision),
            "analysis": dataclasses.asdict(self.analysis),
            "selection": dataclasses.asdict(self.selection),
            "classifier": self.classifier.config,
            "layers": list(self.hidden.layers),
            "interpreter": self.interpreter.config,
            "training": self.training,
        }
        weights = {f"classifier.{k}": v for k, v in self.classifier.state_dict().items()}
        weights |= {f"interpreter.{k}": v for k, v in self.interpreter.state_dict().items()}
        weights = {k: v.cpu().contiguous() for k, v in weights.items() if not k.endswith("num_batches_tracked")}
        write_whole(folder / "model.safetensors", lambda p: p.write_bytes(save(weights)))
        write_whole(folder / "config.json", lambda p: p.write_text(json.dumps(config, indent=2) + "\n"))
        return folder

    @classmethod
    def load(cls, name_or_folder: str | os.PathLike[str]) -> L2I:
        """Read a model: the name of one that ships with the package, or a folder made by `save`.

        Nothing is unpickled and nothing is fetched.

        Raises
        ------
        ValueError
            No such model, or a folder whose files are not a model of this format.
        """
        folder = find_model(name_or_folder)
        config_file, weights_file = folder / "config.json", folder / "model.safetensors"
        try:
            config = json.loads(config_file.read_text())
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{config_file} cannot be read as JSON: {error}") from error
        if not isinstance(config, dict) or config.get("format") != FORMAT:
            found = config.get("format") if isinstance(config, dict) else None
            raise ValueError(f"{config_file} must have format {FORMAT}, got {found!r}")
        try:
            weights = load_file(weights_file)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{weights_file} cannot be read as safetensors: {error}") from error
        try:
            classifier = Classifier(**config["classifier"])
            interpreter = Interpreter(weights["interpreter.dictionary"].clone(), **config["interpreter"])
            for part, module in (("classifier.", classifier), ("interpreter.", interpreter)):
                state = {k.removeprefix(part): v for k, v in weights.items() if k.startswith(part)}
                counters = {k for k in module.state_dict() if k.endswith("num_batches_tracked")}
                missing, unexpected = module.load_state_dict(state, strict=False)
                wrong = sorted((set(missing) - counters) | set(unexpected))
                if wrong:
                    raise ValueError(f"the weight {part}{wrong[0]} is missing or too much")
            return cls(
                classifier,
                interpreter,
                config["classes"],
                config["layers"],
                analysis=from_dict(Analysis, config["analysis"], "analysis"),
                selection=from_dict(Selection, config["selection"], "selection"),
                multilabel=config["multilabel"],
                decision=config["decision"],
                name=config["name"],
                training=config["training"],
            )
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            raise ValueError(f"{folder} does not hold a model of this format: {error}") from error

    # ---- use

    def interpret(
        self,
        source: Any,
        targets: int | str | Iterable[int | str] | None = None,
        threshold: float | None = None,
        top_k: int | EllipsisType | None = ...,
        domain: str | None = None,
    ) -> Result:
        """Classify a recording and extract what made the classifier decide so.

        Parameters
        ----------
        source : path-like or (samples, sample_rate)
            Any rate, any number of channels (they are averaged), any format that libsndfile reads; samples (N,) or
            (N, channels) as floats or integer PCM, NumPy or torch.
        targets : class names or indices, optional
            Classes to explain; by default the predicted one(s).
        threshold : float, optional
            tau in [0, 1): components more relevant than this are selected. The model's own by default.
        top_k : int or None
            At most so many components; None is no limit; the model's own setting by default.
        domain : {"log", "magnitude"}, optional
            Where the mask acts; the model's own by default.

        Returns
        -------
        Result

        Raises
        ------
        ValueError, TypeError, FileNotFoundError
            A source that cannot be read or holds NaN, an unknown class, a setting out of range.
        """
        return self.interpret_batch([source], targets, threshold, top_k, domain)[0]

    def interpret_batch(
        self,
        sources: Iterable[Any],
        targets: int | str | Iterable[int | str] | None = None,
        threshold: float | None = None,
        top_k: int | EllipsisType | None = ...,
        domain: str | None = None,
    ) -> list[Result]:
        """Interpret several recordings of any lengths; the same as `interpret` of each, in the same order.

        Recordings of equal length go through the networks together; none is padded to the length of another.
        """
        if isinstance(sources, (str, os.PathLike)):
            raise TypeError(f"sources must be a list of recordings, got {str(sources)!r}; interpret takes a single one")
        selection = self.selection_with(threshold, top_k, domain)
        wanted = None if targets is None else self.find_classes(targets)
        sources = list(sources)
        signals = [read_audio(source, self.sample_rate)[0] for source in sources]
        names = [_name(source) for source in sources]
        by_length: dict[int, list[int]] = {}
        for i, y in enumerate(signals):
            by_length.setdefault(len(y), []).append(i)
        results: dict[int, Result] = {}
        for length, indices in by_length.items():
            size = max(1, min(_BATCH, _BATCH_SAMPLES // length))
            for start in range(0, len(indices), size):
                batch = indices[start : start + size]
                answers = self._interpret_equal([signals[i] for i in batch], wanted, selection)
                for i, answer in zip(batch, answers, strict=True):
                    results[i] = dataclasses.replace(answer, source=names[i])
        return [results[i] for i in range(len(sources))]

    @torch.inference_mode()
    def analyze(
        self, signals: Sequence[NDArray[np.float32]], scales: Sequence[float] | NDArray[np.float32] | None = None
    ) -> Analyzed:
        """Run analysis and networks on mono signals of one length, at the model's rate.

        Parameters
        ----------
        signals : sequence of B arrays (N,), float32
        scales : sequence of B floats, optional
            What to divide the signals by; their peaks by default.

        Returns
        -------
        Analyzed
        """
        a = self.analysis
        if scales is None:
            scales = [scale_to_peak(y, a.peak)[1] for y in signals]
        divisors = np.asarray(scales, np.float32)
        y = np.stack(signals) / divisors[:, None]
        samples: Any = torch.from_numpy(y).to(self.device)
        if not on_device(samples):  # NumPy is what the native engine takes at once
            samples = y
        X, _, M = analyze(samples, a.sample_rate, a.n_mels, a.n_fft, a.hop_length, amin=a.amin)
        return Analyzed(X, divisors, *self.hear(torch.as_tensor(M.swapaxes(-1, -2)).unsqueeze(1)))

    def hear(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run the networks on log-mel spectrograms (B, 1, T, n_mels), of any number of frames.

        Returns
        -------
        logits (B, C) of the classifier, H (B, K, T), z (B, K), logits (B, C) of the interpreter
        """
        n_frames = x.shape[2]
        short = getattr(self.classifier, "min_frames", 1) - n_frames
        if short > 0:
            x = F.pad(x, (0, 0, 0, short), value=self.analysis.floor_db)
        with exact_convolutions() if self.device.type == "cuda" else nullcontext():
            logits, maps = self.hidden(x)
            H = self.interpreter.psi(maps, x.shape[2])[..., :n_frames]
            return logits, H, *self.interpreter.theta(H)

    def stream(
        self,
        samplerate: int | None = None,
        channels: int = 1,
        mode: Mode = "realtime",
        **settings: Unpack[StreamSettings],
    ) -> Stream:
        """Interpret a live signal while it happens: see `l2i_fast.stream.Stream`."""
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

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax, or sigmoid where several labels may hold, of logits (B, C)."""
        return logits.sigmoid() if self.multilabel else logits.softmax(1)

    def predict(self, probabilities: NDArray[np.float32]) -> list[int]:
        """Indices of the classes decided on, most probable first, from probabilities (C,)."""
        if not self.multilabel:
            return [int(probabilities.argmax())]
        order = np.argsort(-probabilities, kind="stable")
        return [int(c) for c in order if probabilities[c] >= self.decision[c]]

    @torch.inference_mode()
    def relevance(self, z: Tensor, target: int) -> NDArray[np.float32]:
        """Relevance (K,) of the components for a class, from pooled activations `z` (K,)."""
        relevance: NDArray[np.float32] = self.interpreter.relevance(z[None], torch.tensor([target]))[0].cpu().numpy()
        return relevance

    def select(self, relevance: NDArray[np.float32], selection: Selection) -> tuple[int, ...]:
        """Components with a relevance above the threshold, most relevant first, at most `selection.top_k`."""
        order = np.argsort(-relevance, kind="stable")[: selection.top_k]
        return tuple(int(k) for k in order if relevance[k] > selection.threshold)

    def audible(
        self, analyzed: Analyzed, b: int, components: Iterable[int], length: int, domain: Domain | None = None
    ) -> NDArray[np.float32]:
        """What some components hold of signal b of `analyzed`, as `length` samples at the signal's own level."""
        weights = np.zeros(self.dictionary.shape[1], np.float32)
        weights[list(components)] = 1
        y = decode(
            analyzed.X[b],
            self.interpreter.dictionary if is_tensor(analyzed.X) else self.dictionary,
            analyzed.H[b],
            torch.from_numpy(weights).to(self.device),
            hop_length=self.analysis.hop_length,
            domain=domain or self.selection.domain,
            length=length,
        )
        return np.asarray(host(y) * analyzed.scales[b], np.float32)

    @torch.inference_mode()
    def _interpret_equal(
        self, signals: list[NDArray[np.float32]], wanted: list[int] | None, selection: Selection
    ) -> list[Result]:
        analyzed = self.analyze(signals)
        probabilities = self.probabilities(analyzed.logits).cpu().numpy()
        results = []
        for b, y in enumerate(signals):
            prediction = self.predict(probabilities[b])
            H = analyzed.H[b].cpu().numpy()
            explanations = []
            for target in prediction if wanted is None else wanted:
                relevance = self.relevance(analyzed.z[b], target)
                components = self.select(relevance, selection)
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
                    dictionary=self.dictionary,
                    explanations=explanations,
                    settings={**self.settings, **dataclasses.asdict(selection)},
                )
            )
        return results

    def selection_with(
        self, threshold: float | None, top_k: int | EllipsisType | None, domain: str | None
    ) -> Selection:
        """The model's selection with what is given in its place: see `interpret`."""
        chosen: dict[str, Any] = {"threshold": threshold, "domain": domain}
        changes = {name: value for name, value in chosen.items() if value is not None}
        if top_k is not ...:
            changes["top_k"] = top_k
        return dataclasses.replace(self.selection, **changes)

    def find_classes(self, targets: int | str | Iterable[int | str]) -> list[int]:
        """Indices of the classes that `targets` names, each once."""
        if isinstance(targets, (int, str, np.integer)):
            targets = [targets]
        indices = []
        for target in targets:
            if isinstance(target, str) and target in self.classes:
                indices.append(self.classes.index(target))
            elif isinstance(target, (int, np.integer)) and 0 <= target < len(self.classes):
                indices.append(int(target))
            else:
                raise ValueError(
                    f"targets must name classes ({', '.join(self.classes)}) or hold indices from 0 to "
                    f"{len(self.classes) - 1}, got {target!r}"
                )
        return list(dict.fromkeys(indices))


@dataclasses.dataclass(frozen=True, eq=False)
class Analyzed:
    """What `L2I.analyze` finds in B signals of T frames.

    Attributes
    ----------
    X : ndarray or, on a GPU, Tensor (B, F, T), complex64
        Spectra of the signals scaled to their peak.
    scales : ndarray (B,), float32
        What the signals were divided by.
    logits : Tensor (B, C)
        Of the classifier.
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


def _name(source: Any) -> str:
    return "samples" if isinstance(source, tuple) else str(source)


def shipped_models() -> dict[str, Path]:
    """Models that come with the package: name and folder."""
    root = Path(__file__).parents[1] / "shipped"
    return {p.parent.name: p.parent for p in sorted(root.glob("*/config.json"))}


def find_model(name_or_folder: str | os.PathLike[str]) -> Path:
    """Folder of a model that ships with the package, or of one made by `L2I.save`.

    Raises
    ------
    ValueError
        Neither the name of a shipped model nor a folder with a config.json.
    """
    shipped = shipped_models()
    if isinstance(name_or_folder, str) and name_or_folder in shipped:
        return shipped[name_or_folder]
    folder = Path(name_or_folder)
    if not (folder / "config.json").is_file():
        known = ", ".join(shipped) or "none"
        raise ValueError(
            f"model must be the name of a shipped model ({known}) or a folder with a config.json, "
            f"got {str(name_or_folder)!r}"
        )
    return folder


def load(name_or_folder: str | os.PathLike[str]) -> L2I:
    """Load a model by the name of a shipped one, or from a folder: see `L2I.load`."""
    return L2I.load(name_or_folder)
