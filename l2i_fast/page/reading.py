"""Sections of a page from folders: those that `l2i evaluate` wrote, and those of `l2i interpret`."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

from l2i_fast.arguments import is_several, shown
from l2i_fast.audio import read_audio
from l2i_fast.evaluation.overview import Overview, read_overviews
from l2i_fast.files import as_path
from l2i_fast.page.contents import PageSample, Section, Table
from l2i_fast.results import Result
from l2i_fast.settings import read_json

#: Headings and texts of the experiments, in the order of their sections; others follow by their names.
_EXPERIMENTS = {
    "clean": ("Recordings as they are", "Recordings of the data set, unchanged."),
    "mixture": (
        "Mixed with another class",
        "Another sound plays at the same time. A good interpretation leaves it out.",
    ),
    "noise": ("In white noise", "White noise covers the recording. A good interpretation removes it."),
    "misclassified": (
        "Where the network errs",
        "The network decided on a wrong class, and that decision is explained: listen for what misled it.",
    ),
    "labels": ("Several classes at once", "Two or three classes sound together."),
    "onsets": ("Known onsets", "The sound that is to be found begins and ends at known times."),
    "clicks": ("Clicks", "Clicks of 10 ms in soft noise. A good interpretation is silent right before and after."),
    "sanity": (
        "Random weights",
        "The more layers of the network get random weights, the less should an explanation resemble the one by its "
        "trained weights.",
    ),
    "equal-shares": (
        "At equal shares",
        "What each method ranks highest is kept until the same share of the recording is reached: no method gains by "
        "keeping more.",
    ),
    "cost": ("Cost", "What the methods took on the machine of the evaluation."),
}


def read_sections(folders: Sequence[str | os.PathLike[str]], methods: Sequence[str] | None = None) -> list[Section]:
    """Read what a page shows of folders that `l2i evaluate` and `l2i interpret` wrote.

    Parameters
    ----------
    folders : sequence of path-like
        Outputs of `l2i evaluate`, which give a section for each experiment; folders of single recordings by
        `l2i interpret`, or their parents, which together give one section.
    methods : sequence of str, optional
        Names of the methods to show; by default all.

    Returns
    -------
    list of Section
        Their samples are read when they are asked for, one by one.

    Raises
    ------
    TypeError
        Folders that are no paths.
    ValueError
        A folder of anything else, an unfinished or damaged sample, or a method that none of the samples has.
    """
    if not is_several(folders):
        raise TypeError(f"folders is {shown(folders)}, but must be a list of folders")
    paths = [as_path("folder", folder) for folder in folders]
    if not paths:
        raise ValueError("OUT is empty, but must name at least one folder")
    evaluations = [path for path in paths if (path / "samples").is_dir()]
    samples = {home: _description(home) for path in evaluations for home in _homes(path / "samples")}
    recordings = {one: _method(one) for path in paths if path not in evaluations for one in _recordings(path)}
    known = {*recordings.values(), *(name for description in samples.values() for name in description["methods"])}
    for method in methods or ():
        if method not in known:
            raise ValueError(f"method is {method!r}, but must be one of {', '.join(sorted(known))}")
    wanted = known if methods is None else set(methods)
    sections = [section for path in evaluations for section in _experiments(path, samples, wanted)]
    chosen = [folder for folder, method in recordings.items() if method in wanted]
    sections.append(Section("Recordings", "", _Lazy([partial(_recording, folder) for folder in chosen])))
    return [section for section in sections if section.samples or section.table]


class _Lazy(Sequence[PageSample]):
    """Samples that are read anew whenever they are asked for, so that only one of them is in memory."""

    def __init__(self, readers: Sequence[Callable[[], PageSample]]) -> None:
        self._readers = readers

    def __len__(self) -> int:
        return len(self._readers)

    @overload
    def __getitem__(self, index: int) -> PageSample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PageSample]: ...
    def __getitem__(self, index: int | slice) -> PageSample | Sequence[PageSample]:
        return _Lazy(self._readers[index]) if isinstance(index, slice) else self._readers[index]()


def _recordings(folder: Path) -> list[Path]:
    """Return the folders of recordings that `l2i interpret` wrote: this one, or those in it."""
    inside = sorted(one for one in folder.iterdir() if one.is_dir()) if folder.is_dir() else []
    found = [one for one in (folder, *inside) if (one / "result.json").is_file()]
    if not found and (folder / "run.json").is_file():
        raise ValueError(f"{folder} holds no samples: run l2i evaluate to its end, and with --samples above 0")
    if not found:
        raise ValueError(f"OUT is {str(folder)!r}, but must be a folder that l2i evaluate or l2i interpret wrote")
    return found


def _method(folder: Path) -> str:
    summary = read_json(folder / "result.json")
    return str(summary.get("method")) if isinstance(summary, dict) else ""


def _recording(folder: Path) -> PageSample:
    result = Result.load(folder)
    return PageSample(folder.name, Path(result.source).name or folder.name, (), [result])


def _homes(samples: Path) -> list[Path]:
    """Return the folders of samples that `l2i evaluate` wrote, unfinished ones included."""
    homes = {file.parent.parent for file in samples.rglob("result.json")}
    homes |= {file.parent for file in samples.rglob("sample.json")}
    if not homes:
        raise ValueError(f"{samples} holds no samples: run l2i evaluate to its end, and with --samples above 0")
    return sorted(homes)


def _description(home: Path) -> dict[str, Any]:
    """Return the contents of sample.json."""
    unfinished = f"the sample {home} is unfinished"
    if not (home / "sample.json").is_file():
        raise ValueError(f"{unfinished}: it has no sample.json; run l2i evaluate to its end")
    description = read_json(home / "sample.json")
    needed = {"name": str, "true": list, "note": str, "parts": dict, "methods": list}
    for name, kind in needed.items():
        if not isinstance(description, dict) or not isinstance(description.get(name), kind):
            raise ValueError(f"{unfinished}: sample.json has no entry {name!r}; run l2i evaluate to its end")
    return dict(description)


def _experiments(
    output: Path, descriptions: Mapping[Path, dict[str, Any]], methods: Collection[str]
) -> Iterator[Section]:
    """Yield a section for each experiment of an evaluation, with the table of its scores."""
    samples = output / "samples"
    homes = [home for home in descriptions if home.is_relative_to(samples)]
    tables = {file.stem: file for file in sorted(output.glob("tables/*.csv"))}
    names = {home.relative_to(samples).parts[0] for home in homes} | tables.keys()
    for name in (*(name for name in _EXPERIMENTS if name in names), *sorted(names - _EXPERIMENTS.keys())):
        title, text = _EXPERIMENTS.get(name, (name.replace("-", " ").capitalize(), ""))
        inside = [home for home in homes if home.is_relative_to(samples / name)]
        # Several runs, as with other seeds, explain the same recordings in folders of their own.
        several = len({home.parent for home in inside}) > 1
        readers = []
        for home in inside:
            chosen = [method for method in descriptions[home]["methods"] if method in methods]
            if chosen:
                readers.append(partial(_sample, home, descriptions[home], chosen, several))
        table = _table(tables[name]) if name in tables else None
        views = _views(output, several) if name == "clean" and "l2i" in methods else {}
        yield Section(title, text, _Lazy(readers), table, views)


def _views(output: Path, several: bool) -> dict[str, Overview]:
    """Return the global views, which are of L2I on clean recordings; these are named as their samples."""
    views = read_overviews(output)
    for part, view in views.items():
        named = [one._replace(name=_sample_name(one.name, view.run, several)) for one in view.recordings]
        views[part] = view._replace(recordings=named)
    return views


def _sample_name(name: str, run: str, several: bool) -> str:
    return f"{run}-{name}" if several else name


def _table(file: Path) -> Table:
    """Return a table of scores, its title from the same table in Markdown."""
    with file.open(newline="", encoding="utf-8") as lines:
        head, *rows = csv.reader(lines, strict=True)
    title = file.with_suffix(".md").read_text("utf-8").partition("\n")[0]
    return Table(title, head, rows)


def _sample(home: Path, description: dict[str, Any], methods: Sequence[str], several: bool) -> PageSample:
    name = description["name"]
    try:
        return PageSample(
            _sample_name(name, home.parent.name, several),
            f"{name} ({home.parent.name})" if several else name,
            tuple(description["true"]),
            [Result.load(home / method) for method in methods],
            {title.capitalize(): read_audio(home / file)[0] for title, file in description["parts"].items()},
            description["note"],
        )
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"the sample {home} is unfinished or damaged: {error}") from error
