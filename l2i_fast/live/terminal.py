"""What a stream hears and why, while it happens: a picture of text in a terminal, lines of text elsewhere."""

from __future__ import annotations

import math
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from l2i_fast.live import Recording, Session
from l2i_fast.live.devices import Microphone

if TYPE_CHECKING:
    from l2i_fast.model import L2I
    from l2i_fast.stream import Refresh

Peaks = NDArray[np.float64]  # (K,): frequency, in Hz, at which each component is strongest

#: Pictures a second in a terminal, and seconds between two looks where lines are written.
PICTURES, LOOK = 8, 1.0
#: Components that are shown, width of a bar in characters, dBFS at its left end, dB a second at which levels fall.
SHOWN, BAR, SOFTEST, FALL = 6, 26, -60.0, 24.0


@contextmanager
def watch(session: Session, model: L2I) -> Iterator[None]:
    """Show a session on stderr as long as this is entered, from a thread of its own."""
    peaks = model.dictionary.argmax(0) * model.sample_rate / model.analysis.n_fft
    warnings.filterwarnings("ignore", "the network failed", RuntimeWarning)  # it is told here
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        picture = Picture(session, model.classes, peaks)
        with Live(get_renderable=picture.draw, console=console, refresh_per_second=PICTURES, redirect_stdout=False):
            yield
        return
    done = threading.Event()
    lines = Lines(session, model.classes, peaks)

    def tell() -> None:
        while not done.wait(LOOK):
            lines.tell()
        lines.tell()

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(LOOK)  # whoever reads the lines may have stopped reading


class Lines:
    """A line whenever the prediction changes or the network begins to fail."""

    def __init__(self, session: Session, classes: Sequence[str], peaks: Peaks) -> None:
        self._session, self._classes, self._peaks = session, classes, peaks
        self._told: tuple[tuple[str, ...], str] = (), ""

    def tell(self) -> None:
        """Write what is new to stderr."""
        latest = self._session.stream.latest
        news = latest.prediction if latest else (), fault(self._session)
        if news == self._told:
            return
        self._told = news
        words = [clock(self._session.seconds), heard(latest, self._classes)]
        if latest and latest.components:
            words.append("because of " + ", ".join(f"{k} ({hertz(self._peaks[k])})" for k in latest.components[:SHOWN]))
        print("  ".join(filter(None, (*words, news[1]))), file=sys.stderr, flush=True)


class Picture:
    """The state of a session as something that rich can draw; always as high, so that it stands still."""

    def __init__(self, session: Session, classes: Sequence[str], peaks: Peaks) -> None:
        self._session, self._classes, self._peaks = session, classes, peaks
        self._levels = {"input": SOFTEST, "output": SOFTEST}
        self._drawn = time.monotonic()

    def draw(self) -> RenderableType:
        """Draw the state as it is now."""
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
        if isinstance(session.source, Recording):
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
    """Say in one line how a session went."""
    statistics = session.stream.statistics
    parts = [f"{clock(session.seconds)} heard", count(statistics.refreshes, "refresh")]
    counted = ((statistics.overruns, "overrun"), (statistics.failures, "failure"), (session.lost, "dropout"))
    parts += [count(number, noun) for number, noun in counted if number]
    late = statistics.overruns > statistics.refreshes and not isinstance(session.source, Microphone)
    hint = "the network could not follow, with --fast the sound waits for it" if late else ""
    return "; ".join(filter(None, (", ".join(parts), session.sink.kept, hint)))


def heard(latest: Refresh | None, classes: Sequence[str]) -> str:
    """Say the predicted classes with their probabilities."""
    if latest is None:
        return "nothing yet"
    probability = dict(zip(classes, latest.probabilities, strict=True))
    names = ", ".join(f"{name} {percent(probability[name])}" for name in latest.prediction)
    return names or "none of the classes it knows"


def meter(decibels: float) -> Text:
    """Draw a level in dBFS; above full scale it is red."""
    filled = bar((decibels - SOFTEST) / -SOFTEST)
    number = f"{decibels:5.1f} dBFS" if decibels > SOFTEST else "below -60 dBFS"
    return Text.assemble((filled, "red" if decibels > 0 else "green"), f"  {number}")


def bar(share: float) -> str:
    """Draw a share of 1, in steps of half a character."""
    halves = round(2 * BAR * min(max(share, 0.0), 1.0))
    return ("━" * (halves // 2) + "╸" * (halves % 2)).ljust(BAR)


def clock(seconds: float) -> str:
    """Write seconds as minutes and seconds, and hours where there are some."""
    minutes, rest = divmod(int(10 * seconds) / 10, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def count(number: int, noun: str) -> str:
    """Write a number of things."""
    return f"{number} {noun if number == 1 else noun + ('es' if noun.endswith('sh') else 's')}"


def fault(session: Session) -> str:
    """Say what the network raised last, if it did."""
    error = session.stream.error
    return " ".join(f"the network fails, the sound goes on: {type(error).__name__}: {error}".split()) if error else ""


def hertz(value: float) -> str:
    """Write a frequency."""
    return f"{value / 1000:.1f} kHz" if value >= 1000 else f"{value:.0f} Hz"


def percent(share: float) -> str:
    """Write a share of 1 in percent."""
    return f"{100 * share:.0f} %"
