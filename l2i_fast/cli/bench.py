"""`l2i bench`: time the operations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from l2i_fast.bench.names import Operation, Size
from l2i_fast.cli.application import interrupted
from l2i_fast.cli.console import make_console, show_progress
from l2i_fast.cli.options import one_of

Operations = Annotated[
    list[str] | None,
    typer.Option(
        "--operation",
        show_default="all",
        help="Operation to measure; repeat for several. A race runs to scikit-learn's objective, scaling shows how "
        "times grow.",
        **one_of(Operation),
    ),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        show_default="all but the hour, which takes minutes more",
        help="A clip of 5 s, a batch of 32, an archive of 27,584 frames, an hour; repeat for several.",
        **one_of(Size),
    ),
]
Threads = Annotated[
    list[int] | None,
    typer.Option(
        "--threads",
        min=1,
        show_default="1 and the number of processors",
        help="Number of threads; repeat for several. All peers run with the first number only.",
    ),
]
Peers = Annotated[bool, typer.Option(help="Time the peers, too.")]
Seconds = Annotated[float, typer.Option(min=0, help="Approximate time of a comparison, which makes at least 5 pairs.")]
Folder = Annotated[Path, typer.Option("--output", "-o", help="Folder for bench.json, roofline.png and scaling.png.")]
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
    if device == "cpu":
        _measure_cpu(operation, size, threads, peers, seconds, output)
    else:
        _measure_device(device, peers, seconds, output)


def _measure_cpu(
    operations: list[str] | None,
    sizes: list[str] | None,
    threads: list[int] | None,
    peers: bool,
    seconds: float,
    output: Path,
) -> None:
    from l2i_fast.backends.threads import get_num_threads
    from l2i_fast.bench.pictures import save_pictures
    from l2i_fast.bench.report import blas_hint, render, summary
    from l2i_fast.bench.run import Measurements, run

    measurements = Measurements()
    stopped = False
    try:
        with show_progress() as report:
            run(
                measurements,
                operations or list(get_args(Operation)),
                sizes or [name for name in get_args(Size) if name != "hour"],
                list(dict.fromkeys(threads or (1, get_num_threads()))),
                peers,
                seconds,
                report,
            )
    except KeyboardInterrupt:
        stopped = True
    measurements.save(output / "bench.json")
    pictures = save_pictures(output, measurements)
    parts = [*render(measurements), *summary(measurements), blas_hint(measurements)]
    _print_measurements(parts, [output / "bench.json", *pictures], stopped)


def _measure_device(name: str, compiled: bool, seconds: float, output: Path) -> None:
    from l2i_fast.backends.dispatch import find_device
    from l2i_fast.bench.gpu import DeviceMeasurements, describe, render, run
    from l2i_fast.bench.pictures import device_roofline
    from l2i_fast.files import write_whole

    device = find_device(name)
    measurements = DeviceMeasurements(describe(device))
    stopped = False
    try:
        with show_progress() as report:
            run(measurements, device, report, seconds, compiled=compiled)
    except KeyboardInterrupt:
        stopped = True
    data, picture = output / "gpu.json", output / "gpu.png"
    measurements.save(data)
    if measurements.products:
        write_whole(picture, lambda path: device_roofline(measurements).savefig(path, metadata={"Software": None}))
    _print_measurements([render(measurements)], [data, picture], stopped)


def _print_measurements(parts: list[Any], written: list[Path], stopped: bool) -> None:
    console = make_console()
    if not console.is_terminal:
        console.width = 150  # enough for the tables
    for part in parts:
        if part:
            console.print(part)
    console.print(f"written: {', '.join(map(str, written))}")
    if stopped:
        raise interrupted("what was measured is kept")
