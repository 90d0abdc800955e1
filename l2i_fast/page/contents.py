"""What a page shows: sections of samples, each with its input, known parts and interpretations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from l2i_fast.evaluation.overview import Overview
from l2i_fast.results import Result


@dataclass(frozen=True, eq=False)
class PageSample:
    """One input with what several methods make of it.

    Attributes
    ----------
    name : str
        Identifies the sample in the page, for example a file name.
    title : str
        Its heading.
    true : tuple of str
        The true classes; empty if they are not known.
    results : sequence of Result
        One of each method, all of the same input.
    parts : mapping of str to arrays (N,)
        Parts that the input is known to be mixed of, by their titles, as long as the input and at its rate.
    note : str
        A remark below the heading.
    """

    name: str
    title: str
    true: tuple[str, ...]
    results: Sequence[Result]
    parts: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table of text above the samples of a section, such as scores; the first column names the rows.

    Attributes
    ----------
    title : str
    head : sequence of str
    rows : sequence of sequences of str
        As long as `head`; in a cell such as "0.91 [0.88, 0.94]" the bounds are shown below the figure.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, eq=False)
class Section:
    """A part of the page, such as an experiment.

    Attributes
    ----------
    title : str
    text : str
        Paragraphs, separated by empty lines.
    samples : sequence of PageSample
    table : Table, optional
    views : mapping of str to Overview
        Global views of the recordings of this section by L2I, by the names of their models. Their recordings that are
        among `samples` have the names of these.
    """

    title: str
    text: str
    samples: Sequence[PageSample]
    table: Table | None = None
    views: Mapping[str, Overview] = field(default_factory=dict)
