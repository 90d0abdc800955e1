"""The result of interpreting one recording."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from l2i_fast.forks import importing
from l2i_fast.results.explanation import Explanation
from l2i_fast.results.files import plain, read_result, save_result
from l2i_fast.version import __version__


@dataclass(frozen=True, eq=False)
class Result:
    """Prediction for one recording and its explanations, as returned by `L2I.interpret`.

    Attributes
    ----------
    source : str
        File name of the recording, or "samples". A byte of the name that is not UTF-8 is written as ``\\xNN``.
    sample_rate : int
        Rate of `input` and of every `audio`, in Hz (the model's rate).
    input : ndarray, shape (N,), float32
        The recording as the model read it: mono, at `sample_rate`.
    labels : tuple of str
        The names of the C classes.
    probabilities : ndarray, shape (C,), float32
        Probability of each class; they add up to 1 unless the model has several labels.
    prediction : tuple of str
        The predicted classes: one, or with several labels any number.
    activations : ndarray, shape (K, T), float32
        Activation of each component in each frame; K is 0 for methods without a dictionary.
    dictionary : ndarray, shape (F, K), float32
        The components' spectra, columns of unit length.
    explanations : list of Explanation
        One for each explained class.
    settings : dict
        The model's name, the analysis and the selection: ``n_fft``, ``hop_length``, ``threshold``, ``top_k``,
        ``domain`` and so on.
    complete : bool
        False if the recording ends before the length that its header states, or is damaged: `input` is the part
        before.
    method : str
        Name of the method that explains.
    own_probabilities : ndarray, shape (C,), float32, or None
        Probabilities by the method's own classifier, where it has one that is meant to follow the network.
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
    complete: bool = True
    method: str = "l2i"
    own_probabilities: NDArray[np.float32] | None = None

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

    def mask(self, explanation: Explanation | None = None) -> NDArray[np.float32]:
        """Return the mask (F, T) of an explanation, by default the first: 1 keeps, 0 removes.

        It acts where ``settings["domain"]`` says: on the logarithmic magnitude of the scaled input, or on the
        magnitude. With components it is ``(sum over k in S of W_k h_k) / (1e-6 + W H)``.
        """
        chosen = explanation or self._first
        if chosen.mask is not None:
            return chosen.mask
        S = list(chosen.components)
        W, H = self.dictionary, self.activations
        mask: NDArray[np.float32] = (W[:, S] @ H[S]) / (np.float32(1e-6) + W @ H)
        return mask

    def removed(self, explanation: Explanation | None = None) -> NDArray[np.float32]:
        """Return what an explanation, by default the first, leaves of the input: samples (N,) under ``1 - mask``."""
        with importing:  # it needs the native module, which the command line must not when it starts
            from l2i_fast.results.masking import apply_mask
        return apply_mask(self.input, 1 - self.mask(explanation), self.settings)

    def kept(self, explanation: Explanation | None = None) -> float:
        """Return the share of the log magnitude that an explanation, by default the first, keeps: 0 to 1.

        It is ``sum(log(1 + |Y|)) / sum(log(1 + |X|))`` of the spectra Y of what is kept and X of the input, and 0 for
        silence.
        """
        with importing:
            from l2i_fast.results.masking import kept_share, log_magnitude
        V = log_magnitude(self.input, self.settings)
        return kept_share(self.mask(explanation), V, self.settings["domain"])

    @property
    def _first(self) -> Explanation:
        if not self.explanations:
            raise ValueError(
                f"{self.source}: no class was decided on, so none is explained; "
                "name one with targets=, for example targets=0"
            )
        return self.explanations[0]

    def to_dict(self) -> dict[str, Any]:
        """Return the contents of result.json: plain Python values that JSON can write.

        NaN and infinity become None. A float32 becomes the shortest decimal that parses to it.
        """
        return {
            "source": self.source,
            "duration": len(self.input) / self.sample_rate,
            "complete": self.complete,
            "method": self.method,
            "sample_rate": self.sample_rate,
            "prediction": list(self.prediction),
            "probabilities": dict(zip(self.labels, plain(self.probabilities), strict=True)),
            "explanations": [
                {
                    "target": explanation.target,
                    "label": explanation.label,
                    "probability": plain(np.float32(explanation.probability)),
                    "supported": explanation.supported,
                    "components": plain(explanation.components),
                    "relevance": plain(explanation.relevance),
                }
                for explanation in self.explanations
            ],
            "settings": plain(self.settings),
            "version": __version__,
        }

    def save(self, folder: str | os.PathLike[str], audio_format: str = "wav") -> list[Path]:
        """Write sounds, pictures, arrays and figures into `folder`, which is made if missing.

        Each explained class gives ``interpretation-<label>.wav`` and a picture, ``interpretation.png``
        (``interpretation-<label>.png`` where several classes are explained). ``input.wav`` holds the recording as the
        model read it, ``result.safetensors`` the arrays in full precision, and ``result.json`` `to_dict` with the names
        of the files. Files of the same name are replaced. The files are first written under a temporary name: a failure
        leaves none of them behind.

        Parameters
        ----------
        folder : path-like
        audio_format : {"wav", "flac"}
            "wav" holds float32 unchanged, also above 1.0. "flac" holds 24-bit integers: audio whose peak is
            above 1.0 is scaled to a peak of 1.0, and ``gain`` in result.json is the factor (``input_gain`` for the
            input).

        Returns
        -------
        list of Path
            The files: sound and picture of each class in turn, the input, the arrays, then result.json.

        Raises
        ------
        ValueError
            If `audio_format` is unknown.
        OSError
            If the folder cannot be made or written to.
        """
        return save_result(self, folder, audio_format)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a result that `save` wrote.

        Arrays and sounds are those that were saved, bit by bit, except that FLAC rounds sounds to 24 bits. Tuples in
        `settings` become lists.

        Parameters
        ----------
        folder : path-like

        Returns
        -------
        Result

        Raises
        ------
        ValueError
            A folder without a result, one that an older version wrote, or a file that is missing, damaged or of another
            result.
        """
        return cls(**read_result(folder))

    def _repr_html_(self) -> str:
        """Return the view in a notebook: the page of this result, or picture and beginning of a long recording."""
        with importing:
            from l2i_fast.page.notebook import to_html
        return to_html(self)
