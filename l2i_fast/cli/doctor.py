"""`l2i doctor`: report versions, processor, backends, models and data, with a reason for everything missing."""

from __future__ import annotations

import importlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from l2i_fast.cli.console import make_console
from l2i_fast.system import processor

if TYPE_CHECKING:
    from rich.table import Table

Status = Literal["ok", "absent", "broken"]
Json = Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")]


def doctor(as_json: Json = False) -> None:
    """Show versions, processor, backends, models and data, with a reason for everything missing."""
    checks = diagnose()
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        make_console().print(render(checks))


@dataclass(frozen=True)
class Check:
    """A row of the report.

    Its status is "ok"; "absent" if something optional is missing; or "broken" if something cannot work.
    """

    group: str
    name: str
    status: Status
    detail: str


class _Absent(Exception):
    """The reason why something optional is missing."""


def diagnose() -> list[Check]:
    """Check everything that l2i_fast depends on. Errors become rows: nothing is raised."""
    return [_check(group, name, look) for group, name, look in _CHECKS]


def render(checks: list[Check]) -> Table:
    """Return the rows as a table for the terminal."""
    from rich.table import Table
    from rich.text import Text

    marks = {"ok": Text("ok", "green"), "absent": Text("--", "yellow"), "broken": Text("!!", "bold red")}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    previous = ""
    for check in checks:
        if previous and check.group != previous:
            table.add_row()
        group = "" if check.group == previous else check.group
        table.add_row(group, marks[check.status], check.name, Text(check.detail))
        previous = check.group
    return table


def _check(group: str, name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(group, name, "ok", look())
    except _Absent as reason:
        return Check(group, name, "absent", str(reason))
    except Exception as error:
        return Check(group, name, "broken", " ".join(f"{type(error).__name__}: {error}".split()))


def _package(name: str, library: str = "") -> Callable[[], str]:
    def look() -> str:
        module = importlib.import_module(name)
        detail = str(module.__version__)
        version = getattr(module, f"__{library}_version__", None) if library else None
        return f"{detail} ({library} {version})" if version else detail

    return look


def _cores() -> str:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limit = os.environ.get("OMP_NUM_THREADS")
    return f"{allowed} of {os.cpu_count()} usable" + (f", OMP_NUM_THREADS={limit}" if limit else "")


def _torch_threads() -> str:
    import torch

    return f"{torch.get_num_threads()} in torch"


def _native() -> str:
    from l2i_fast.backends.dispatch import forced_backend
    from l2i_fast.backends.native import cpu_features
    from l2i_fast.backends.threads import get_num_threads

    cpu = cpu_features()
    features = [name for name in ("avx2", "avx512", "avx512_bf16", "amx") if cpu.get(name)]
    paths = f"path {cpu['path']}, of {', '.join(cpu['supported'])}"
    threads = f"{get_num_threads()} threads"
    forced = forced_backend()
    has = f"the processor has {', '.join(features) or 'neither avx2 nor avx512'}"
    return "; ".join([paths, threads, has, *([f"L2I_BACKEND={forced}"] if forced else [])])


def _cuda() -> str:
    import torch

    if torch.version.cuda is None:
        raise _Absent("torch was built without CUDA")
    if not torch.cuda.is_available():
        raise _Absent(f"torch has CUDA {torch.version.cuda}, but finds no GPU or driver")
    n = torch.cuda.device_count()
    return f"{torch.cuda.get_device_name()}{f' and {n - 1} more' * (n > 1)}, CUDA {torch.version.cuda}"


def _cuda_library() -> str:
    from l2i_fast.backends.cuda import missing_library

    if reason := missing_library():
        raise _Absent(reason)
    return "built, and can run"


def _triton() -> str:
    try:
        import triton
    except ModuleNotFoundError as error:
        raise _Absent("not installed: pip install 'l2i_fast[gpu]'") from error
    import torch

    if not torch.cuda.is_available():
        raise _Absent(f"{triton.__version__}, but torch finds no GPU")
    return str(triton.__version__)


def _openvino() -> str:
    try:
        version = importlib.import_module("openvino").__version__
    except ModuleNotFoundError as error:
        raise _Absent("not installed; nothing needs it yet") from error
    return f"{version}; this version does not use it"


def _sound_devices() -> str:
    from l2i_fast.live.devices import sounddevice

    try:
        module = sounddevice()
    except ImportError as error:
        raise _Absent(str(error)) from error
    version = f"sounddevice {module.__version__} ({module.get_portaudio_version()[1].split(',')[0]})"
    n = len(module.query_devices())
    if not n:
        raise _Absent(f"no sound device found; {version}")
    return f"{n} device{'' if n == 1 else 's'}, {version}"


def _models() -> str:
    from l2i_fast.model import shipped_models

    models = shipped_models()
    if not models:
        raise FileNotFoundError("this installation contains no model")
    sizes = {name: sum(f.stat().st_size for f in folder.iterdir() if f.is_file()) for name, folder in models.items()}
    return ", ".join(f"{name} ({size / 1e6:.1f} MB)" for name, size in sizes.items())


def _data() -> str:
    from l2i_fast.data import load_dataset

    if not os.environ.get("L2I_DATA"):
        raise _Absent("L2I_DATA is not set; only training and evaluation need recordings")
    dataset = load_dataset()
    size = f"{len(dataset.clips)} clips of {len(dataset.classes)} classes"
    return f"{dataset.name}: {size} in {os.environ['L2I_DATA']}"


_CHECKS: list[tuple[str, str, Callable[[], str]]] = [
    ("versions", "l2i_fast", _package("l2i_fast")),
    ("versions", "Python", platform.python_version),
    ("versions", "NumPy", _package("numpy")),
    ("versions", "SciPy", _package("scipy")),
    ("versions", "torch", _package("torch")),
    ("versions", "soundfile", _package("soundfile", "libsndfile")),
    ("versions", "soxr", _package("soxr", "libsoxr")),
    ("versions", "matplotlib", _package("matplotlib")),
    ("processor", "model", processor),
    ("processor", "cores", _cores),
    ("processor", "threads", _torch_threads),
    ("backends", "native CPU", _native),
    ("backends", "CUDA", _cuda),
    ("backends", "CUDA library", _cuda_library),
    ("backends", "Triton", _triton),
    ("backends", "OpenVINO", _openvino),
    ("sound", "microphone, speaker", _sound_devices),
    ("models", "shipped", _models),
    ("data", "recordings", _data),
]
