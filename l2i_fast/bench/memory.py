"""How much memory a case takes beyond its inputs and outputs, looked at in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from l2i_fast.backends.threads import set_num_threads
from l2i_fast.bench.cases import Case, cases

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def extra_memory(operation: str, size: str, n_threads: int = 1) -> list[int]:
    """Return the bytes that a first call of each of an operation's cases takes at most, inputs and outputs aside.

    Empty where the system does not tell (elsewhere than on Linux).
    """
    if not _RESET.exists():
        return []
    command = [sys.executable, "-P", "-m", "l2i_fast.bench.memory", operation, size, str(n_threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"memory of {operation} cannot be measured: {done.stderr.strip().splitlines()[-1]}")
    found: list[int] = json.loads(done.stdout)
    return found


def _first_call(case: Case) -> int:
    ours = case.ours()
    before = resident("VmRSS")
    _RESET.write_text("5")  # sets the high-water mark to the present
    answer = ours()
    outputs = 0 if case.in_place else _size(answer)
    return max(resident("VmHWM") - before - outputs, 0)


def _size(answer: Any) -> int:
    return sum(map(_size, answer)) if isinstance(answer, tuple) else int(answer.nbytes)


def resident(name: str = "VmRSS") -> int:
    """Bytes of memory of this process, at present or, as "VmHWM", at most."""
    found = re.search(rf"{name}:\s+(\d+) kB", _STATUS.read_text())
    if found is None:
        raise RuntimeError(f"{_STATUS} does not tell {name}")
    return 1024 * int(found[1])


if __name__ == "__main__":
    set_num_threads(int(sys.argv[3]))
    print(json.dumps([_first_call(case) for case in cases(sys.argv[1], sys.argv[2])]))
