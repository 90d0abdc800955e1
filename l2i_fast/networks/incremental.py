"""Classifier and interpreter over a sliding window, computing only what new frames change.

The networks are cut into stages: a stage reads columns of the maps before it and writes columns of its own. What lies
beyond the newest column (zeros, or that column again) will give way to signal, so a column is final only once it sees
nothing of it; final columns are never computed again. When frames come in, each stage computes its columns that are not
final yet, from a slice that begins a little further to the left, so that they see the signal as it was; the columns
that the slice's own left edge touches are dropped. Where the slice begins with the signal, that edge is the one that
the networks know. So the answer is that of the networks on the whole signal, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2i_fast.networks.classifier import Classifier
from l2i_fast.networks.convolution import packed
from l2i_fast.networks.hidden import HiddenMaps
from l2i_fast.networks.interpreter import Interpreter
from l2i_fast.networks.psi import Psi
from l2i_fast.networks.theta import ThetaAttention

#: Frames of a column behind the classifier's last pooling; windows and states begin on multiples of it.
GRID = 64
#: Frames of a column of c6; Psi leaves out what is behind the last whole one.
_C6 = 32
#: The axis of time in the classifier's maps, in Psi's, and in what comes of them.
_CLASSIFIER, _PSI, _OUTPUT = 2, 3, 1


def why_not_streamable(hidden: HiddenMaps, interpreter: nn.Module) -> str | None:
    """What keeps `StreamingNetwork` from taking these networks, in one sentence; None if nothing does."""
    if not isinstance(hidden.network, Classifier):
        return f"the classifier is a {type(hidden.network).__name__}, only that of l2i_fast.networks can stream"
    if hidden.layers != Classifier.layers:
        return f"the interpreter reads {', '.join(hidden.layers)}, only {', '.join(Classifier.layers)} can stream"
    if not isinstance(interpreter, Interpreter):
        return f"the interpreter is a {type(interpreter).__name__}, only that of l2i_fast.networks can stream"
    if not interpreter.psi.streamable:
        return "the interpreter stretches its maps to the length of the clip; training it with streamable avoids that"
    return None


class _Stage(NamedTuple):
    """A part of the networks that ends where columns are kept."""

    name: str
    #: The stages whose columns it reads, stacked along the channels.
    sources: tuple[str, ...]
    #: It makes `up` columns of `down`; on either side, `reach` of its columns see what lies beyond the end.
    up: int
    down: int
    reach: int
    #: Axis of time of what it writes.
    axis: int
    #: From a slice of what it reads, and the number of frames behind the last column of c6, to its columns.
    run: Callable[[Tensor, int], Tensor]
    #: At most so many columns are read for each one of c6; 0 is all.
    limit: int = 0

    def start(self, column: int) -> int:
        """Where a slice has to begin so that its left edge does not touch the columns from `column` on."""
        return (column - self.reach) * self.down // self.up


class _Extent(NamedTuple):
    """Columns that a stage reads and writes, and how many of those written are final."""

    read: int
    written: int
    final: int


class _Work(NamedTuple):
    """What a stage does in one advance; columns count from the beginning of its slice."""

    stop: int  # where the slice ends
    drop: int  # columns of the answer that the slice's left edge touches, or that are final already
    keep: tuple[tuple[int, int], ...]  # of each source, the columns with which the next slice begins


class _Window(NamedTuple):
    """What an output's window consists of: final columns of the window before it, and new columns."""

    old: tuple[int, int]
    new: tuple[int, int]


class _Plan(NamedTuple):
    """One advance, wherever in the signal it takes place: states with equal plans go through the networks together."""

    begins: bool
    silence: int  # frames that are added
    tail: int  # frames behind the last column of c6
    work: tuple[_Work, ...]
    windows: tuple[_Window, _Window]  # of the embedding and of H


