"""The network beside the audio: what it hears in the newest window of a stream, and which components matter for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from l2i_fast import _core
from l2i_fast.arrays import Float32, positive_int
from l2i_fast.log_mel import native_bands
from l2i_fast.stream.decoder import stream_plan

if TYPE_CHECKING:
    from l2i_fast.model import L2I

#: Frames beyond the window that an engine keeps, so that the network may take its time to read them.
_SLACK = 64
#: A scale is held until the window's peak is above it, or below so much of it.
_HELD = 0.5
#: Peaks below the last bit of 24-bit samples are silence.
_SILENCE = 2.0**-24


@dataclass(frozen=True, eq=False)
class Refresh:
    """What the network found at one time; it holds until the next one.

    Attributes
    ----------
    frame : int
        Frames of the signal that had been analysed.
    prediction : tuple of str
        The classes decided on, most probable first.
    probabilities : ndarray (C,), float32
        Of all classes.
    targets : tuple of str
        The classes explained.
    relevance : ndarray (K,), float32
        Of each component; with several targets, for that which it matters most for.
    components : tuple of int
        Those selected, for any of the targets; this is what is heard.
    scale : float
        What the samples are divided by.
    """

    frame: int
    prediction: tuple[str, ...]
    probabilities: NDArray[np.float32]
    targets: tuple[str, ...]
    relevance: NDArray[np.float32]
    components: tuple[int, ...]
    scale: float


class Ear:
    """One signal as the network meets it: its engine, and how loud it is."""

    def __init__(self, engine: _core.Stream) -> None:
        self.engine = engine
        self._held = 0.0

    @property
    def scale(self) -> float:
        """What the samples are divided by; 1 as long as there is only silence."""
        return self._held or 1.0

    def forget(self) -> None:
        """Begin a new signal, of which nothing is known: silent until the first refresh."""
        self.engine.publish(np.zeros_like(self.engine.activations()), 1.0)
        self.engine.reset()
        self._held = 0.0

    def listen(self, first: int, frame: int) -> Float32 | None:
        """Mel magnitudes (T, n_mels), scaled, of frames `first` to `frame`, or None where they are gone.

        The scale is the window's peak where that is above the one held so far, or below half of it: so levels do not
        follow every sound, and what was computed of earlier frames stays valid.
        """
        columns = self.engine.columns(first, frame - first)
        if columns is None:
            return None
        peak = float(columns[:, -1].max())
        if peak > max(self._held, _SILENCE) or _SILENCE < peak < _HELD * self._held:
            self._held = peak
        return columns[:, :-1] / np.float32(self.scale)


class Hearing:
    """Runs a model's networks for streams.

    Parameters
    ----------
    model : L2I
    refresh : float
        Seconds from one run of the network to the next.
    window : float
        Seconds of sound that the network hears each time.
    n_iter, targets, threshold, top_k, domain
        See `Stream`.
    """

    def __init__(
        self,
        model: L2I,
        refresh: float,
        window: float,
        n_iter: int,
        targets: int | str | Iterable[int | str] | None,
        threshold: float | None,
        top_k: int | EllipsisType | None,
        domain: str | None,
    ) -> None:
        a = model.analysis
        self.model = model
        self.selection = model.selection_with(threshold, top_k, domain)
        self.wanted = None if targets is None else model.find_classes(targets)
        #: Frames of a window, and frames from one refresh to the next.
        self.window = self._frames(window, "window")
        self.every = self._frames(refresh, "refresh")
        self.plan = stream_plan(
            model.dictionary,
            a.hop_length,
            positive_int(n_iter, "n_iter"),
            self.selection.domain,
            bands=native_bands(float(a.sample_rate), a.n_fft, a.n_mels, 0.0, None),
        )

    def _frames(self, seconds: float, name: str) -> int:
        a = self.model.analysis
        if not 0 < seconds <= 3600:
            raise ValueError(f"{name} is {seconds}, but must be a time above 0 and at most 3600 seconds")
        return max(1, round(seconds * a.sample_rate / a.hop_length))

    def new_ear(self) -> Ear:
        """An engine that has heard nothing yet, and therefore says nothing."""
        ear = Ear(_core.Stream(self.plan, self.window + self.every + _SLACK))
        ear.forget()
        return ear

    @torch.inference_mode()
    def hear(self, ears: Sequence[Ear], frames: Sequence[int]) -> list[Refresh | None]:
        """Run the network on the newest window of each signal, together where their lengths are the same.

        Parameters
        ----------
        ears
            Some signals.
        frames
            Of each of them, how many frames are taken into account.

        Returns
        -------
        list of Refresh
            None where so many frames have come in since that the window is gone.
        """
        answers: list[Refresh | None] = [None] * len(ears)
        batches: dict[int, list[tuple[int, Float32]]] = {}
        for i, (ear, frame) in enumerate(zip(ears, frames, strict=True)):
            mel = ear.listen(max(0, frame - self.window), frame)
            if mel is not None:
                batches.setdefault(len(mel), []).append((i, mel))
        for batch in batches.values():
            mel = np.stack([one for _, one in batch])
            decibels = 10 * np.log10(np.maximum(mel, np.float32(self.model.analysis.amin)))
            logits, _, z, _ = self.model.hear(torch.from_numpy(decibels).unsqueeze(1))
            probabilities = self.model.probabilities(logits).numpy()
            for (i, _), p, pooled in zip(batch, probabilities, z, strict=True):
                answers[i] = self._decide(frames[i], p, pooled, ears[i].scale)
        return answers

    def _decide(self, frame: int, probabilities: Float32, z: torch.Tensor, scale: float) -> Refresh:
        model = self.model
        prediction = model.predict(probabilities)
        targets = prediction if self.wanted is None else self.wanted
        relevance = np.zeros(model.dictionary.shape[1], np.float32)
        components: dict[int, None] = {}  # in order, each once
        for target in targets:
            one = model.relevance(z, target)
            components |= dict.fromkeys(model.select(one, self.selection))
            relevance = np.maximum(relevance, one)
        return Refresh(
            frame=frame,
            prediction=tuple(model.classes[c] for c in prediction),
            probabilities=probabilities.copy(),
            targets=tuple(model.classes[c] for c in targets),
            relevance=relevance,
            components=tuple(components),
            scale=scale,
        )

    def publish(self, ear: Ear, refresh: Refresh) -> None:
        """Let the audio of a signal fade over to what was found."""
        weights = np.zeros(self.model.dictionary.shape[1], np.float32)
        weights[list(refresh.components)] = 1
        ear.engine.publish(weights, refresh.scale)
