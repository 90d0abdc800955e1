"""The files of a result: their names, plain values for JSON, and the folder written as a whole."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from l2i_fast.arguments import one_of
from l2i_fast.audio import write_audio
from l2i_fast.defaults import default_settings
from l2i_fast.files import as_path, whole_set
from l2i_fast.forks import importing
from l2i_fast.results.drawn import Drawn
from l2i_fast.results.explanation import Explanation
from l2i_fast.results.formats import AUDIO_FORMATS


class Saved(Drawn, Protocol):
    """The parts of a result that are written to files."""

    def to_dict(self) -> dict[str, Any]:
        """Return the contents of result.json, without the names of files."""


@default_settings()
def save_result(result: Saved, folder: str | os.PathLike[str], audio_format: str) -> list[Path]:
    """Write sound, picture and figures of a result into a folder, whole or not at all: see `Result.save`."""
    with importing:  # matplotlib is slow to import
        from l2i_fast.results.picture import save_picture

    one_of(audio_format, "audio_format", AUDIO_FORMATS)
    folder = as_path("folder", folder)
    summary = result.to_dict()
    stems = file_stems(result.explanations)
    names: list[str] = []
    # result.json comes last: if it exists, so do the files that it names.
    with whole_set(folder, last="result.json") as partial:
        for explanation, entry, stem in zip(result.explanations, summary["explanations"], stems, strict=True):
            sound = f"interpretation-{stem}.{audio_format}"
            picture = f"interpretation-{stem}.png" if len(stems) > 1 else "interpretation.png"
            gain = flac_gain(explanation.audio) if audio_format == "flac" else 1.0
            write_audio(partial / sound, explanation.audio * np.float32(gain), result.sample_rate)
            save_picture(partial / picture, result, explanation)
            entry |= {"audio": sound, "gain": gain, "picture": picture}
            names += [sound, picture]
        names.append("result.json")
        (partial / "result.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return [folder / name for name in names]


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
