"""Tables of scores: for the terminal, and as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from l2i_fast.evaluation.records import Record
from l2i_fast.evaluation.scores import FIGURES, Scores
from l2i_fast.files import write_whole
from l2i_fast.metrics.bootstrap import Interval

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes
    ----------
    name : str
        Name of its files.
    title : str
    head : list of str
    rows : list of lists of str
    """

    name: str
    title: str
    head: list[str]
    rows: list[list[str]]


def tables(scores: Scores, records: Sequence[Record], fit_seconds: Mapping[str, float]) -> list[Table]:
    """Return a table for each experiment, with the methods as rows, and one of costs."""
    titles = {row["method"]: row["title"] for row in records}
    made = [
        _sanity(methods, titles) if experiment == "sanity" else _experiment(experiment, methods, titles)
        for experiment, methods in scores.items()
    ]
    return [*made, _costs(records, titles, fit_seconds)]


def _experiment(experiment: str, methods: Mapping[str, Mapping[str, Interval]], titles: Mapping[str, str]) -> Table:
    shown = [figure for figure in FIGURES if any(figure.name in figures for figures in methods.values())]
    rows = [
        [titles[method], *(_cell(figures.get(figure.name), figure.digits) for figure in shown)]
        for method, figures in methods.items()
    ]
    n = max(interval.n for figures in methods.values() for interval in figures.values())
    title = f"{experiment}: {n} recordings; intervals of 95 %"
    return Table(experiment, title, ["method", *(figure.head for figure in shown)], rows)


def _sanity(methods: Mapping[str, Mapping[str, Interval]], titles: Mapping[str, str]) -> Table:
    names = list(dict.fromkeys(name for figures in methods.values() for name in figures if name.startswith("spearman")))
    head = ["method", *(f"{float(name.rpartition('_')[2]):.0%} random" for name in names)]
    rows = [[titles[method], *(_cell(figures.get(name), 2) for name in names)] for method, figures in methods.items()]
    return Table("sanity", "sanity: rank correlation with the explanation by trained weights", head, rows)


def _costs(records: Sequence[Record], titles: Mapping[str, str], fit_seconds: Mapping[str, float]) -> Table:
    rows = []
    for method, title in titles.items():
        chosen = [row for row in records if row["method"] == method]
        learned = fit_seconds.get(method)
        memory = max(row["peak_memory_mb"] for row in chosen)
        seconds = float(np.mean([row["seconds"] for row in chosen if row["experiment"] != "sanity"] or [np.nan]))
        rows.append([title, f"{seconds:.3f}", "" if learned is None else f"{learned:.0f}", f"{memory:.0f}"])
    head = ["method", "seconds per recording", "seconds to learn", "peak memory (MB)"]
    return Table("cost", "cost", head, rows)


def _cell(value: Interval | None, digits: int) -> str:
    if value is None or np.isnan(value.estimate):
        return ""
    text = f"{value.estimate:.{digits}f}"
    return text if np.isnan(value.low) else f"{text} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def to_csv(table: Table) -> str:
    """Return a table as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([table.head, *table.rows])
    return text.getvalue()


def to_markdown(table: Table) -> str:
    """Return a table as Markdown."""
    lines = [table.head, ["---"] * len(table.head), *table.rows]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{table.title}\n\n{body}\n"


def to_latex(table: Table) -> str:
    """Return a table as LaTeX, for the package booktabs."""
    lines = [" & ".join(map(_escaped, line)) + r" \\" for line in (table.head, *table.rows)]
    columns = "l" + "r" * (len(table.head) - 1)
    return "\n".join(
        [
            f"% {table.title}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    for sign in "&%_#$":
        text = text.replace(sign, "\\" + sign)
    return text


def to_rich(table: Table, width: int) -> list[RichTable]:
    """Return a table for a terminal of `width` columns, with each interval below its estimate.

    Where it is too wide, its columns go into several tables, each of which begins with the first column.
    """
    from rich.table import Table as RichTable

    columns = [
        [name, *(row[i].replace(" [", "\n[", 1) if i else row[i] for row in table.rows)]
        for i, name in enumerate(table.head)
    ]
    widths = [3 + max(len(line) for cell in column for line in cell.split("\n")) for column in columns]
    blocks: list[list[int]] = [[]]
    for i in range(1, len(columns)):
        if blocks[-1] and 1 + widths[0] + sum(widths[j] for j in blocks[-1]) + widths[i] > width:
            blocks.append([])
        blocks[-1].append(i)
    drawn: list[RichTable] = []
    for block in blocks:
        part = RichTable(title=None if drawn else table.title, title_justify="left")
        part.add_column(columns[0][0])
        for i in block:
            part.add_column(columns[i][0], justify="right")
        for cells in zip(*(columns[i][1:] for i in (0, *block)), strict=True):
            part.add_row(*cells)
        drawn.append(part)
    return drawn


WRITERS: dict[str, Callable[[Table], str]] = {"csv": to_csv, "md": to_markdown, "tex": to_latex}


def write_tables(folder: Path, made: Sequence[Table]) -> None:
    """Write each table in every format."""
    for table in made:
        for ending, write in WRITERS.items():
            text = write(table)
            write_whole(folder / f"{table.name}.{ending}", lambda p, text=text: p.write_text(text, "utf-8"))  # type: ignore[misc]
