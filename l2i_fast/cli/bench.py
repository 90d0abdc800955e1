"""`l2i bench`: time the operations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from annotated_types import Ge, Le

from l2i_fast.bench.names import Operation, Size
from l2i_fast.cli.application import interrupted
from l2i_fast.cli.console import make_console, show_progress
from l2i_fast.cli.options import checked, output_folder
from l2i_fast.settings import PositiveInt

if TYPE_CHECKING:
    from l2i_fast.bench.measurements import Measurements

Operations = Annotated[
    list[str] | None,
    typer.Option(
        "--operation",
        show_default="all",
        help="Operation to measure; repeat for several. A race runs to scikit-learn's objective, scaling shows how "
        "times grow.",
        **checked("operation", Operation),
    ),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        show_default="all but the hour, which takes minutes more",
        help="A clip of 5 s, a batch of 32, an archive of 27,584 frames, an hour; repeat for several.",
        **checked("size", Size),
    ),
]
Threads = Annotated[
    list[int] | None,
    typer.Option(
        "--threads",
        show_default="1 and the number of processors",
        help="Number of threads; repeat for several. All peers run with the first number only.",
        **checked("threads", PositiveInt),
    ),
]
Peers = Annotated[bool, typer.Option(help="Time the peers, too.")]
Seconds = Annotated[
    float,
    typer.Option(
        help="Approximate time of a comparison, which makes at least 5 pairs; at most 3600.",
        **checked("seconds", Annotated[float, Ge(0), Le(3600)]),
    ),
]
Folder = Annotated[Path, output_folder("Folder for bench.json, roofline.png and scaling.png.")]
Device = Annotated[
    str, typer.Option(help="cuda measures the operations on a GPU, each backend beside torch: gpu.json, gpu.png.")
]


def bench(
    operation: Operations = None,
    size: Sizes = None,
    threads: Threads = None,
    peers: Peers = True,
    seconds: Seconds = 2.0,
    output: Folder = Path("out/bench"),
    device: Device = "cpu",
) -> None:
    """Time the operations beside the strongest peers and this machine's limits. Ctrl-C keeps what was measured."""
    from l2i_fast.bench.report import blas_hint, render, save, summary

    measurements, run = _prepare(operation, size, threads, device)
    stopped = False
    try:
        with show_progress() as report:
            run(with_peers=peers, seconds=seconds, report=report)
    except KeyboardInterrupt:
        stopped = True
    written = save(measurements, output)
    console = make_console()
    if not console.is_terminal:
        console.width = 150  # enough for the tables
    for part in (*render(measurements), *summary(measurements), blas_hint(measurements)):
        if part:
            console.print(part)
    console.print(f"written: {', '.join(map(str, written))}")
    if stopped:
        raise interrupted("what was measured is kept")


def _prepare(
    operations: list[str] | None, sizes: list[str] | None, threads: list[int] | None, device: str
) -> tuple[Measurements, Callable[..., None]]:
    """Return empty measurements, and the function that fills them on this device."""
    from l2i_fast.bench.measurements import Measurements

    if device == "cpu":
        from l2i_fast.backends.threads import get_num_threads
        from l2i_fast.bench import cpu

        measurements = Measurements()
        operations = operations or list(get_args(Operation))
        sizes = sizes or [name for name in get_args(Size) if name != "hour"]
        n_threads = list(dict.fromkeys(threads or (1, get_num_threads())))
        return measurements, partial(cpu.run, measurements, operations, sizes, n_threads)  # type: ignore[arg-type]
    from l2i_fast.backends.dispatch import find_device
    from l2i_fast.bench import gpu

    where = find_device(device)
    measurements = Measurements(gpu.describe(where))
    return measurements, partial(gpu.run, measurements, where)
