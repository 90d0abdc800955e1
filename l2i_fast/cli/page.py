"""`l2i page` and `l2i answers`: pages to listen to, and the answers to listening tests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer
from annotated_types import Ge

from l2i_fast.cli.options import check_folder, checked
from l2i_fast.files import printable

Form: TypeAlias = Literal["rating", "abx"]  # not from l2i_fast.page, whose import would delay the help
Folders = Annotated[
    list[Path],
    typer.Argument(
        metavar="OUT", help="Output of `l2i evaluate`, or folders that `l2i interpret` wrote, or their parent."
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="PAGE", help="Folder of the page, or its file.")]
OneFile = Annotated[bool, typer.Option("--one-file", help="Write one HTML file instead of a folder.")]
Title = Annotated[
    str | None,
    typer.Option("--title", show_default="Listen to Interpret, or Listening test", help="Heading of the page."),
]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", show_default="all", help="Show this method only; repeat for several."),
]
Test = Annotated[
    bool, typer.Option("--listening-test", help="Write a blind listening test, and beside it the key to its answers.")
]
TestForm = Annotated[
    Form,
    typer.Option(
        "--form", help="Ask for ratings from 0 to 100, or which of two sounds a third one is.", **checked("form", Form)
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed", help="Seed of the listening test's numbers and pairs.", **checked("seed", Annotated[int, Ge(0)])
    ),
]
Answers = Annotated[list[Path], typer.Argument(metavar="FILE", help="Files of answers that listeners saved.")]
Key = Annotated[Path, typer.Option("--key", help="The key that was written beside the test.")]
Table = Annotated[Path | None, typer.Option("--output", "-o", show_default="standard output", help="CSV file.")]


def page(
    folders: Folders,
    output: Output,
    one_file: OneFile = False,
    title: Title = None,
    method: Methods = None,
    listening_test: Test = False,
    form: TestForm = "rating",
    seed: Seed = 0,
) -> None:
    """Write a page to listen to, of recordings and their interpretations, which works without a network."""
    if not one_file:
        check_folder(output)
        if output.resolve() in [folder.resolve() for folder in folders]:
            raise typer.BadParameter(f"output is {str(output)!r}, but must not be a folder that is read")
    from l2i_fast.page import read_sections, write_listening_test, write_page

    sections = read_sections(folders, method or None)
    if listening_test:
        test = write_listening_test(sections, output, title or "Listening test", one_file, form, seed)
        print(f"{printable(test.page)}\n{printable(test.key)}")
    else:
        print(printable(write_page(sections, output, title or "Listen to Interpret", one_file)))


def answers(files: Answers, key: Key, output: Table = None) -> None:
    """Join the answers to a listening test with its key, as CSV."""
    from l2i_fast.files import write_whole
    from l2i_fast.page import read_answers, to_csv

    text = to_csv(read_answers(files, key))
    if output is None:
        print(text, end="")
    else:
        write_whole(output, lambda p: p.write_text(text, "utf-8"))
