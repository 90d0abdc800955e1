"""What an interpretation returns: one `Result` per recording, one `Explanation` per explained class."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

AUDIO_FORMATS = ("wav", "flac")


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why the network gave one class its probability.

    Attributes
    ----------
    target : int
        Index of the explained class.
    label : str
        Its name.
    probability : float
        What the classifier gave it, 0 to 1.
    supported : bool
        False where no component speaks for the class; `relevance` is then zero and `audio` silent.
    relevance : ndarray, shape (K,), float32
        Signed relevance of each component, ``r_k = z_k theta_ck / max_j(z_j theta_cj)``; the largest is 1.
    components : tuple of int
        The selected components, most relevant first.
    audio : ndarray, shape (N,), float32
        The interpretation: the part of the input that the selected components hold, as long as the input.
    """

    target: int
    label: str
    probability: float
    supported: bool
    relevance: NDArray[np.float32]
    components: tuple[int, ...]
    audio: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Result:
    """The answer to `L2I.interpret`: what was heard in a recording, and why.

    Attributes
    ----------
    source : str
        Where the recording came from.
    sample_rate : int
        Rate of `input` and of every `audio`, in Hz (the model's rate).
    input : ndarray, shape (N,), float32
        The recording as the model read it: mono, at `sample_rate`.
    labels : tuple of str
        The names of the C classes.
    probabilities : ndarray, shape (C,), float32
        Probability of each class; they add up to 1 unless several labels may hold at once.
    prediction : tuple of str
        The classes decided on: one, or with several labels any number.
    activations : ndarray, shape (K, T), float32
        How strongly each component sounds in each frame.
    dictionary : ndarray, shape (F, K), float32
        The components' spectra, columns of unit length.
    explanations : list of Explanation
        One for each explained class.
    settings : dict
        The model's name and the analysis settings: ``n_fft``, ``hop_length``, ``threshold``, ``top_k``,
        ``domain`` and so on.
    """

    source: str
    sample_rate: int
    input: NDArray[np.float32]
    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    prediction: tuple[str, ...]
    activations: NDArray[np.float32]
    dictionary: NDArray[np.float32]
    explanations: list[Explanation]
    settings: dict[str, Any]

    @property
    def audio(self) -> NDArray[np.float32]:
        """Interpretation of the first explained class, shape (N,)."""
        return self._first.audio

    @property
    def relevance(self) -> NDArray[np.float32]:
        """Relevance of each component for the first explained class, shape (K,)."""
        return self._first.relevance

    @property
    def components(self) -> tuple[int, ...]:
        """Components selected for the first explained class, most relevant first."""
        return self._first.components

    @property
    def _first(self) -> Explanation:
        if not self.explanations:
            raise ValueError(
                f"{self.source}: no class was decided on, so none is explained; "
                "name one with targets=, for example targets=0"
            )
        return self.explanations[0]

    def to_dict(self) -> dict[str, Any]:
        """Return what result.json holds: plain Python values, and no number that JSON cannot write.

        NaN and infinity become None. A float32 becomes the shortest decimal that gives it back.
        """
        from l2i_fast import __version__

        return {
            "source": self.source,
            "duration": len(self.input) / self.sample_rate,
            "sample_rate": self.sample_rate,
            "prediction": list(self.prediction),
            "probabilities": dict(zip(self.labels, _plain(self.probabilities), strict=True)),
            "explanations": [
                {
                    "target": explanation.target,
                    "label": explanation.label,
                    "probability": _plain(np.float32(explanation.probability)),
                    "supported": explanation.supported,
                    "components": _plain(explanation.components),
                    "relevance": _plain(explanation.relevance),
                }
                for explanation in self.explanations
            ],
            "settings": _plain(self.settings),
            "version": __version__,
        }

    def save(self, folder: str | os.PathLike[str], audio_format: str = "wav") -> list[Path]:
        """Write sound, picture and figures into `folder`, which is made if missing.

        Each explained class gives ``interpretation-<label>.wav``; one picture stands beside them as
        ``interpretation.png`` (``interpretation-<label>.png`` where several classes are explained), and
        ``result.json`` holds `to_dict` with the names of the files. Files of the same name are replaced. The
        files are first written under a temporary name: a failure leaves none of them behind.

        Parameters
        ----------
        folder : path-like
        audio_format : {"wav", "flac"}
            "wav" holds float32 as it is, also above 1.0. "flac" holds 24-bit integers: audio whose peak is
            above 1.0 is scaled to a peak of 1.0, and ``gain`` in result.json tells the factor.

        Returns
        -------
        list of Path
            The files: sound and picture of each class in turn, then result.json.

        Raises
        ------
        ValueError
            If `audio_format` is unknown.
        OSError
            If the folder cannot be made or written to.
        """
        from l2i_fast.audio import write_audio
        from l2i_fast.results.picture import save_picture

        if audio_format not in AUDIO_FORMATS:
            raise ValueError(f"audio_format must be one of {', '.join(AUDIO_FORMATS)}, got {audio_format!r}")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        summary = self.to_dict()
        stems = _file_stems(self.explanations)
        names: list[str] = []
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
            for explanation, entry, stem in zip(self.explanations, summary["explanations"], stems, strict=True):
                sound = f"interpretation-{stem}.{audio_format}"
                picture = f"interpretation-{stem}.png" if len(stems) > 1 else "interpretation.png"
                gain = _flac_gain(explanation.audio) if audio_format == "flac" else 1.0
                write_audio(Path(partial, sound), explanation.audio * np.float32(gain), self.sample_rate)
                save_picture(Path(partial, picture), self, explanation)
                entry |= {"audio": sound, "gain": gain, "picture": picture}
                names += [sound, picture]
            names.append("result.json")
            Path(partial, "result.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
            # result.json comes last: where it is, the files that it names are there too.
            for name in names:
                os.replace(Path(partial, name), folder / name)
        return [folder / name for name in names]


def _flac_gain(audio: NDArray[np.float32]) -> float:
    peak = float(np.max(np.abs(audio), initial=0.0))
    return 1.0 / peak if peak > 1.0 else 1.0


def _file_stems(explanations: Sequence[Explanation]) -> list[str]:
    """Turn labels into parts of file names: safe on any file system, and no two alike."""
    stems: list[str] = []
    for explanation in explanations:
        stem = re.sub(r"[^\w-]+", "-", explanation.label)[:60].strip("-") or f"class-{explanation.target}"
        while stem.casefold() in (taken.casefold() for taken in stems):
            stem = f"{stem}-{explanation.target}"
        stems.append(stem)
    return stems


def _plain(value: Any) -> Any:
    """Turn `value` into what JSON knows: NumPy scalars and arrays, tuples and paths included."""
    match value:
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case np.ndarray() | list() | tuple():
            return [_plain(item) for item in value]
        case np.floating():
            # str() of a float32 is the shortest decimal that gives it back; adding 0 turns -0.0 into 0.0.
            return _plain(float(str(value)) + 0.0)
        case np.bool_() | np.integer():
            return value.item()
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case _:
            return str(value)
