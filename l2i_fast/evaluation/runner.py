"""The evaluation: every method on every experiment, in units that are finished whole and kept."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError

from l2i_fast.defaults import default_settings
from l2i_fast.evaluation.experiments import Conditions, Experiment, Planned, plan, spread
from l2i_fast.evaluation.methods import fitted_explainer, learns, make_explainer
from l2i_fast.evaluation.models import Part
from l2i_fast.evaluation.records import Record
from l2i_fast.evaluation.unit import Unit, finished_before
from l2i_fast.explainers import Explainer
from l2i_fast.files import as_path, write_whole
from l2i_fast.model.identity import identity_of
from l2i_fast.progress import Report
from l2i_fast.recording import import_optional
from l2i_fast.version import __version__
from l2i_fast.workers import follow

#: Samples that are finished and kept together.
_GROUP = 20
#: Methods that a worker has read, by run, part and name.
_learned: dict[tuple[str, str, str], Explainer] = {}
#: Groups of samples for each process below which the methods are shared instead.
_FEW = 4
#: What a worker does: methods on groups of samples of a unit (see `Unit.left`), or, without groups, what one learns.
_Task: TypeAlias = tuple[Unit, Sequence[str], Sequence[int]]
#: Recordings of `clean` at most for which scores at equal shares are computed, over all parts.
_CURVE_CLIPS = 80


@default_settings()
def run(
    parts: Sequence[Part],
    output: Path,
    methods: Sequence[str],
    experiments: Sequence[Experiment],
    conditions: Conditions,
    report: Report,
    n_samples: int = 12,
    n_jobs: int = 1,
) -> list[Record]:
    """Explain and score; what an earlier call with the same arguments has finished is read, not computed again.

    Parameters
    ----------
    parts : sequence of Part
        Models with their recordings: see `load_parts`.
    output : Path
        ``records/`` keeps finished units, ``methods/`` what methods have learned, ``samples/`` the results that a page
        shows, and ``run.json`` describes the run.
    methods : sequence of str
        Names in `EXPLAINERS`; "l2i-max" where a part has this variant.
    experiments : sequence of str
    conditions : Conditions
    report : callable
        Receives the progress.
    n_samples : int
        Number of results to keep for a page in each experiment.
    n_jobs : int
        Number of processes that share the work and the processor's cores. Several are faster where methods and scoring
        leave cores idle; each holds the models.

    Returns
    -------
    list of Record
        One for each sample, method and experiment, in a fixed order; then those of other methods and experiments that
        earlier calls have finished in the same folder.

    Raises
    ------
    ValueError
        An unknown method, one that the network cannot serve or that has nothing to learn from, or an output folder of
        another run.
    ImportError
        An optional library that is not installed.
    """
    for library, purpose in (("pyarrow", "keep records"), ("quantus", "score sparseness and complexity")):
        import_optional(library, purpose)
    output = as_path("output", output)
    # Everything that can be wrong is found before the work begins.
    planned = {
        (part.name, experiment): plan(experiment, part.scored, part.scored, part.model.sample_rate, conditions)
        for part in parts
        for experiment in experiments
    }
    for part in parts:
        for name in methods:
            make_explainer(name, part)
    _claim(output, parts, conditions)
    if "misclassified" in experiments:
        for part in parts:
            planned[part.name, "misclassified"] = _misclassified(part, planned[part.name, "misclassified"], report)
    kept = {e: _kept([planned[part.name, e] for part in parts], n_samples) for e in experiments}
    kept["sanity"] = frozenset()  # compares results, and has none of its own
    units = [
        Unit(
            part,
            experiment,
            samples := planned[part.name, experiment],
            conditions,
            output,
            kept[experiment],
            _spread(samples, _CURVE_CLIPS // len(parts)) if experiment == "clean" else frozenset(),
            _GROUP,
        )
        for part in parts
        for experiment in experiments
    ]
    if n_jobs > 1:
        _share(units, methods, n_jobs, report)
    records: list[Record] = []
    for part in parts:
        fitted = partial(fitted_explainer, part=part, output=output, seed=conditions.seed, report=report)
        explainer = cache(fitted)
        for unit in units:
            if unit.part is part:
                records += unit.run(methods, explainer, report)
                unit.describe(methods)
    asked = {(experiment, method) for experiment in experiments for method in methods}
    return records + finished_before(output, [part.name for part in parts], asked)


def _share(units: Sequence[Unit], methods: Sequence[str], n_jobs: int, report: Report) -> None:
    """Do in several processes what is not finished: what methods learn first, then the groups of samples.

    All methods explain a group in a row, so that its recordings are read once; where there are few groups, the methods
    are shared instead.
    """
    learn: dict[tuple[str, str], _Task] = {
        (unit.part.name, name): (unit, [name], [])
        for unit in units
        for name in methods
        if learns(name) and unit.left([name])
    }
    explain = [(unit, methods, [start]) for unit in units for start in unit.left(methods)]
    if len(explain) < _FEW * n_jobs:
        explain = [(unit, [name], unit.left([name])) for unit in units for name in methods if unit.left([name])]
    n_threads = max(1, len(os.sched_getaffinity(0)) // n_jobs)
    run = (os.getpid(), uuid4().hex)
    for stage, tasks in (("learn", [*learn.values()]), ("explain", explain)):
        if not tasks:
            continue
        with parallel_config("loky", inner_max_num_threads=n_threads):
            done = Parallel(min(n_jobs, len(tasks)), return_as="generator_unordered", max_nbytes=None)(
                delayed(_in_worker)(_do, task, *run) for task in tasks
            )
            try:
                for i, text in enumerate(done, 1):
                    report(stage, i, len(tasks), text)
            except TerminatedWorkerError as error:
                raise RuntimeError(
                    "a process was killed, perhaps for lack of memory: fewer jobs need less, and finished work is kept"
                ) from error


def _in_worker(work: Callable[[_Task, str], str], task: _Task, parent: int, run: str) -> str:
    """Do a task in a worker, which leaves Ctrl-C to its parent and ends with it, even if that is killed.

    A single task is done in the parent itself.
    """
    if os.getpid() != parent:
        follow(parent)
    return work(task, run)


def _do(task: _Task, run: str) -> str:
    """Let methods learn what they need, and explain the groups of samples that a task names; return what was done."""
    unit, methods, starts = task
    explainer = partial(_explainer, unit=unit, run=run)
    if not starts:
        explainer(methods[0])
        return f"{unit.part.name}: {methods[0]}"
    unit.run(methods, explainer, _silent, starts)
    what = methods[0] if len(methods) == 1 else f"from {starts[0] + 1} of {len(unit.planned)}"
    return f"{unit.part.name} {unit.experiment}: {what}"


def _explainer(name: str, unit: Unit, run: str) -> Explainer:
    """Return a method in a worker, which keeps what the methods of a run have learned: to find it costs seconds."""
    key = (run, unit.part.name, name)
    if key not in _learned:
        for other in [other for other in _learned if other[0] != run]:
            del _learned[other]
        _learned[key] = fitted_explainer(name, unit.part, unit.output, unit.conditions.seed, _silent)
    return _learned[key] if learns(name) else _learned.pop(key)


def _silent(stage: str, done: int, total: int, text: str) -> None:
    """Report nothing: a worker has no terminal of its own."""


def _kept(planned: Sequence[Sequence[Planned]], n: int) -> frozenset[Planned]:
    """Return `n` samples of an experiment, from the parts in turn and as many of each class as possible."""
    # The first part changes from turn to turn, since parts often have their classes in the same order.
    turns = [turn[i % len(turn) :] + turn[: i % len(turn)] for i, turn in enumerate(zip_longest(*planned))]
    return _spread([one for turn in turns for one in turn if one is not None], n)


def _spread(planned: Sequence[Planned], n: int) -> frozenset[Planned]:
    return frozenset(planned[i] for i in spread([one.true for one in planned], n))


def _claim(output: Path, parts: Sequence[Part], conditions: Conditions) -> None:
    """Write run.json, or check that it is of the same run."""
    file = output / "run.json"
    description = {
        "version": __version__,
        "conditions": dataclasses.asdict(conditions),
        "models": {part.name: _identity(part) for part in parts},
        "data": {part.name: [clip.identity() for clip in part.scored.clips] for part in parts},
    }
    description = json.loads(json.dumps(description))  # as the file holds it
    if file.exists():
        try:
            found = json.loads(file.read_text())
            differing = [name for name, value in description.items() if found[name] != value]
            pairs = [(name, found["conditions"].get(name), value) for name, value in description["conditions"].items()]
        except (AttributeError, OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is damaged ({error}), but must be whole: choose another output folder") from None
        if "conditions" in differing:
            changes = ", ".join(f"{name} {old}, not {new}" for name, old, new in pairs if old != new)
            differing[differing.index("conditions")] = f"conditions ({changes})"
        if differing:
            others = " and ".join(differing)
            raise ValueError(
                f"output {output} holds another run, but must be empty or hold this one: it has other {others}"
            )
        return
    # A run that was killed here before may have left an unfinished file.
    if output.exists() and any(not path.name.startswith(".") for path in output.iterdir()):
        raise ValueError(f"output {output} holds other files, but must be empty or hold this run")
    text = json.dumps(description, indent=1)
    write_whole(file, lambda p: p.write_text(text + "\n"))


def _identity(part: Part) -> dict[str, str]:
    models = {"l2i": part.model, **part.variants}
    return {name: identity_of(model) for name, model in models.items()}


def _misclassified(part: Part, planned: list[Planned], report: Report) -> list[Planned]:
    """Return the samples that the network classifies wrongly."""
    network = part.model.network
    wrong = []
    for i, one in enumerate(planned, 1):
        (p,) = network.classify([one.make().audio])
        if sorted(network.predict(p)) != sorted(one.true):
            wrong.append(one)
        report(f"{part.name} misclassified: classify", i, len(planned), "")
    return wrong
