"""Compile Triton kernels ahead of time, without a GPU, and say what the machine code needs.

The kernels of a test process may be interpreted ones, so a process of its own compiles them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

#: Compute capabilities: Ampere, Hopper, Blackwell.
ARCHITECTURES = (80, 90, 100)
#: How products of matrices look in PTX on tensor cores.
TENSOR_CORES = ("mma.sync", "wgmma.mma_async", "tcgen05.mma")


@dataclass(frozen=True)
class Kernel:
    """One kernel with its compile-time constants.

    `signature` names the types of the other arguments ("*fp32", "i32", "fp32"); those in `aligned` are multiples of 16,
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

    def key(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True)
class Report:
    """What ptxas says of a kernel, and the tensor-core instructions in its PTX."""

    registers: int
    spills: int
    shared: int
    instructions: list[str] = field(default_factory=list)


@lru_cache(maxsize=256)
def _compile(key: str, architecture: int) -> Report:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, __file__, str(architecture)], input=key, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return Report(**json.loads(result.stdout.splitlines()[-1]))


def compile_ahead(kernel: Kernel, architecture: int) -> Report:
    """Compile for one architecture; the answer is kept."""
    return _compile(kernel.key(), architecture)


def compile_all(kernels: list[Kernel], architectures: tuple[int, ...] = ARCHITECTURES) -> None:
    """Compile for some architectures, side by side, so that what is asked for next is there."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(lambda pair: compile_ahead(*pair), [(k, a) for k in kernels for a in architectures]))


def _main() -> None:
    import importlib
    import re

    import triton
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import get_ptxas
    from triton.compiler import ASTSource

    architecture = int(sys.argv[1])
    kernel = Kernel(**json.loads(sys.stdin.read()))
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
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    ptx = compiled.asm["ptx"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.ptx"
        file.write_text(ptx)
        target = re.search(r"\.target (\w+)", ptx).group(1)  # type: ignore[union-attr]
        log = subprocess.run(
            [get_ptxas(architecture).path, "-v", f"--gpu-name={target}", str(file), "-o", os.devnull],
            capture_output=True,
            text=True,
            check=True,
        ).stderr
    report = Report(
        registers=max(int(n) for n in re.findall(r"Used (\d+) registers", log)),
        spills=sum(int(n) for n in re.findall(r"(\d+) bytes spill", log)),
        shared=compiled.metadata.shared,
        instructions=[name for name in TENSOR_CORES if name in ptx],
    )
    print(json.dumps(asdict(report)))


if __name__ == "__main__":
    _main()
