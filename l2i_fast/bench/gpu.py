"""The run of the benchmarks on a GPU: medians of single calls, and the ceilings of the device."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import torch

from l2i_fast.bench.case import Answer, Case, Prepare
from l2i_fast.bench.cases_gpu import COMPILED, Refused, Sizes, cases
from l2i_fast.bench.machine import Ceilings, versions
from l2i_fast.bench.measurements import Measurements, Row, Timing
from l2i_fast.bench.timing import error_of, time_of
from l2i_fast.progress import Report

#: Repetitions of a call: the least number, and the largest where time allows.
_LEAST, _MOST = 10, 200


def describe(device: torch.device) -> dict[str, Any]:
    """Describe the GPU: its name, capability, memory, versions and date."""
    machine: dict[str, Any] = {"GPU": "the CPU, for a test"}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        machine = {
            "GPU": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory GiB": round(properties.total_memory / 2**30, 1),
            "CUDA": torch.version.cuda,
        }
    return machine | versions("numpy", "torch", "triton")


def run(
    measurements: Measurements,
    device: torch.device,
    with_peers: bool,
    seconds: float,
    report: Report,
    sizes: Sizes = Sizes(),  # noqa: B008  frozen
) -> None:
    """Measure, and add each timing to `measurements` at once, so that an interrupted run keeps its timings.

    Parameters
    ----------
    with_peers : bool
        False leaves out torch.compile. It takes most of the minutes and comes last.
    seconds : float
        About how long one contestant of a case is timed.
    """
    with torch.no_grad(), torch.cuda.device_of(torch.empty(0, device=device)):
        measurements.ceilings += measure_ceilings(device, seconds)
        every = list(cases(sizes, device))
        for done, case in enumerate(every):
            report("benchmarks", done, len(every), case.name)
            row, exact = Row.of(case), case.exact()
            measurements.rows.append(row)
            for name, prepare in case.ours.items():
                row.ours.append(measure(case, name, prepare, exact, device, seconds))
        for done, (case, row) in enumerate(zip(every, measurements.rows, strict=True)):
            if with_peers and case.peers:
                report(COMPILED, done, len(every), case.name)
                exact = case.exact()
                for name, prepare in case.peers.items():
                    row.peers.append(measure(case, name, prepare, exact, device, seconds))
    report("benchmarks", len(every), len(every), "")


def measure(case: Case, name: str, prepare: Prepare, exact: Any, device: torch.device, seconds: float) -> Timing:
    """Time a contestant of a case; if it refuses, fails or gives a wrong answer, the timing says so."""
    try:
        call = prepare()
        error = error_of(case, call(), exact)
    except Refused as reason:
        return Timing(name, missing=str(reason))
    except Exception as failure:  # must not end the run
        return Timing(name, missing=" ".join(f"{type(failure).__name__}: {failure}".split())[:120])
    if not error <= case.tolerance:
        return Timing(name, error=error, missing=f"differs from the exact answer by {error:.1e}")
    return Timing(name, median_seconds(call, device, seconds), error=error)


def median_seconds(call: Answer, device: torch.device, seconds: float) -> float:
    """Return the median time of single calls, between two events on the device, after three untimed ones."""
    for _ in range(3):
        call()
    start = time.perf_counter()
    call()
    _synchronize(device)
    n = int(np.clip(seconds / max(time.perf_counter() - start, 1e-9), _LEAST, _MOST))
    if device.type != "cuda":
        return float(np.median([time_of(call) for _ in range(n)]))
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(n)]
    for before, after in pairs:
        before.record()
        call()
        after.record()
    _synchronize(device)
    return float(np.median([before.elapsed_time(after) for before, after in pairs])) / 1e3


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_ceilings(device: torch.device, seconds: float) -> list[Ceilings]:
    """Measure a large copy, and torch's matrix products in float32 and in TF32."""
    large = device.type == "cuda"
    source = torch.rand(2**30 if large else 2**20, device=device)
    target = torch.empty_like(source)
    copy = 8 * source.numel() / median_seconds(lambda: target.copy_(source), device, seconds)
    n, ceilings = 8192 if large else 256, []
    before = torch.get_float32_matmul_precision()
    for name, precision in (("float32", "highest"), ("tf32", "high")):
        torch.set_float32_matmul_precision(precision)
        A, B = torch.rand((2, n, n), device=device)
        product = partial(torch.mm, A, B, out=torch.empty_like(A))
        ceilings.append(Ceilings(0, 2 * n**3 / median_seconds(product, device, seconds), [copy], name))
    torch.set_float32_matmul_precision(before)
    return ceilings
