"""The sections of a model folder's config.json, as plain data with checked values.

Sections are frozen dataclasses whose annotations state types and constraints. Pydantic checks them, strictly, when a
section is made; it is imported then and not before, so that importing this module costs little.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from annotated_types import Ge, Le, Lt

from l2i_fast.arguments import LARGEST_INT, shown
from l2i_fast.forks import importing

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

SectionT = TypeVar("SectionT", bound="Section")

#: How a mask acts: on the logarithmic magnitude, on the magnitude, or as a Wiener filter.
Domain: TypeAlias = Literal["log", "magnitude", "wiener"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)
PositiveInt: TypeAlias = Annotated[int, Ge(1), Le(LARGEST_INT)]

#: Levels of objects and lists within one another that a JSON file may have.
_JSON_LEVELS = 50


class Section:
    """Base of settings: a frozen dataclass whose values are checked against its annotations when it is made.

    Integers become floats and lists become tuples where the annotation asks for them; nothing else is converted.

    Raises
    ------
    ValueError
        A value that the annotation forbids: "threshold is 2.0, but must be less than 1".
    """

    def __post_init__(self) -> None:
        with importing:
            from pydantic import ValidationError

        cls: Any = type(self)
        given = {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(cls)}
        try:
            checked = _schema(cls).model_validate(given)
        except ValidationError as error:
            raise ValueError(_sentence(error.errors(include_url=False)[0])) from None
        for name in given:
            object.__setattr__(self, name, getattr(checked, name))


@dataclass(frozen=True)
class Analysis(Section):
    """The front end: how samples become the input of the networks and of the dictionary, and sound again.

    Attributes
    ----------
    sample_rate : int
        Hz.
    n_fft, hop_length : int
        Frame and hop of the Hann-windowed STFT, in samples.
    n_mels : int
        Mel bands of the classifier's input.
    amin : float
        Smallest mel magnitude; anything below counts as silence, ``10 log10(amin)`` dB. The default, -60 dB, is the
        16-bit quantisation noise of a full-scale clip.
    peak : {"absolute", "signed"}
        Divide clips by their absolute peak before analysis, or by their signed maximum as in the paper.
    """

    sample_rate: PositiveInt = 44100
    n_fft: Annotated[int, Ge(2), Le(LARGEST_INT)] = 1024
    hop_length: PositiveInt = 512
    n_mels: PositiveInt = 128
    amin: Annotated[float, Ge(1e-30), Le(1e30)] = 1e-6
    peak: Literal["absolute", "signed"] = "absolute"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hop_length > self.n_fft:
            raise ValueError(f"hop_length is {self.hop_length}, but must be at most n_fft, {self.n_fft}")

    @property
    def floor_db(self) -> float:
        """Level of silence in the classifier's input, in dB."""
        return 10 * math.log10(self.amin)


@dataclass(frozen=True)
class Selection(Section):
    """Which components make an interpretation, and how they mask the input.

    Attributes
    ----------
    threshold : float
        tau: components with a greater relevance are selected.
    top_k : int or None
        Largest number of components, the most relevant ones; None is no limit.
    domain : {"log", "magnitude", "wiener"}
        Whether the mask acts on the logarithmic magnitude (the paper), on the magnitude, or as a Wiener filter: see
        `l2i_fast.soft_mask`.
    """

    threshold: Annotated[float, Ge(0), Lt(1)] = 0.2
    top_k: PositiveInt | None = 5
    domain: Domain = "log"


def read_json(file: Path) -> Any:
    """Read a JSON file in UTF-8.

    Raises
    ------
    ValueError
        For anything else, also for what Python's parser lets through: NaN and infinity, a name that an object has
        twice, and lists or objects nested more than 50 deep.
    """
    try:
        text = file.read_text("utf-8-sig")
        values = json.loads(text, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_object)
        if _deeper(values, _JSON_LEVELS):
            raise RecursionError
    except RecursionError:
        raise ValueError(f"{file} cannot be read as JSON: it is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as JSON: {error}") from error
    return values


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"it holds {number}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has {twice!r} twice")
    return values


def _deeper(values: Any, levels: int) -> bool:
    """Tell whether lists and objects are nested more than `levels` deep."""
    inner = values.values() if isinstance(values, dict) else values if isinstance(values, list) else None
    return inner is not None and (levels == 0 or any(_deeper(value, levels - 1) for value in inner))


def from_dict(cls: type[SectionT], values: Any, where: str) -> SectionT:
    """Build a section, nested ones too, from plain data; `where` names the source in errors.

    Raises
    ------
    ValueError
        An unknown setting, or a value that its annotation forbids.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} is {shown(values)}, but must be an object with named values")
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"{where} has no setting {unknown[0]!r}; it has {', '.join(sorted(hints))}")
    built = {
        name: from_dict(hints[name], value, f"{where}.{name}") if _is_section(hints[name]) else value
        for name, value in values.items()
    }
    try:
        return cls(**built)
    except ValueError as error:  # it begins with the setting's name
        raise ValueError(f"{where}.{error}") from None


def from_text(name: str, text: Any, hint: Any) -> Any:
    """Return the value that a text stands for, as an argument of the command line, checked against an annotation.

    Raises
    ------
    ValueError
        A text or a value that the annotation forbids: "top_k is 0, but must be at least 1".
    """
    with importing:
        from pydantic import TypeAdapter, ValidationError

    value = text
    try:
        for wanted in (get_args(hint)[0] if get_origin(hint) is Annotated else hint, hint):
            value = TypeAdapter(wanted).validate_python(value)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        detail["loc"] = (name,)
        raise ValueError(_sentence(detail)) from None
    return value


def _is_section(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Section)


@cache
def _schema(cls: Any) -> type[BaseModel]:
    # A model of the same fields does the checking, so that sections stay ordinary dataclasses.
    with importing:
        from pydantic import ConfigDict, create_model

    hints = get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {field.name: (hints[field.name], ...) for field in dataclasses.fields(cls)}
    config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    model: type[BaseModel] = create_model(cls.__name__, __config__=config, **fields)
    return model


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def _sentence(error: ErrorDetails) -> str:
    """Return pydantic's error as "{setting} is {value}, but must be {what is allowed}"."""
    kind, place, value, limits = error["type"], error["loc"], error["input"], error.get("ctx", {})
    match kind:
        case "greater_than_equal":
            allowed = f"at least {_written(limits['ge'])}"
        case "greater_than":
            allowed = f"greater than {limits['gt']:g}"
        case "less_than_equal":
            allowed = f"at most {_written(limits['le'])}"
        case "less_than":
            allowed = f"less than {limits['lt']:g}"
        case "multiple_of":
            allowed = f"a multiple of {limits['multiple_of']:g}"
        case "literal_error":
            names = limits["expected"].replace("'", "").replace(" or ", ", ")
            allowed = f"one of {names}"
        case "finite_number":
            allowed = "finite"
        case "too_long":  # of a pair
            allowed = f"a list of {limits['max_length']}"
        case "missing":  # an item of a pair
            place, allowed = place[:-1], "a list of 2"
        case _:
            kinds = {"int": "an integer", "float": "a number", "string": "a string", "bool": "a Boolean"}
            kinds |= {"tuple": "a list", "dataclass": f"of type {limits.get('class_name')}"}
            allowed = kinds.get(kind.split("_")[0]) or error["msg"].removeprefix("Input should be ")
    return f"{_path(place)} is {shown(value)}, but must be {allowed}"


def _written(limit: float) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def _path(place: Sequence[int | str]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else step for step in place)
