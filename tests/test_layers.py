"""Imports point downwards, in the order of the table in docs/design.md, without circles."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "l2i_fast"
#: Compiled modules, and the only package that may import them.
NATIVE, BACKENDS = ("l2i_fast._core", "l2i_fast._cuda"), "l2i_fast.backends"
#: Triton's kernels, which import nothing of the package.
KERNELS = "l2i_fast.kernels"
#: The public names of the package come from all layers: nothing inside may import them from there.
TOP = "l2i_fast"

Arrow = tuple[str, str]


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py")) if "kernels" not in file.parts}


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield every name of this package that a module imports, lazily or for types only included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == TOP)
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            if node.module and node.module.split(".")[0] == TOP:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        # As in import_module("l2i_fast.model").
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(rf"{TOP}(\.\w+)+", node.value)
        ):
            yield node.value


def arrows() -> set[Arrow]:
    """Return pairs of modules of which the first imports the second."""
    found = set()
    for name, file in MODULES.items():
        for target in imported(ast.parse(file.read_text())):
            if target.startswith(KERNELS):
                continue
            while target not in MODULES and target not in NATIVE:
                target = target.rpartition(".")[0]
            if target != name and name != TOP:
                found.add((name, target))
    return found


def layers() -> list[list[str]]:
    """Return the rows of the table in docs/design.md, from the top down: packages or modules of each layer."""
    text = (ROOT / "docs" / "design.md").read_text().split("\n## Layers\n", 1)[1].split("\n#", 1)[0]
    rows = re.findall(r"^\| (`l2i_fast/.*?) \|", text, re.MULTILINE)
    spans = [re.findall(r"`(l2i_fast/[\w/.]+)`", row) for row in rows]
    return [[span.removesuffix(".py").strip("/").replace("/", ".") for span in row] for row in spans]


def exceptions() -> set[Arrow]:
    """Return the arrows that docs/design.md excepts by name: `importer` -> `imported`."""
    text = (ROOT / "docs" / "design.md").read_text()
    return {(one, other) for one, other in re.findall(r"`(l2i_fast[\w.]+)` -> `(l2i_fast[\w.]+)`", text)}


def place(module: str) -> tuple[int, str]:
    """Return the row of a module, counted from the top, and the package in it."""
    for row, packages in enumerate(layers()):
        for package in packages:
            if module == package or module.startswith(f"{package}."):
                return row, package
    raise AssertionError(f"{module} is in no layer of docs/design.md")


def upward(found: set[Arrow]) -> list[str]:
    """Return the arrows that do not point downwards, as text."""
    ground = len(layers()) - 1
    wrong = []
    for one, other in sorted(found - exceptions()):
        if other in NATIVE:
            if not one.startswith(BACKENDS):
                wrong.append(f"{one} imports {other}, which only {BACKENDS} may")
            continue
        if other == TOP:
            wrong.append(f"{one} imports names of {TOP} itself")
            continue
        (row, package), (other_row, other_package) = place(one), place(other)
        beside = row == other_row and package != other_package and row != ground
        if other_row < row or beside:
            wrong.append(f"{one} imports {other}, which is {'beside' if beside else 'above'} it")
    return wrong


def circles(found: set[Arrow]) -> list[list[str]]:
    """Return the strongly connected components of more than one module (Tarjan, 1972)."""
    after: dict[str, list[str]] = {name: [] for name in MODULES}
    for one, other in found - exceptions():
        if other in MODULES:
            after[one].append(other)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in after[name]:
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            component = []
            while not component or component[-1] != name:
                component.append(stack.pop())
            if len(component) > 1:
                components.append(sorted(component))

    for name in MODULES:
        if name not in index:
            visit(name)
    return components


def test_every_arrow_points_downwards() -> None:
    assert upward(arrows()) == []


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert circles(arrows()) == []


def test_exceptions_are_still_needed() -> None:
    assert exceptions() <= arrows()


@pytest.mark.parametrize(
    ("arrow", "wrong"),
    [
        (("l2i_fast.arrays", "l2i_fast.backends.native"), "above"),
        (("l2i_fast.ops.stft", "l2i_fast.model.l2i"), "above"),
        (("l2i_fast.ops.stft", "l2i_fast.nmf.factorize"), "beside"),
        (("l2i_fast.ops.stft", "l2i_fast._core"), "only l2i_fast.backends may"),
        (("l2i_fast.results.result", "l2i_fast"), "names of l2i_fast itself"),
    ],
)
def test_an_arrow_that_is_added_is_found(arrow: Arrow, wrong: str) -> None:
    (found,) = upward(arrows() | {arrow})
    assert wrong in found


def test_a_circle_that_is_added_is_found() -> None:
    (circle,) = circles(arrows() | {("l2i_fast.ops.framing", "l2i_fast.ops.stft")})
    assert {"l2i_fast.ops.framing", "l2i_fast.ops.stft"} <= set(circle)


@pytest.mark.parametrize("name", [name for name in MODULES if name != TOP and not name.endswith("__main__")])
def test_no_module_is_hidden_by_a_function(name: str) -> None:
    package, _, module = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"{error}")
    assert isinstance(getattr(importlib.import_module(package), module), ModuleType)
