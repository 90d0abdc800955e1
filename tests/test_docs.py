"""The documents name only what exists: commands and options, names in Python, settings, figures, links and paths."""

from __future__ import annotations

import ast
import json
import pkgutil
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

import l2i_fast as l2i
from l2i_fast.cli import app
from l2i_fast.evaluation import summarize
from l2i_fast.settings import from_dict
from l2i_fast.training.config import TrainingConfig

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("l2i_fast/shipped/*/*.md")])
SECTIONS = [name for name, value in TrainingConfig().to_dict().items() if isinstance(value, dict)]
#: What is made while working, and so is not in a checkout.
MADE = ("data/", "out/", "runs/", "build/", ".venv")

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and contents of every block of code, fenced or indented; the latter has no language."""
    fence = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    indented = re.compile(r"(?:^ {4}.*\n(?:\n(?= {4}))*)+", re.MULTILINE)
    return fence.findall(text) + [("", block) for block in indented.findall(fence.sub("", text))]


def inline(text: str) -> list[str]:
    """Every piece of code within a line, outside of blocks."""
    for _, block in blocks(text):
        text = text.replace(block, "")
    return re.findall(r"`([^`\n]+)`", text)


def calls(text: str) -> list[list[str]]:
    """The words of every call of the command `l2i`, without its name."""
    lines = [line for _, block in blocks(text) for line in block.replace("\\\n", " ").splitlines()]
    found = []
    for code in [*lines, *inline(text)]:
        match = re.match(r"\s*(?:\$ )?(?:\w+=\S+ )*(?:\S*/)?l2i(?: (.*))?$", code)
        if match:
            found.append(shlex.split(match[1] or "", comments=True))
    return found


def python_blocks(text: str) -> list[ast.Module]:
    """Blocks of Python: those called so, and indented ones that import something."""
    found = []
    for language, block in blocks(text):
        if language == "python" or (not language and re.search(r"^ *(import|from) \w", block, re.MULTILINE)):
            found.append(ast.parse(re.sub(r"^ {4}", "", block, flags=re.MULTILINE) if not language else block))
    return found


def table(section: str) -> list[tuple[list[str], list[str]]]:
    """The pieces of code in the first two columns of a table's rows."""
    rows = re.findall(r"^\|([^|\n]*`[^|\n]*)\|([^|\n]*)\|", section, re.MULTILINE)
    return [(re.findall(r"`([^`]+)`", first), re.findall(r"`([^`]+)`", second)) for first, second in rows]


def chapter(document: str, heading: str) -> str:
    """The text under a heading, up to the next heading."""
    text = (ROOT / document).read_text()
    return re.split(r"^#+ ", text.split(f"{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def options_of(command: Any) -> set[str]:
    names = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return {"-h", "--help"} | {name for name in names if name.startswith("-")}


@each_document
def test_commands_and_options_exist(document: Path) -> None:
    for words in calls(document.read_text()):
        command: Any = typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        options = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
        assert set(options) <= options_of(command), f"l2i {command.name} has no such option"
        if hasattr(command, "commands"):
            assert all(word.startswith("-") for word in words), f"there is no command l2i {' '.join(words)}"


@pytest.mark.parametrize(
    ("document", "heading", "command"),
    [
        ("docs/interpret.md", "## From the command line", "interpret"),
        ("docs/training.md", "## The command", "train"),
        ("docs/benchmarks.md", "# Benchmarks", "bench"),
        ("docs/any_network.md", "### The command", "fit"),
    ],
)
def test_tables_of_options_are_complete(document: str, heading: str, command: str) -> None:
    told = {name for names, _ in table(chapter(document, heading)) for name in names}
    commands: Any = typer.main.get_command(app)
    assert told == options_of(commands.commands[command]) - {"-h", "--help"}


@each_document
def test_names_in_python_exist(document: Path) -> None:
    text = document.read_text()
    code = [block for _, block in blocks(text)] + inline(text)
    for name in {name for piece in code for name in re.findall(r"(?<![\w./])l2i\.(\w+)", piece)}:
        assert hasattr(l2i, name), f"there is no l2i.{name}"
    for dotted in {name for piece in inline(text) for name in re.findall(r"^l2i_fast(?:\.\w+)+", piece)}:
        pkgutil.resolve_name(dotted)
    for tree in python_blocks(text):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    pkgutil.resolve_name(f"{node.module}:{alias.name}")


@each_document
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"\w+:", link):
            target, _, heading = link.partition("#")
            file = document.parent / target if target else document
            assert file.exists(), f"{link} leads nowhere"
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE) if heading else []
            assert not heading or heading in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
    for path in inline(text):
        known = re.fullmatch(r"(?:csrc|kernels|l2i_fast|tests|docs|benchmarks|examples|scripts|\.ci)/[\w./-]*", path)
        if known and not path.startswith(MADE) and "name" not in path:
            assert (ROOT / path).exists(), f"there is no {path}"


@pytest.mark.parametrize("section", SECTIONS)
def test_settings_are_told_with_their_defaults(section: str) -> None:
    told = {}
    for names, defaults in table(chapter("docs/training.md", f"### `{section}`")):
        told |= {name: json.loads(default) for name, default in zip(names, defaults, strict=True)}
    assert told == json.loads(json.dumps(TrainingConfig().to_dict()[section]))


@each_document
def test_configurations_are_valid(document: Path) -> None:
    for language, block in blocks(document.read_text()):
        if language == "json":
            from_dict(TrainingConfig, json.loads(block), document.name)


def test_figures_of_merit_are_told() -> None:
    told = {name for names, _ in table(chapter("docs/training.md", "### Cross-validation")) for name in names}
    assert told == set(summarize([Everything()]))


class Everything(dict[str, Any]):
    """A record in which every figure is zero."""

    def __missing__(self, name: str) -> int:
        return 0


def test_changelog_tells_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version == l2i.__version__
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()
