"""The files of a result: their names, plain values for JSON, and the folder written and read as a whole."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from l2i_fast.arguments import one_of
from l2i_fast.audio import read_audio, write_audio
from l2i_fast.defaults import default_settings
from l2i_fast.files import as_path, locked, whole_set
from l2i_fast.forks import importing
from l2i_fast.results.drawn import Drawn
from l2i_fast.results.explanation import Explanation
from l2i_fast.results.formats import AUDIO_FORMATS
from l2i_fast.settings import read_json

Float32 = NDArray[np.float32]


class Saved(Drawn, Protocol):
    """The parts of a result that are written to files."""

    @property
    def own_probabilities(self) -> NDArray[np.float32] | None:
        """Probabilities (C,) by the method's own classifier."""

    def to_dict(self) -> dict[str, Any]:
        """Return the contents of result.json, without the names of files."""


@default_settings()
def save_result(result: Saved, folder: str | os.PathLike[str], audio_format: str) -> list[Path]:
    """Write sounds, pictures, arrays and figures of a result into a folder, whole or not at all: see `Result.save`."""
    with importing:  # matplotlib is slow to import
        from l2i_fast.results.picture import save_picture

    one_of(audio_format, "audio_format", AUDIO_FORMATS)
    folder = as_path("folder", folder)
    summary = result.to_dict()
    stems = file_stems(result.explanations)
    names: list[str] = []
    # result.json comes last: if it exists, so do the files that it names.
    with whole_set(folder, last="result.json") as partial:

        def save_sound(stem: str, audio: Float32) -> tuple[str, float]:
            name = f"{stem}.{audio_format}"
            gain = flac_gain(audio) if audio_format == "flac" else 1.0
            write_audio(partial / name, audio * np.float32(gain), result.sample_rate)
            names.append(name)
            return name, gain

        for explanation, entry, stem in zip(result.explanations, summary["explanations"], stems, strict=True):
            entry["audio"], entry["gain"] = save_sound(f"interpretation-{stem}", explanation.audio)
            entry["picture"] = f"interpretation-{stem}.png" if len(stems) > 1 else "interpretation.png"
            save_picture(partial / entry["picture"], result, explanation)
            names.append(entry["picture"])
        summary["input"], summary["input_gain"] = save_sound("input", result.input)
        summary["arrays"] = "result.safetensors"
        (partial / summary["arrays"]).write_bytes(save(_arrays(result)))
        names.append(summary["arrays"])
        summary["digests"] = {name: _digest(partial / name) for name in names if not name.endswith(".png")}
        (partial / "result.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return [folder / name for name in (*names, "result.json")]


def _arrays(result: Saved) -> dict[str, NDArray[Any]]:
    """Return the arrays of a result by their names in result.safetensors."""
    arrays: dict[str, NDArray[Any] | None] = {
        "activations": result.activations,
        "dictionary": result.dictionary,
        "probabilities": result.probabilities,
        "own_probabilities": result.own_probabilities,
        # In double precision, which holds every Python float, also where JSON has no number.
        "explained_probabilities": np.array([float(one.probability) for one in result.explanations]),
    }
    for i, explanation in enumerate(result.explanations):
        arrays[f"{i}.relevance"] = explanation.relevance
        arrays[f"{i}.mask"] = None if explanation.mask is None else _compact(explanation.mask)
    return {name: np.ascontiguousarray(values) for name, values in arrays.items() if values is not None}


def _compact(mask: Float32) -> NDArray[Any]:
    """Return a mask (F, T) in little space: axes that repeat one value have length 1, zeros and ones are Boolean."""
    small = mask[tuple(slice(1) if stride == 0 else slice(None) for stride in mask.strides)]
    binary = small.astype(bool)
    return binary if np.array_equal(binary, small) else small


def _digest(file: Path) -> str:
    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()


@default_settings()
def read_result(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the attributes of the result that a folder holds: see `Result.load`."""
    folder = as_path("folder", folder)
    file = folder / "result.json"
    if not file.is_file():
        raise ValueError(f"folder is {str(folder)!r}, but must be one that Result.save wrote: it has no result.json")
    with locked(folder):
        summary = read_json(file)
        if not isinstance(summary, dict) or "explanations" not in summary:
            raise ValueError(f"{file} describes no result, but must be one that Result.save wrote")
        if "digests" not in summary:
            raise ValueError(f"{file} is of an older version, which wrote no arrays: make the result again")
        try:
            digests = summary["digests"]
            for name in (summary["input"], summary["arrays"], *(entry["audio"] for entry in summary["explanations"])):
                if not (folder / name).is_file():
                    raise ValueError(f"{name} is missing")
                if _digest(folder / name) != digests[name]:
                    raise ValueError(f"{name} is damaged, or of another result")
            return _attributes(summary, folder)
        except (AttributeError, LookupError, TypeError, ValueError, SafetensorError) as error:
            what = f"there is no entry {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{folder} does not hold a whole result: {what}; make it again") from error


def _attributes(summary: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    arrays = load((folder / summary["arrays"]).read_bytes())
    shape = len(arrays["dictionary"]), arrays["activations"].shape[1]
    explanations = []
    for i, entry in enumerate(summary["explanations"]):
        mask = arrays.get(f"{i}.mask")
        explanations.append(
            Explanation(
                target=entry["target"],
                label=entry["label"],
                probability=float(arrays["explained_probabilities"][i]),
                supported=entry["supported"],
                relevance=arrays[f"{i}.relevance"],
                components=tuple(entry["components"]),
                audio=_sound(folder / entry["audio"], entry["gain"]),
                mask=None if mask is None else np.broadcast_to(mask.astype(np.float32), shape),
            )
        )
    return {
        "source": summary["source"],
        "sample_rate": summary["sample_rate"],
        "input": _sound(folder / summary["input"], summary["input_gain"]),
        "labels": tuple(summary["probabilities"]),
        "probabilities": arrays["probabilities"],
        "prediction": tuple(summary["prediction"]),
        "activations": arrays["activations"],
        "dictionary": arrays["dictionary"],
        "explanations": explanations,
        "settings": summary["settings"],
        "complete": summary["complete"],
        "method": summary["method"],
        "own_probabilities": arrays.get("own_probabilities"),
    }


def _sound(file: Path, gain: float) -> Float32:
    y, _ = read_audio(file)
    return y if gain == 1 else y / np.float32(gain)


def flac_gain(audio: NDArray[np.float32]) -> float:
    """Return the factor that brings peaks above 1.0 down to 1.0."""
    peak = float(np.max(np.abs(audio), initial=0.0))
    return 1.0 / peak if peak > 1.0 else 1.0


def file_stems(explanations: Sequence[Explanation]) -> list[str]:
    """Turn labels into parts of file names: safe on any file system, and all different."""
    stems: list[str] = []
    for explanation in explanations:
        stem = re.sub(r"[^\w-]+", "-", explanation.label)[:60].strip("-") or f"class-{explanation.target}"
        while stem.casefold() in (taken.casefold() for taken in stems):
            stem = f"{stem}-{explanation.target}"
        stems.append(stem)
    return stems


def plain(value: Any) -> Any:
    """Turn `value` into values that JSON can write; NumPy scalars and arrays, tuples and paths, too."""
    match value:
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case np.ndarray() | list() | tuple():
            return [plain(item) for item in value]
        case np.floating():
            # str() of a float32 is the shortest decimal that parses to it; adding 0 turns -0.0 into 0.0.
            return plain(float(str(value)) + 0.0)
        case np.bool_() | np.integer():
            return value.item()
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case _:
            return str(value)
