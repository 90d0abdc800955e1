"""What a model is made of, as plain data: the sections of a model folder's config.json."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

#: Where a mask acts: on the logarithmic magnitude or on the magnitude.
Domain: TypeAlias = Literal["log", "magnitude"]


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
        within(self, sample_rate=(1, math.inf), n_fft=(2, math.inf), hop_length=(1, self.n_fft))
        within(self, n_mels=(1, math.inf), amin=(1e-30, math.inf))
        if self.peak not in ("absolute", "signed"):
            raise ValueError(f"peak must be 'absolute' or 'signed', got {self.peak!r}")

    @property
    def floor_db(self) -> float:
        """What silence is to the classifier, in dB."""
        return 10 * math.log10(self.amin)


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
    domain: Domain = "log"

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold must lie in [0, 1), got {self.threshold}")
        within(self, top_k=(1, math.inf))
        if self.domain not in ("log", "magnitude"):
            raise ValueError(f"domain must be 'log' or 'magnitude', got {self.domain!r}")


def within(settings: Any, **ranges: tuple[float, float]) -> None:
    """Check that numbers of a settings object, None aside, lie from the first to the second of two bounds.

    Raises
    ------
    ValueError
        Naming the setting, its value and the bounds.
    """
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            bounds = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
            raise ValueError(f"{name} must be {bounds}, got {value}")


def from_dict(cls: type[T], values: Any, where: str) -> T:
    """Build the dataclass `cls`, nested ones too, from plain data; `where` names the source in errors.

    Raises
    ------
    ValueError
        An unknown key, or a value that is not of the field's kind or out of its range.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be an object with named values, got {values!r}")
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"{where} has no setting {unknown[0]!r}; it has {', '.join(sorted(hints))}")
    return cls(**{name: _converted(value, hints[name], f"{where}.{name}") for name, value in values.items()})


def _converted(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint` says, or an error that names `where`."""
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)  # type: ignore[arg-type]
    args = get_args(hint)
    if get_origin(hint) is Literal:
        if value in args:
            return value
        raise ValueError(f"{where} must be one of {', '.join(map(repr, args))}, got {value!r}")
    if get_origin(hint) is UnionType:
        if value is None:
            return None
        return _converted(value, next(arg for arg in args if arg is not NoneType), where)
    if get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)) or (args[-1] is not ... and len(value) != len(args)):
            raise ValueError(f"{where} must be a list, got {value!r}")
        kinds = args if args[-1] is not ... else (args[0],) * len(value)
        return tuple(_converted(v, kind, where) for v, kind in zip(value, kinds, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{where} must be of type {hint.__name__}, got {value!r}")
    return value
