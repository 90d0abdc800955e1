"""Memory that a case takes beyond its inputs and outputs, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from l2i_fast.backends.threads import set_num_threads
from l2i_fast.bench.case import Case
from l2i_fast.bench.cases_cpu import cases
from l2i_fast.bench.names import Operation, Size
from l2i_fast.system import peak_memory, reset_peak_memory, resident_memory


def extra_memory(operation: Operation, size: Size, n_threads: int = 1) -> list[int]:
    """Return the most bytes that the first call of each case of an operation takes, without inputs and outputs.

    The list is empty on systems that do not report them, which are all but Linux.
    """
    if not reset_peak_memory():
        return []
    command = [sys.executable, "-P", "-m", "l2i_fast.bench.memory", operation, size, str(n_threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"memory of {operation} cannot be measured: {done.stderr.strip().splitlines()[-1]}")
    extra: list[int] = json.loads(done.stdout)
    return extra


def _first_call(case: Case) -> int:
    ours = case.ours["ours"]()
    before = resident_memory()
    reset_peak_memory()
    answer = ours()
    outputs = 0 if case.in_place else _size(answer)
    return max(peak_memory() - before - outputs, 0)


def _size(answer: Any) -> int:
    return sum(map(_size, answer)) if isinstance(answer, tuple) else int(answer.nbytes)


if __name__ == "__main__":
    set_num_threads(int(sys.argv[3]))
    print(json.dumps([_first_call(case) for case in cases(sys.argv[1], sys.argv[2])]))  # type: ignore[arg-type]
