"""Helpers for tests of the command line: clips, and commands run in this process or in one of their own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from l2i_fast.audio import write_audio
from l2i_fast.cli import app

RATE = 44100
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""}


def make_clip(path, n_samples=5000, seed=0):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).standard_normal(n_samples)
    return write_audio(path, (noise / 9).astype(np.float32), RATE)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_process(*arguments, code="from l2i_fast.cli import main; main()", **options):
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
        **options,
    )


def assert_fails(done, status, *words):
    """Check the exit status, and that stderr is one line without a full stop at its end and with these words."""
    assert done.exit_code == status, done.output
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("l2i: error: ")
    assert not lines[0].partition(" (see ")[0].endswith("."), lines[0]
    for word in words:
        assert word in lines[0]


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())
