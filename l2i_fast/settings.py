"""What a model is made of, as plain data: the sections of a model folder's config.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Analysis:
    """From samples to what the networks and the dictionary see; one object for both directions.

    Attributes
    ----------
    sample_rate : int
        Hz.
    n_fft, hop_length : int
        Frame and hop of the Hann-windowed STFT, in samples.
    n_mels : int
        Mel bands of the classifier's input.
    amin : float
        Least mel magnitude; quieter is the same as silence: ``10 log10(amin)`` dB. The default, -60 dB, is what
        16-bit quantisation of a full-scale clip amounts to.
    peak : {"absolute", "signed"}
        Clips are divided by their absolute peak before analysis, or by the signed maximum as in the paper.
    """

    sample_rate: int = 44100
    n_fft: int = 1024
    hop_length: int = 512
    n_mels: int = 128
    amin: float = 1e-6
    peak: Literal["absolute", "signed"] = "absolute"

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "hop_length", "n_mels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.hop_length > self.n_fft:
            raise ValueError(f"hop_length must not exceed n_fft = {self.n_fft}, got {self.hop_length}")
        if not self.amin > 0:
            raise ValueError(f"amin must be positive, got {self.amin}")
        if self.peak not in ("absolute", "signed"):
            raise ValueError(f"peak must be 'absolute' or 'signed', got {self.peak!r}")


@dataclass(frozen=True)
class Selection:
    """Which components make an interpretation, and how they mask the input.

    Attributes
    ----------
    threshold : float
        tau: components with a relevance above it are selected.
    top_k : int or None
        At most so many, the most relevant ones; None is all of them.
    domain : {"log", "magnitude"}
        Whether the mask acts on the logarithmic magnitude (the paper) or on the magnitude.
    """

    threshold: float = 0.2
    top_k: int | None = 5
    domain: Literal["log", "magnitude"] = "log"

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold must lie in [0, 1), got {self.threshold}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, or None for no limit, got {self.top_k}")
        if self.domain not in ("log", "magnitude"):
            raise ValueError(f"domain must be 'log' or 'magnitude', got {self.domain!r}")


def from_dict(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build the dataclass `cls`, nested ones too, from plain data; `where` names the source in errors.

    Raises
    ------
    ValueError
        An unknown key, or a value that is not of the field's kind.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be an object with named values, got {values!r}")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(f"{where} has no setting {unknown[0]!r}; it has {', '.join(sorted(fields))}")
    made: dict[str, Any] = {}
    for name, value in values.items():
        factory = fields[name].default_factory
        default = fields[name].default if factory is dataclasses.MISSING else factory()
        if dataclasses.is_dataclass(default):
            value = from_dict(type(default), value, f"{where}.{name}")
        elif isinstance(default, tuple):
            value = tuple(tuple(v) if isinstance(v, list) else v for v in value)
        elif isinstance(default, bool) != isinstance(value, bool) and default is not None:
            raise ValueError(f"{where}.{name} must be a {type(default).__name__}, got {value!r}")
        elif isinstance(default, float) and isinstance(value, int):
            value = float(value)
        elif default is not None and value is not None and not isinstance(value, type(default)):
            raise ValueError(f"{where}.{name} must be a {type(default).__name__}, got {value!r}")
        made[name] = value
    return cls(**made)
