"""`l2i batch`: explain an archive of recordings."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer
from annotated_types import Ge, Gt, Le

from l2i_fast.cli.application import interrupted
from l2i_fast.cli.options import MaskDomain, Model, Targets, Threshold, TopK, checked, output_folder, selection

if TYPE_CHECKING:
    from l2i_fast.archive.run import Progress

#: Seconds between lines of progress where there is no terminal.
_LINE = 10.0
#: Stated here so that the command's help needs no library.
SOUNDS = ("none", "events", "all")
FORMATS = ("flac", "ogg", "wav")
EXPORTS = ("raven", "audacity", "csv", "jsonl")


def _one_of(name: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise typer.BadParameter(f"{name} is {text!r}, but must be one of {', '.join(allowed)}")
        return text

    return {"parser": parse, "metavar": f"<{'|'.join(allowed)}>"}


Probability = Annotated[float, Ge(0), Le(1)]
Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT", help="Recordings, folders, patterns, manifests (.csv, .parquet), or - for a list on stdin."
    ),
]
Folder = Annotated[Path, output_folder("Folder for tables, sound and the journal, by which a second call goes on.")]
Confidence = Annotated[
    float, typer.Option(**checked("confidence", Probability), help="Keep windows with at least this probability.")
]
Rejected = Annotated[
    float,
    typer.Option(
        "--explain-rejected",
        **checked("explain_rejected", Probability),
        help="Also explain windows that miss the confidence by at most this.",
    ),
]
Seconds = Annotated[float, Gt(0), Le(3600)]
WindowLength = Annotated[float, typer.Option("--window", **checked("window", Seconds), help="Length of a window in s.")]
Overlap = Annotated[
    float,
    typer.Option(**checked("overlap", Seconds), help="Overlap of windows in s, in which their sounds are cross-faded."),
]
Sound = Annotated[
    str, typer.Option(**_one_of("sound", SOUNDS), help="Write the sound of nothing, of events, or of everything.")
]
Format = Annotated[str, typer.Option("--format", **_one_of("format", FORMATS), help="Format of the sound files.")]
Exports = Annotated[
    list[str] | None,
    typer.Option("--export", **_one_of("export", EXPORTS), help="Write this as well; repeat for several."),
]
Zone = Annotated[
    str | None,
    typer.Option(
        "--timezone", metavar="ZONE", help="Zone of clock times that state none, such as UTC or Europe/Berlin."
    ),
]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", show_default="the cores", help="Processes.", min=1)]


def batch(
    inputs: Inputs,
    output: Folder,
    model: Model = "esc10",
    target: Targets = None,
    confidence: Confidence = 0.5,
    rejected: Rejected = 0.0,
    threshold: Threshold = None,
    top_k: TopK = None,
    domain: MaskDomain = None,
    window: WindowLength = 5.0,
    overlap: Overlap = 1.0,
    sound: Sound = "events",
    audio_format: Format = "flac",
    exports: Exports = None,
    zone: Zone = None,
    jobs: Jobs = None,
) -> None:
    """Explain an archive: which classes are heard when, and why. After an interruption the same command goes on."""
    from l2i_fast.archive.inputs import list_inputs
    from l2i_fast.archive.journal import Journal
    from l2i_fast.archive.run import run_archive, settings_of
    from l2i_fast.archive.work import Job
    from l2i_fast.model import load
    from l2i_fast.model.identity import identity_of

    if overlap > window / 2:
        raise typer.BadParameter(f"overlap is {overlap:g} s, but must be at most half of the window, {window / 2:g} s")
    times = _zone(zone)
    engine = load(model)
    chosen = selection(engine, target, threshold, top_k, domain)
    targets = chosen.pop("targets", None)
    job = Job(
        model,
        output,
        None if targets is None else tuple(engine.network.find_classes(targets)),
        confidence,
        rejected,
        window,
        overlap,
        engine.selection_with(chosen["threshold"], chosen.get("top_k", ...), chosen["domain"]),
        sound,  # type: ignore[arg-type]
        audio_format,  # type: ignore[arg-type]
    )
    entries = list_inputs(inputs, sys.stdin.buffer if sys.stdin else None)
    with Journal(output, settings_of(job, identity_of(engine), zone or "")) as journal:
        journal.add(entries)
        n_jobs = jobs or len(os.sched_getaffinity(0))
        try:
            with _show_progress() as report:
                done = run_archive(journal, job, engine.analysis, times, n_jobs, exports or (), report)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            raise interrupted("the same command goes on from there") from None
    print(f"{done.events} new windows in {done.heard / 3600:.2f} h of sound; tables and sound in {output}")
    if done.problems:
        print(f"l2i: {done.problems} recordings or parts gave problems: see {output}/errors", file=sys.stderr)
        raise typer.Exit(1)


def _zone(name: str | None) -> ZoneInfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise typer.BadParameter(f"timezone is {name!r}, but must be a zone such as UTC or Europe/Berlin") from None


@contextmanager
def _show_progress() -> Iterator[Callable[[Progress], None]]:
    """Give a function that draws a bar on stderr or, if that is no terminal, prints a line every `_LINE` seconds."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True, highlight=False)
    told = time.monotonic()

    def tell(progress: Progress) -> None:
        nonlocal told
        if time.monotonic() - told >= _LINE:
            told = time.monotonic()
            print(describe(progress), file=sys.stderr)

    if not console.is_terminal:
        yield tell
        return
    with Bars(BarColumn(), TextColumn("{task.description}"), console=console) as bars:
        task = bars.add_task("", total=None)

        def draw(progress: Progress) -> None:
            total = progress.heard + (progress.left or 0) * progress.speed
            bars.update(task, completed=progress.heard, total=total or None, description=describe(progress))

        yield draw


def describe(progress: Progress) -> str:
    """Return how far a run is, in one line."""
    parts = [
        f"{progress.opened} of {progress.recordings} recordings",
        f"{progress.heard / 3600:.2f} h",
        f"{progress.speed:.0f} h per hour",
        f"{progress.events} events",
        f"{progress.problems} problems",
    ]
    if progress.left is not None:
        minutes = math.ceil(progress.left / 60)
        parts.append(f"{minutes // 60}:{minutes % 60:02d} h left")
    return ", ".join(parts)
