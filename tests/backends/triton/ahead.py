"""Compile Triton kernels ahead of time, without a GPU, and report what the machine code needs.

The kernels of a test process may be interpreted ones, so processes of their own compile them: this file, run as a
program. They live as long as the tests, since starting one takes as long as a compilation.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from queue import SimpleQueue
from typing import Any

#: Compute capabilities: Ampere, Hopper, Blackwell.
ARCHITECTURES = (80, 90, 100)
#: The instructions of PTX that multiply matrices on tensor cores.
TENSOR_CORES = ("mma.sync", "wgmma.mma_async", "tcgen05.mma")
#: One worker of pytest-xdist among others has one core.
N_PROCESSES = 1 if "PYTEST_XDIST_WORKER" in os.environ else min(os.cpu_count() or 1, 8)


@dataclass(frozen=True)
class Kernel:
    """One kernel with its compile-time constants.

    `signature` gives the types of the other arguments ("*fp32", "i32", "fp32"); those in `aligned` are multiples of 16,
    as pointers of torch and the usual sizes are.
    """

    module: str
    name: str
    signature: dict[str, str]
    constants: dict[str, Any]
    aligned: tuple[str, ...] = ()
    num_warps: int = 4
    num_stages: int = 3
    maxnreg: int | None = None


@dataclass(frozen=True)
class Report:
    """What ptxas reports about a kernel, and the tensor-core instructions in its PTX."""

    registers: int
    spills: int
    shared: int
    instructions: list[str] = field(default_factory=list)


def compile_ahead(kernel: Kernel, architecture: int) -> Report:
    """Compile for one architecture, once in a test session."""
    return _compile(json.dumps(asdict(kernel), sort_keys=True), architecture)


def compile_all(pairs: list[tuple[Kernel, int]]) -> list[Report]:
    """Compile kernels for architectures, several at a time; return the reports in the order of the pairs."""
    with ThreadPoolExecutor(N_PROCESSES) as pool:
        return list(pool.map(lambda pair: compile_ahead(*pair), pairs))


@cache
def _compile(kernel: str, architecture: int) -> Report:
    processes = _processes()
    process = processes.get() or _start()
    try:
        print(json.dumps([kernel, architecture]), file=process.stdin, flush=True)
        answer = json.loads(process.stdout.readline() or '"The compiling process ended"')
    finally:
        processes.put(process)
    assert isinstance(answer, dict), answer
    return Report(**answer)


@cache
def _processes() -> SimpleQueue[Any]:
    """The processes that compile nothing at the moment; None stands for one that has not been started."""
    processes: SimpleQueue[Any] = SimpleQueue()
    for _ in range(N_PROCESSES):
        processes.put(None)
    return processes


def _start() -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    process = subprocess.Popen(
        [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(process.communicate)  # closes its input, which ends it
    return process


def _main() -> None:
    import traceback

    for line in sys.stdin:
        kernel, architecture = json.loads(line)
        try:
            answer: Any = asdict(_report(Kernel(**json.loads(kernel)), architecture))
        except Exception:
            answer = traceback.format_exc()
        print(json.dumps(answer), flush=True)


def _report(kernel: Kernel, architecture: int) -> Report:
    import contextlib
    import importlib
    import io
    import re

    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = getattr(importlib.import_module(f"l2i_fast.kernels.triton.{kernel.module}"), kernel.name)
    while not isinstance(function, triton.JITFunction):  # under autotune and heuristics
        function = function.fn
    names = function.arg_names
    missing = [n for n in names if n not in kernel.signature and n not in kernel.constants]
    assert not missing, f"{kernel.name} has arguments without a type: {missing}"
    signature = {n: kernel.signature.get(n, "constexpr") for n in names}
    constants = {(names.index(n),): v for n, v in kernel.constants.items()}
    attributes = {(names.index(n),): [["tt.divisibility", 16]] for n in kernel.aligned}
    source = ASTSource(function, signature, constants, attributes)
    options = {"num_warps": kernel.num_warps, "num_stages": kernel.num_stages, "maxnreg": kernel.maxnreg}
    triton.knobs.nvidia.dump_ptxas_log = True
    triton.knobs.compilation.always_compile = True  # kernels from Triton's cache have no log
    with contextlib.redirect_stdout(io.StringIO()) as log:
        compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    return Report(
        registers=max(int(n) for n in re.findall(r"Used (\d+) registers", log.getvalue())),
        spills=sum(int(n) for n in re.findall(r"(\d+) bytes spill", log.getvalue())),
        shared=compiled.metadata.shared,
        instructions=[name for name in TENSOR_CORES if name in compiled.asm["ptx"]],
    )


if __name__ == "__main__":
    _main()
