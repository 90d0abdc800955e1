"""`l2i batch`: explain an archive of recordings."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l2i_fast.archive.settings import BatchSettings, Context, Export, Probability, Seconds, SoundFormat, SoundOf
from l2i_fast.cli.application import UsageError, interrupted
from l2i_fast.cli.options import (
    Device,
    MaskDomain,
    Model,
    Network,
    Targets,
    Threshold,
    TopK,
    checked,
    output_folder,
    selection,
)
from l2i_fast.files import printable
from l2i_fast.settings import PositiveInt

if TYPE_CHECKING:
    from l2i_fast.archive.batch import Batch
    from l2i_fast.archive.run import Progress

#: Seconds between lines of progress where there is no terminal.
_LINE = 10.0
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT", help="Recordings, folders, patterns, manifests (.csv, .parquet), or - for a list on stdin."
    ),
]
Folder = Annotated[
    Path | None, output_folder("Folder for tables, sound and the journal, by which a second call goes on.")
]
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
WindowLength = Annotated[float, typer.Option("--window", **checked("window", Seconds), help="Length of a window in s.")]
Overlap = Annotated[
    float,
    typer.Option(**checked("overlap", Seconds), help="Overlap of windows in s, in which their sounds are cross-faded."),
]
Sound = Annotated[
    str, typer.Option(**checked("sound", SoundOf), help="Write the sound of nothing, of events, or of everything.")
]
ContextLength = Annotated[
    float | None,
    typer.Option(
        "--context",
        show_default="not written",
        **checked("context", Context),
        help="Also write the recording itself around events, with this many seconds before and after.",
    ),
]
Format = Annotated[str, typer.Option("--format", **checked("format", SoundFormat), help="Format of the sound files.")]
Exports = Annotated[
    list[str] | None,
    typer.Option("--export", **checked("export", Export), help="Write this as well; repeat for several."),
]
Zone = Annotated[
    str | None,
    typer.Option(
        "--timezone", metavar="ZONE", help="Zone of clock times that state none, such as UTC or Europe/Berlin."
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", show_default="the cores", help="Processes.", **checked("jobs", PositiveInt)),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="auto|local|ADDRESS",
        help="Do the work on Ray: the cluster of this machine, one that is started here, or that at host:6379.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done, and how long it takes.")]

Finished = Annotated[
    Path | None,
    typer.Option(
        "--summary",
        metavar="FOLDER",
        help="Summarise what a run has written there, in FOLDER/summary: tables, plots, and a page to listen to.",
    ),
]


def batch(
    context: typer.Context,
    inputs: Inputs = None,
    output: Folder = None,
    model: Model = "esc10",
    network: Network = None,
    target: Targets = None,
    confidence: Confidence = 0.5,
    rejected: Rejected = 0.0,
    threshold: Threshold = None,
    top_k: TopK = None,
    domain: MaskDomain = None,
    window: WindowLength = 5.0,
    overlap: Overlap = 1.0,
    sound: Sound = "events",
    margin: ContextLength = None,
    audio_format: Format = "flac",
    exports: Exports = None,
    zone: Zone = None,
    device: Device = "cpu",
    jobs: Jobs = None,
    cluster: Cluster = None,
    dry_run: DryRun = False,
    summary: Finished = None,
) -> None:
    """Explain an archive: which classes are heard when, and why. After an interruption the same command goes on."""
    if summary is not None:
        _summarize(context, summary, network)
        return
    if not inputs:
        raise UsageError("Missing argument 'INPUT'", context)
    if output is None:
        raise UsageError("Missing option '--output' / '-o'", context)
    from l2i_fast.archive.batch import Batch
    from l2i_fast.model import load

    settings: dict[str, Any] = {
        "confidence": confidence,
        "explain_rejected": rejected,
        "window": window,
        "overlap": overlap,
        "sound": sound,
        "context": margin,
        "audio_format": audio_format,
        "exports": tuple(exports or ()),
        "timezone": zone,
        "device": device,
        "jobs": jobs,
        "cluster": cluster,
    }
    try:
        BatchSettings(**settings)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    chosen = selection(load(model, network), target, threshold, top_k, domain)
    with _show_progress() as report:
        run = Batch(inputs, output, model, **chosen, network=network, report=report, **settings)
        if dry_run:
            print(_foretell(run))
            return
        try:
            n_rows = sum(1 for row in run if row["accepted"])
        except KeyboardInterrupt:
            raise interrupted("the same command goes on from there") from None
    assert run.progress is not None
    print(f"{n_rows} new windows in {run.progress.heard / 3600:.2f} h of sound; tables and sound in {output}")
    if run.progress.problems:
        print(f"l2i: {run.progress.problems} recordings or parts gave problems: see {output}/errors", file=sys.stderr)
        raise typer.Exit(1)


def _summarize(context: typer.Context, folder: Path, network: str | None) -> None:
    """Write the summary of a run, whose settings are known: any other option but `--network` is an error."""
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in ("summary", "network") and source is not None and source.name == "COMMANDLINE":
            given = parameter.metavar if parameter.param_type_name == "argument" else f"'{parameter.opts[0]}'"
            raise UsageError(f"--summary takes no inputs and no other options, but {given} is given", context)
    from l2i_fast.page.summary import write_summary

    print(printable(write_summary(folder, network=network)))


def _foretell(run: Batch) -> str:
    """Return what a run would do, in a few lines."""
    plan = run.plan()
    lines = [f"{plan.recordings} recordings with {plan.seconds / 3600:.2f} h of sound"]
    if plan.unknown:
        lines[0] += f", and {plan.unknown} of unknown length"
    if plan.problems:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(plan.problems.items()))
        lines.append(f"{sum(plan.problems.values())} cannot be read: {kinds}")
    if plan.done:
        lines.append(f"{plan.done / 3600:.2f} h are done")
    lines.append(f"about {_hours(plan.work)} of time, if every window has to be explained")
    lines.append(f"at most about {plan.size / 1e9:.1f} GB of sound files, if every window has one event")
    return "\n".join(lines)


def _hours(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} h"


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
        parts.append(f"{_hours(progress.left)} left")
    return ", ".join(parts)
