"""The machine that the package runs on."""

from __future__ import annotations

import platform
import re
import resource
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def processor() -> str:
    """Return the processor's name and the operating system."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {platform.system()} {platform.machine()}"


def resident_memory() -> int:
    """Return the bytes of memory that this process holds now; Linux only."""
    return _status("VmRSS")


def peak_memory() -> int:
    """Return the bytes of memory that this process held at most, since `reset_peak_memory` where that is possible."""
    return _status("VmHWM") if _RESET.exists() else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def reset_peak_memory() -> bool:
    """Forget the peak; return False on systems where that is not possible, which are all but Linux."""
    if not _RESET.exists():
        return False
    _RESET.write_text("5")
    return True


def _status(name: str) -> int:
    match = re.search(rf"{name}:\s+(\d+) kB", _STATUS.read_text())
    if match is None:
        raise RuntimeError(f"{_STATUS} has no {name}")
    return 1024 * int(match[1])
