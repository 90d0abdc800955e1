"""How many streams of a model a core carries, whether they keep their deadlines, and how memory grows over an hour.

Usage: python benchmarks/stream_soak.py capacity | live [--minutes 10] [--busy] | memory [--hours 1]

Each command adds its figures to out/soak/soak.json, which benchmarks/report.py puts into the documentation.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

import l2i_fast as l2i
from l2i_fast.bench.machine import describe
from l2i_fast.bench.timing import threads
from l2i_fast.data.scene import SCENES, demo_scene
from l2i_fast.files import write_whole
from l2i_fast.model import L2I
from l2i_fast.results.picture import COLOURS, FONT, GREY, INK, default_style
from l2i_fast.system import resident_memory

#: Seconds of sound over which a load is measured.
SECONDS = 4.0


@dataclass
class Capacity:
    """The most streams that one core carried; computing took `load` of the duration of their sound.

    `refresh` is the time in s from one run of the networks to the next, None if they did not run.
    """

    networks: str
    refresh: float | None
    streams: int
    load: float


@dataclass
class Live:
    """Blocks of one hop, pushed in real time, and the `times` (s) of the pushes."""

    minutes: float
    busy: bool  # whether another process kept a core busy
    refresh: float
    deadline: float  # s, from one block to the next
    missed: int  # pushes that returned after the next block was complete
    late: int  # those of them that even began too late
    refreshes: int
    overruns: int
    times: list[float] = field(repr=False)


@dataclass
class Memory:
    """Sound pushed without pauses; memory of the process in bytes after a second, a minute and at the end."""

    hours: float
    seconds: float  # it took
    second: int
    minute: int
    end: int


@dataclass
class Soak:
    """All figures, and the machine."""

    machine: dict[str, Any] = field(default_factory=describe)
    capacities: list[Capacity] = field(default_factory=list)
    lives: list[Live] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write all figures as JSON."""
        write_whole(path, lambda file: file.write_text(json.dumps(asdict(self)) + "\n"))

    @classmethod
    def load(cls, path: Path) -> Soak:
        """Read a file that `save` wrote."""
        read = json.loads(path.read_text())
        return cls(
            read["machine"],
            [Capacity(**one) for one in read["capacities"]],
            [Live(**one) for one in read["lives"]],
            [Memory(**one) for one in read["memories"]],
        )


def sound(model: L2I, seconds: float) -> NDArray[np.float32]:
    """Return synthesised scenes, one after the other, in whole hops."""
    scenes = np.concatenate([demo_scene(kind, sr=model.sample_rate) for kind in SCENES])
    hop = model.analysis.hop_length
    return np.resize(scenes, round(seconds * model.sample_rate / hop) * hop)


def measure_capacity(model: L2I, networks: str, refresh: float | None = 0.5, incremental: bool = False) -> Capacity:
    """Find the number of streams of a pool that keep a single thread busy; if one is too much, its load is above 1."""
    n, most, its_load = 8, 1, math.inf
    for _ in range(6):
        load = _load(model, n, refresh, incremental)
        if (load <= 1 and n >= most) or n == 1:
            most, its_load = n, load
        if 0.9 < load <= 1:
            break
        n = max(1, int(0.97 * n / load))  # loads are nearly proportional
    return Capacity(networks, refresh, most, its_load)


