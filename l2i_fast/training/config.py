"""The settings of a training run; the interpreter's defaults are the paper's."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Ge, Le

from l2i_fast.arguments import LARGEST_INT
from l2i_fast.files import as_path
from l2i_fast.settings import Analysis, PositiveInt, Section, Selection, from_dict, read_json
from l2i_fast.training.stages import Theta

Count: TypeAlias = Annotated[int, Ge(0), Le(LARGEST_INT)]
Seed: TypeAlias = Annotated[int, Ge(0), Le(2**63 - 1)]
NonNegative: TypeAlias = Annotated[float, Ge(0)]
Share: TypeAlias = Annotated[float, Ge(0), Le(1)]
Dropout: TypeAlias = Annotated[float, Ge(0), Le(0.99)]
Level: TypeAlias = Annotated[float, Ge(-200), Le(200)]
Range: TypeAlias = tuple[Level, Level]
Width: TypeAlias = Annotated[float, Ge(0.01), Le(4)]


def _check_ranges(section: Section) -> None:
    for name in ("mixing_db", "snr_db"):
        low, high = getattr(section, name, (0, 0))
        if low > high:
            raise ValueError(f"{name} is {[low, high]}, but must begin with the lower level")


@dataclass(frozen=True)
class DictionaryConfig(Section):
    """Sparse NMF of the training clips: see `l2i_fast.learn_dictionary`.

    Attributes
    ----------
    max_frames : int
        Learn from at most this number of frames, drawn at random.
    mixing, mixing_db, noise, snr_db
        As in `InterpreterConfig`: with them the dictionary has components for what disturbs, too.
    """

    n_components: PositiveInt = 100
    beta_loss: float = 2.0
    sparsity: NonNegative = 0.8
    max_iter: PositiveInt = 150
    max_cosine: Share = 0.95
    max_frames: PositiveInt = 150_000
    mixing: Share = 0.0
    mixing_db: Range = (-20.0, 0.0)
    noise: Share = 0.0
    snr_db: Range = (-3.0, 20.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_ranges(self)


@dataclass(frozen=True)
class ClassifierConfig(Section):
    """The classifier and its training from scratch: AdamW, one cycle of the learning rate, averaged weights.

    Attributes
    ----------
    seed : int or None
        None is the seed of the run. With a seed of its own, the classifier stays the same while that of the run varies.
    width, embedding, dropout
        See `l2i_fast.networks.classifier.Classifier`.
    warmup : float
        Share of the steps in which the learning rate rises.
    averaging : float
        Decay of the moving average of the weights; the average is kept.
    label_smoothing : float
        Share of the target that is spread over all classes (one label only).
    mixing : float
        Parameter of the Beta distribution from which the share of the louder of two mixed clips is drawn; 0: no mixing.
    noise, snr_db : float, pair of float
        Share of the clips with added noise, half of it white, half coloured, and the range of the signal-to-noise
        ratio, in dB.
    temperature : float
        Divisor of the logits, built into the last layer after training: below 1 the classifier becomes more confident.
    warping : float
        Clips are stretched in time and in pitch by random factors of up to exp(+-warping).
    gain_db, equaliser_db : float
        Random attenuation of up to `gain_db`, random smooth gain over frequency of this standard deviation, in dB of
        the classifier's input.
    masks, mask_bands, mask_frames : int
        SpecAugment: number of masks in each direction, and their greatest width in bands and in frames.
    precision : {"float32", "bfloat16"}
        Arithmetic of the convolutions during training.
    """

    seed: Seed | None = None
    width: Width = 1.0
    embedding: PositiveInt = 256
    dropout: Dropout = 0.2
    epochs: PositiveInt = 80
    batch_size: Annotated[int, Ge(2), Le(LARGEST_INT)] = 16
    learning_rate: NonNegative = 2e-3
    weight_decay: NonNegative = 0.02
    warmup: Annotated[float, Ge(0), Le(0.99)] = 0.15
    averaging: Share = 0.99
    label_smoothing: Share = 0.05
    mixing: NonNegative = 1.0
    noise: Share = 0.0
    snr_db: Range = (-5.0, 20.0)
    temperature: Annotated[float, Ge(0.01), Le(100)] = 1.0
    warping: Share = 0.0
    gain_db: NonNegative = 6.0
    equaliser_db: NonNegative = 2.0
    masks: Count = 2
    mask_bands: PositiveInt = 20
    mask_frames: PositiveInt = 60
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_ranges(self)


@dataclass(frozen=True)
class InterpreterConfig(Section):
    """Psi and Theta, and the loss of Parekh et al. (NeurIPS 2022), section 3.2.

    ``alpha * MSE(V, W H) + beta(epoch) * fidelity + delta * mean(H)``, and, where their weights are not 0, four terms
    on what the mask of the class c that the classifier predicts keeps: ``- masked_in * log p_c(kept)
    - masked_out * log(1 - p_c(removed)) + kept * sum(log(1 + |Y|)) / sum(V)
    + steady * mean(max(0, log(1 + |Y|) - log(1 + |Y'|))^2)``, with Y' what is kept of the clip without its noise, as
    long as c is the same.

    Attributes
    ----------
    theta : {"attention", "max"}
        How activations are pooled over time.
    width : float
        Factor on the channels inside Psi.
    dropout : float or None
        See `ThetaAttention` and `ThetaMax`; None is the paper's value.
    streamable : bool
        See `Psi`; False is the paper's network.
    updates : int
        See `Interpreter.fit`; 0 is the paper's method.
    centred : bool
        Keep the mean of Theta's weights over the classes at 0 (one label only). A softmax does not notice, but the
        relevance of a component then counts what speaks for the class rather than for any class.
    anneal : bool
        Let the learning rate fall as a half cosine; the paper keeps it.
    beta : pairs (epoch, weight)
        Weight of the fidelity from the epoch on.
    shift : bool
        Rotate clips by a random time.
    crop : int
        Train on the first frames only (of the rotated clip); 0 is whole clips.
    mixing, mixing_db : float, pair of float
        Share of the clips that another clip is mixed into, and the range of its level, in dB.
    noise, snr_db : float, pair of float
        Share of the clips with added noise, half of it white, half coloured, and the range of the signal-to-noise
        ratio, in dB. The target of such inputs is what the classifier says of them.
    mask_start : int
        First epoch in which the terms on the mask count.
    softness : float
        During training a component of relevance r weighs sigmoid((r - tau) / softness) in the mask, with the threshold
        tau of the selection.
    """

    theta: Theta = "attention"
    width: Width = 1.0
    dropout: Dropout | None = None
    streamable: bool = False
    updates: Count = 0
    centred: bool = False
    epochs: PositiveInt = 35
    batch_size: PositiveInt = 32
    learning_rate: NonNegative = 2e-4
    anneal: bool = False
    alpha: NonNegative = 5.0
    beta: tuple[tuple[Count, NonNegative], ...] = ((0, 0.5), (20, 1.0))
    delta: NonNegative = 0.4
    shift: bool = False
    crop: Count = 0
    mixing: Share = 0.0
    mixing_db: Range = (-20.0, 0.0)
    noise: Share = 0.0
    snr_db: Range = (-3.0, 20.0)
    masked_in: NonNegative = 0.0
    masked_out: NonNegative = 0.0
    kept: NonNegative = 0.0
    steady: NonNegative = 0.0
    mask_start: Count = 0
    softness: Annotated[float, Ge(1e-6)] = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_ranges(self)
        if not self.beta or self.beta[0][0] != 0:
            raise ValueError(f"beta is {self.beta}, but must begin with a pair for epoch 0")
        epochs = [start for start, _ in self.beta]
        if any(later <= earlier for earlier, later in itertools.pairwise(epochs)):
            raise ValueError(f"beta has the epochs {epochs}, but each must be later than the one before")
        if self.steady and not self.noise:
            raise ValueError(f"steady is {self.steady}, but needs noise above 0, whose share of what is kept it weighs")
        if self.crop and self.crop < 128:
            raise ValueError(
                f"crop is {self.crop}, but must be 0 or at least 128, the frames that the classifier needs"
            )


@dataclass(frozen=True)
class TrainingConfig(Section):
    """One training run; saved with the model, it reproduces it.

    Attributes
    ----------
    classes : tuple of str
        Train on these classes of the dataset only; empty is all.
    decision : tuple of float
        With several labels, the lowest probability at which each class is predicted; empty is 0.5 for all.
    """

    seed: Seed = 0
    classes: tuple[str, ...] = ()
    decision: tuple[Share, ...] = ()
    analysis: Analysis = field(default_factory=Analysis)
    dictionary: DictionaryConfig = field(default_factory=DictionaryConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    interpreter: InterpreterConfig = field(default_factory=InterpreterConfig)
    selection: Selection = field(default_factory=Selection)

    def __post_init__(self) -> None:
        super().__post_init__()
        twice = next((name for name in self.classes if self.classes.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"classes names {twice!r} twice, but each class must be named once")
        n_mels = self.analysis.n_mels
        if n_mels < 128 or n_mels % 64:
            raise ValueError(f"analysis.n_mels is {n_mels}, but must be a multiple of 64 and at least 128")

    @property
    def classifier_seed(self) -> int:
        """Seed of the classifier: its own or that of the run."""
        return self.seed if self.classifier.seed is None else self.classifier.seed

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as a config file holds it."""
        return dataclasses.asdict(self)


def load_config(path: str | Path | None) -> TrainingConfig:
    """Read a configuration: a JSON file, the name of a shipped recipe (``esc10``), or None for the defaults.

    A file need only hold the settings that differ from the defaults.

    Raises
    ------
    ValueError
        No such file or recipe, not JSON, or an unknown setting.
    """
    if path is None:
        return TrainingConfig()
    recipes = {p.stem: p for p in (Path(__file__).parent / "recipes").glob("*.json")}
    file = recipes.get(str(path)) or as_path("config", path)
    if not file.is_file():
        raise ValueError(f"config is {str(path)!r}, but must be a JSON file or one of {', '.join(sorted(recipes))}")
    return from_dict(TrainingConfig, read_json(file), str(path))
