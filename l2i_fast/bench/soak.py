"""A model's streams over time: how many a core carries, whether they keep their deadlines, and how memory stays."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from l2i_fast.arrays import Float32
from l2i_fast.bench.machine import describe
from l2i_fast.bench.memory import resident
from l2i_fast.bench.timing import threads
from l2i_fast.data.scene import SCENES, demo_scene
from l2i_fast.files import write_whole
from l2i_fast.results.picture import COLOURS, FONT, GREY, INK

if TYPE_CHECKING:
    from l2i_fast.model import L2I

#: Seconds of sound that a load is measured over.
SECONDS = 4.0


@dataclass
class Capacity:
    """The most streams that one core carried: computing took `load` of the time their sound lasts.

    `refresh` is the time in s from one run of the networks to the next, None where they did not run.
    """

    networks: str
    refresh: float | None
    streams: int
    load: float


@dataclass
class Live:
    """Blocks of one hop, pushed when a clock says so; `times` (s) of the pushes."""

    minutes: float
    busy: bool  # another process kept a core busy
    refresh: float
    deadline: float  # s, from one block to the next
    missed: int  # pushes that were not back when the next block was there
    late: int  # of them, those that began too late already
    refreshes: int
    overruns: int
    times: list[float] = field(repr=False)


@dataclass
class Memory:
    """Sound pushed as fast as it goes; memory of the process in bytes after a second, a minute and at the end."""

    hours: float
    seconds: float  # that it took
    second: int
    minute: int
    end: int


@dataclass
class Soak:
    """All that was found, on what machine."""

    machine: dict[str, Any] = field(default_factory=describe)
    capacities: list[Capacity] = field(default_factory=list)
    lives: list[Live] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write all as JSON, whole or not at all."""
        write_whole(path, lambda file: file.write_text(json.dumps(asdict(self)) + "\n"))

    @classmethod
    def load(cls, path: Path) -> Soak:
        """Read what `save` wrote."""
        found = json.loads(path.read_text())
        return cls(
            found["machine"],
            [Capacity(**one) for one in found["capacities"]],
            [Live(**one) for one in found["lives"]],
            [Memory(**one) for one in found["memories"]],
        )


def sound(model: L2I, seconds: float) -> Float32:
    """Synthesised scenes, one after the other, in whole hops."""
    scenes = np.concatenate([demo_scene(kind, sr=model.sample_rate) for kind in SCENES])
    hop = model.analysis.hop_length
    return np.resize(scenes, round(seconds * model.sample_rate / hop) * hop)


def capacity(model: L2I, networks: str, refresh: float | None = 0.5, incremental: bool = False) -> Capacity:
    """Find how many streams of a pool keep a single thread busy; where one is too much, say its load."""
    n, most, its_load = 8, 1, math.inf
    for _ in range(6):
        load = _load(model, n, refresh, incremental)
        if (load <= 1 and n >= most) or n == 1:
            most, its_load = n, load
        if 0.9 < load <= 1:
            break
        n = max(1, int(0.97 * n / load))  # it is nearly proportional
    return Capacity(networks, refresh, most, its_load)


def _load(model: L2I, n: int, refresh: float | None, incremental: bool) -> float:
    """Processor time that n streams take to the time of their sound."""
    hop, rate = model.analysis.hop_length, model.sample_rate
    window = 5.0 if refresh else 2.0
    # Where the networks are to stay out of it, they run once, just before: without them nothing would be heard.
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
        start = time.process_time()  # neighbours that take the core for a while do not count
        for at in range(begin, y.shape[1], hop):
            pool.push(y[:, at : at + hop])
        return (time.process_time() - start) / float((y.shape[1] - begin) / rate)


def live(model: L2I, minutes: float, busy: bool, refresh: float = 0.25) -> Live:
    """Push blocks of one hop in real time, the networks beside it; `busy`: beside a process that never rests."""
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
                due = begin + (i + 1) * period  # when all of the block is there
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


def memory(model: L2I, hours: float) -> Memory:
    """Push long sound in seconds, as fast as it goes, with the networks in turns with it."""
    y, rate = sound(model, 60), model.sample_rate
    start, found = time.perf_counter(), []
    with model.stream(mode="synchronous") as stream:
        for second in range(max(1, round(3600 * hours))):
            at = second % 60 * rate
            stream.push(y[at : at + rate])
            if second in (0, 59):
                found.append(resident())
    end = resident()
    return Memory(hours, time.perf_counter() - start, found[0], found[-1], end)


def markdown(soak: Soak) -> str:
    """Lay out what was found."""
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


def save_picture(folder: Path, soak: Soak) -> list[Path]:
    """Write soak.png into `folder`, if there were runs in real time: how many pushes took how long."""
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
