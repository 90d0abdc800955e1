"""A unit of the evaluation: one experiment on one part, worked on in groups of samples that are kept whole."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from l2i_fast.audio import scale_to_peak, write_audio
from l2i_fast.evaluation.experiments import Conditions, Experiment, Planned, Sample
from l2i_fast.evaluation.models import Part
from l2i_fast.evaluation.records import Record, curve, record
from l2i_fast.explainers import Explainer
from l2i_fast.files import write_whole
from l2i_fast.metrics.judging import judge, judge_published
from l2i_fast.metrics.localization import opening
from l2i_fast.metrics.separation import separation
from l2i_fast.metrics.similarity import similarity
from l2i_fast.progress import Report
from l2i_fast.results import Result
from l2i_fast.results.files import plain
from l2i_fast.settings import read_json
from l2i_fast.system import peak_memory, reset_peak_memory
from l2i_fast.training.finished import fingerprint

#: Entry of the number of samples in the metadata of a file of records.
_SAMPLES = b"samples"
#: Bytes of a folder's name at most.
_LONGEST_NAME = 200
#: Networks of the sanity check at most, from trained weights to random ones.
_SANITY_STEPS = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Unit:
    """One experiment on one part.

    Attributes
    ----------
    part : Part
    experiment : str
    planned : sequence of Planned
        The samples.
    conditions : Conditions
    output : Path
    kept : set of Planned
        Samples whose results are kept for a page.
    curved : set of Planned
        Samples for which scores at equal shares are computed.
    group_size : int
        Number of samples that are finished together.
    """

    part: Part
    experiment: Experiment
    planned: Sequence[Planned]
    conditions: Conditions
    output: Path
    kept: frozenset[Planned]
    curved: frozenset[Planned]
    group_size: int

    def run(
        self,
        methods: Sequence[str],
        explainer: Callable[[str], Explainer],
        report: Report,
        starts: Collection[int] | None = None,
    ) -> list[Record]:
        """Return the records of methods on all samples, or on the groups that begin at `starts`; see `left`.

        What is finished is read. `explainer` returns a method by its name, and is called for those that have something
        left to explain.
        """
        records: list[Record] = []
        for start, group in self._groups():
            if starts is not None and start not in starts:
                continue
            samples: list[Sample] = []
            for name in methods:
                file = self._file(name, start)
                if not self._has_group(name, start, group):
                    samples = samples or [one.make() for one in group]
                    rows = self._explain(explainer(name), group, samples)
                    write_whole(file, lambda p, rows=rows: _write(p, rows, len(self.planned)))  # type: ignore[misc]
                records += _read(file)[0]
                stage = f"{self.part.name} {self.experiment}: {name}"
                report(stage, start + len(group), len(self.planned), "")
        return records

    def left(self, methods: Sequence[str]) -> list[int]:
        """Return where the groups begin that some of the methods have not finished."""
        return [
            start
            for start, group in self._groups()
            if not all(self._has_group(method, start, group) for method in methods)
        ]

    def describe(self, methods: Sequence[str]) -> None:
        """State the methods of each kept sample: these, in their order, and those of earlier runs."""
        for one in self.kept.intersection(self.planned):
            file = self._home(one) / "sample.json"
            description = read_json(file)
            every = dict.fromkeys([*methods, *description.get("methods", ())])
            names = [name for name in every if self._has_result(name, one)]
            if names != description.get("methods"):
                text = json.dumps({**description, "methods": names}, indent=1)
                write_whole(file, lambda p, text=text: p.write_text(text + "\n"))  # type: ignore[misc]

    def _groups(self) -> Iterator[tuple[int, Sequence[Planned]]]:
        for start in range(0, len(self.planned), self.group_size):
            yield start, self.planned[start : start + self.group_size]

    def _file(self, method: str, start: int) -> Path:
        return _records(self.output, self.part.name) / self.experiment / f"{method}-{start:06}.parquet"

    def _has_group(self, method: str, start: int, group: Sequence[Planned]) -> bool:
        kept = [one for one in group if one in self.kept]
        return self._file(method, start).exists() and all(self._has_result(method, one) for one in kept)

    def _has_result(self, method: str, one: Planned) -> bool:
        home = self._home(one)
        return (home / method / "result.json").is_file() and (home / "sample.json").is_file()

    def _home(self, one: Planned) -> Path:
        name = one.name
        if len(os.fsencode(name)) > _LONGEST_NAME:  # of several clips, whose names a file system takes one by one
            name = f"{name[: _LONGEST_NAME // 8]}-{fingerprint(name)[:8]}"
        return self.output / "samples" / self.experiment / self.part.run / name

    def _explain(self, explainer: Explainer, group: Sequence[Planned], samples: list[Sample]) -> list[Record]:
        network, rate = self.part.model.network, self.part.model.sample_rate
        # The class that is explained is the most probable one; with one label, methods choose it themselves.
        targets = self._most_probable(samples) if network.multilabel else None
        reset_peak_memory()
        begin = time.perf_counter()
        results = explainer.explain([(sample.audio, rate) for sample in samples], targets)
        seconds = (time.perf_counter() - begin) / len(samples)
        common = {
            "experiment": self.experiment,
            "run": self.part.run,
            "part": self.part.name,
            "method": explainer.name,
            "title": explainer.title,
        }
        timing = {"seconds": seconds, "peak_memory_mb": peak_memory() / 2**20}
        if self.experiment == "sanity":
            return [
                {**common, "sample": group[i].name, "source": group[i].source, **row, **timing}
                for i, row in self._sanity(explainer, samples, results)
            ]
        judged = (judge_published if self.conditions.protocol == "published" else judge)(network, results)
        rows = []
        for one, sample, result, judgement in zip(group, samples, results, judged, strict=True):
            row: Record = common | {"sample": one.name, "source": one.source, "note": sample.note}
            row |= record(sample, result, judgement, self.conditions.protocol, network.multilabel) | timing
            if self.experiment == "clicks" and self._due_to_events(sample, result):
                row["opening"] = opening(result, sample.events)
            if one in self.curved:
                row |= curve(network, result)
            if one in self.kept:
                self._keep(explainer.name, one, sample, dataclasses.replace(result, source=one.name))
            rows.append(row)
        return rows

    def _most_probable(self, samples: Sequence[Sample]) -> list[int]:
        network = self.part.model.network
        return [int(network.classify([sample.audio])[0].argmax()) for sample in samples]

    def _due_to_events(self, sample: Sample, result: Result) -> bool:
        """Return whether the network decides otherwise on the noise alone."""
        network = self.part.model.network
        _, peak = scale_to_peak(sample.audio, network.analysis.peak)
        (p,) = network.classify([sample.parts["disturbance"]], [peak])
        return int(p.argmax()) != result.explanations[0].target

    def _sanity(
        self, explainer: Explainer, samples: list[Sample], results: list[Result]
    ) -> Iterator[tuple[int, Record]]:
        """Yield similarities of the explanations to those with ever more random weights, from the output on."""
        network, rate = self.part.model.network, self.part.model.sample_rate
        targets = [result.explanations[0].target for result in results]
        layers = network.weighted[::-1]
        steps = sorted({round(n) for n in np.linspace(0, len(layers), _SANITY_STEPS)})
        for n in steps:
            other = explainer.on(network.randomized(layers[:n], self.conditions.seed)) if n else explainer
            again = other.explain([(sample.audio, rate) for sample in samples], targets)
            for i, (one, two) in enumerate(zip(results, again, strict=True)):
                likeness = similarity(one.mask(), two.mask())._asdict()
                row = {"randomized": n / len(layers), "kept": two.kept(), **likeness}
                if "target" in samples[i].parts and targets[i] in samples[i].true:
                    target, disturbance = (samples[i].parts[name] for name in ("target", "disturbance"))
                    row["ratio_gain"] = separation(two, target, disturbance).ratio_gain
                yield i, row

    def _keep(self, method: str, one: Planned, sample: Sample, result: Result) -> None:
        """Keep a result for a page and, the first time, the parts of its recording."""
        folder = self._home(one)
        if not (folder / "sample.json").exists():
            self._keep_recording(folder, one, sample, result.sample_rate)
        result.save(folder / method)

    def _keep_recording(self, folder: Path, one: Planned, sample: Sample, rate: int) -> None:
        stems = [re.sub(r"[^\w-]+", "-", name)[:60] for name in sample.parts]
        files = {name: f"part{i}-{stem}.wav" for i, (name, stem) in enumerate(zip(sample.parts, stems, strict=True))}
        for name, part in sample.parts.items():
            write_audio(folder / files[name], part, rate)
        description = {
            "experiment": self.experiment,
            "name": one.name,
            "true": [self.part.model.classes[c] for c in one.true],
            "note": sample.note,
            "sample_rate": rate,
            "parts": files,
            "events": [list(event) for event in sample.events],
        }
        text = json.dumps(plain(description), indent=1)
        write_whole(folder / "sample.json", lambda p: p.write_text(text + "\n"))


def finished_before(output: Path, parts: Sequence[str], asked: Collection[tuple[str, str]]) -> list[Record]:
    """Return the records of what earlier runs have finished in all parts, but for what is `asked` for now.

    Parameters
    ----------
    output : Path
    parts : sequence of str
    asked : collection of (experiment, method)
    """
    found: dict[tuple[str, str], list[list[Record]]] = {}
    for part in parts:
        for experiment in sorted(folder for folder in _records(output, part).glob("*") if folder.is_dir()):
            files: dict[str, list[Path]] = {}
            for file in sorted(experiment.glob("[!.]*-*.parquet")):
                files.setdefault(file.stem.rpartition("-")[0], []).append(file)
            for method in sorted(files):
                if (experiment.name, method) in asked:
                    continue
                groups = [_read(file) for file in files[method]]
                rows = [row for group, _ in groups for row in group]
                if len({row["sample"] for row in rows}) == groups[0][1]:
                    found.setdefault((experiment.name, method), []).append(rows)
    return [row for whole in found.values() if len(whole) == len(parts) for rows in whole for row in rows]


def _records(output: Path, part: str) -> Path:
    return output / "records" / part


def _write(file: Path, rows: Sequence[Record], n_samples: int) -> None:
    """Write the records of a group, and the number of samples of its unit."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    pq.write_table(table.replace_schema_metadata({_SAMPLES: str(n_samples)}), file)


def _read(file: Path) -> tuple[list[Record], int]:
    """Return the records of a group, and the number of samples of its unit."""
    import pyarrow.parquet as pq

    place = (file.parent.parent.name, file.parent.name, file.stem.rpartition("-")[0])
    try:
        table = pq.read_table(file)
        n_samples = int((table.schema.metadata or {})[_SAMPLES])
        rows: list[Record] = table.to_pylist()
        if any((Path(row["part"]).name, row["experiment"], row["method"]) != place for row in rows):
            raise ValueError("it holds records of something else")
    except KeyError as error:
        raise ValueError(f"{file} is damaged (it has no {error}), but must be whole: remove it") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({error}), but must be whole: remove it") from None
    return [{name: value for name, value in row.items() if value is not None} for row in rows], n_samples


def write_records(file: Path, records: Sequence[Record]) -> None:
    """Write the records of a whole evaluation as one Parquet file."""
    write_whole(file, lambda p: _write(p, records, len({(row["experiment"], row["sample"]) for row in records})))
