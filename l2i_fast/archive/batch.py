"""Archives from Python: what `l2i batch` does, and the rows of its table as they come."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from types import EllipsisType
from typing import Any

from l2i_fast.archive.inputs import list_inputs
from l2i_fast.archive.journal import Journal
from l2i_fast.archive.run import Progress, Run
from l2i_fast.archive.settings import BatchSettings
from l2i_fast.archive.tables import complete
from l2i_fast.archive.work import Job
from l2i_fast.arguments import is_several
from l2i_fast.files import as_path
from l2i_fast.model import load
from l2i_fast.model.identity import identity_of


class Batch:
    """A run over an archive: iterating over it explains what is left to do, and yields the rows of the table of events.

    Each row is a dict with the columns of the table; rows come as units are finished, in any order.
    What the run writes, and that it goes on where it was interrupted, is described in docs/archive.md.

    Parameters
    ----------
    inputs : path-like, or several
        Recordings, folders, patterns and manifests: see `l2i_fast.archive.inputs.list_inputs`.
    output : path-like
        Folder for tables, sound and journal.
    model : str or path-like
        Name of a shipped model, or a folder.
    targets : class names or indices, optional
        Classes to look for; all by default.
    threshold, top_k, domain
        As for `L2I.interpret`.
    report : callable, optional
        Receives a `Progress` about once a second.
    settings
        The attributes of `BatchSettings`.

    Raises
    ------
    ValueError, TypeError, OSError
        An input that does not exist, an unknown class, a setting out of range, or an output folder of another run or in
        use; before the work begins.
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
        report: Callable[[Progress], None] | None = None,
        **settings: Any,
    ) -> None:
        self.settings = BatchSettings(**settings)
        several: Any = inputs if is_several(inputs) and not isinstance(inputs, os.PathLike) else [inputs]
        self._inputs = [os.fspath(as_path("inputs", path)) if path != "-" else path for path in several]
        engine = load(model)
        self.job = Job(
            os.fspath(model),
            as_path("output", output),
            None if targets is None else tuple(engine.network.find_classes(targets)),
            self.settings,
            engine.selection_with(threshold, top_k, domain),
        )
        results = {k: v for k, v in dataclasses.asdict(self.settings).items() if k not in ("exports", "jobs")}
        selection = dataclasses.asdict(self.job.selection)
        self._identity = {"model": identity_of(engine), "classes": self.job.classes, **results, **selection}
        self._analysis = engine.analysis
        self._report = report
        self.progress: Progress | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with Journal(self.job.folder, self._identity) as journal:
            journal.add(list_inputs(self._inputs, sys.stdin.buffer if sys.stdin else None))
            n_jobs = self.settings.jobs or len(os.sched_getaffinity(0))
            zone, exports = self.settings.zone(), self.settings.exports
            run = Run(journal, self.job, self._analysis, zone, n_jobs, exports, self._report)
            try:
                for outcome in run:
                    if outcome.rows:
                        yield from complete(*journal.find(outcome.recording), outcome.rows)
            finally:
                self.progress = run.progress()
