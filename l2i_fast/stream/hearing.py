"""The network beside the audio: what it hears in the newest window of a stream, and which components matter for it."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import TYPE_CHECKING, Generic, NamedTuple, TypedDict, TypeVar, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from l2i_fast import _core
from l2i_fast.arrays import Float32, positive_int
from l2i_fast.networks.incremental import GRID, State, StreamingNetwork, why_not_streamable
from l2i_fast.ops.log_mel import native_bands
from l2i_fast.stream.decoder import stream_plan

if TYPE_CHECKING:
    from l2i_fast.model import L2I

Owner = TypeVar("Owner")

#: Frames beyond the window that an engine keeps, so that the network may take its time to read them.
_SLACK = 64
#: A scale is held until the window's peak is above it, or below so much of it.
_HELD = 0.5
#: Peaks below the last bit of 24-bit samples are silence.
_SILENCE = 2.0**-24


#: Seconds of the interpreter's activations that frames begin with the mean of, and what is added to each.
_LATELY, _FAINT = 1.0, 1e-6
#: Signals that go through the networks together, at most.
_BATCH = 16


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
        Of each component, as in `Explanation`; with several targets, for that which it matters most for.
    components : tuple of int
        Those selected, for any of the targets; this is what is heard.
    start : ndarray (K,), float32
        The interpreter's activations of late, which the updates of each frame begin with: several balances of
        components give a frame alike, and the interpreter has learnt which one tells what the classifier heard.
    scale : float
        What the samples are divided by.
    """

    frame: int
    prediction: tuple[str, ...]
    probabilities: NDArray[np.float32]
    targets: tuple[str, ...]
    relevance: NDArray[np.float32]
    components: tuple[int, ...]
    start: NDArray[np.float32]
    scale: float


@dataclass
class StreamStatistics:
    """What has happened in a stream.

    Attributes
    ----------
    hops : int
        Frames that were analysed.
    refreshes : int
        Times that the network has run.
    overruns : int
        Times that it was left out, being still busy with the time before.
    failures : int
        Times that it raised an exception.
    """

    hops: int = 0
    refreshes: int = 0
    overruns: int = 0
    failures: int = 0


