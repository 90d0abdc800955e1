"""The `l2i` command. Heavy imports stand inside the commands: help answers at once."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from l2i_fast.model import L2I
    from l2i_fast.progress import Report
    from l2i_fast.results.result import Explanation, Result

# Older releases of typer take this class from click, newer ones carry a copy: it is the right one in both.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class Commands(TyperGroup):
    """Ends every command with a status: 0, or 2 for wrong usage, 1 for a failure, 130 for Ctrl-C.

    What went wrong is one line on stderr, never a traceback.
    """

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Run the command line and exit."""
        options |= {"prog_name": "l2i", "standalone_mode": False}
        for stream in (sys.stdout, sys.stderr):  # a file name may hold what the terminal cannot show
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        try:
            status = super().main(*args, **options) or 0
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader has gone, as `head` does. Nothing more can be said, not even at interpreter exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 1
        except UsageError as error:
            context = getattr(error, "ctx", None)
            hint = f" (see '{context.command_path} --help')" if context else ""
            complain(f"{error.format_message()}{hint}")  # type: ignore[attr-defined]
            status = 2
        except Exception as error:
            complain(sentence(error))
            status = 1
        sys.exit(status)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named; Ctrl-C ends it with one line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("l2i: interrupted", file=sys.stderr)
            raise typer.Exit(130) from None


def sentence(error: Exception) -> str:
    """Say in one line what went wrong."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, (ValueError, TypeError, OSError, ImportError)) and str(error):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def complain(text: str) -> None:
    """Print the one line of an error."""
    print(f"l2i: error: {' '.join(text.split())}", file=sys.stderr)


app = typer.Typer(
    name="l2i",
    cls=Commands,
    help="Hear why an audio network decided what it decided.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Fetch recordings for training.")
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the `l2i` command."""
    app()


class Domain(StrEnum):
    """Where the mask acts."""

    log = "log"
    magnitude = "magnitude"


class AudioFormat(StrEnum):
    """Format of the sound files."""

    wav = "wav"
    flac = "flac"


class RawFormat(StrEnum):
    """Raw samples, by the names that ffmpeg gives them."""

    s16le = "s16le"
    s32le = "s32le"
    f32le = "f32le"
    f64le = "f64le"


class Operation(StrEnum):
    """What can be measured."""

    stft = "stft"
    istft = "istft"
    log_mel = "log_mel"
    analyze = "analyze"
    soft_mask = "soft_mask"
    decode = "decode"
    nmf = "nmf"
    precision = "precision"
    activations = "activations"
    stream = "stream"
    race = "race"
    scaling = "scaling"


class Size(StrEnum):
    """Sizes of the problems."""

    clip = "clip"
    batch = "batch"
    archive = "archive"
    hour = "hour"


class Stage(StrEnum):
    """What can be trained alone."""

    dictionary = "dictionary"
    classifier = "classifier"
    interpreter = "interpreter"


def _show_version(wanted: bool) -> None:
    if wanted:
        from l2i_fast import __version__

        print(f"l2i_fast {__version__}")
        raise typer.Exit


def _check_threshold(value: float | None) -> float | None:
    if value is not None and not 0 <= value < 1:
        raise typer.BadParameter(f"{value} is not in the range 0<=x<1.")
    return value


Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
]
Files = Annotated[list[Path], typer.Argument(metavar="FILE", help="Recordings: WAV, FLAC, OGG, MP3 and the like.")]
Model = Annotated[str, typer.Option("--model", "-m", help="A shipped model's name, or a folder.")]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        "-t",
        metavar="CLASS",
        show_default="what is heard",
        help="Class to explain, by name or number; repeat it for several.",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        callback=_check_threshold,
        show_default="the model's",
        help="Components more relevant than this are selected; 0 or more, below 1.",
    ),
]
TopK = Annotated[int | None, typer.Option(min=1, show_default="the model's", help="At most so many components.")]
MaskDomain = Annotated[
    Domain | None,
    typer.Option("--domain", show_default="the model's", help="Whether the mask acts on log magnitudes or magnitudes."),
]
Folder = Annotated[Path, typer.Option("--output", "-o", help="Each recording gets a folder of its name in here.")]
Format = Annotated[AudioFormat, typer.Option("--format", help="Format of the sound files.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead, one line for each recording.")]
Device = Annotated[str, typer.Option("--device", help="Where networks and operations run: cpu, cuda, or cuda:1 …")]
Data = Annotated[
    Path | None, typer.Option("--data", "-d", envvar="L2I_DATA", help="Folder of the recordings: ESC-50 or SONYC-UST.")
]
Config = Annotated[
    str | None, typer.Option("--config", "-c", help="JSON file of settings, or a shipped recipe's name.")
]
Folds = Annotated[
    list[int] | None, typer.Option("--fold", show_default="all", help="Only this fold; repeat it for several.")
]