def _load(model: L2I, n: int, refresh: float | None, incremental: bool) -> float:
    """Return the processor time of n streams relative to the duration of their sound."""
    hop, rate = model.analysis.hop_length, model.sample_rate
    window = 5.0 if refresh else 2.0
    # If the networks are not to count, they run once, just before: without them all output would be silence.
    every = refresh or SECONDS + 1
    warm = 0.1 + (window if refresh else every)
    with (
        threads(1),
        model.stream_pool(n, mode="synchronous", refresh=every, window=window, incremental=incremental) as pool,
    ):
        y = sound(model, warm + SECONDS)
        y = np.stack([np.roll(y, i * rate // 3) for i in range(n)])
        begin = round(warm * rate / hop) * hop
        pool.push(y[:, :begin])
        start = time.process_time()  # other processes on the core do not count
        for at in range(begin, y.shape[1], hop):
            pool.push(y[:, at : at + hop])
        return (time.process_time() - start) / float((y.shape[1] - begin) / rate)


def measure_live(model: L2I, minutes: float, busy: bool, refresh: float = 0.25) -> Live:
    """Push blocks of one hop in real time, with the networks beside; if `busy`, beside a process that never rests."""
    hop = model.analysis.hop_length
    period = hop / model.sample_rate
    blocks = sound(model, min(60 * minutes, 60)).reshape(-1, hop)
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    missed = late = 0
    times = []
    clock = time.perf_counter
    try:
        with model.stream(refresh=refresh) as stream:
            begin = clock()
            for i in range(round(60 * minutes / period)):
                due = begin + (i + 1) * period  # when the block is complete
                time.sleep(max(0, due - clock()))
                start = clock()
                stream.push(blocks[i % len(blocks)])
                end = clock()
                times.append(end - start)
                missed += end > due + period
                late += start > due + period
            counts = stream.statistics
    finally:
        if other:
            other.kill()
            other.wait()
    return Live(minutes, busy, refresh, period, missed, late, counts.refreshes, counts.overruns, times)


def measure_memory(model: L2I, hours: float) -> Memory:
    """Push long sound, second by second without pauses, with the networks in the same thread."""
    y, rate = sound(model, 60), model.sample_rate
    start, early = time.perf_counter(), []
    with model.stream(mode="synchronous") as stream:
        for second in range(max(1, round(3600 * hours))):
            at = second % 60 * rate
            stream.push(y[at : at + rate])
            if second in (0, 59):
                early.append(resident_memory())
    end = resident_memory()
    return Memory(hours, time.perf_counter() - start, early[0], early[-1], end)


def markdown(soak: Soak) -> str:
    """Return all figures as tables in Markdown."""
    machine = soak.machine
    parts = [f"- {machine['processor']}; CPU path {machine['path']}; {machine['date']}\n"]
    spread = "median µs", "99 % µs", "99.9 % µs", "longest µs"
    tables: list[tuple[tuple[str, ...], list[tuple[str, ...]]]] = [
        (
            ("networks", "streams on one core", "load", "networks, ms a refresh of a stream", "their share"),
            [_capacity(one, soak.capacities) for one in soak.capacities],
        ),
        (
            ("real time", "beside", "pushes", "missed", "woken too late", *spread, "refreshes", "overruns"),
            [_live(run) for run in soak.lives],
        ),
        (
            ("sound", "took s", "MiB after 1 s", "after 1 min", "at the end"),
            [_memory(one) for one in soak.memories],
        ),
    ]
    for columns, rows in tables:
        if rows:
            rule = "---", *("--:" for _ in columns[1:])
            parts.append("".join(f"| {' | '.join(cells)} |\n" for cells in (columns, rule, *rows)))
    return "\n".join(parts)


def _capacity(one: Capacity, every: list[Capacity]) -> tuple[str, ...]:
    load = one.load / one.streams
    audio = next((alone.load / alone.streams for alone in every if alone.refresh is None), math.nan)
    shares = (
        (f"{1e3 * (load - audio) * one.refresh:.2f}", f"{100 * (1 - audio / load):.0f} %") if one.refresh else ("", "")
    )
    return one.networks, f"{one.streams:,}", f"{one.load:.2f}", *shares


def _live(run: Live) -> tuple[str, ...]:
    beside = "a process that never rests" if run.busy else "nothing"
    spread = (f"{1e6 * seconds:,.0f}" for seconds in np.percentile(run.times, (50, 99, 99.9, 100)))
    counts = (f"{n:,}" for n in (len(run.times), run.missed, run.late))
    return f"{run.minutes:g} min", beside, *counts, *spread, f"{run.refreshes:,}", f"{run.overruns:,}"


def _memory(one: Memory) -> tuple[str, ...]:
    sizes = (f"{size / 2**20:.1f}" for size in (one.second, one.minute, one.end))
    return f"{one.hours:g} h", f"{one.seconds:.0f}", *sizes


@default_style()
def save_picture(folder: Path, soak: Soak) -> list[Path]:
    """Write soak.png, a histogram of the times of pushes in real time, into `folder`, if there are any."""
    if not soak.lives:
        return []
    figure = Figure(figsize=(8, 3.6), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for run, colour in zip(soak.lives, COLOURS, strict=False):
        label = f"{run.minutes:g} min{', beside a process that never rests' if run.busy else ''}"
        axes.hist(
            1e6 * np.array(run.times), np.geomspace(1, 1e5, 101).tolist(), histtype="step", color=colour, label=label
        )
        axes.axvline(1e6 * run.deadline, color=GREY, linewidth=1)
    axes.text(1e6 * soak.lives[0].deadline, 1, " the next block", color=INK, family=FONT, fontsize=9, va="bottom")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(0.8)
    axes.set_xlabel("µs a push", color=INK, family=FONT)
    axes.set_ylabel("pushes", color=INK, family=FONT)
    axes.tick_params(labelsize=9, colors=INK, labelfontfamily=FONT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, prop={"family": FONT, "size": 9})
    write_whole(folder / "soak.png", lambda path: figure.savefig(path, metadata={"Software": None}))
    return [folder / "soak.png"]


Model = Annotated[str, typer.Option(help="A shipped model's name, or a folder.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="File to add to.")]
FILE = Path("out/soak/soak.json")

app = typer.Typer(add_completion=False, help=__doc__)


def opened(path: Path) -> Soak:
    return Soak.load(path) if path.exists() else Soak()


def closed(soak: Soak, path: Path) -> None:
    soak.save(path)
    print(markdown(soak))


@app.command()
def capacity(model: Model = "esc10", output: Output = FILE) -> None:
    """Streams of a pool on one core, without networks and with networks that run every half second."""
    engine, soak = l2i.load(model), opened(output)
    soak.capacities = [measure_capacity(engine, "none", None), measure_capacity(engine, "full window")]
    if reason := engine.network.why_not_incremental(engine.interpreter):
        print(f"incremental networks are left out: {reason}")
    else:
        soak.capacities.append(measure_capacity(engine, "incremental", incremental=True))
    closed(soak, output)


@app.command()
def live(minutes: float = 1, busy: bool = False, model: Model = "esc10", output: Output = FILE) -> None:
    """Push in real time with the networks beside; busy: beside a process that keeps a core busy."""
    run = measure_live(l2i.load(model), minutes, busy)
    soak = opened(output)
    soak.lives = [one for one in soak.lives if (one.minutes, one.busy) != (minutes, busy)] + [run]
    closed(soak, output)


@app.command()
def memory(hours: float = 1, model: Model = "esc10", output: Output = FILE) -> None:
    """Push long sound without pauses."""
    soak = opened(output)
    soak.memories = [measure_memory(l2i.load(model), hours)]
    closed(soak, output)


if __name__ == "__main__":
    app()
