"""Tables of scores: for the terminal, and as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from l2i_fast.evaluation.records import SHARES, Record
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
    """Return a table for each experiment, with the methods as rows, one at equal shares, and one of costs."""
    titles = {row["method"]: row["title"] for row in records}
    made = []
    for experiment, methods in scores.items():
        if experiment == "sanity":
            made += [_sanity(methods, titles), _sanity_in_noise(methods, titles)]
        else:
            made.append(_experiment(experiment, methods, titles))
    curved = scores.get("clean", {})
    if any(f"AI_at_{SHARES[0]:g}" in figures for figures in curved.values()):
        made.append(_equal_shares(curved, titles))
    return [*made, _costs(records, titles, fit_seconds)]


def _experiment(experiment: str, methods: Mapping[str, Mapping[str, Interval]], titles: Mapping[str, str]) -> Table:
    shown = [figure for figure in FIGURES if any(figure.name in figures for figures in methods.values())]
    rows = [
        [titles[method], *(_cell(figures, figure.name, figure.digits) for figure in shown)]
        for method, figures in methods.items()
    ]
    n = max(figures["kept"].n for figures in methods.values())
    title = f"{experiment}: {n} recordings; intervals of 95 %"
    n_runs = max(
        (x.n for figures in methods.values() for k, x in figures.items() if k.endswith("_between_runs")), default=1
    )
    if n_runs > 1:
        title += f"; ± standard deviation between {n_runs} runs"
    return Table(experiment, title, ["method", *(figure.head for figure in shown)], rows)


def _equal_shares(methods: Mapping[str, Mapping[str, Interval]], titles: Mapping[str, str]) -> Table:
    names = [f"{figure}_at_{share:g}" for figure in ("AI", "AD", "FF") for share in SHARES]
    heads = [f"{figure}, kept {share:g}" for figure in ("AI", "AD", "FF") for share in SHARES]
    digits = [0] * len(SHARES) + [1] * len(SHARES) + [2] * len(SHARES)
    curved = {method: figures for method, figures in methods.items() if names[0] in figures}
    n = max(figures[names[0]].n for figures in curved.values())
    rows = [
        [titles[method], *(_cell(figures, name, d) for name, d in zip(names, digits, strict=True))]
        for method, figures in curved.items()
    ]
    title = f"clean, at equal shares: {n} recordings; intervals of 95 %"
    return Table("equal-shares", title, ["method", *heads], rows)


def _sanity(methods: Mapping[str, Mapping[str, Interval]], titles: Mapping[str, str]) -> Table:
    shares, head = _random_shares(methods), ["method"]
    for share in shares:
        head += [f"{float(share):.0%} random", f"{float(share):.0%} random: kept"]
    rows = []
    for method, figures in methods.items():
        row = [titles[method]]
        for share in shares:
            row += [_cell(figures, f"spearman_at_{share}", 2), _cell(figures, f"kept_at_{share}", 2)]
        rows.append(row)
    return Table("sanity", "sanity: rank correlation with the explanation by trained weights", head, rows)


def _sanity_in_noise(methods: Mapping[str, Mapping[str, Interval]], titles: Mapping[str, str]) -> Table:
    shares = _random_shares(methods)
    head = ["method", *(f"{float(share):.0%} random" for share in shares)]
    rows = [
        [titles[method], *(_cell(figures, f"ratio_gain_at_{share}", 1) for share in shares)]
        for method, figures in methods.items()
    ]
    return Table("sanity-in-noise", "sanity, in noise: ratio gain (dB)", head, rows)


def _random_shares(methods: Mapping[str, Mapping[str, Interval]]) -> list[str]:
    return list(
        dict.fromkeys(name.rpartition("_")[2] for figures in methods.values() for name in figures if "_at_" in name)
    )


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


def _cell(figures: Mapping[str, Interval], name: str, digits: int) -> str:
    """Return an estimate with its interval and, of several runs, the standard deviation between them."""
    value, between = figures.get(name), figures.get(f"{name}_between_runs")
    if value is None or np.isnan(value.estimate):
        return ""
    text = f"{value.estimate:.{digits}f}"
    if not np.isnan(value.low):
        text += f" [{value.low:.{digits}f}, {value.high:.{digits}f}]"
    return text if between is None else f"{text} ± {between.estimate:.{digits + 1}f}"


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
