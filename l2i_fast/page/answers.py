"""Answers to listening tests, joined with the key of the test."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l2i_fast.arguments import is_several, shown
from l2i_fast.files import as_path
from l2i_fast.page.listening import VERSION
from l2i_fast.settings import read_json


def read_answers(
    files: Sequence[str | os.PathLike[str]], key: str | os.PathLike[str]
) -> list[dict[str, str | int | float | bool]]:
    """Return the answers of listeners with the names of the methods.

    Parameters
    ----------
    files : sequence of path-like
        Files that listeners have saved, each of one listener.
    key : path-like
        The file that `write_listening_test` has written beside the test.

    Returns
    -------
    list of dict
        A row for each rating, with ``listener``, ``seed``, ``position`` of the trial from 1, ``seconds``, ``section``,
        ``sample``, ``label``, ``method`` and ``rating``; or for each ABX trial, with ``method_a``, ``method_b``,
        ``method_x`` and ``correct`` in the place of the last two.

    Raises
    ------
    ValueError
        A file that is no answer or no key, or answers to another test.
    """
    if not is_several(files):
        raise TypeError(f"files is {shown(files)}, but must be a list of files")
    solution = _read(as_path("key", key), "sounds", "key of a listening test")
    rows: list[dict[str, Any]] = []
    for file in (as_path("file", file) for file in files):
        answers = _read(file, "answers", "file of answers")
        if answers["test"] != solution["test"]:
            raise ValueError(f"{file} answers the test {answers['test']}, but the key is of {solution['test']}")
        try:
            common = {"listener": answers["listener"] or file.stem, "seed": answers["seed"]}
            for answer in answers["answers"]:
                place = common | {"position": answer["position"], "seconds": answer["seconds"]}
                rows += [place | row for row in _rows(answer, solution)]
        except (AttributeError, KeyError, TypeError) as error:
            what = f"there is no entry {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{file} is damaged ({what}), but must be whole") from None
    return rows


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows, all with the same names, as CSV with a line of these names."""
    text = io.StringIO(newline="")
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _read(file: Path, needed: str, what: str) -> dict[str, Any]:
    contents = read_json(file)
    if not isinstance(contents, dict) or not {"version", "test", needed} <= contents.keys():
        raise ValueError(f"{file} has no entry {needed!r}, but must be a {what}")
    if contents["version"] != VERSION:
        raise ValueError(f"the version of {file} is {shown(contents['version'])}, but must be {VERSION}")
    return contents


def _rows(answer: Mapping[str, Any], key: Mapping[str, Any]) -> list[dict[str, Any]]:
    sounds = key["sounds"]
    if key["form"] == "rating":
        return [{**sounds[name], "rating": rating} for name, rating in answer["ratings"].items()]
    row = {name: value for name, value in sounds[answer["x"]].items() if name != "method"}
    row |= {f"method_{place}": sounds[answer[place]]["method"] for place in "abx"}
    return [{**row, "correct": answer["chosen"] == answer["x"]}]