Split = Annotated[
    list[str] | None,
    typer.Option("--split", show_default="all", help="Only this split (SONYC-UST has train, validate and test)."),
]


@app.callback(invoke_without_command=True)
def _common(context: typer.Context, version: Version = False) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


@app.command()
def interpret(
    files: Files,
    model: Model = "esc10",
    target: Targets = None,
    threshold: Threshold = None,
    top_k: TopK = None,
    domain: MaskDomain = None,
    output: Folder = Path("out"),
    audio_format: Format = AudioFormat.wav,
    as_json: Json = False,
    device: Device = "cpu",
) -> None:
    """Say what is heard in recordings, and why: as sound, as a picture and in numbers."""
    from l2i_fast.model import load

    engine = load(model).to(device)
    settings = _selection(engine, target, threshold, top_k, domain)
    failed = False
    for position, (file, folder) in enumerate(zip(files, _folders(files, output), strict=True), start=1):
        try:
            result = engine.interpret(file, **settings)
            written = result.save(folder, audio_format.value)
        except Exception as error:  # the other recordings are still to be done
            text = sentence(error)
            complain(text if str(file) in text else f"{file}: {text}")
            failed = True
            continue
        if as_json:
            print(json.dumps({"folder": str(folder)} | json.loads(written[-1].read_text())), flush=True)
        else:
            _report(result, written, f"{file.name} ({position} of {len(files)})" if len(files) > 1 else file.name)
    if failed:
        raise typer.Exit(1)


@app.command()
def stream(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="A recording; - for raw samples on standard input; without it, the microphone.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="WHERE",
            show_default="- where SOURCE is -, otherwise speaker",
            help="A file in .wav; - for raw samples on standard output; speaker.",
        ),
    ] = None,
    model: Model = "esc10",
    target: Targets = None,
    threshold: Threshold = None,
    top_k: TopK = None,
    domain: MaskDomain = None,
    refresh: Annotated[
        float, typer.Option(min=0.01, max=3600, help="Seconds from one look of the network to the next.")
    ] = 0.25,
    block: Annotated[int, typer.Option(min=1, help="Samples that are taken at a time.")] = 512,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast",
            help="As fast as possible instead of at real speed: the sound waits for the network, and the same input "
            "gives the same output.",
        ),
    ] = False,
    raw_format: Annotated[
        RawFormat | None, typer.Option("--format", show_default="s16le", help="Format of raw samples, in and out.")
    ] = None,
    rate: Annotated[
        int | None, typer.Option(min=1, show_default="the model's", help="Rate of raw samples, in and out, in Hz.")
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="1",
            help="Channels of raw samples that come in, or of the microphone; the mean is heard.",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(show_default="the system's", help="Microphone, by number or by a part of its name.")
    ] = None,
    output_device: Annotated[
        str | None, typer.Option(show_default="the system's", help="Speaker, by number or by a part of its name.")
    ] = None,
    list_devices: Annotated[bool, typer.Option("--list-devices", help="Show the sound devices and exit.")] = False,
) -> None:
    """Hear the interpretation while it happens: of the microphone, of a recording, or of what a pipe brings."""
    if list_devices:
        from l2i_fast.live.devices import describe_devices

        print(describe_devices())
        return
    output = output or ("-" if source == "-" else "speaker")
    _check_stream(source, output, fast, raw_format, rate, channels, device, output_device)

    from l2i_fast.live.devices import Microphone, Speaker, sounddevice
    from l2i_fast.live.session import Session, deferred_interrupt
    from l2i_fast.live.sinks import RawOutput, Sink, WavFile
    from l2i_fast.live.sources import RawInput, Recording, Source

    came_from: Source
    goes_to: Sink
    # What is missing is told before the model is loaded.
    if source is not None and source != "-":
        came_from = Recording(source, block, paced=not fast and output != "speaker")
    if source is None or output == "speaker":
        sounddevice()

    from l2i_fast.model import load
    from l2i_fast.live.terminal import summary, watch

    engine = load(model)
    settings = _selection(engine, target, threshold, top_k, domain)
    raw = (raw_format or RawFormat.s16le).value, rate or engine.sample_rate
    if source == "-":
        came_from = RawInput(sys.stdin.buffer, *raw, channels or 1, block)
    elif source is None:
        came_from = Microphone(_device(device), engine.sample_rate, channels or 1, block)
    running = engine.stream(came_from.rate, mode="synchronous" if fast else "realtime", refresh=refresh, **settings)
    if output == "-":
        goes_to = RawOutput(sys.stdout.buffer, *raw)
    elif output == "speaker":
        goes_to = Speaker(_device(output_device), running.sample_rate, block, wait=source is not None)
    else:
        goes_to = WavFile(output, running.sample_rate, skip=running.latency)
    session = Session(came_from, running, goes_to, block)
    try:
        with deferred_interrupt() as stopped, came_from, running, goes_to, watch(session, engine):
            session.run(stopped)
    except BrokenPipeError:
        if not stopped():  # Ctrl-C ends the reader, too
            raise
    except (ValueError, OSError) as error:
        complain("; ".join(filter(None, (sentence(error), goes_to.kept))))
        raise typer.Exit(1) from None
    if stopped():
        print("; ".join(filter(None, ("l2i: interrupted", goes_to.kept))), file=sys.stderr)
        raise typer.Exit(130)
    print(summary(session), file=sys.stderr)


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the scene, its interpretation and the picture.")
    ] = Path("out/demo"),
) -> None:
    """Synthesise a scene, interpret it with the shipped model and say what is heard; nothing is downloaded."""
    from l2i_fast.audio import write_audio
    from l2i_fast.data.scene import SCENES, demo_scene
    from l2i_fast.model import load

    engine = load("esc10")
    output.mkdir(parents=True, exist_ok=True)
    front, (behind, _) = next(iter(SCENES.items()))
    y = demo_scene(front, sr=engine.sample_rate)
    scene = write_audio(output / "scene.wav", y, engine.sample_rate)
    result = engine.interpret(scene)
    title = f"synthesised: {front} with {behind} behind it".replace("_", " ")
    _report(result, [scene, *result.save(output)], title)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False) -> None:
    """Show versions, processor, backends, models and data, and why what is missing is missing."""
    from dataclasses import asdict

    from l2i_fast.cli.doctor import diagnose, render

    checks = diagnose()
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        _console().print(render(checks))


