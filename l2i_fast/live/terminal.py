"""Live display of the predicted classes and their reasons: a panel in a terminal, lines of text elsewhere."""

from __future__ import annotations

import math
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from l2i_fast.live.session import Session

if TYPE_CHECKING:
    from l2i_fast.stream import Refresh

Peaks = NDArray[np.float64]  # (K,): frequency, in Hz, at which each component is strongest

#: Panels drawn per second in a terminal, and seconds between checks for a new line elsewhere.
FRAMES, INTERVAL = 8, 1.0
#: Components shown, width of a bar in characters, dBFS at its left end, dB per second at which levels fall.
SHOWN, BAR, SOFTEST, FALL = 6, 26, -60.0, 24.0


class FrameLength(Protocol):
    """The part of a model's analysis settings that the display needs."""

    @property
    def n_fft(self) -> int:
        """Samples in a frame."""


class Model(Protocol):
    """The part of `l2i_fast.L2I` that the display needs."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""

    @property
    def dictionary(self) -> NDArray[np.float32]:
        """Spectral components (F, K)."""

    @property
    def sample_rate(self) -> int:
        """Hz."""

    @property
    def analysis(self) -> FrameLength:
        """Settings of the transform."""


@contextmanager
def watch(session: Session, model: Model) -> Iterator[None]:
    """Display a session on stderr inside the `with` block, from a thread of its own."""
    peaks = model.dictionary.argmax(0) * model.sample_rate / model.analysis.n_fft
    warnings.filterwarnings("ignore", "the network failed", RuntimeWarning)  # the display reports it
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        display = Display(session, model.classes, peaks)
        with Live(get_renderable=display.draw, console=console, refresh_per_second=FRAMES, redirect_stdout=False):
            yield
        return
    done = threading.Event()
    lines = Lines(session, model.classes, peaks)

    def follow() -> None:
        while not done.wait(INTERVAL):
            lines.note()
            lines.write()
        lines.note()
        lines.write()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    session.after_block = lines.note  # the sound may run faster than the thread looks
    try:
        yield
    finally:
        done.set()
        thread.join(INTERVAL)  # the reader of the lines may have stopped reading


class Lines:
    """A line whenever the prediction changes or the network starts to fail.

    Whoever moves the sound notes the lines, and another thread writes them, since their reader may stop reading.
    """

    def __init__(self, session: Session, classes: Sequence[str], peaks: Peaks) -> None:
        self._session, self._classes, self._peaks = session, classes, peaks
        self._noted: tuple[tuple[str, ...], str] = (), ""
        self._waiting: deque[str] = deque()
        self._lock = threading.Lock()

    def note(self) -> None:
        """Keep a line for `write` if anything has changed; from any thread."""
        with self._lock:
            latest = self._session.stream.latest
            news = latest.prediction if latest else (), fault(self._session)
            if news == self._noted:
                return
            self._noted = news
            words = [clock(self._session.seconds), heard(latest, self._classes)]
            if latest and latest.components:
                because = ", ".join(f"{k} ({hertz(self._peaks[k])})" for k in latest.components[:SHOWN])
                words.append(f"because of {because}")
            self._waiting.append("  ".join(filter(None, (*words, news[1]))))

    def write(self) -> None:
        """Write the lines to stderr."""
        while self._waiting:
            print(self._waiting.popleft(), file=sys.stderr, flush=True)


class Display:
    """The state of a session as a panel of rich; its height is constant, so that it does not jump."""

    def __init__(self, session: Session, classes: Sequence[str], peaks: Peaks) -> None:
        self._session, self._classes, self._peaks = session, classes, peaks
        self._levels = {"input": SOFTEST, "output": SOFTEST}
        self._drawn = time.monotonic()

    def draw(self) -> RenderableType:
        """Draw the current state."""
        session = self._session
        now = time.monotonic()
        fall, self._drawn = FALL * (now - self._drawn), now
        body = Table.grid(padding=(0, 2))
        body.add_column(style="bold", min_width=7, no_wrap=True)
        body.add_column(no_wrap=True, overflow="ellipsis")
        body.add_row("hears", self._hears(session.stream.latest))
        body.add_row("why", self._why(session.stream.latest))
        for name, level in (("input", session.input), ("output", session.output)):
            decibels = 20 * math.log10(max(level.take(), 1e-10))
            self._levels[name] = max(decibels, self._levels[name] - fall)
            body.add_row(name, meter(self._levels[name]))
        body.add_row("latency", self._latency())
        body.add_row("so far", self._counts())
        body.add_row("", Text(fault(session), "red"))
        time_text = clock(session.seconds)
        if session.source.duration is not None:
            time_text += f" of {clock(session.source.duration)}"
        return Panel(
            body,
            title=Text(f"{session.source.name} → {session.sink.name}", overflow="ellipsis", no_wrap=True),
            title_align="left",
            subtitle=Text(time_text),
            subtitle_align="right",
            padding=(0, 1),
            width=80,
        )

    def _hears(self, latest: Refresh | None) -> Text:
        text = Text(heard(latest, self._classes), "bold green" if latest and latest.prediction else "")
        if latest and latest.targets != latest.prediction:
            text.append(f"   explained: {', '.join(latest.targets)}", "not bold default")
        elif latest:
            others = sorted(
                (c for c, name in enumerate(self._classes) if name not in latest.prediction),
                key=lambda c: -latest.probabilities[c],
            )
            seconds = ", ".join(f"{self._classes[c]} {percent(latest.probabilities[c])}" for c in others[:2])
            text.append(f"   {seconds}", "not bold default dim")
        return text

    def _why(self, latest: Refresh | None) -> RenderableType:
        rows = []
        if latest:
            for k in latest.components[:SHOWN]:
                relevance = float(latest.relevance[k])
                rows.append(
                    Text.assemble(
                        (bar(relevance), "cyan"),
                        f"  {relevance:4.2f}  ",
                        (f"component {k}, mostly at {hertz(self._peaks[k])}", "dim"),
                    )
                )
            if not rows:
                rows.append(Text("no component speaks for it: the interpretation is silent"))
        rows += [Text()] * (SHOWN - len(rows))
        return Group(*rows)

    def _latency(self) -> Text:
        parts = {name: 1000 * seconds for name, seconds in self._session.latency.items() if seconds}
        text = Text(f"{sum(parts.values()):.1f} ms")
        text.append("   " + ", ".join(f"{name} {ms:.1f}" for name, ms in parts.items()), "dim")
        return text

    def _counts(self) -> Text:
        statistics, lost = self._session.stream.statistics, self._session.lost
        text = Text(f"{count(statistics.hops, 'hop')}, {count(statistics.refreshes, 'refresh')}, ")
        text.append(count(statistics.overruns, "overrun"), "yellow" if statistics.overruns else "")
        text.append(", ")
        text.append(count(lost, "dropout"), "red" if lost else "")
        return text


def summary(session: Session) -> str:
    """Summarise a session in one line."""
    statistics = session.stream.statistics
    parts = [f"{clock(session.seconds)} heard", count(statistics.refreshes, "refresh")]
    counted = ((statistics.overruns, "overrun"), (statistics.failures, "failure"), (session.lost, "dropout"))
    parts += [count(number, noun) for number, noun in counted if number]
    late = statistics.overruns > statistics.refreshes and session.source.can_wait
    hint = "the network could not keep up; with --fast the sound waits for it" if late else ""
    return "; ".join(filter(None, (", ".join(parts), session.sink.kept, hint)))


def heard(latest: Refresh | None, classes: Sequence[str]) -> str:
    """Return the predicted classes with their probabilities."""
    if latest is None:
        return "nothing yet"
    probability = dict(zip(classes, latest.probabilities, strict=True))
    names = ", ".join(f"{name} {percent(probability[name])}" for name in latest.prediction)
    return names or "none of the model's classes"


def meter(decibels: float) -> Text:
    """Draw a level in dBFS, red above full scale."""
    filled = bar((decibels - SOFTEST) / -SOFTEST)
    number = f"{decibels:5.1f} dBFS" if decibels > SOFTEST else "below -60 dBFS"
    return Text.assemble((filled, "red" if decibels > 0 else "green"), f"  {number}")


def bar(share: float) -> str:
    """Draw a fraction of 1, in steps of half a character."""
    halves = round(2 * BAR * min(max(share, 0.0), 1.0))
    return ("━" * (halves // 2) + "╸" * (halves % 2)).ljust(BAR)


def clock(seconds: float) -> str:
    """Format seconds as minutes and seconds, with hours from one hour on."""
    minutes, rest = divmod(int(10 * seconds) / 10, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def count(number: int, noun: str) -> str:
    """Format a number with its noun."""
    return f"{number} {noun if number == 1 else noun + ('es' if noun.endswith('sh') else 's')}"


def fault(session: Session) -> str:
    """Describe the network's latest exception; empty if it has raised none."""
    error = session.stream.error
    return " ".join(f"the network fails, the sound goes on: {type(error).__name__}: {error}".split()) if error else ""


def hertz(value: float) -> str:
    """Format a frequency."""
    return f"{value / 1000:.1f} kHz" if value >= 1000 else f"{value:.0f} Hz"


def percent(share: float) -> str:
    """Format a fraction of 1 in percent."""
    return f"{100 * share:.0f} %"
