"""Consoles of rich, and bars that show the progress of long work."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from l2i_fast.progress import Report


def make_console() -> Console:
    """Return a console on stdout that prints text as it is."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


@contextmanager
def show_progress() -> Iterator[Report]:
    """Give a function that draws bars on stderr or, if that is no terminal, prints a line for each step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda stage, done, total, text: print(f"{stage} {done}/{total} {text}".rstrip(), file=sys.stderr)
        return
    tasks: dict[str, TaskID] = {}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, TextColumn("{task.fields[text]}"), console=console) as bars:

        def report(stage: str, done: int, total: int, text: str) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, text=text)
            bars.update(tasks[stage], completed=done, total=total, text=text)

        yield report
