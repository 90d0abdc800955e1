"""How many streams a core carries, whether they keep their deadlines, and how memory stays over an hour of sound.

Usage: python benchmarks/stream_soak.py capacity | live [--minutes 10] [--busy] | memory [--hours 1]

Each adds what it finds to out/soak/soak.json, which benchmarks/report.py puts into the documentation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import l2i_fast as l2i
from l2i_fast.bench import soak
from l2i_fast.networks.incremental import why_not_streamable

Model = Annotated[str, typer.Option(help="A shipped model's name, or a folder.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="File to add to.")]
FOUND = Path("out/soak/soak.json")

app = typer.Typer(add_completion=False, help=__doc__)


def opened(path: Path) -> soak.Soak:
    return soak.Soak.load(path) if path.exists() else soak.Soak()


def closed(found: soak.Soak, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save(path)
    print(soak.markdown(found))


@app.command()
def capacity(model: Model = "esc10", output: Output = FOUND) -> None:
    """Streams of a pool on one core: the audio alone, and with networks refreshed every half second."""
    engine, found = l2i.load(model), opened(output)
    found.capacities = [soak.capacity(engine, "none", None), soak.capacity(engine, "full window")]
    if reason := why_not_streamable(engine.hidden, engine.interpreter):
        print(f"incremental networks are left out: {reason}")
    else:
        found.capacities.append(soak.capacity(engine, "incremental", incremental=True))
    closed(found, output)


@app.command()
def live(minutes: float = 1, busy: bool = False, model: Model = "esc10", output: Output = FOUND) -> None:
    """Push in real time, the networks beside it; busy: beside a process that keeps a core busy."""
    run = soak.live(l2i.load(model), minutes, busy)
    found = opened(output)
    found.lives = [one for one in found.lives if (one.minutes, one.busy) != (minutes, busy)] + [run]
    closed(found, output)


@app.command()
def memory(hours: float = 1, model: Model = "esc10", output: Output = FOUND) -> None:
    """Push long sound as fast as it goes."""
    found = opened(output)
    found.memories = [soak.memory(l2i.load(model), hours)]
    closed(found, output)


if __name__ == "__main__":
    app()