class Ear:
    """A signal as the networks meet it, and what they found."""

    def __init__(self, hearing: Hearing) -> None:
        #: What the network found last, replaced as a whole; None before the first refresh.
        self.latest: Refresh | None = None
        #: What the network raised last; the audio goes on with the weights it had.
        self.error: Exception | None = None
        self._hearing = hearing
        self._engine = _core.Stream(hearing.plan, hearing.history + hearing.every + _SLACK)
        self._counts = StreamStatistics()  # hops: those of the signals before
        self._due = 0
        self._signal = _Signal()
        self._warned = False
        # Held while an answer is published or a new signal begins, never while samples are pushed.
        self._change = threading.Lock()
        self._begin(0)

    @property
    def latency(self) -> int:
        """Samples by which the output lags behind the input: one frame."""
        return self._engine.latency

    @property
    def prediction(self) -> tuple[str, ...]:
        """The classes decided on, most probable first; none before the first refresh."""
        return self.latest.prediction if self.latest else ()

    @property
    def relevance(self) -> NDArray[np.float32]:
        """Of each component (K,): see `Refresh`; zeros before the first refresh."""
        return self.latest.relevance if self.latest else np.zeros_like(self.activations)

    @property
    def activations(self) -> Float32:
        """Of the newest frame (K,)."""
        return self._engine.activations()

    @property
    def statistics(self) -> StreamStatistics:
        """What has happened so far."""
        return replace(self._counts, hops=self._counts.hops + self._engine.hops)

    def _begin(self, hops: int) -> None:
        """Begin a new signal, after one of `hops` frames; it is silent until the first refresh."""
        with self._change:
            self._engine.publish(np.zeros_like(self.activations), 1.0)
            self._engine.reset()
            self._counts.hops += hops
            self._due = self._hearing.every
            self._signal = _Signal()

    def _end(self) -> int:
        """How many frames the signal has if it ends now."""
        return self._engine.hops + self._engine.frames_in(0, True)

    def _wait(self) -> int:
        """Frames until the next refresh is due; 0 or less if it is."""
        return self._due - self._engine.hops

    def _claim(self) -> _Claim:
        """Take the refresh that is due."""
        with self._change:
            hops, every = self._engine.hops, self._hearing.every
            missed = max(0, (hops - self._due) // every)
            self._counts.overruns += missed
            self._due += (missed + 1) * every
            return _Claim(self, self._signal, hops)

    def _fail(self, error: Exception) -> None:
        self._counts.failures += 1
        self.error = error

    def _warn(self) -> None:
        """Say once, where samples are pushed, that the network has failed."""
        if self.error is not None and not self._warned:
            self._warned = True
            warnings.warn(
                f"the network failed, and the audio goes on with the components it had: {self.error!r}",
                RuntimeWarning,
                stacklevel=3,
            )

    def _publish(self, answer: Refresh, signal: _Signal) -> None:
        """Let the audio fade over to what was found, unless a new signal has begun."""
        weights = np.zeros_like(answer.relevance)
        weights[list(answer.components)] = 1
        with self._change:
            if signal is self._signal:
                self._engine.publish(weights, answer.scale, answer.start)
                self.latest = answer
                self._counts.refreshes += 1


@dataclass(eq=False)
class _Signal:
    """How far the networks have come in a signal, and how loud it is."""

    held: float = 0.0  # the scale, once something was heard
    state: State | None = None
    fed: int = 0  # frames

    @property
    def scale(self) -> float:
        return self.held or 1.0


class _Claim(NamedTuple):
    """A refresh to be made: of a signal up to a frame."""

    ear: Ear
    signal: _Signal
    frame: int


class StreamSettings(TypedDict, total=False):
    """How a model listens to a stream; all are optional.

    Attributes
    ----------
    refresh : float
        Seconds from one run of the networks to the next; 0.25.
    n_iter : int
        Updates of the activations of each frame; 10.
    targets, threshold, top_k, domain
        As in `L2I.interpret`.
    window : float
        Seconds of sound that the networks hear each time, less at the beginning of a signal; 5.
    incremental : bool or None
        Let the networks compute only what new frames change. The window then begins on a grid of 64 frames, and the
        signal before it counts as its surroundings; False computes the same anew each time. By default wherever the
        model can (it was trained with `streamable`); True is an error where it cannot.
    """

    refresh: float
    n_iter: int
    targets: int | str | Iterable[int | str] | None
    threshold: float | None
    top_k: int | EllipsisType | None
    domain: str | None
    window: float
    incremental: bool | None


class Hearing:
    """A model's networks, for streams of one setting."""

    def __init__(self, model: L2I, **settings: Unpack[StreamSettings]) -> None:
        known = StreamSettings.__annotations__
        if unknown := sorted(set(settings) - set(known)):
            raise TypeError(f"a stream has no setting {unknown[0]!r}; it has {', '.join(known)}")
        refresh, window = settings.get("refresh", 0.25), settings.get("window", 5.0)
        targets, incremental = settings.get("targets"), settings.get("incremental")
        a = model.analysis
        if model.device.type != "cpu":
            raise ValueError(f"the model is on {model.device}, but streams run on the CPU: model.to('cpu') first")
        self.model = model
        self._amin = a.amin
        self.selection = model.selection_with(
            settings.get("threshold"), settings.get("top_k", ...), settings.get("domain")
        )
        self.wanted = None if targets is None else model.find_classes(targets)
        #: Frames of a window, and frames from one refresh to the next.
        self.window = self._frames(window, "window")
        self.every = self._frames(refresh, "refresh")
        self._lately = self._frames(_LATELY, "the past")
        least = getattr(model.classifier, "min_frames", 1)
        if self.window < least:
            seconds = least * a.hop_length / a.sample_rate
            raise ValueError(f"window is {window} seconds, but this model's classifier needs at least {seconds:.2f}")
        reason = why_not_streamable(model.hidden, model.interpreter)
        if incremental and reason:
            raise ValueError(f"incremental is True, but {reason}")
        self.incremental = not reason and incremental is not False
        self.network = None if reason else StreamingNetwork(model.hidden, model.interpreter, self.window, a.floor_db)
        #: Frames before the newest one that an answer depends on.
        self.history = self.network.history if self.network else self.window
        self.plan = stream_plan(
            model.dictionary,
            a.hop_length,
            positive_int(settings.get("n_iter", 10), "n_iter"),
            self.selection.domain,
            bands=native_bands(float(a.sample_rate), a.n_fft, a.n_mels, 0.0, None),
        )

    def _frames(self, seconds: float, name: str) -> int:
        a = self.model.analysis
        if not 0 < seconds <= 3600:
            raise ValueError(f"{name} is {seconds}, but must be a time above 0 and at most 3600 seconds")
        return max(1, round(seconds * a.sample_rate / a.hop_length))

    @torch.inference_mode()
    def refresh(self, ears: Sequence[Ear]) -> None:
        """Run the networks on the newest window of each signal, and publish what they find.

        A network that raises leaves its signals as they are: they count it and keep the exception.
        """
        batches: dict[int, list[tuple[_Claim, Float32]]] = {}
        for claim in [ear._claim() for ear in ears]:
            if (new := self._features(claim)) is not None:
                batches.setdefault(len(new), []).append((claim, new))
        for equal in batches.values():
            for start in range(0, len(equal), _BATCH):
                claims = [claim for claim, _ in equal[start : start + _BATCH]]
                features = np.stack([one for _, one in equal[start : start + _BATCH]])
                try:
                    answers = self._hear(claims, torch.from_numpy(features))
                except Exception as error:
                    for claim in claims:
                        claim.signal.state = None
                        claim.ear._fail(error)
                    continue
                for claim, *answer in zip(claims, *answers, strict=True):
                    claim.ear._publish(self._decide(claim, *answer), claim.signal)

    def _features(self, claim: _Claim) -> Float32 | None:
        """Decibels (n, n_mels) of the frames that the networks are to be fed, or None where those are gone.

        The scale is the window's peak where that is above the one held so far, or below half of it: so levels do not
        follow every sound, and what was computed of earlier frames stays valid.
        """
        ear, signal, frame = claim
        start = first = max(0, frame - self.window)
        if self.network:
            start, first = start // GRID * GRID, self.network.first_frame(frame)
        columns = ear._engine.columns(first, frame - first)
        if columns is None:
            return None
        peak = float(columns[start - first :, -1].max())
        if peak > max(signal.held, _SILENCE) or _SILENCE < peak < _HELD * signal.held:
            signal.held, signal.state = peak, None
        if self.network and self.incremental and signal.state and signal.fed >= first:
            first, columns = signal.fed, columns[signal.fed - first :]
        elif self.network:
            signal.state = self.network.begin(first)
        signal.fed = frame
        mel = columns[:, :-1] / np.float32(signal.scale)
        decibels: Float32 = 10 * np.log10(np.maximum(mel, np.float32(self._amin)))
        return decibels

    def _hear(self, claims: Sequence[_Claim], features: torch.Tensor) -> tuple[Float32, torch.Tensor, Float32]:
        """Probabilities (B, C), pooled activations and those of late (B, K), of features (B, n, n_mels)."""
        if self.network:
            states = [claim.signal.state for claim in claims]
            logits, z = self.network.advance([state for state in states if state], features)
            H = [state.activations for state in states if state and state.activations is not None]
        else:
            logits, stacked, z, _ = self.model.hear(features.unsqueeze(1))
            H = list(stacked)
        starts = torch.stack([one[:, -self._lately :].mean(1) for one in H]) + _FAINT
        return self.model.probabilities(logits).numpy(), z, starts.numpy()

    def _decide(self, claim: _Claim, probabilities: Float32, z: torch.Tensor, start: Float32) -> Refresh:
        model = self.model
        prediction = model.predict(probabilities)
        targets = prediction if self.wanted is None else self.wanted
        relevances = [model.relevance(z, target) for target in targets]
        components: dict[int, None] = {}  # in order, each once
        for one in relevances:
            components |= dict.fromkeys(model.select(one, self.selection))
        return Refresh(
            frame=claim.frame,
            prediction=tuple(model.classes[c] for c in prediction),
            probabilities=probabilities.copy(),
            targets=tuple(model.classes[c] for c in targets),
            relevance=np.max(relevances, axis=0) if relevances else np.zeros(model.dictionary.shape[1], np.float32),
            components=tuple(components),
            start=start,
            scale=claim.signal.scale,
        )


class Worker(Generic[Owner]):
    """The networks in a thread of their own: they refresh what is due, until it is closed or its owner is gone.

    Parameters
    ----------
    hearing : Hearing
    owner
        Whose signals they are; the thread does not keep it alive.
    ears
        Answers with the owner's signals.
    name : str
        What is closed, for errors.
    """

    def __init__(self, hearing: Hearing, owner: Owner, ears: Callable[[Owner], Sequence[Ear]], name: str) -> None:
        self._hearing, self._owner, self._ears, self._name = hearing, weakref.ref(owner), ears, name
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def check_open(self) -> None:
        """Refuse to go on after `close`."""
        if self._closed.is_set():
            raise ValueError(f"the {self._name} is closed")

    def start(self) -> None:
        """Begin to listen, if it has not begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"l2i-{self._name}", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait for the networks to be done, and let them rest."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        torch.get_num_threads()  # sets this thread up; the limit below would be lost otherwise
        with threadpool_limits(1, user_api="openmp"):  # the other cores belong to the audio
            while (seconds := self._refresh()) is not None and not self._closed.wait(seconds):
                pass

    def _refresh(self) -> float | None:
        """Refresh what is due; how long to wait then, or None where there is nobody any more."""
        owner, hearing = self._owner(), self._hearing
        if owner is None:
            return None
        ears = self._ears(owner)
        if due := [ear for ear in ears if ear._wait() <= 0]:
            hearing.refresh(due)
            return 0.0
        analysis = hearing.model.analysis
        hops = min((ear._wait() for ear in ears), default=hearing.every)
        return min(max(hops * analysis.hop_length / analysis.sample_rate / 2, 0.002), 0.1)
