"""Everything that a training run can be told; the interpreter's defaults are the paper's."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from l2i_fast.settings import Analysis, Selection, from_dict, within

Theta = Literal["attention", "max"]


@dataclass(frozen=True)
class DictionaryConfig:
    """Sparse NMF of the training clips: see `l2i_fast.learn_dictionary`.

    Attributes
    ----------
    max_frames : int
        At most so many frames, drawn at random, are learnt from.
    """

    n_components: int = 100
    beta_loss: float = 2.0
    sparsity: float = 0.8
    max_iter: int = 150
    max_cosine: float = 0.95
    max_frames: int = 150_000

    def __post_init__(self) -> None:
        within(self, n_components=(1, math.inf), sparsity=(0, math.inf), max_iter=(1, math.inf))
        within(self, max_cosine=(0, 1), max_frames=(1, math.inf))


@dataclass(frozen=True)
class ClassifierConfig:
    """The classifier and its training from scratch: AdamW, one cycle of the learning rate, averaged weights.

    Attributes
    ----------
    width, embedding, dropout
        See `l2i_fast.networks.classifier.Classifier`.
    warmup : float
        Share of the steps in which the learning rate rises.
    averaging : float
        Decay of the moving average of the weights, which is what is kept.
    label_smoothing : float
        Share of the target that is spread over all classes (one label only).
    mixing : float
        Parameter of the Beta distribution from which the share of the louder of two mixed clips is drawn; 0: no mixing.
    warping : float
        Clips are stretched in time and in pitch by random factors of up to exp(+-warping).
    gain_db, equaliser_db : float
        Random attenuation of up to `gain_db`, random smooth gain over frequency of this standard deviation, in dB of
        the classifier's input.
    masks, mask_bands, mask_frames : int
        SpecAugment: so many masks in each direction, each of up to so many bands and frames.
    precision : {"float32", "bfloat16"}
        Arithmetic of the convolutions during training.
    """

    width: float = 1.0
    embedding: int = 256
    dropout: float = 0.2
    epochs: int = 80
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup: float = 0.15
    averaging: float = 0.99
    label_smoothing: float = 0.05
    mixing: float = 1.0
    warping: float = 0.0
    gain_db: float = 6.0
    equaliser_db: float = 2.0
    masks: int = 2
    mask_bands: int = 20
    mask_frames: int = 60
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        within(self, width=(0.01, 4), embedding=(1, math.inf), dropout=(0, 0.99), epochs=(1, math.inf))
        within(self, batch_size=(2, math.inf), learning_rate=(0, math.inf), weight_decay=(0, math.inf))
        within(self, warmup=(0, 0.99), averaging=(0, 1), label_smoothing=(0, 1), mixing=(0, math.inf), warping=(0, 1))
        within(self, masks=(0, math.inf), mask_bands=(1, math.inf), mask_frames=(1, math.inf))


@dataclass(frozen=True)
class InterpreterConfig:
    """Psi and Theta, and the loss of Parekh et al. (NeurIPS 2022), section 3.2.

    ``alpha * MSE(V, W H) + beta(epoch) * fidelity + delta * mean(H)``, and, where their weights are not 0, three terms
    on the mask m of the class that the classifier predicts: ``masked_in * CE(f(kept), class)
    - masked_out * min(CE(f(removed), class), masked_out_limit) + mask_mean * mean(m)``.

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
    anneal : bool
        Let the learning rate fall as a half cosine; the paper keeps it.
    beta : pairs (epoch, weight)
        Weight of the fidelity from that epoch on.
    shift : bool
        Rotate clips by a random time.
    crop : int
        Train on pieces of so many frames, the first ones (of the rotated clip); 0 is whole clips.
    mixing : float
        Share of the clips that are mixed with another clip at a random level of -20 to 0 dB.
    mask_start : int
        Epoch from which on the three terms on the mask count.
    softness : float
        During training a component of relevance r weighs sigmoid((r - threshold) / softness) in the mask.
    """

    theta: Theta = "attention"
    width: float = 1.0
    dropout: float | None = None
    streamable: bool = False
    epochs: int = 35
    batch_size: int = 32
    learning_rate: float = 2e-4
    anneal: bool = False
    alpha: float = 5.0
    beta: tuple[tuple[int, float], ...] = ((0, 0.5), (20, 1.0))
    delta: float = 0.4
    shift: bool = False
    crop: int = 0
    mixing: float = 0.0
    masked_in: float = 0.0
    masked_out: float = 0.0
    masked_out_limit: float = 5.0
    mask_mean: float = 0.0
    mask_start: int = 0
    softness: float = 0.05

    def __post_init__(self) -> None:
        within(self, width=(0.01, 4), dropout=(0, 0.99), epochs=(1, math.inf), batch_size=(1, math.inf))
        within(self, learning_rate=(0, math.inf), mixing=(0, 1), softness=(1e-6, math.inf))
        if not self.beta or self.beta[0][0] != 0:
            raise ValueError(f"beta must begin with a pair for epoch 0, got {self.beta}")
        if self.crop and self.crop < 128:
            raise ValueError(f"crop must be 0 or at least 128 frames, which the classifier needs, got {self.crop}")


@dataclass(frozen=True)
class TrainingConfig:
    """One training run: what is saved with the model and makes it again.

    Attributes
    ----------
    classes : tuple of str
        Train on these classes of the dataset only; empty is all.
    decision : tuple of float
        With several labels, the probability of each class from which on it is predicted; empty is 0.5 for all.
    """

    seed: int = 0
    classes: tuple[str, ...] = ()
    decision: tuple[float, ...] = ()
    analysis: Analysis = field(default_factory=Analysis)
    dictionary: DictionaryConfig = field(default_factory=DictionaryConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    interpreter: InterpreterConfig = field(default_factory=InterpreterConfig)
    selection: Selection = field(default_factory=Selection)

    def __post_init__(self) -> None:
        if not all(0 <= p <= 1 for p in self.decision):
            raise ValueError(f"decision must hold probabilities, got {self.decision}")
        if self.analysis.n_mels < 128 or self.analysis.n_mels % 64:
            raise ValueError(f"n_mels must be a multiple of 64 and at least 128, got {self.analysis.n_mels}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as it stands in a config file."""
        return dataclasses.asdict(self)


def load_config(path: str | Path | None) -> TrainingConfig:
    """Read a configuration: a JSON file, the name of a shipped recipe (``esc10``), or None for the defaults.

    A file need only hold what differs from the defaults.

    Raises
    ------
    ValueError
        No such file or recipe, not JSON, or an unknown setting.
    """
    if path is None:
        return TrainingConfig()
    recipes = {p.stem: p for p in (Path(__file__).parent / "recipes").glob("*.json")}
    file = recipes.get(str(path), Path(path))
    try:
        values = json.loads(file.read_text())
    except OSError as error:
        raise ValueError(f"config must be a JSON file or one of {sorted(recipes)}, got {str(path)!r}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from error
    return from_dict(TrainingConfig, values, str(path))