@data_app.command()
def esc50(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to create.")] = Path("data/ESC-50"),
    url: Annotated[
        str | None, typer.Option(show_default="its authors' repository", help="Where the zip archive lies.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="Checksum of the archive, where it is a copy of your own.")] = None,
) -> None:
    """Download ESC-50, about 600 MB (CC BY-NC 3.0). One that broke off goes on where it stopped."""
    from l2i_fast.data.download import ESC50_URL, fetch_esc50

    folder = fetch_esc50(output, url or ESC50_URL, sha256, progress=True)
    print(f"ESC-50 is in {folder}: name it with --data {folder} or L2I_DATA={folder}")


@app.command()
def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the model and for checkpoints.")],
    data: Data = None,
    config: Config = None,
    stage: Annotated[
        list[Stage] | None, typer.Option(show_default="all in a row", help="Train only this; repeat it for several.")
    ] = None,
    fold: Folds = None,
    split: Split = None,
) -> None:
    """Train a model on recordings. After Ctrl-C the same command goes on from the last checkpoint."""
    from l2i_fast.data import load_dataset
    from l2i_fast.training.config import load_config
    from l2i_fast.training.run import STAGES, train

    settings = load_config(config)
    dataset = load_dataset(data).select(folds=fold or None, split=split or None)
    stages = [one.value for one in stage] if stage else STAGES
    try:
        with _progress() as report:
            model = train(dataset, output, settings, report, stages)
    except KeyboardInterrupt:
        print("l2i: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        raise typer.Exit(130) from None
    use = f"; try it with: l2i interpret --model {output} FILE..." if model else ""
    print(f"{', '.join(stages)} trained in {output}{use}")


@app.command()
def evaluate(model: Model = "esc10", data: Data = None, fold: Folds = None, split: Split = None) -> None:
    """Score a model on recordings that it was not trained on, and print the figures as JSON."""
    from l2i_fast.data import load_dataset
    from l2i_fast.evaluation import evaluate, summarize
    from l2i_fast.model import load

    engine = load(model)
    dataset = load_dataset(data).select(folds=fold or None, split=split or None)
    with _progress() as report:
        records = evaluate(engine, dataset, report)
    print(json.dumps(summarize(records), indent=2))


@app.command()
def cross_validate(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the models and evaluation.json.")],
    data: Data = None,
    config: Config = None,
    fold: Folds = None,
) -> None:
    """Hold each fold out in turn, train on the others and score on it; print the figures as JSON."""
    from l2i_fast.data import load_dataset
    from l2i_fast.training.config import load_config
    from l2i_fast.training.run import cross_validate

    settings = load_config(config)
    dataset = load_dataset(data)
    with _progress() as report:
        figures = cross_validate(dataset, output, settings, report, folds=fold or None)
    print(json.dumps(figures, indent=2))


@app.command()
def bench(
    operation: Annotated[
        list[Operation] | None,
        typer.Option(
            "--operation",
            show_default="all",
            help="What to measure; repeat it for several. A race goes to scikit-learn's objective, scaling is how "
            "times grow.",
        ),
    ] = None,
    size: Annotated[
        list[Size] | None,
        typer.Option(
            "--size",
            show_default="all but the hour, which takes minutes more",
            help="A clip of 5 s, a batch of 32, an archive of 27,584 frames, an hour; repeat it for several.",
        ),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(
            "--threads",
            min=1,
            show_default="1 and as many as there are processors",
            help="Repeat it for several; only with the first number all peers run.",
        ),
    ] = None,
    peers: Annotated[bool, typer.Option(help="Time the peers, too.")] = True,
    seconds: Annotated[
        float, typer.Option(min=0, help="About how long a comparison may take; it makes at least 5 pairs.")
    ] = 2.0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for bench.json, roofline.png and scaling.png.")
    ] = Path("out/bench"),
    device: Annotated[
        str, typer.Option(help="cuda measures the operations on a GPU, each backend beside torch: gpu.json, gpu.png.")
    ] = "cpu",
) -> None:
    """Time the operations beside the strongest peers and this machine's limits. Ctrl-C keeps what was measured."""
    if device != "cpu":
        _bench_device(device, peers, seconds, output)
        return
    from l2i_fast.bench.pictures import save_pictures
    from l2i_fast.bench.report import blas_hint, render, summary
    from l2i_fast.bench.run import Measurements, run
    from l2i_fast.backends.threads import get_num_threads

    measurements = Measurements()
    interrupted = False
    try:
        with _progress() as report:
            run(
                measurements,
                [one.value for one in operation or Operation],
                [one.value for one in size or (Size.clip, Size.batch, Size.archive)],
                list(dict.fromkeys(threads or (1, get_num_threads()))),
                peers,
                seconds,
                report,
            )
    except KeyboardInterrupt:
        interrupted = True
    measurements.save(output / "bench.json")
    pictures = save_pictures(output, measurements)
    parts = [*render(measurements), *summary(measurements), blas_hint(measurements)]
    _tell(parts, [output / "bench.json", *pictures], interrupted)


def _bench_device(name: str, compiled: bool, seconds: float, output: Path) -> None:
    """Measure on a GPU: `l2i_fast.bench.gpu`."""
    from l2i_fast.bench.gpu import DeviceMeasurements, describe, render, run
    from l2i_fast.bench.pictures import device_roofline
    from l2i_fast.files import write_whole
    from l2i_fast.backends.dispatch import find_device

    device = find_device(name)
    measurements = DeviceMeasurements(describe(device))
    interrupted = False
    try:
        with _progress() as report:
            run(measurements, device, report, seconds, compiled=compiled)
    except KeyboardInterrupt:
        interrupted = True
    data, picture = output / "gpu.json", output / "gpu.png"
    measurements.save(data)
    if measurements.products:
        write_whole(picture, lambda path: device_roofline(measurements).savefig(path, metadata={"Software": None}))
    _tell([render(measurements)], [data, picture], interrupted)


def _tell(parts: list[Any], written: list[Path], interrupted: bool) -> None:
    """Print what was measured and where it is kept."""
    console = _console()
    if not console.is_terminal:
        console.width = 150  # tables need it, and a file has it
    for part in parts:
        if part:
            console.print(part)
    console.print(f"written: {', '.join(map(str, written))}")
    if interrupted:
        print("l2i: interrupted; what was measured is kept", file=sys.stderr)
        raise typer.Exit(130)


@contextmanager
def _progress() -> Iterator[Report]:
    """Give a report that draws bars on stderr or, where that is no terminal, prints a line for each step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda stage, done, total, text: print(f"{stage} {done}/{total} {text}".rstrip(), file=sys.stderr)
        return
    tasks: dict[str, TaskID] = {}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, TextColumn("{task.fields[text]}"), console=console) as bar:

        def report(stage: str, done: int, total: int, text: str) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, text=text)
            bar.update(tasks[stage], completed=done, total=total, text=text)

        yield report


def _selection(
    engine: L2I, target: list[str] | None, threshold: float | None, top_k: int | None, domain: Domain | None
) -> dict[str, Any]:
    """Return what the options that choose classes and components mean to the model."""
    settings: dict[str, Any] = {"threshold": threshold, "domain": domain.value if domain else None}
    if top_k is not None:
        settings["top_k"] = top_k
    if target:
        settings["targets"] = [_target(name, engine) for name in target]
    return settings


def _check_stream(
    source: str | None,
    output: str,
    fast: bool,
    raw_format: RawFormat | None,
    rate: int | None,
    channels: int | None,
    device: str | None,
    output_device: str | None,
) -> None:
    """Refuse options of `stream` that do not go together, and raw samples from or to a terminal."""

    def refuse(option: str, why: str) -> NoReturn:
        raise typer.BadParameter(why, param_hint=f"'{option}'")

    if source == "-" and (sys.stdin is None or sys.stdin.isatty()):
        refuse("SOURCE", "standard input is a terminal; pipe raw samples into it.")
    if output == "-" and (sys.stdout is None or sys.stdout.isatty()):
        refuse("--output", "raw samples are not for a terminal; pipe them on, or name a WAV file.")
    if output not in ("-", "speaker") and Path(output).suffix.lower() != ".wav":
        refuse("--output", f"{output!r} is neither -, nor speaker, nor a name that ends in .wav.")
    if fast and source is None:
        refuse("--fast", "a microphone goes at its own speed.")
    if fast and output == "speaker":
        refuse("--fast", "a speaker goes at its own speed; name a WAV file, or - for standard output.")
    if "-" not in (source, output):
        for option, value in (("--format", raw_format), ("--rate", rate)):
            if value is not None:
                refuse(option, "there are raw samples only where SOURCE or --output is -.")
    if channels is not None and source not in (None, "-"):
        refuse("--channels", "a recording tells how many channels it has.")
    if device is not None and source is not None:
        refuse("--device", "the microphone is listened to where SOURCE is left out.")
    if output_device is not None and output != "speaker":
        refuse("--output-device", "it is played on where --output is speaker.")


def _device(name: str | None) -> int | str | None:
    """Return a sound device as sounddevice takes it: numbers are numbers."""
    return int(name) if name and name.isdecimal() else name


def _target(name: str, engine: L2I) -> str | int:
    """Return the class that `--target` names, or its number."""
    if name in engine.classes:
        return name
    if name.isdecimal() and int(name) < len(engine.classes):
        return int(name)
    raise typer.BadParameter(
        f"{name!r} is not a class of this model. It knows: {', '.join(engine.classes)}; "
        f"or 0 to {len(engine.classes) - 1}.",
        param_hint="'--target'",
    )


def _folders(files: list[Path], output: Path) -> list[Path]:
    """Give each recording its own folder, also where two have the same name."""
    taken: set[str] = set()
    folders = []
    for file in files:
        stem = file.stem.strip(".") or "recording"
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        folders.append(output / name)
    return folders


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def _report(result: Result, written: list[Path], title: str) -> None:
    """Print what was heard and why, and where the files are."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    probability = dict(zip(result.labels, result.probabilities, strict=True))
    heard = ", ".join(f"{label} ({100 * probability[label]:.0f} %)" for label in result.prediction)
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="bold", no_wrap=True)
    lines.add_column(overflow="fold")
    lines.add_row("heard", Text(heard or "none of the classes it knows"))
    for explanation in result.explanations:
        lines.add_row("why", _why(result, explanation))
    console = _console()
    console.print(Panel(lines, title=Text(title), title_align="left", expand=False))
    names = ", ".join(path.name for path in written)
    console.print(Text(f"  in {written[-1].parent}: {names}"), soft_wrap=True)


def _why(result: Result, explanation: Explanation) -> Any:
    """Tell the selected components of one class: how relevant, at which frequency, when loudest."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from l2i_fast.live.terminal import hertz

    head = Text(f"{explanation.label} ({100 * explanation.probability:.0f} %)")
    if not explanation.supported:
        return head + Text(": no component speaks for it, the interpretation is silent")
    rows = Table.grid(padding=(0, 2))
    for component in explanation.components:
        peak = int(result.dictionary[:, component].argmax()) * result.sample_rate / result.settings["n_fft"]
        second = int(result.activations[component].argmax()) * result.settings["hop_length"] / result.sample_rate
        relevance = float(explanation.relevance[component])
        rows.add_row(
            Text(f"component {component}"),
            Text(f"{'━' * max(1, round(12 * relevance)):12} {relevance:.2f}", "cyan"),
            Text(f"mostly at {hertz(peak)}, loudest at {second:.1f} s"),
        )
    return Group(head, rows)

