"""Classifier and interpreter over a sliding window, computing only the columns that new frames change.

The networks are cut into stages: a stage reads columns of the maps before it and writes columns of its own. The padding
beyond the newest column (zeros, or that column again) is later replaced by signal, so a column is final only once its
receptive field contains no padding; final columns are never computed again. For new frames, each stage computes its
columns that are not final yet, from a slice that begins a little further to the left, so that their receptive fields
are complete; columns that touch the slice's own left edge are dropped. A slice that begins with the signal has the edge
of the ordinary networks. So the answer is that of the networks on the whole signal, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2i_fast.defaults import default_settings
from l2i_fast.networks.classifier import Classifier
from l2i_fast.networks.convolution import packed
from l2i_fast.networks.interpreter import Interpreter
from l2i_fast.networks.psi import Psi
from l2i_fast.networks.theta import ThetaAttention

#: Frames of a column behind the classifier's last pooling; windows and states begin on multiples of it.
GRID = 64
#: Frames of a column of c6; Psi leaves out frames behind the last whole column.
_C6 = 32
#: Plans that are kept; with refreshes at regular times a few hundred are needed.
_MOST_PLANS = 4096
#: The axis of time in the classifier's maps, in Psi's, and in their outputs.
_CLASSIFIER, _PSI, _OUTPUT = 2, 3, 1


def why_not_incremental(module: nn.Module, layers: Sequence[str], interpreter: nn.Module) -> str | None:
    """Return why `IncrementalNetwork` cannot take these networks, in one sentence; None if it can."""
    if not isinstance(module, Classifier):
        return f"the classifier is a {type(module).__name__}, and only that of l2i_fast.networks runs incrementally"
    if tuple(layers) != Classifier.layers:
        return f"the interpreter reads {', '.join(layers)}, and only {', '.join(Classifier.layers)} run incrementally"
    if not isinstance(interpreter, Interpreter):
        return (
            f"the interpreter is a {type(interpreter).__name__}, and only that of l2i_fast.networks runs incrementally"
        )
    if not interpreter.psi.streamable:
        return "the interpreter stretches its maps to the length of the clip; training it with streamable avoids that"
    return None


class _Stage(NamedTuple):
    """A part of the networks whose output columns are kept."""

    name: str
    #: Stages whose columns are read, stacked along the channels.
    sources: tuple[str, ...]
    #: `up` columns are made of `down`; on either side, `reach` of them depend on columns beyond the end.
    up: int
    down: int
    reach: int
    #: Axis of time of the output.
    axis: int
    #: From a slice of the input, and the number of frames behind the last column of c6, to columns of the output.
    run: Callable[[Tensor, int], Tensor]
    #: Largest number of columns that are read for each one of c6; 0 is all.
    limit: int = 0

    def start(self, column: int) -> int:
        """Return the latest beginning of a slice whose left edge does not touch the columns from `column` on."""
        return (column - self.reach) * self.down // self.up


class _Extent(NamedTuple):
    """Numbers of columns that a stage has read, written, and finished."""

    read: int
    written: int
    final: int


class _Work(NamedTuple):
    """A stage's part of one advance; columns count from the beginning of its slice."""

    stop: int  # end of the slice
    drop: int  # columns of the output that the slice's left edge touches, or that are final already
    keep: tuple[tuple[int, int], ...]  # of each source, the columns with which the next slice begins


class _Window(NamedTuple):
    """The parts of an output's window: final columns of the window before it, and new columns."""

    old: tuple[int, int]
    new: tuple[int, int]


class _Plan(NamedTuple):
    """One advance, at any place in the signal: states with equal plans go through the networks together."""

    begins: bool
    silence: int  # frames of padding
    tail: int  # frames behind the last column of c6
    work: tuple[_Work, ...]
    windows: tuple[_Window, _Window]  # of the embedding and of H


@dataclass
class State:
    """The networks' state of one signal; made by `IncrementalNetwork.begin`.

    Attributes
    ----------
    first_frame : int
        First frame of the signal that was fed.
    frames : int
        Number of frames fed so far.
    computed : int
        Number of columns that all stages have computed: a measure of the work.
    activations : Tensor (K, T), float32
        H of the T frames of the window, as of the last advance.
    columns : dict
        Columns that the stages read again.
    """

    first_frame: int
    frames: int = 0
    computed: int = 0
    activations: Tensor | None = None
    columns: dict[tuple[str, str], Tensor] = field(default_factory=dict, repr=False)


