"""The networks beside the audio: they classify the newest window of signals and find the components that matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import numpy as np
import torch

from l2i_fast.arguments import flag, integer, number
from l2i_fast.arrays import Float32
from l2i_fast.backends.native import PoolEngine
from l2i_fast.defaults import default_settings
from l2i_fast.networks.incremental import GRID
from l2i_fast.networks.interpreter import UNEXPLAINED
from l2i_fast.stream.decoder import stream_engines
from l2i_fast.stream.refresh import Refresh, StreamSettings
from l2i_fast.stream.signal import Claim, Signal

if TYPE_CHECKING:
    from l2i_fast.model import L2I

#: Frames beyond the window that an engine keeps, so that the networks have time to read them.
_SLACK = 64
#: A scale is held until the window's peak exceeds it, or falls below this share of it.
_HELD = 0.5
#: Peaks below the last bit of 24-bit samples are silence.
_SILENCE = 2.0**-24
#: Seconds of the interpreter's activations whose mean each frame begins with, and the amount added to each.
_RECENT, _FAINT = 1.0, 1e-6
#: Updates of each frame's activations where the interpreter does not state their number.
_N_ITER = 10
#: Largest number of signals that go through the networks together.
_BATCH = 16


class Hearing:
    """A model's networks at work on signals of one setting.

    Parameters
    ----------
    model : L2I
    **settings
        See `StreamSettings`.

    Attributes
    ----------
    model : L2I
    selection : Selection
    window, every : int
        Frames of a window, and from one refresh to the next.
    network : Incremental or None
        Network and interpreter that follow signals frame by frame, where the model has them.
    incremental : bool
        Whether they continue from their state instead of starting from scratch each time.
    history : int
        Frames before the newest one that an answer depends on.
    """

    @default_settings()
    def __init__(self, model: L2I, **settings: Unpack[StreamSettings]) -> None:
        known = StreamSettings.__annotations__
        if unknown := sorted(set(settings) - set(known)):
            raise TypeError(f"a stream has no setting {unknown[0]!r}; it has {', '.join(known)}")
        refresh, window = settings.get("refresh", 0.25), settings.get("window", 5.0)
        targets, incremental = settings.get("targets"), settings.get("incremental")
        network, a = model.network, model.analysis
        if model.device.type != "cpu":
            raise ValueError(f"the model is on {model.device}, but streams run on the CPU: model.to('cpu') first")
        self.model = model
        self.selection = model.selection_with(
            settings.get("threshold"), settings.get("top_k", ...), settings.get("domain")
        )
        self._targets = None if targets is None else network.find_classes(targets)
        self.window = self._frames(window, "window")
        self.every = self._frames(refresh, "refresh")
        self._recent = self._frames(_RECENT, "the past")
        if self.window < (shortest := network.map_frames(1)):
            seconds = shortest * a.hop_length / a.sample_rate
            raise ValueError(f"window is {window} seconds, but this model's classifier needs at least {seconds:.2f}")
        reason = network.why_not_incremental(model.interpreter)
        if incremental is not None and flag(incremental, "incremental") and reason:
            raise ValueError(f"incremental is True, but {reason}")
        self.incremental = not reason and incremental is not False
        self.network = None if reason else network.incremental(model.interpreter, self.window)
        self.history = self.network.history if self.network else self.window
        self._engines = stream_engines(
            model.dictionary,
            a.hop_length,
            integer(settings.get("n_iter", model.interpreter.updates or _N_ITER), "n_iter"),
            self.selection.domain,
            filters=network.live_filters,
            lift=UNEXPLAINED if model.interpreter.updates else 0.0,
        )

    def _frames(self, seconds: float, name: str) -> int:
        a = self.model.analysis
        seconds = number(seconds, name)
        if not 0 < seconds <= 3600:
            raise ValueError(f"{name} is {seconds:g}, but must be a time above 0 and at most 3600 seconds")
        return max(1, round(seconds * a.sample_rate / a.hop_length))

    def new_signal(self) -> Signal:
        """Return a signal that begins with the next samples."""
        return Signal(self._engines.stream(self.history + self.every + _SLACK), self.every)

    def new_pool(self) -> PoolEngine:
        """Return an engine that advances such signals together."""
        return self._engines.pool()

    @default_settings()
    @torch.inference_mode()
    def refresh(self, signals: Sequence[Signal]) -> None:
        """Run the networks on the newest window of each signal, and publish their answers.

        If the networks raise, their signals count a failure, keep the exception and stay as they are.
        """
        claims = [signal.claim() for signal in signals]
        try:
            self._refresh(claims)
        except BaseException:  # such as KeyboardInterrupt: what was begun is read again
            for claim in claims:
                claim.progress.state = None
            raise

    def _refresh(self, claims: Sequence[Claim]) -> None:
        batches: dict[int, list[tuple[Claim, Float32]]] = {}
        for claim in claims:
            if (new := self._columns(claim)) is not None:
                features = self.model.network.of_live(new, claim.progress.scale)
                batches.setdefault(len(new), []).append((claim, features))
        for n_frames, equal in batches.items():
            for start in range(0, len(equal), _BATCH):
                members = [claim for claim, _ in equal[start : start + _BATCH]]
                features = np.stack([one for _, one in equal[start : start + _BATCH]])
                try:
                    answers = self._hear(members, torch.from_numpy(features), n_frames)
                except Exception as error:
                    for claim in members:
                        claim.progress.state = None
                        claim.signal.fail(error)
                    continue
                for claim, *answer in zip(members, *answers, strict=True):
                    claim.signal.publish(self._decide(claim, *answer), claim.progress)

    def _columns(self, claim: Claim) -> Float32 | None:
        """Return what the engine has kept of the n frames to feed (n, ...), or None if it no longer has them.

        The scale is the window's peak if that exceeds the scale held so far or is below half of it: so levels do not
        follow every sound, and columns computed of earlier frames stay valid.
        """
        signal, progress, frame = claim
        start = first = max(0, frame - self.window)
        if self.network:
            start, first = start // GRID * GRID, self.network.first_frame(frame)
        columns = signal.engine.columns(first, frame - first)
        if columns is None:
            return None
        peak = float(columns[start - first :, -1].max())
        if peak > max(progress.held, _SILENCE) or _SILENCE < peak < _HELD * progress.held:
            progress.held, progress.state = peak, None
        if self.network and self.incremental and progress.state and progress.fed >= first:
            first, columns = progress.fed, columns[progress.fed - first :]
        elif self.network:
            progress.state = self.network.begin(first)
        progress.fed = frame
        return columns[:, :-1]

    def _hear(
        self, claims: Sequence[Claim], features: torch.Tensor, n_frames: int
    ) -> tuple[Float32, torch.Tensor, Float32]:
        """Return probabilities (B, C), pooled and recent activations (B, K) for features of `n_frames` frames."""
        if self.network:
            states = [claim.progress.state for claim in claims]
            logits, z = self.network.advance([state for state in states if state], features[:, 0])
            H = [state.activations for state in states if state and state.activations is not None]
        else:
            logits, stacked, z, _ = self.model.hear(features, n_frames)
            H = list(stacked)
        starts = torch.stack([one[:, -self._recent :].mean(1) for one in H]) + _FAINT
        return self.model.network.probabilities(logits).numpy(), z, starts.numpy()

    def _decide(self, claim: Claim, probabilities: Float32, z: torch.Tensor, start: Float32) -> Refresh:
        model = self.model
        prediction = model.network.predict(probabilities)
        targets = prediction if self._targets is None else self._targets
        relevances = [model.relevance(z, target) for target in targets]
        components: dict[int, None] = {}  # in order, each once
        for one in relevances:
            components |= dict.fromkeys(model.select(one, self.selection))
        return Refresh(
            frame=claim.frame,
            prediction=tuple(model.classes[c] for c in prediction),
            probabilities=probabilities.copy(),
            targets=tuple(model.classes[c] for c in targets),
            relevance=np.max(relevances, axis=0) if relevances else np.zeros(len(z), np.float32),
            components=tuple(components),
            start=start,
            scale=claim.progress.scale,
        )
