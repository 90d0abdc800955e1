"""Archives from Python: what `l2i batch` does, and the rows of its table as they come."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import EllipsisType
from typing import Any, NamedTuple

from l2i_fast.archive.cluster import Actors, connected, count_cpus
from l2i_fast.archive.executors import Executor, Here, Processes
from l2i_fast.archive.inputs import Entry, list_inputs
from l2i_fast.archive.journal import Journal, Problem, Recording
from l2i_fast.archive.run import Progress, Run, open_recording
from l2i_fast.archive.settings import BatchSettings
from l2i_fast.archive.tables import complete
from l2i_fast.archive.work import Job, seconds_for_a_window
from l2i_fast.arguments import is_several
from l2i_fast.files import as_path
from l2i_fast.model import load, shipped_models
from l2i_fast.model.identity import identity_of
from l2i_fast.recording import import_optional
from l2i_fast.stores import is_url

#: Bytes of a sample in sound files: FLAC takes about two thirds of its 24 bits, Opus 12 kB a second.
_BYTES = {"flac": 2, "wav": 3, "ogg": 0.3}
#: Settings that do not change the tables and the sound, so that a call that goes on may have others.
_ELSEWHERE = ("exports", "jobs", "cluster")


class Plan(NamedTuple):
    """What a run would do: see `Batch.plan`.

    Attributes
    ----------
    recordings : int
    seconds : float
        Of sound in those whose length is stated.
    unknown : int
        Recordings whose length only reading them shows.
    problems : dict
        Number of recordings that cannot be read, by kind.
    done : float
        Seconds of sound that earlier calls have done.
    work : float
        Estimated seconds of time until the rest is done, if all windows have to be explained and reading keeps up.
    size : int
        Bytes of the sound files, if each window has one event.
    """

    recordings: int
    seconds: float
    unknown: int
    problems: dict[str, int]
    done: float
    work: float
    size: int


class Batch:
    """A run over an archive: iterating over it explains what is left to do, and yields the rows of the table of events.

    Each row is a dict with the columns of the table; rows come as units are finished, in any order.
    What the run writes, and that it goes on where it was interrupted, is described in docs/archive.md.

    Parameters
    ----------
    inputs : path-like, or several
        Recordings, folders, patterns and manifests, as paths or URLs: see `l2i_fast.archive.inputs.list_inputs`.
    output : path-like
        Folder for tables, sound and journal.
    model : str or path-like
        Name of a shipped model, or a folder.
    targets : class names or indices, optional
        Classes to look for; all by default.
    threshold, top_k, domain
        As for `L2I.interpret`.
    network : str, optional
        For a model by `l2i_fast.fit`, the function that makes its network: see `L2I.load`. Every worker calls it.
    report : callable, optional
        Receives a `Progress` about once a second.
    settings
        The attributes of `BatchSettings`.

    Raises
    ------
    ValueError, TypeError, OSError
        An input that does not exist, an unknown class, a setting out of range, or an output folder of another run or in
        use; before the work begins.
    ImportError
        A library of the extra ``archive``, or ``cluster``, is not installed; before the work begins.
    """

    def __init__(
        self,
        inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        output: str | os.PathLike[str],
        model: str | os.PathLike[str] = "esc10",
        targets: int | str | Iterable[int | str] | None = None,
        threshold: float | None = None,
        top_k: int | EllipsisType | None = ...,
        domain: str | None = None,
        network: str | None = None,
        report: Callable[[Progress], None] | None = None,
        **settings: Any,
    ) -> None:
        self.settings = BatchSettings(**settings)
        several: Any = inputs if is_several(inputs) and not isinstance(inputs, os.PathLike) else [inputs]
        self._inputs = [path if path == "-" or is_url(path) else os.fspath(as_path("inputs", path)) for path in several]
        engine = load(model, network).to(self.settings.device)
        self.job = Job(
            os.fspath(model),
            as_path("output", output),
            None if targets is None else tuple(engine.network.find_classes(targets)),
            self.settings,
            engine.selection_with(threshold, top_k, domain),
            network,
        )
        results = {k: v for k, v in dataclasses.asdict(self.settings).items() if k not in _ELSEWHERE}
        selection = dataclasses.asdict(self.job.selection)
        results["device"] = engine.device.type  # whose sums are rounded in its own way
        self._identity = {"model": identity_of(engine), "classes": self.job.classes, **results, **selection}
        # By these a summary finds model and recordings again, from whatever folder it is asked for.
        shipped = model in shipped_models()
        self._notes = {"model": model if shipped else os.path.abspath(self.job.model), "directory": os.getcwd()}
        self._analysis = engine.analysis
        self._report = report
        self.progress: Progress | None = None

    def plan(self) -> Plan:
        """Tell what is to be done, how long it takes, and how much disk it needs, without doing it.

        Recordings are opened, some windows of noise are explained to time that, and nothing is written.
        """
        entries = self._entries()
        zone = self.settings.zone()
        seconds, unknown = 0.0, 0
        problems: Counter[str] = Counter()
        with ThreadPoolExecutor() as pool:
            found = pool.map(lambda entry: open_recording(Recording(0, *entry), zone), entries)
            for opened in found:
                if isinstance(opened, Problem):
                    problems[opened.kind] += 1
                elif opened[0].last_frame is None:
                    unknown += 1
                else:
                    seconds += (opened[0].last_frame - opened[0].first_frame) / opened[0].rate
        done = 0.0
        if (self.job.folder / "journal.sqlite").exists():
            with Journal(self.job.folder, self._identity) as journal:
                done = journal.counts()["heard"]
        hop = self.settings.window - self.settings.overlap
        work = max(0.0, seconds - done) / hop * seconds_for_a_window(self.job) / self._n_workers()
        tracks = {"none": 0, "events": 1, "all": len(self.job.classes or (0,))}[self.settings.sound]
        size = round(seconds * tracks * _BYTES[self.settings.audio_format] * self._analysis.sample_rate)
        return Plan(len(entries), seconds, unknown, dict(problems), done, work, size)

    def _n_workers(self) -> int:
        """Return how many processes do the work."""
        if self.settings.jobs is not None:
            return self.settings.jobs
        if self.settings.cluster in (None, "local"):
            return len(os.sched_getaffinity(0))
        with connected(self.settings.cluster) as ray:
            return count_cpus(ray)

    def _executor(self) -> Executor:
        """Return what does the work."""
        if self.settings.cluster is not None:
            return Actors(self.job, self._identity["model"])
        n = self._n_workers()
        return Here(self.job) if n == 1 else Processes(self.job, n)

    def _entries(self) -> list[Entry]:
        """Return the recordings, each once; raise for wrong inputs before anything is written."""
        entries = list(dict.fromkeys(list_inputs(self._inputs, sys.stdin.buffer if sys.stdin else None)))
        if not entries:
            raise ValueError(f"inputs are {self._inputs}, but there are no recordings")
        return entries

    def __iter__(self) -> Iterator[dict[str, Any]]:
        purposes = {"pyarrow": "write tables", "wavinfo": "read the times in WAV files"}
        if self.settings.cluster is not None:
            purposes["ray"] = "do the work on a cluster"
        for library, purpose in purposes.items():
            import_optional(library, purpose)
        entries = self._entries()
        with Journal(self.job.folder, self._identity, self._notes) as journal:
            journal.add(entries)
            zone, exports = self.settings.zone(), self.settings.exports
            run = Run(journal, self.job, self._analysis, self._executor(), zone, exports, self._report)
            try:
                for outcome in run:
                    if outcome.rows:
                        yield from complete(*journal.find(outcome.recording), outcome.rows)
            finally:
                self.progress = run.progress()
