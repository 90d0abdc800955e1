"""benchmarks/gpu.py names tests that exist, and leaves none of those of GPUs out."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks" / "gpu.py"))


def test_paths_exist(script: dict[str, Any]) -> None:
    assert [path for path in (*script["ON_A_GPU"], *script["KERNELS"]) if not (ROOT / path).exists()] == []


def test_every_file_that_asks_for_a_device_is_named(script: dict[str, Any]) -> None:
    asks = re.compile(r"^(?:@pytest\.fixture.*\n)?(?:async )?def \w+\([^)]*\b(?:device|backend)\b", re.MULTILINE)
    files = [file for file in (ROOT / "tests").rglob("test_*.py") if asks.search(file.read_text())]
    named = [ROOT / path for path in script["ON_A_GPU"]]
    assert [str(file) for file in files if not any(file == path or path in file.parents for path in named)] == []
    assert files


def test_commands_run_the_tests_of_a_gpu_once(script: dict[str, Any], tmp_path: Path) -> None:
    commands = script["commands"](tmp_path, True)
    for path in script["ON_A_GPU"]:
        assert path in commands["gpu tests"]
        assert f"--ignore={path}" in commands["other tests"]