@dataclass
class State:
    """One stream's place in its signal; `StreamingNetwork.begin` makes it.

    Attributes
    ----------
    first_frame : int
        The frame of the signal with which it began.
    frames : int
        How many frames it has had.
    computed : int
        How many columns all stages have computed for it: a measure of the work.
    activations : Tensor (K, T), float32
        H of the T frames of the window, as of the last advance.
    columns : dict
        What the stages will read again.
    """

    first_frame: int
    frames: int = 0
    computed: int = 0
    activations: Tensor | None = None
    columns: dict[tuple[str, str], Tensor] = field(default_factory=dict, repr=False)


class StreamingNetwork:
    """A model's classifier and interpreter, following signals as their frames come in.

    After n frames the window reaches from frame ``max(0, n - window_frames)``, rounded down to a multiple of 64, to the
    newest one. The answer is that of the ordinary networks on the whole signal up to there, with maximum over time and
    Theta taken over the columns of the window only. The weights are those at the time of construction. Different states
    may be used in several threads at once.

    Parameters
    ----------
    hidden : HiddenMaps
        The classifier (best fused, channels last) and the layers that Psi reads.
    interpreter : Interpreter
        One whose Psi is streamable.
    window_frames : int
        At least 128.
    floor_db : float
        Decibels of silence; signals shorter than 128 frames are followed by it, as in `L2I.analyze`.

    Attributes
    ----------
    margin : int
        Frames before the window that its columns see; a multiple of 64.
    history : int
        Frames, counted back from the newest one, that hold all that an answer depends on.

    Raises
    ------
    ValueError
        A window that is too short, or networks that cannot stream: see `why_not_streamable`.
    """

    def __init__(self, hidden: HiddenMaps, interpreter: Interpreter, window_frames: int, floor_db: float) -> None:
        reason = why_not_streamable(hidden, interpreter)
        if reason is not None:
            raise ValueError(f"these networks cannot stream: {reason}")
        if window_frames < Classifier.min_frames:
            raise ValueError(f"window_frames must be at least {Classifier.min_frames}, got {window_frames}")
        assert isinstance(hidden.network, Classifier)
        self.window_frames = window_frames
        self.floor_db = floor_db
        self._classifier = packed(hidden.network)
        self._theta = packed(interpreter.theta)
        self._n_components = interpreter.dictionary.shape[1]
        stages = _stages(self._classifier, packed(interpreter.psi), self._theta)
        self._stages = {stage.name: stage for stage in stages}
        seen = min(self._first_seen("embed", 1), self._first_seen("H", GRID))
        self.margin = -((seen - GRID) // GRID) * GRID
        self.history = -(-window_frames // GRID) * GRID + GRID + self.margin
        self._plan = lru_cache(maxsize=4096)(self._make_plan)

    def first_frame(self, n_frames: int) -> int:
        """Where a state may begin at the latest to answer as of `n_frames` frames of a signal."""
        return max(0, self._window_start(n_frames) - self.margin)

    def begin(self, first_frame: int = 0) -> State:
        """A state that will be fed a signal from frame `first_frame` on, a multiple of 64.

        With 0 the signal begins there. Otherwise the first advance has to bring all up to the newest frame, and
        `first_frame` of this class says where to begin.
        """
        if first_frame < 0 or first_frame % GRID:
            raise ValueError(f"first_frame must be a multiple of {GRID}, 0 or more, got {first_frame}")
        return State(first_frame)

    @torch.inference_mode()
    def advance(self, states: Sequence[State], columns: Tensor) -> tuple[Tensor, Tensor]:
        """Feed the next frames of B streams; answer as of the newest.

        Parameters
        ----------
        states : sequence of B states
            Those that stand at the same place of the grid (equal frames modulo 64) go through the networks together.
        columns : Tensor (B, n, n_mels)
            Features in dB of the next n frames of each, n at least 1.

        Returns
        -------
        logits : Tensor (B, C)
            Of the classifier.
        z : Tensor (B, K)
            Pooled activations, from which `Interpreter.relevance` follows.

        Raises
        ------
        ValueError
            Features of another shape, or a state that began too late in its signal for its window.
        """
        n_mels = self._classifier.mean.numel()
        if columns.ndim != 3 or columns.shape[0] != len(states) or not columns.shape[1] or columns.shape[2] != n_mels:
            raise ValueError(
                f"columns must be of shape ({len(states)}, n, {n_mels}) with n at least 1, got {tuple(columns.shape)}"
            )
        groups: dict[_Plan, list[int]] = {}
        for i, state in enumerate(states):
            after = state.frames + columns.shape[1]
            if state.first_frame and self._window_start(after) < self.margin:
                raise ValueError(
                    f"a state that begins at frame {state.first_frame} cannot answer as of frame "
                    f"{state.first_frame + after}; it must have begun {self.margin} frames before the window"
                )
            # All repeats with the grid once the beginning is out of sight.
            skip = max(0, state.frames - 2 * self.history) // GRID * GRID
            groups.setdefault(self._plan(state.frames - skip, after - skip), []).append(i)
        if len(groups) == 1:
            (plan,) = groups
            return self._advance(plan, states, columns)
        answers = [self._advance(plan, [states[i] for i in group], columns[group]) for plan, group in groups.items()]
        logits, z = (torch.cat(parts) for parts in zip(*answers, strict=True))
        places = torch.tensor([i for group in groups.values() for i in group]).argsort()
        return logits[places], z[places]

    def _advance(self, plan: _Plan, states: Sequence[State], columns: Tensor) -> tuple[Tensor, Tensor]:
        def before(name: str, source: str = "") -> Tensor:
            held = [state.columns[name, source] for state in states]
            return held[0] if len(held) == 1 else torch.cat(held)

        computed = 0
        keep: dict[tuple[str, str], Tensor] = {}
        fresh = {"features": F.pad(columns, (0, 0, 0, plan.silence), value=self.floor_db).unsqueeze(1)}
        for stage, work in zip(self._stages.values(), plan.work, strict=True):
            slices = []
            for source, (start, stop) in zip(stage.sources, work.keep, strict=True):
                x, axis = fresh[source], self._axis(source)
                if not plan.begins:
                    x = torch.cat((before(stage.name, source), x), axis)
                # A copy, which does not hold on to the rest of x.
                keep[stage.name, source] = x.narrow(axis, start, stop - start).clone(memory_format=torch.channels_last)
                slices.append(x.narrow(axis, 0, work.stop))
            y = stage.run(slices[0] if len(slices) == 1 else torch.cat(slices, 1), plan.tail)
            computed += y.shape[stage.axis]
            fresh[stage.name] = y.narrow(stage.axis, work.drop, y.shape[stage.axis] - work.drop)
        for name, window in zip(("embed", "H"), plan.windows, strict=True):
            start, stop = window.new
            x = fresh[name].narrow(1, start, stop - start)
            if not plan.begins:
                start, stop = window.old
                x = torch.cat((before(name).narrow(1, start, stop - start), x), 1)
            keep[name, ""] = x
        logits = self._classifier.out(keep["embed", ""].amax(1, keepdim=True)).squeeze(1)
        rows = keep["H", ""]
        H = rows[:, :, : self._n_components].transpose(1, 2)
        if isinstance(self._theta, ThetaAttention):
            z = self._theta.pool(H, rows[:, :, self._n_components])
        else:
            z = self._theta.pool(H)
        for i, state in enumerate(states):
            state.columns = {key: x[i : i + 1] for key, x in keep.items()}
            state.activations = H[i]
            state.frames += columns.shape[1]
            state.computed += computed
        return logits, z

    def _window_start(self, n_frames: int) -> int:
        return max(0, n_frames - self.window_frames) // GRID * GRID

    def _axis(self, source: str) -> int:
        return self._stages[source].axis if source in self._stages else _CLASSIFIER

    def _first_seen(self, name: str, column: int) -> int:
        """The first frame that a column of a stage sees."""
        if name not in self._stages:
            return column
        stage = self._stages[name]
        return min(self._first_seen(source, stage.start(column)) for source in stage.sources)

    def _extents(self, n_frames: int) -> dict[str, _Extent]:
        """How far each stage has come after `n_frames`."""
        total = max(n_frames, Classifier.min_frames)
        extents = {"features": _Extent(0, total, n_frames)}
        for stage in self._stages.values():
            sources = [extents[source] for source in stage.sources]
            read = min(source.written for source in sources)
            if stage.limit:
                read = min(read, stage.limit * (total // _C6))
            final = min(read, *(source.final for source in sources)) * stage.up // stage.down - stage.reach
            extents[stage.name] = _Extent(read, read * stage.up // stage.down, max(0, final))
        return extents

    def _make_plan(self, before: int, after: int) -> _Plan:
        """What there is to do when a state that has had `before` frames comes to have `after`."""
        old, new = self._extents(before), self._extents(after)
        work = []
        for stage in self._stages.values():
            start, following = (max(0, stage.start(extents[stage.name].final)) for extents in (old, new))
            keep = tuple((following - start, new[source].final - start) for source in stage.sources)
            drop = old[stage.name].final - start * stage.up // stage.down
            work.append(_Work(new[stage.name].read - start, drop, keep))
        total = max(after, Classifier.min_frames)
        windows = []
        for name, frames, end in (("embed", GRID, total // GRID - 1), ("H", 1, after)):
            left, right = self._window_start(before) // frames, self._window_start(after) // frames
            final = old[name].final
            held = (right - left, final - left) if final > right else (0, 0)
            windows.append(_Window(held, (max(0, right - final), end - final)))
        return _Plan(before == 0, total - after, total % _C6, tuple(work), (windows[0], windows[1]))


def _stages(classifier: Classifier, psi: Psi, theta: nn.Module) -> list[_Stage]:
    """The networks in pieces, each after those that it reads."""
    pool = classifier.pool

    def turned(x: Tensor) -> Tensor:
        return x.transpose(2, 3).contiguous(memory_format=torch.channels_last)

    def activations(x: Tensor, tail: int) -> Tensor:
        """H by frames, (B, T, K); with attention one column more, what the softmax is taken of."""
        H: Tensor = psi.to_frames(x, 4 * x.shape[3] + tail)
        rows = H.transpose(1, 2)
        return torch.cat((rows, theta.scores(H)[:, :, None]), 2) if isinstance(theta, ThetaAttention) else rows

    def embed(x: Tensor, _: int) -> Tensor:
        y: Tensor = classifier.embed(classifier.top(pool(x)))
        return y.amax(3).transpose(1, 2)

    blocks = classifier.blocks
    return [
        _Stage("block0", ("features",), 1, 2, 1, _CLASSIFIER, lambda x, _: pool(blocks[0](classifier.normalized(x)))),
        _Stage("block1", ("block0",), 1, 2, 1, _CLASSIFIER, lambda x, _: pool(blocks[1](x))),
        _Stage("block2", ("block1",), 1, 2, 1, _CLASSIFIER, lambda x, _: pool(blocks[2](x))),
        _Stage("c4", ("block2",), 1, 1, 2, _CLASSIFIER, lambda x, _: blocks[3](x)),
        _Stage("c5", ("c4",), 1, 2, 2, _CLASSIFIER, lambda x, _: blocks[4](pool(x))),
        _Stage("c6", ("c5",), 1, 2, 1, _CLASSIFIER, lambda x, _: blocks[5](pool(x))),
        _Stage("embed", ("c6",), 1, 2, 1, _OUTPUT, embed),
        _Stage("branch5", ("c5",), 2, 1, 2, _PSI, lambda x, _: psi.branch5(turned(x)), limit=2),
        _Stage("branch6", ("c6",), 4, 1, 5, _PSI, lambda x, _: psi.branch6(turned(x))),
        # Its reach is 0; with 1 there is always a column left to compute.
        _Stage("branch4", ("c4",), 1, 1, 1, _PSI, lambda x, _: psi.branch4(turned(x)), limit=4),
        _Stage("join", ("branch5", "branch6", "branch4"), 2, 1, 2, _PSI, lambda x, _: psi.join(x)),
        _Stage("H", ("join",), 4, 1, 7, _OUTPUT, activations),
    ]
