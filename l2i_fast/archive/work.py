"""What a worker does: windows of recordings, classified and explained, with their tables and their sound."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from l2i_fast.archive.journal import Header, Problem, Recording
from l2i_fast.archive.measures import measure
from l2i_fast.archive.samples import blocks, read_parts
from l2i_fast.archive.settings import BatchSettings
from l2i_fast.archive.sounds import Context, Track
from l2i_fast.archive.windows import Grid, Window, cut
from l2i_fast.arrays import host
from l2i_fast.defaults import default_settings
from l2i_fast.files import printable
from l2i_fast.model import L2I, load
from l2i_fast.model.identity import identity_of
from l2i_fast.ops.soft_mask import soft_mask
from l2i_fast.ops.stft import istft
from l2i_fast.recording import RecordingFile
from l2i_fast.results.masking import fade_end
from l2i_fast.settings import Analysis, Selection
from l2i_fast.stores import version_of

#: Windows that go through the networks together. Always as many: then the answer for one does not depend on the others,
#: down to the last bit, and it does not matter which worker explains which windows with which others.
_TOGETHER = 4
#: Numbers in the tables have this many significant digits: more than can be heard or measured.
_DIGITS = 6


@dataclass(frozen=True)
class Job:
    """What is asked of every recording of a run.

    Attributes
    ----------
    model : str
        Name or folder.
    folder : Path
        Of the results.
    classes : tuple of int or None
        Classes to look for; None is all.
    settings : BatchSettings
    selection : Selection
        Which components make an interpretation.
    network : str or None
        Function that makes the network of a fitted model.
    """

    model: str
    folder: Path
    classes: tuple[int, ...] | None
    settings: BatchSettings
    selection: Selection
    network: str | None = None

    def grid(self, analysis: Analysis) -> Grid:
        """Return the windows: as long as they can be without another frame, for recordings of a little more."""
        length, overlap = (
            round(seconds * analysis.sample_rate) for seconds in (self.settings.window, self.settings.overlap)
        )
        longest = (length // analysis.hop_length + 1) * analysis.hop_length - 1
        return Grid(longest, max(1, length - overlap))


class Unit(NamedTuple):
    """A part of a recording that is done whole or not at all.

    Attributes
    ----------
    recording : Recording
    header : Header
    first, last : int
        Its windows; None for all from the first one on.
    """

    recording: Recording
    header: Header
    first: int
    last: int | None


class Outcome(NamedTuple):
    """What came out of a unit.

    Attributes
    ----------
    recording, first : int
        Which unit.
    rows : list of dict
        Of the table of events: see `l2i_fast.archive.tables`.
    seconds : float
        Of sound that the unit covers.
    problems : list of Problem
    """

    recording: int
    first: int
    rows: list[dict[str, Any]]
    seconds: float
    problems: list[Problem]


def do(units: Sequence[Unit], job: Job) -> list[Outcome]:
    """Do units, whose windows go through the networks together."""
    return _worker(job).run(units)


def identity(job: Job) -> str:
    """Return the fingerprint of the model that `do` uses, which is loaded by it."""
    return identity_of(_worker(job).model)


def seconds_for_a_window(job: Job) -> float:
    """Return how long a process takes to explain a window, measured on noise."""
    worker = _worker(job)
    rng = np.random.default_rng(0)
    windows = [rng.standard_normal(worker.grid.length).astype(np.float32) for _ in range(_TOGETHER)]
    times = []
    with default_settings(), torch.inference_mode():
        for _ in range(3):
            begin = time.perf_counter()
            _, V, _, features = worker.model.network.analyze(windows)
            _, maps = worker.model.network.run(features)
            worker.model.fit(worker.model.read(maps, V.shape[2])[0], V)
            times.append(time.perf_counter() - begin)
    return min(times) / _TOGETHER


@lru_cache(1)
def _worker(job: Job) -> _Worker:
    return _Worker(load(job.model, job.network).to(job.settings.device), job)


class _Worker:
    def __init__(self, model: L2I, job: Job) -> None:
        self.model, self.job = model, job
        self.grid = job.grid(model.analysis)
        self.n_frames = 1 + self.grid.length // model.analysis.hop_length
        self.W = model.interpreter.dictionary.detach()

    @default_settings()
    @torch.inference_mode()
    def run(self, units: Sequence[Unit]) -> list[Outcome]:
        parts = [_Part(unit, self) for unit in units]
        try:
            for batch in self._batches(parts):
                self._explain(batch)
            return [part.finish() for part in parts]
        except BaseException:
            for part in parts:
                part.abandon()
            raise

    def _batches(self, parts: Sequence[_Part]) -> Iterator[list[tuple[_Part, Window]]]:
        batch: list[tuple[_Part, Window]] = []
        for part in parts:
            for window in part.windows():
                if self._n_frames(window) < self.n_frames:  # the only one of its recording
                    yield [(part, window)]
                    continue
                batch.append((part, window))
                if len(batch) == _TOGETHER:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _n_frames(self, window: Window) -> int:
        return 1 + len(window.samples) // self.model.analysis.hop_length

    def _explain(self, batch: Sequence[tuple[_Part, Window]]) -> None:
        """Classify windows with the same number of frames, and explain those that are worth keeping."""
        model, job = self.model, self.job
        signals = [window.samples for _, window in batch]
        if self._n_frames(batch[0][1]) == self.n_frames:
            # The analysis sees silence behind each signal anyway.
            signals = [np.pad(y, (0, self.grid.length - len(y))) for y in signals]
            signals += [signals[-1]] * (_TOGETHER - len(signals))
        X, V, scales, features = model.network.analyze(signals)
        logits, maps = model.network.run(features)
        probabilities = host(model.network.probabilities(logits))
        wanted = [self._wanted(p) if np.any(signal) else [] for p, signal in zip(probabilities, signals, strict=True)]
        H = z = None
        if any(wanted[: len(batch)]):
            H, z, _ = model.read(maps, V.shape[2])
            H = model.fit(H, V)
        for b, (part, window) in enumerate(batch):
            found: dict[int, _Found] = {}
            for target in wanted[b]:
                assert H is not None
                assert z is not None
                relevance = model.relevance(z[b], target)
                components = model.select(relevance, job.selection)
                weights = np.zeros(len(relevance), np.float32)
                weights[list(components)] = 1
                chosen = torch.from_numpy(weights).to(model.device)
                Y = soft_mask(X[b], self.W, H[b], chosen, domain=job.selection.domain)
                found[target] = _Found(float(probabilities[b][target]), components, relevance, Y)
            part.take(window, X[b], float(scales[b]), found)

    def _wanted(self, p: NDArray[np.float32]) -> list[int]:
        job = self.job
        classes = range(len(p)) if job.classes is None else job.classes
        kept = [c for c in classes if p[c] >= job.settings.confidence - job.settings.explain_rejected]
        if job.settings.sound == "all":  # the track has the most probable class, or each that is asked for
            kept = sorted({*kept, *([int(p.argmax())] if job.classes is None else job.classes)})
        return kept


class _Found(NamedTuple):
    """An interpretation of a window: its probability, components, their relevance, and its spectrum (F, T), a tensor
    where tensors were analysed."""

    probability: float
    components: tuple[int, ...]
    relevance: NDArray[np.float32]
    Y: NDArray[np.complex64]


class _Part:
    """A unit while its windows are explained, in their order."""

    def __init__(self, unit: Unit, worker: _Worker) -> None:
        self.unit, self.worker, self.job = unit, worker, worker.job
        self.rate = worker.model.sample_rate
        self.rows: list[dict[str, Any]] = []
        self.problems: list[Problem] = []
        self.heard = self.sounding = 0
        self.failed = False
        self.tracks: dict[int, Track] = {}
        self.contexts: list[Context] = []

    def windows(self) -> Iterator[Window]:
        """Read the unit's windows and, for its sound, the one before and the one after."""
        first, last = self.unit.first, self.unit.last
        header = self.unit.header
        before = max(0, first - 1)
        try:
            with warnings.catch_warnings(record=True) as caught, RecordingFile(self.unit.recording.path) as file:
                warnings.simplefilter("always")
                self._check_unchanged()
                found = blocks(file, self.rate, before * self.worker.grid.hop, header.first_frame, header.last_frame)
                for window in cut(found, self.worker.grid, before, None if last is None else last + 1):
                    if len(window.samples) < self.worker.model.analysis.n_fft:
                        seconds = len(window.samples) / self.rate
                        reason = f"{self.unit.recording.path} is too short: {seconds:.3f} s of sound"
                        self.problems.append(Problem("short", reason))
                        continue
                    mine = self._mine(window)
                    # What the next unit's first window covers is counted there.
                    end = window.start + len(window.samples) if mine else window.start
                    self.heard = max(0, end - first * self.worker.grid.hop)
                    if mine or self.job.settings.sound != "none":
                        yield window
                self._check_unchanged()
            if not file.complete:
                texts = [str(warning.message) for warning in caught]
                self.problems.append(Problem("incomplete", next(text for text in texts if file.name in text)))
        except Exception as error:
            self._fail(error)

    def _mine(self, window: Window) -> bool:
        first, last = self.unit.first, self.unit.last
        return window.number >= first and (last is None or window.number <= last)

    def _check_unchanged(self) -> None:
        path, header = self.unit.recording.path, self.unit.header
        if version_of(path) != (header.size, header.modified):
            raise _Changed(f"{path} has changed since it was opened: this part of it was not explained")

    def _fail(self, error: Exception) -> None:
        self.failed = True
        self.abandon()
        self.problems = [problem_of(error, self.unit.recording.path)]

    def abandon(self) -> None:
        """Remove the sound that was written."""
        for track in self.tracks.values():
            track.abandon()
        for context in self.contexts:
            context.abandon()

    def take(self, window: Window, X: Any, scale: float, found: dict[int, _Found]) -> None:
        """Take a window's spectrum (F, T), what it was divided by, and its interpretations by class."""
        if self.failed:
            return
        kept: dict[int, dict[str, Any]] = {}
        if self._mine(window):
            self.sounding += bool(np.any(window.samples))
            lowest = self.job.settings.confidence - self.job.settings.explain_rejected
            worth = {target: one for target, one in found.items() if one.probability >= lowest}
            if worth:
                power = _power(X)
                of_input = self._measured("input_", power, scale)
                kept = {
                    target: self._row(window, float(power.sum(dtype=np.float64)), scale, target, one) | of_input
                    for target, one in worth.items()
                }
                self.rows += kept.values()
        if self.job.settings.sound == "events":
            accepted = {target for target, one in found.items() if one.probability >= self.job.settings.confidence}
            for target in sorted(accepted | self.tracks.keys()):
                sound = self._sound(found[target], window, scale) if target in accepted else None
                self._track(target, self.worker.model.classes[target]).add(window, sound, kept.get(target))
        elif self.job.settings.sound == "all":
            # One track of whatever class is the most probable one, or one of each class that is asked for.
            likely = max(found, key=lambda target: found[target].probability, default=None)
            targets: dict[int, int | None] = (
                {-1: likely} if self.job.classes is None else {c: c for c in self.job.classes}
            )
            for key, chosen in targets.items():
                one = None if chosen is None else found.get(chosen)
                sound = np.zeros_like(window.samples) if one is None else self._sound(one, window, scale)
                label = "predicted" if key < 0 else self.worker.model.classes[key]
                self._track(key, label).add(window, sound, None if chosen is None else kept.get(chosen))

    def _track(self, key: int, label: str) -> Track:
        if key not in self.tracks:
            recording, header = self.unit.recording, self.unit.header
            folder = Path("sound", f"{recording.id:06d}-{safe_name(Path(recording.path).stem)}", safe_name(label))
            self.tracks[key] = Track(
                self.job.folder, folder, self.worker.grid, self.rate, self.job.settings.audio_format, self.unit.first,
                self.unit.last, header.first_frame / header.rate, self.job.settings.sound == "events",
            )  # fmt: skip
        return self.tracks[key]

    def _sound(self, one: _Found, window: Window, scale: float) -> NDArray[np.float32]:
        analysis = self.worker.model.analysis
        y = istft(one.Y, hop_length=analysis.hop_length, n_fft=analysis.n_fft, length=len(window.samples))
        return fade_end(host(y) * np.float32(scale), analysis.n_fft, analysis.hop_length)

    def _row(self, window: Window, energy: float, scale: float, target: int, one: _Found) -> dict[str, Any]:
        """Return a row of the table of events without the measures of the input, whose energy is given."""
        model, header = self.worker.model, self.unit.header
        before = header.first_frame / header.rate
        power = _power(one.Y)
        return {
            "start": _rounded(before + window.start / self.rate, 9),
            "end": _rounded(before + (window.start + len(window.samples)) / self.rate, 9),
            "label": model.classes[target],
            "probability": _rounded(one.probability),
            "accepted": one.probability >= self.job.settings.confidence,
            "components": list(one.components),
            "relevance": [_rounded(float(one.relevance[k])) for k in one.components],
            "sound": None,
            "input_sound": None,
            "kept": _rounded(float(power.sum(dtype=np.float64)) / energy),
            **self._measured("", power, scale),
        }

    def _measured(self, prefix: str, power: NDArray[np.float32], scale: float) -> dict[str, float | None]:
        analysis = self.worker.model.analysis
        found = measure(power, self.rate, analysis.n_fft, analysis.hop_length, scale)
        return {prefix + name: _rounded(value) for name, value in found._asdict().items()}

    def finish(self) -> Outcome:
        """Complete the sound files; return what came out."""
        if not self.failed:
            for track in self.tracks.values():
                track.finish()
            if self.job.settings.context is not None:
                self._write_contexts(self.job.settings.context)
        if not self.failed:
            if not self.heard and not self.unit.first and not self.problems:
                self.problems.append(Problem("empty", f"{self.unit.recording.path} has no samples"))
            elif self.heard and not self.sounding:
                self.problems.append(Problem("silent", f"{self.unit.recording.path} is silent: all samples are zero"))
        rows = [] if self.failed else self.rows
        seconds = 0.0 if self.failed else self.heard / self.rate
        return Outcome(self.unit.recording.id, self.unit.first, rows, seconds, self.problems)

    def _write_contexts(self, seconds: float) -> None:
        """Write the recording itself around each file of the sound of events."""
        header, rate = self.unit.header, self.rate
        begin, margin = round(header.first_frame * rate / header.rate), round(seconds * rate)
        self.contexts = [
            Context(self.job.folder, piece, begin, margin, rate, self.job.settings.audio_format)
            for track in self.tracks.values()
            for piece in track.pieces
        ]
        if not self.contexts:
            return
        for context, samples in self._around(self.contexts):
            context.write(samples)
        if self.failed:
            return
        for context in self.contexts:
            context.finish()
        names = {context.sound: context.name for context in self.contexts}
        for row in self.rows:
            row["input_sound"] = names.get(row["sound"])

    def _around(self, contexts: Sequence[Context]) -> Iterator[tuple[Context, NDArray[np.float32]]]:
        try:
            with RecordingFile(self.unit.recording.path) as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # `windows` has heard them
                for i, samples in read_parts(file, self.rate, [(one.start, one.stop) for one in contexts]):
                    yield contexts[i], samples
                self._check_unchanged()
        except Exception as error:
            self._fail(error)


class _Changed(Exception):
    """A recording is not the one that was opened."""


def problem_of(error: Exception, path: str) -> Problem:
    """Return the problem that an error in reading a recording stands for."""
    reason = str(error) if str(error) else type(error).__name__
    if isinstance(error, _Changed):
        return Problem("changed", reason)
    if isinstance(error, FileNotFoundError):
        return Problem("missing", reason, again=True)
    if isinstance(error, (OSError, ImportError)):
        why = getattr(error, "strerror", None) or reason
        return Problem("unreadable", reason if path in reason else f"{path}: {why}", again=True)
    if "holds NaN" in reason:
        return Problem("not finite", reason)
    return Problem("damaged", reason)


def _power(X: Any) -> NDArray[np.float32]:
    power: NDArray[np.float32] = np.abs(host(X)) ** 2
    return power


def _rounded(value: float | None, digits: int = _DIGITS) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")


def safe_name(name: str) -> str:
    """Return a name for a file: what a file system or a shell might object to becomes "-", and it is short."""
    text = re.sub(r"[^\w.+-]+", "-", printable(name)).strip("-.")
    while len(text.encode()) > 60:
        text = text[:-1]
    return text or "recording"
