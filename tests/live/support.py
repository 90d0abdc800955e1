"""Helpers for tests of `l2i stream`: noise, raw samples, and the command run in this process or in one of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from l2i_fast.cli import app

RATE = 44100
DTYPES = {"s16le": "<i2", "s32le": "<i4", "f32le": "<f4", "f64le": "<f8"}
START = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import stand_ins; stand_ins.install()\n"
    "from l2i_fast.cli import main; main()"
)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}


def noise(rng, n, channels=None):
    y = 0.2 * rng.standard_normal(n if channels is None else (n, channels))
    return y.clip(-0.99, 0.99).astype(np.float32)  # integers hold no more than full scale


def pcm(y, name):
    """Raw bytes of floating samples."""
    dtype = np.dtype(DTYPES[name])
    return (y if dtype.kind == "f" else np.rint(y * 2.0 ** (8 * dtype.itemsize - 1))).astype(dtype).tobytes()


def start(*arguments, code=START, shell="", **pipes):
    """Start `l2i stream`; `shell` holds redirections, such as 2>&-, which closes standard error."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes}
    command = ["sh", "-c", f'exec "$0" "$@" {shell}', sys.executable, "-P", "-c", code, "stream", *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, bufsize=0, **pipes)


def run(*arguments, data=b"", code=START):
    """Run `l2i stream` as a process; return its status, its standard output and the lines of standard error."""
    with start(*arguments, code=code) as process:
        out, err = process.communicate(data, timeout=60)
    return process.returncode, out, err.decode().splitlines()


def read_exactly(process, n):
    """Read n bytes of a process's output; fail if it ends before."""
    out = b""
    while len(out) < n:
        part = os.read(process.stdout.fileno(), n - len(out))
        assert part, process.stderr.read().decode()
        out += part
    return out


def errors(lines):
    return [line for line in lines if line.startswith("l2i: error: ")]


def wait_for(condition, seconds=20):
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def invoke(*arguments):
    return CliRunner().invoke(app, ["stream", *map(str, arguments)])


def one_line(done, status, *words):
    assert done.exit_code == status, done.output
    (line,) = errors(done.stderr.splitlines())
    for word in words:
        assert word in line