class IncrementalNetwork:
    """A classifier and its interpreter, following signals frame by frame.

    After n frames the window reaches from frame ``max(0, n - window_frames)``, rounded down to a multiple of 64, to the
    newest one. The answer is that of the ordinary networks on the whole signal up to there, with maximum over time and
    Theta taken over the columns of the window only. The weights are those at the time of construction. Different states
    may be used in several threads at once.

    Parameters
    ----------
    module : Classifier
        The classifier as it runs (best fused, channels last).
    layers : sequence of str
        Names of the layers that Psi reads.
    interpreter : Interpreter
        One whose Psi is streamable.
    window_frames : int
        At least 128.
    silence : float
        Decibels of silence; signals shorter than 128 frames are padded with it, as in `AuditedNetwork.run`.

    Attributes
    ----------
    margin : int
        Frames before the window that its columns depend on; a multiple of 64.
    history : int
        Frames, counted back from the newest one, that an answer depends on.

    Raises
    ------
    ValueError
        A window that is too short, or networks that cannot run incrementally: see `why_not_incremental`.
    """

    @default_settings()
    def __init__(
        self, module: nn.Module, layers: Sequence[str], interpreter: nn.Module, window_frames: int, silence: float
    ) -> None:
        reason = why_not_incremental(module, layers, interpreter)
        if reason is not None:
            raise ValueError(f"these networks cannot run incrementally: {reason}")
        if window_frames < Classifier.min_frames:
            raise ValueError(f"window_frames is {window_frames}, but must be at least {Classifier.min_frames}")
        assert isinstance(module, Classifier)
        assert isinstance(interpreter, Interpreter)
        assert isinstance(interpreter.psi, Psi)
        self.window_frames = window_frames
        self.silence = silence
        self._classifier = packed(module)
        self._theta = packed(interpreter.theta)
        self._n_components = interpreter.dictionary.shape[1]
        stages = _stages(self._classifier, packed(interpreter.psi), self._theta)
        self._stages = {stage.name: stage for stage in stages}
        seen = min(self._first_seen("embed", 1), self._first_seen("H", GRID))
        self.margin = -((seen - GRID) // GRID) * GRID
        self.history = -(-window_frames // GRID) * GRID + GRID + self.margin
        self._plans: dict[tuple[int, int], _Plan] = {}

    def first_frame(self, n_frames: int) -> int:
        """Return the latest frame at which a state may begin to answer as of `n_frames` frames of a signal."""
        return max(0, self._window_start(n_frames) - self.margin)

    def begin(self, first_frame: int = 0) -> State:
        """Return a state for a signal that is fed from frame `first_frame` on, a multiple of 64.

        With 0 the signal begins there. Otherwise the first advance must bring all frames up to the newest one, and
        `first_frame` of this class returns the frame to begin at.
        """
        if first_frame < 0 or first_frame % GRID:
            raise ValueError(f"first_frame is {first_frame}, but must be a multiple of {GRID}, 0 or more")
        return State(first_frame)

    @default_settings()
    @torch.inference_mode()
    def advance(self, states: Sequence[State], columns: Tensor) -> tuple[Tensor, Tensor]:
        """Feed the next frames of B signals; return the answers as of the newest.

        Parameters
        ----------
        states : sequence of B states
            States at the same place of the grid (equal frames modulo 64) go through the networks together.
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
            Features of another shape, or a state that began too late in its signal for the window.
        """
        n_mels = self._classifier.mean.numel()
        if columns.ndim != 3 or columns.shape[0] != len(states) or not columns.shape[1] or columns.shape[2] != n_mels:
            needed = f"({len(states)}, n, {n_mels}) with n at least 1"
            raise ValueError(f"columns has shape {tuple(columns.shape)}, but {needed} is needed")
        groups: dict[_Plan, list[int]] = {}
        for i, state in enumerate(states):
            after = state.frames + columns.shape[1]
            if state.first_frame and self._window_start(after) < self.margin:
                raise ValueError(
                    f"a state begins at frame {state.first_frame}, but must begin {self.margin} frames before the "
                    f"window to answer as of frame {state.first_frame + after}"
                )
            # Plans repeat with the grid once they no longer depend on the beginning.
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
        fresh = {"features": F.pad(columns, (0, 0, 0, plan.silence), value=self.silence).unsqueeze(1)}
        for stage, work in zip(self._stages.values(), plan.work, strict=True):
            slices = []
            for source, (start, stop) in zip(stage.sources, work.keep, strict=True):
                x, axis = fresh[source], self._axis(source)
                if not plan.begins:
                    x = torch.cat((before(stage.name, source), x), axis)
                # A copy, so that the rest of x is freed.
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
        """Return the first frame that a column of a stage depends on."""
        if name not in self._stages:
            return column
        stage = self._stages[name]
        return min(self._first_seen(source, stage.start(column)) for source in stage.sources)

    def _extents(self, n_frames: int) -> dict[str, _Extent]:
        """Return the progress of each stage after `n_frames`."""
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

    def _plan(self, before: int, after: int) -> _Plan:
        # Not by lru_cache, which would hold this network in a cycle with its weights.
        if (plan := self._plans.get((before, after))) is None:
            if len(self._plans) == _MOST_PLANS:
                self._plans.clear()
            plan = self._plans[before, after] = self._make_plan(before, after)
        return plan

    def _make_plan(self, before: int, after: int) -> _Plan:
        """Plan the advance of a state from `before` to `after` frames."""
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
    """Cut the networks into stages, each after those that it reads."""
    pool = classifier.pool

    def transposed(x: Tensor) -> Tensor:
        return x.transpose(2, 3).contiguous(memory_format=torch.channels_last)

    def activations(x: Tensor, tail: int) -> Tensor:
        """Return H by frames, (B, T, K), and with attention one column more: the scores."""
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
        _Stage("branch5", ("c5",), 2, 1, 2, _PSI, lambda x, _: psi.branch5(transposed(x)), limit=2),
        _Stage("branch6", ("c6",), 4, 1, 5, _PSI, lambda x, _: psi.branch6(transposed(x))),
        # Its reach is 0; 1 leaves a column to compute in any case.
        _Stage("branch4", ("c4",), 1, 1, 1, _PSI, lambda x, _: psi.branch4(transposed(x)), limit=4),
        _Stage("join", ("branch5", "branch6", "branch4"), 2, 1, 2, _PSI, lambda x, _: psi.join(x)),
        _Stage("H", ("join",), 4, 1, 7, _OUTPUT, activations),
    ]
