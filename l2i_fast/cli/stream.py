"""`l2i stream`: interpret live sound."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TextIO

import typer
from annotated_types import Ge, Le

from l2i_fast.cli.application import describe, interrupted, print_error
from l2i_fast.cli.options import MaskDomain, Model, Network, Targets, Threshold, TopK, checked, selection
from l2i_fast.live.formats import RawFormat
from l2i_fast.settings import PositiveInt

if TYPE_CHECKING:
    from l2i_fast.live.session import LiveStream, Session
    from l2i_fast.live.sinks import Sink
    from l2i_fast.live.sources import Recording, Source
    from l2i_fast.live.terminal import Model as Displayed

SourceName = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE",
        show_default=False,
        help="A recording; - for raw samples on standard input; the microphone if left out.",
    ),
]
SinkName = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="WHERE",
        show_default="- if SOURCE is -, otherwise speaker",
        help="A .wav file; - for raw samples on standard output; speaker.",
    ),
]
Refresh = Annotated[
    float,
    typer.Option(
        help="Seconds between two runs of the network, 0.01 to 3600.",
        **checked("refresh", Annotated[float, Ge(0.01), Le(3600)]),
    ),
]
Block = Annotated[int, typer.Option(help="Number of samples taken at a time.", **checked("block", PositiveInt))]
Fast = Annotated[
    bool,
    typer.Option(
        "--fast",
        help="Run as fast as possible instead of at real speed: the sound waits for the network, and the same input "
        "gives the same output.",
    ),
]
Format = Annotated[
    RawFormat | None,
    typer.Option(
        "--format", show_default="s16le", help="Format of raw samples, in and out.", **checked("format", RawFormat)
    ),
]
Rate = Annotated[
    int | None,
    typer.Option(
        show_default="the model's", help="Rate of raw samples, in and out, in Hz.", **checked("rate", PositiveInt)
    ),
]
Channels = Annotated[
    int | None,
    typer.Option(
        show_default="1",
        help="Channels of raw samples or of the microphone; their mean is taken.",
        **checked("channels", PositiveInt),
    ),
]
InputDevice = Annotated[
    str | None,
    typer.Option("--device", show_default="the system's", help="Microphone, by number or by a part of its name."),
]
OutputDevice = Annotated[
    str | None, typer.Option(show_default="the system's", help="Speaker, by number or by a part of its name.")
]
ListDevices = Annotated[bool, typer.Option("--list-devices", help="List the sound devices and exit.")]


def stream(
    source: SourceName = None,
    output: SinkName = None,
    model: Model = "esc10",
    network: Network = None,
    target: Targets = None,
    threshold: Threshold = None,
    top_k: TopK = None,
    domain: MaskDomain = None,
    refresh: Refresh = 0.25,
    block: Block = 512,
    fast: Fast = False,
    raw_format: Format = None,
    rate: Rate = None,
    channels: Channels = None,
    device: InputDevice = None,
    output_device: OutputDevice = None,
    list_devices: ListDevices = False,
) -> None:
    """Hear the interpretation live: of the microphone, of a recording, or of raw samples from a pipe."""
    if list_devices:
        from l2i_fast.live.devices import describe_devices

        print(describe_devices())
        return
    output = output or ("-" if source == "-" else "speaker")
    ends = Ends(source, output, block, fast, raw_format, rate, channels, device, output_device)
    ends.check()
    recording = ends.open_recording()

    from l2i_fast.live.session import Session, deferred_interrupt
    from l2i_fast.model import load

    engine = load(model, network)
    settings = selection(engine, target, threshold, top_k, domain)
    came_from = recording or ends.open_source(engine.sample_rate)
    running = engine.stream(came_from.rate, mode="synchronous" if fast else "realtime", refresh=refresh, **settings)
    with deferred_interrupt() as stopped:  # from here on there is a file to complete
        goes_to = ends.open_sink(running, engine.sample_rate)
        _run(Session(came_from, running, goes_to, block), engine, stopped)


@dataclass(frozen=True)
class Ends:
    """The options that choose the two ends of a session: see `stream`."""

    source: str | None
    output: str
    block: int
    fast: bool
    raw_format: RawFormat | None
    rate: int | None
    channels: int | None
    device: str | None
    output_device: str | None

    def check(self) -> None:
        """Reject options that contradict each other, and raw samples from or to a terminal."""
        source, output = self.source, self.output
        if source == "-" and (what := _unusable(sys.stdin)):
            _reject("SOURCE", f"standard input is {what}, but a pipe or file of raw samples is needed")
        if output == "-" and (what := _unusable(sys.stdout)):
            _reject("--output", f"standard output is {what}, but raw samples need a pipe or file")
        if output not in ("-", "speaker") and Path(output).suffix.lower() != ".wav":
            _reject("--output", f"output is {output!r}, but must be '-', 'speaker' or a name that ends in .wav")
        if self.fast and source is None:
            _reject("--fast", "the source is a microphone, but a recording or raw samples are needed")
        if self.fast and output == "speaker":
            _reject("--fast", "the output is the speaker, but a WAV file or standard output is needed")
        if "-" not in (source, output):
            for option, value in (("--format", self.raw_format), ("--rate", self.rate)):
                if value is not None:
                    _reject(option, "neither SOURCE nor --output is '-', but raw samples are needed")
        if self.channels is not None and source not in (None, "-"):
            _reject("--channels", "the source is a recording, but raw samples or a microphone are needed")
        if self.device is not None and source is not None:
            _reject("--device", f"SOURCE is {source!r}, but must be left out to use a microphone")
        if self.output_device is not None and output != "speaker":
            _reject("--output-device", f"output is {output!r}, but must be 'speaker'")

    def open_recording(self) -> Recording | None:
        """Open what can be opened before the model is loaded, so that errors come early: a recording, sounddevice."""
        from l2i_fast.live.devices import sounddevice
        from l2i_fast.live.sources import Recording

        recording = None
        if self.source is not None and self.source != "-":
            recording = Recording(self.source, self.block, paced=not self.fast and self.output != "speaker")
        if self.source is None or self.output == "speaker":
            sounddevice()
        return recording

    def open_source(self, model_rate: int) -> Source:
        """Open standard input or the microphone."""
        from l2i_fast.live.devices import Microphone
        from l2i_fast.live.sources import RawInput

        channels = self.channels or 1
        if self.source == "-":
            rate = self.rate or model_rate
            return RawInput(sys.stdin.buffer, self.raw_format or "s16le", rate, channels, self.block)
        return Microphone(_device(self.device), model_rate, channels, self.block)

    def open_sink(self, running: LiveStream, model_rate: int) -> Sink:
        """Open standard output, the speaker or a WAV file for the output of a stream."""
        from l2i_fast.live.devices import Speaker
        from l2i_fast.live.sinks import RawOutput, WavFile

        if self.output == "-":
            return RawOutput(sys.stdout.buffer, self.raw_format or "s16le", self.rate or model_rate)
        if self.output == "speaker":
            wait = self.source is not None
            return Speaker(_device(self.output_device), running.sample_rate, self.block, wait)
        return WavFile(self.output, running.sample_rate, skip=running.latency)


def _run(session: Session, model: Displayed, stopped: Callable[[], bool]) -> None:
    """Run a session to its end, or until it is `stopped`, and summarise it."""
    from l2i_fast.live.terminal import summary, watch

    sink = session.sink
    try:
        with session.source, closing(session.stream), sink, watch(session, model):
            session.run(stopped)
    except BrokenPipeError:
        if not stopped():  # Ctrl-C ends the reader, too
            raise
    except (ValueError, OSError) as error:
        print_error("; ".join(filter(None, (describe(error), sink.kept))))
        raise typer.Exit(1) from None
    if stopped():
        raise interrupted(sink.kept)
    print(summary(session), file=sys.stderr)


def _unusable(standard: TextIO | None) -> str:
    """Say why a standard stream neither gives nor takes raw samples; an empty string if it does."""
    return "closed" if standard is None else "a terminal" if standard.isatty() else ""


def _reject(option: str, why: str) -> NoReturn:
    raise typer.BadParameter(why, param_hint=f"'{option}'")


def _device(name: str | None) -> int | str | None:
    """Return a sound device for sounddevice, which takes numbers as integers."""
    return int(name) if name and name.isdecimal() else name
