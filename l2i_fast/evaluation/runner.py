"""The evaluation: every method on every experiment, in units that are finished whole and kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import resource
import time
import warnings
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2i_fast.audio import write_audio
from l2i_fast.data import Clip
from l2i_fast.defaults import default_settings
from l2i_fast.evaluation.experiments import Conditions, Experiment, Planned, Sample, plan, spread
from l2i_fast.evaluation.models import Part
from l2i_fast.evaluation.records import Record, curve, record
from l2i_fast.explainers import EXPLAINERS, Explainer, FittedExplainer, ListenToInterpret
from l2i_fast.files import as_path, write_whole
from l2i_fast.metrics.judging import judge, judge_published
from l2i_fast.metrics.similarity import similarity
from l2i_fast.model import L2I
from l2i_fast.progress import Report
from l2i_fast.recording import import_optional
from l2i_fast.results import Result
from l2i_fast.results.files import plain
from l2i_fast.training.finished import fingerprint
from l2i_fast.version import __version__

Float32 = NDArray[np.float32]

#: Samples of a unit of work.
_UNIT = 20
#: Recordings of `clean` at most for which scores at equal shares are computed, over all parts.
_CURVE_CLIPS = 80
#: Networks of the sanity check at most, from trained weights to random ones.
_SANITY_STEPS = 8


@default_settings()
def run(
    parts: Sequence[Part],
    output: Path,
    methods: Sequence[str],
    experiments: Sequence[Experiment],
    conditions: Conditions,
    report: Report,
    n_samples: int = 12,
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

    Returns
    -------
    list of Record
        One for each sample, method and experiment, in a fixed order.

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
    explainers = {part.name: [make_explainer(name, part) for name in methods] for part in parts}
    _claim(output, parts, conditions)
    if "misclassified" in experiments:
        for part in parts:
            planned[part.name, "misclassified"] = _misclassified(part, planned[part.name, "misclassified"], report)
    kept = {e: _kept([planned[part.name, e] for part in parts], n_samples) for e in experiments}
    kept["sanity"] = frozenset()  # compares results, and has none of its own
    records: list[Record] = []
    for part in parts:
        fitted = [_fitted(explainer, part, output, conditions.seed, report) for explainer in explainers[part.name]]
        for experiment in experiments:
            unit = Unit(part, experiment, conditions, output, kept[experiment], len(parts))
            records += unit.run(fitted, planned[part.name, experiment], report)
    return records


def _kept(planned: Sequence[Sequence[Planned]], n: int) -> frozenset[Planned]:
    """Return `n` samples of an experiment, from the parts in turn and as many of each class as possible."""
    # The first part changes from turn to turn, since parts often have their classes in the same order.
    turns = [turn[i % len(turn) :] + turn[: i % len(turn)] for i, turn in enumerate(zip_longest(*planned))]
    return frozenset(spread([one for turn in turns for one in turn if one is not None], n))


def make_explainer(name: str, part: Part) -> Explainer:
    """Return a method for a part, which has learned nothing yet.

    Raises
    ------
    ValueError
        An unknown name, a method that the network cannot serve, or one that has nothing to learn from.
    """
    if name in part.variants:
        explainer: Explainer = ListenToInterpret.for_model(part.variants[name])
        explainer.name, explainer.title = name, "L2I, Theta-MAX"  # type: ignore[misc]
        return explainer
    if name not in EXPLAINERS:
        known = ", ".join([*EXPLAINERS, *part.variants])
        raise ValueError(f"method is {name!r}, but must be one of {known}")
    try:
        explainer = EXPLAINERS[name].for_model(part.model)
    except ValueError as error:
        raise ValueError(f"the method {name} cannot explain {part.run}: {error}") from None
    if isinstance(explainer, FittedExplainer) and not part.others.clips:
        raise ValueError(
            f"the method {name} learns from recordings, but all of {part.scored.name} are scored: "
            "name the folds to score with --fold, and it learns from the others"
        )
    return explainer


def possible_methods(parts: Sequence[Part]) -> list[str]:
    """Return the names of all methods that every part can serve; warn about the others.

    Warns
    -----
    RuntimeWarning
        With the reason, for each method that is left out.
    """
    names = [*EXPLAINERS, *(name for name in parts[0].variants if all(name in part.variants for part in parts))]
    possible = []
    for name in names:
        try:
            for part in parts:
                make_explainer(name, part)
        except (ValueError, ImportError) as error:
            warnings.warn(f"{name} is left out: {error}", RuntimeWarning, stacklevel=2)
        else:
            possible.append(name)
    return possible


def _fitted(explainer: Explainer, part: Part, output: Path, seed: int, report: Report) -> Explainer:
    """Let a method learn, if it does, and keep the seconds that this took the first time."""
    if not isinstance(explainer, FittedExplainer):
        return explainer
    folder = output / "methods" / part.name / explainer.name
    start = time.perf_counter()
    fitted = explainer.fit([clip.path for clip in part.others.clips], folder, report, seed)
    file = folder / "seconds.json"
    if not file.exists():
        seconds = time.perf_counter() - start
        write_whole(file, lambda p: p.write_text(json.dumps({"seconds": seconds})))
    return fitted


def _claim(output: Path, parts: Sequence[Part], conditions: Conditions) -> None:
    """Write run.json, or check that it is of the same run."""
    file = output / "run.json"
    description = {
        "version": __version__,
        "conditions": dataclasses.asdict(conditions),
        "models": {part.name: _identity(part) for part in parts},
        "data": {part.name: [_stated(clip) for clip in part.scored.clips] for part in parts},
    }
    mark = fingerprint(json.dumps(description, sort_keys=True))
    if file.exists():
        try:
            found = json.loads(file.read_text())["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is damaged ({error}), but must be whole: choose another output folder") from None
        if found != mark:
            raise ValueError(f"output {output} holds another run, but must be empty or hold this one: {file} differs")
        return
    # A run that was killed here before may have left an unfinished file.
    if output.exists() and any(not path.name.startswith(".") for path in output.iterdir()):
        raise ValueError(f"output {output} holds other files, but must be empty or hold this run")
    text = json.dumps({"fingerprint": mark, **description}, indent=1)
    write_whole(file, lambda p: p.write_text(text + "\n"))


def _stated(clip: Clip) -> list[Any]:
    """Return what tells a clip from another one of its name."""
    return [clip.name, list(clip.labels), clip.path.stat().st_size if clip.path.exists() else None]


def _identity(part: Part) -> dict[str, str]:
    models = {"l2i": part.model, **part.variants}
    return {name: identity_of(model) for name, model in models.items()}


def identity_of(model: L2I) -> str:
    """Return a fingerprint of the weights and settings of a model."""
    digest = hashlib.blake2b(repr(model.settings).encode(), digest_size=16)
    modules = [model.interpreter, getattr(model.network, "module", None)]
    for module in modules:
        for name, value in module.state_dict().items() if module is not None else ():
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


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


@dataclasses.dataclass(frozen=True, eq=False)
class Unit:
    """One experiment on one part; its samples are worked on in groups, each of which is kept whole."""

    part: Part
    experiment: Experiment
    conditions: Conditions
    output: Path
    kept: frozenset[Planned]
    n_parts: int

    def run(self, explainers: Sequence[Explainer], planned: list[Planned], report: Report) -> list[Record]:
        """Return the records of all samples and methods."""
        curved = {one.name for one in spread(planned, _CURVE_CLIPS // self.n_parts)}
        records: list[Record] = []
        for start in range(0, len(planned), _UNIT):
            group = planned[start : start + _UNIT]
            samples: list[Sample] = []
            for explainer in explainers:
                file = (
                    self.output / "records" / self.part.name / self.experiment / f"{explainer.name}-{start:06}.parquet"
                )
                if not file.exists() or not all(self._has(explainer, one) for one in group if one in self.kept):
                    samples = samples or [one.make() for one in group]
                    rows = self._explain(explainer, group, samples, curved)
                    write_whole(file, lambda p, rows=rows: _write(p, rows))  # type: ignore[misc]
                records += _read(file)
                stage = f"{self.part.name} {self.experiment}: {explainer.name}"
                report(stage, min(start + _UNIT, len(planned)), len(planned), "")
        self._describe(explainers, planned)
        return records

    def _explain(
        self, explainer: Explainer, group: list[Planned], samples: list[Sample], curved: set[str]
    ) -> list[Record]:
        network, rate = self.part.model.network, self.part.model.sample_rate
        targets = self._targets(samples)
        begin = time.perf_counter()
        results = explainer.explain([(sample.audio, rate) for sample in samples], targets)
        seconds = (time.perf_counter() - begin) / len(samples)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        common = {
            "experiment": self.experiment,
            "run": self.part.run,
            "part": self.part.name,
            "method": explainer.name,
            "title": explainer.title,
        }
        timing = {"seconds": seconds, "peak_memory_mb": memory}
        if self.experiment == "sanity":
            return [
                {**common, "sample": group[i].name, "source": group[i].source, **row, **timing}
                for i, row in self._sanity(explainer, samples, targets, results)
            ]
        judged = (judge_published if self.conditions.protocol == "published" else judge)(network, results)
        rows = []
        for one, sample, result, judgement in zip(group, samples, results, judged, strict=True):
            row = common | {"sample": one.name, "source": one.source, "note": sample.note}
            row |= record(sample, result, judgement, self.conditions.protocol, network.multilabel) | timing
            if self.experiment == "clean" and one.name in curved:
                row |= curve(network, result)
            if one in self.kept:
                self._keep(explainer.name, one, sample, dataclasses.replace(result, source=one.name))
            rows.append(row)
        return rows

    def _targets(self, samples: Sequence[Sample]) -> list[int]:
        """Return the most probable class of each sample, the one that is explained."""
        network = self.part.model.network
        return [int(network.classify([sample.audio])[0].argmax()) for sample in samples]

    def _sanity(
        self, explainer: Explainer, samples: list[Sample], targets: list[int], results: list[Result]
    ) -> Iterator[tuple[int, Record]]:
        """Yield similarities of the explanations to those with ever more random weights, from the output on."""
        network, rate = self.part.model.network, self.part.model.sample_rate
        layers = network.weighted[::-1]
        steps = sorted({round(n) for n in np.linspace(0, len(layers), _SANITY_STEPS)})
        for n in steps:
            other = explainer.on(network.randomized(layers[:n], self.conditions.seed)) if n else explainer
            again = other.explain([(sample.audio, rate) for sample in samples], targets)
            for i, (one, two) in enumerate(zip(results, again, strict=True)):
                yield i, {"randomized": n / len(layers), **similarity(one.mask(), two.mask())._asdict()}

    def _keep(self, method: str, one: Planned, sample: Sample, result: Result) -> None:
        """Keep a result and the parts of its recording for a page."""
        folder = self._home(one)
        stems = [re.sub(r"[^\w-]+", "-", name)[:60] for name in sample.parts]
        files = {name: f"part{i}-{stem}.wav" for i, (name, stem) in enumerate(zip(sample.parts, stems, strict=True))}
        for name, part in sample.parts.items():
            write_audio(folder / files[name], part, result.sample_rate)
        description = {
            "experiment": self.experiment,
            "name": one.name,
            "true": [self.part.model.classes[c] for c in one.true],
            "note": sample.note,
            "sample_rate": result.sample_rate,
            "parts": files,
            "events": [list(event) for event in sample.events],
        }
        text = json.dumps(plain(description), indent=1)
        write_whole(folder / "sample.json", lambda p: p.write_text(text + "\n"))
        result.save(folder / method)

    def _has(self, explainer: Explainer, one: Planned) -> bool:
        return (self._home(one) / explainer.name / "result.json").is_file()

    def _describe(self, explainers: Sequence[Explainer], planned: Sequence[Planned]) -> None:
        """State the methods of each kept sample, in their order."""
        for one in self.kept.intersection(planned):
            file = self._home(one) / "sample.json"
            names = [explainer.name for explainer in explainers if self._has(explainer, one)]
            if names:
                text = json.dumps({**json.loads(file.read_text()), "methods": names}, indent=1)
                write_whole(file, lambda p, text=text: p.write_text(text + "\n"))  # type: ignore[misc]

    def _home(self, one: Planned) -> Path:
        return self.output / "samples" / self.experiment / self.part.run / one.name


def _write(file: Path, rows: list[Record]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(name for row in rows for name in row))
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), file)


def _read(file: Path) -> list[Record]:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({error}), but must be whole: remove it") from None
    rows: list[Record] = table.to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def write_records(file: Path, records: list[Record]) -> None:
    """Write the records as one Parquet file."""
    write_whole(file, lambda p: _write(p, records))
