"""`l2i bench --device cuda`: the operations on a GPU, each backend beside torch, and the device's ceilings.

Times are medians of single calls, between two events on the device. The exact answers are those of plain torch in
float64 on the same device.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from l2i_fast import reference
from l2i_fast.arrays import Float32
from l2i_fast.backends import dispatch as backend
from l2i_fast.backends import torch as with_torch
from l2i_fast.bench.cases import ELEMENTARY, N_MELS
from l2i_fast.bench.machine import version
from l2i_fast.bench.problem import SAMPLE_RATE, Problem
from l2i_fast.files import write_whole
from l2i_fast.nmf.device import full_denominator, updated
from l2i_fast.progress import Report
from l2i_fast.stream.device import DeviceStreams

if TYPE_CHECKING:
    from rich.table import Table

Call = Callable[[], Any]
#: How far an answer may be from the exact one, relative in L2.
TOLERANCE = 1e-4
#: Clips of 5 s in a batch; frames and updates of the factorisations; streams of a tick.
N_CLIPS, N_FRAMES, N_UPDATES, N_STREAMS = 64, 275_840, 50, 1024
LOSSES = {"Euclidean": 2.0, "Kullback-Leibler": 1.0, "Itakura-Saito": 0.0}
COMPILED = "torch.compile"
#: Hops of a stream before the one that is timed, and streams whose answer is compared.
_HOPS, _COMPARED = 7, 4
#: Repetitions of a call: the first number in any case, the second where there is time.
_LEAST, _MOST = 10, 200


class _Absent(Exception):
    """Why a backend has no time: not every one has every operation."""


@dataclass(frozen=True)
class Sizes:
    """What is measured: clips, samples of each, frames of the factorisations, streams of a tick."""

    n_clips: int = N_CLIPS
    n_samples: int = 5 * SAMPLE_RATE
    n_frames: int = N_FRAMES
    n_streams: int = N_STREAMS


@dataclass(frozen=True)
class Case:
    """An operation: what it has to compute and to move, and for each backend what prepares a call of it."""

    name: str
    dims: str
    flops: float
    bytes: float
    prepare: Callable[[str], Call]
    exact: Call
    others: dict[str, Callable[[], Call]] = field(default_factory=dict)  # prepare it in yet other ways
    compiled: Callable[[], Call] | None = None  # prepares it by torch.compile


@dataclass
class Time:
    """One backend's median time in s, and its error relative to float64; or why there is none."""

    backend: str
    seconds: float = 0.0
    error: float = 0.0
    missing: str = ""


@dataclass
class Row:
    """A case as measured."""

    name: str
    dims: str
    flops: float
    bytes: float
    times: list[Time] = field(default_factory=list)


@dataclass
class DeviceMeasurements:
    """All that was measured on a device; bytes a second of a large copy, operations a second of matrix products."""

    device: dict[str, Any]
    copy: float = 0.0
    products: dict[str, float] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    #: What became of the steps of benchmarks/gpu.py, which adds them.
    steps: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write all as JSON, whole or not at all."""
        write_whole(path, lambda file: file.write_text(json.dumps(asdict(self), indent=1) + "\n"))

    @classmethod
    def load(cls, path: Path) -> DeviceMeasurements:
        """Read what `save` wrote."""
        found = json.loads(path.read_text())
        rows = [Row(**row | {"times": [Time(**one) for one in row["times"]]}) for row in found.pop("rows")]
        return cls(**found, rows=rows)


def describe(device: torch.device) -> dict[str, Any]:
    """Name, capability and versions."""
    names = "l2i_fast", "numpy", "torch", "triton"
    about: dict[str, Any] = {"name": "the CPU, for a test"}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        about = {
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory GiB": round(properties.total_memory / 2**30, 1),
            "CUDA": torch.version.cuda,
        }
    versions = {"python": platform.python_version()} | {name: version(name) for name in names}
    return about | {"versions": versions, "date": time.strftime("%Y-%m-%d")}


def run(
    measurements: DeviceMeasurements,
    device: torch.device,
    report: Report,
    seconds: float = 1.0,
    sizes: Sizes = Sizes(),
    compiled: bool = True,
) -> None:
    """Measure, and add each row to `measurements` as it is known.

    Parameters
    ----------
    seconds : float
        About how long one backend's time of a case takes.
    compiled : bool
        Whether torch.compile is a peer; it takes most of the minutes, so it comes last: who stops it has the rest.
    """
    with torch.no_grad(), torch.cuda.device_of(torch.empty(0, device=device)):
        measurements.copy, measurements.products = _ceilings(device, seconds)
        cases = list(_cases(sizes, device))
        for done, case in enumerate(cases):
            report("benchmarks", done, len(cases), case.name)
            row = Row(case.name, case.dims, case.flops, case.bytes)
            measurements.rows.append(row)
            prepared = {name: partial(case.prepare, name) for name in ("cuda", "triton", "torch")} | case.others
            timed = partial(_time, exact=case.exact(), device=device, seconds=seconds)
            row.times += starmap(timed, prepared.items())
        for done, (case, row) in enumerate(zip(cases, measurements.rows, strict=True)):
            if compiled and case.compiled:
                report(COMPILED, done, len(cases), case.name)
                row.times.append(_time(COMPILED, case.compiled, case.exact(), device, seconds))
    report("benchmarks", len(cases), len(cases), "")


def median_seconds(call: Call, device: torch.device, seconds: float) -> float:
    """Median time of single calls, after three that do not count."""
    for _ in range(3):
        call()
    start = time.perf_counter()
    call()
    _wait(device)
    n = int(np.clip(seconds / max(time.perf_counter() - start, 1e-9), _LEAST, _MOST))
    if device.type != "cuda":
        return float(np.median([_clocked(call) for _ in range(n)]))
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(n)]
    for before, after in pairs:
        before.record()
        call()
        after.record()
    _wait(device)
    return float(np.median([before.elapsed_time(after) for before, after in pairs])) / 1e3


def render(measurements: DeviceMeasurements) -> Table:
    """Lay out what was measured for the terminal."""
    from rich.table import Table

    device = measurements.device
    rates = ", ".join(f"{rate / 1e12:.3g} TFLOP/s {name}" for name, rate in measurements.products.items())
    title = f"{device['name']}, {device['date']}: copies {measurements.copy / 1e9:.0f} GB/s, products {rates}"
    table = Table(title=title, title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in COLUMNS[:3] else "right")
    for cells in _lines(measurements):
        table.add_row(*cells)
    return table


COLUMNS = "operation", "problem", "backend", "ms", "best torch / its", "GB/s", "of copies", "TFLOP/s", "error"


def _lines(measurements: DeviceMeasurements) -> Iterator[tuple[str, ...]]:
    # The cells of the table; of a case the first row names it.
    for row in measurements.rows:
        peers = [one.seconds for one in row.times if one.backend.startswith("torch") and not one.missing]
        for i, one in enumerate(row.times):
            names = (row.name, row.dims) if i == 0 else ("", "")
            if one.missing:
                yield (*names, one.backend, one.missing, "", "", "", "", "")
                continue
            rate = row.bytes / one.seconds
            yield (
                *names,
                one.backend,
                f"{1e3 * one.seconds:.3g}",
                f"{min(peers) / one.seconds:.2f}" if peers else "",
                f"{rate / 1e9:.0f}",
                f"{100 * rate / measurements.copy:.0f} %",
                f"{row.flops / one.seconds / 1e12:.2f}",
                f"{one.error:.1e}",
            )


def _time(name: str, prepare: Callable[[], Call], exact: Any, device: torch.device, seconds: float) -> Time:
    needs = name.split(",")[0]
    if needs in ("cuda", "triton") and (reason := backend.missing(needs, device)):  # type: ignore[arg-type]
        return Time(name, missing=reason)
    try:
        call = prepare()
        error = _error(call(), exact)
    except _Absent as reason:
        return Time(name, missing=str(reason))
    except Exception as failure:  # one backend's failure is a row of the table, not the end of it
        return Time(name, missing=" ".join(f"{type(failure).__name__}: {failure}".split())[:120])
    if not error <= TOLERANCE:
        return Time(name, error=error, missing=f"differs from the exact answer by {error:.1e}")
    return Time(name, median_seconds(call, device, seconds), error)


def _error(answer: Any, exact: Any) -> float:
    pairs = zip(answer, exact, strict=True) if isinstance(exact, tuple) else [(answer, exact)]
    return max(float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b)) for a, b in pairs)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _clocked(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _ceilings(device: torch.device, seconds: float) -> tuple[float, dict[str, float]]:
    # Bytes a second read and written by a copy, and the rates of torch's matrix products.
    large = device.type == "cuda"
    source = torch.rand(2**30 if large else 2**20, device=device)
    target = torch.empty_like(source)
    copy = 8 * source.numel() / median_seconds(lambda: target.copy_(source), device, seconds)
    n, rates = 8192 if large else 256, {}
    before = torch.get_float32_matmul_precision()
    for name, precision in (("float32", "highest"), ("tf32", "high")):
        torch.set_float32_matmul_precision(precision)
        A, B = torch.rand((2, n, n), device=device)
        out = torch.empty_like(A)
        rates[name] = 2 * n**3 / median_seconds(partial(torch.mm, A, B, out=out), device, seconds)
    torch.set_float32_matmul_precision(before)
    return copy, rates


def _cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    p = Problem(n_clips=sizes.n_clips, n_samples=sizes.n_samples)
    BT, F, K, S = p.dims
    y, window, W = (torch.tensor(x, device=device) for x in (np.atleast_2d(p.y), p.window, p.W))
    X = torch.tensor(p.X, device=device).reshape(sizes.n_clips, F, -1).mT.contiguous()
    H = torch.tensor(p.H, device=device).reshape(sizes.n_clips, K, -1).mT.contiguous()
    weights = torch.tensor(p.weights, device=device).expand(sizes.n_clips, K)
    frame, pad, length = (window, p.hop), p.n_fft // 2, y.shape[1]
    dims = f"{sizes.n_clips} x {X.shape[1]} frames, F {F}"
    masked, points = f"{dims}, K {K}, {S} selected", BT * F
    fft = BT * 2.5 * p.n_fft * np.log2(p.n_fft)

    def case(name: str, dims: str, flops: float, n_bytes: float, *arguments: Any) -> Case:
        operation = name.split(",")[0]
        plain = getattr(with_torch, operation)
        return Case(
            name,
            dims,
            float(flops),
            float(n_bytes),
            lambda name: partial(_function(name, operation), *arguments),
            lambda: plain(*map(_double, arguments)),
            compiled=lambda: partial(torch.compile(plain), *arguments),
        )

    mask = (X, W, H, weights, True, 1e-6)
    gain = points * (2 * (K + S) + 2 * ELEMENTARY)
    small = 4 * (BT * K + F * K)
    yield case("stft", dims, fft, 4 * y.numel() + 8 * points, y, *frame, pad)
    yield case("istft", dims, fft, 4 * y.numel() + 8 * points, X, *frame, pad, length)
    bands = torch.tensor(_triangles(F), device=device)
    mel, moved = 2 * int((bands > 0).sum()) * BT, 4 * y.numel() + 12 * points + 4 * BT * N_MELS
    with_bands = f"{dims}, {N_MELS} bands"
    yield case("analyze", with_bands, fft + mel + ELEMENTARY * points, moved, y, *frame, pad, bands, 1e-6)
    yield case("soft_mask", masked, gain, 16 * points + small, *mask)
    d = torch.randn(X.shape, dtype=X.dtype, device=device)
    yield case("soft_mask_gradient", masked, 2 * gain + 4 * points * K, 16 * points + 2 * small, *mask, d)
    yield case("decode", masked, gain + fft, 8 * points + small + 4 * y.numel(), *mask, *frame, pad, length)
    yield from _factorisations(p, sizes, device)
    yield _tick(p, sizes.n_streams, device)


def _triangles(n_bins: int) -> Float32:
    # Bands that are evenly wide in mel, as librosa's nearly are: a machine with a GPU may be without it.
    edges = 700 * (10 ** np.linspace(0, np.log10(1 + SAMPLE_RATE / 1400), N_MELS + 2) - 1)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    f = np.linspace(0, SAMPLE_RATE / 2, n_bins)[:, None]
    bands: Float32 = np.minimum((f - low) / (middle - low), (high - f) / (high - middle)).clip(0).astype(np.float32)
    return bands


def _factorisations(p: Problem, sizes: Sizes, device: torch.device) -> Iterator[Case]:
    F, K = p.W.shape
    V = torch.tensor(np.ascontiguousarray(p.V.T), device=device)
    V = V.repeat(-(-sizes.n_frames // len(V)), 1)[: sizes.n_frames]
    W = torch.tensor(p.W, device=device) + 0.01
    H = torch.rand((len(V), K), device=device) + 0.1
    products = {"Euclidean": 4 * K * (F + K), "Kullback-Leibler": 8 * F * K, "Itakura-Saito": 12 * F * K}
    for loss, flops in products.items():
        yield _iteration(f"MU iteration, {loss}", V, W, H, LOSSES[loss], len(V) * flops)
    yield _updates(V[: sizes.n_clips * (p.dims[0] // sizes.n_clips)], W)


def _iteration(name: str, V: Tensor, W: Tensor, H: Tensor, beta: float, flops: float) -> Case:
    # One multiplicative update of H, then of W, in place.
    (T, F), K = V.shape, H.shape[1]

    def prepare(update: Callable[..., None], gather: Callable[..., Any], dtype: torch.dtype = torch.float32) -> Call:
        v, w, h = (x.to(dtype, copy=True) for x in (V, W, H))

        def call() -> tuple[Tensor, Tensor]:
            update(v, None, w, h, beta, 0.0, 0.0, 1)
            numerator, denominator = gather(v, None, w, h, beta)
            down = full_denominator(w, numerator, denominator, beta not in (1, 2))
            w.copy_(updated(w, numerator, down, beta))
            return w, h

        return call

    update, gather = with_torch.nmf_update_H, with_torch.nmf_gather
    return Case(
        name,
        f"{T} frames, F {F}, K {K}",
        flops,
        4 * T * (F + 2 * K),
        lambda backend: prepare(_function(backend, "nmf_update_H"), _function(backend, "nmf_gather")),
        lambda: prepare(update, gather, torch.float64)(),
        compiled=lambda: prepare(torch.compile(update), torch.compile(gather)),
    )


def _updates(V: Tensor, W: Tensor) -> Case:
    # The activations of a fixed dictionary.
    (T, F), K = V.shape, W.shape[1]

    def prepare(update: Callable[..., None], dtype: torch.dtype = torch.float32) -> Call:
        v, w = V.to(dtype), W.to(dtype)

        def call() -> Tensor:
            h = torch.ones((T, K), device=V.device, dtype=dtype)
            update(v, None, w, h, 1.0, 0.0, 0.0, N_UPDATES)
            return h

        return call

    return Case(
        f"activations, {N_UPDATES} Kullback-Leibler updates",
        f"{T} frames, F {F}, K {K}",
        4 * T * F * K * N_UPDATES,
        4 * T * (F + K),
        lambda backend: prepare(_function(backend, "nmf_update_H")),
        lambda: prepare(with_torch.nmf_update_H, torch.float64)(),
        compiled=lambda: prepare(torch.compile(with_torch.nmf_update_H)),
    )


def _tick(p: Problem, n: int, device: torch.device) -> Case:
    # A hop of many streams, with updates of their activations.
    W = p.W / np.linalg.norm(p.W, axis=0)
    F, K = W.shape
    signals = np.random.default_rng(0).standard_normal((n, (_HOPS + 1) * p.hop)).astype(np.float32) / 10
    hops = torch.tensor(signals, device=device).reshape(n, -1, p.hop).transpose(0, 1).contiguous()

    def prepare(name: str, replayed: bool = False) -> Call:
        if name == "triton":  # in whose place torch would serve
            raise _Absent("it has no hop of streams")
        before = os.environ.get("L2I_BACKEND")
        os.environ["L2I_BACKEND"] = name
        try:
            streams = DeviceStreams(W, n, p.hop, device=device)
        finally:
            os.environ.pop("L2I_BACKEND") if before is None else os.environ.update(L2I_BACKEND=before)
        streams.weights = p.weights
        out = torch.empty_like(hops[0])
        for block in hops[:-1]:
            streams.push(block, out=out)
        if not replayed:
            return lambda: streams.push(hops[-1], out=out)[:_COMPARED]
        graph = streams.capture()
        graph.blocks.copy_(hops[-1])
        return lambda: graph.replay()[:_COMPARED]

    def exact() -> Tensor:
        rows = [
            reference.stream(y, W, p.window, p.hop, p.weights)[_HOPS * p.hop :][: p.hop] for y in signals[:_COMPARED]
        ]
        return torch.tensor(np.stack(rows), device=device)

    updates = 10 * (2 * K * K + 4 * K)
    flops = n * (5 * p.n_fft * np.log2(p.n_fft) + 2 * F * K + updates + 2 * F * (K + K) + 3 * ELEMENTARY * F)
    state = 4 * n * (2 * p.n_fft + 2 * p.n_fft + 2 * p.hop + 3 * K)  # a frame in, a frame of sums in and out
    return Case(
        "stream, one hop",
        f"{n} streams, F {F}, K {K}, 10 updates",
        float(flops),
        float(state + 4 * F * K),
        prepare,
        exact,
        {"cuda, replayed": lambda: prepare("cuda", replayed=True)},
    )


def _function(name: str, operation: str) -> Callable[..., Any]:
    # An operation of one backend.
    function = getattr(backend.module(name), operation, None)  # type: ignore[arg-type]
    if function is None:
        raise _Absent(f"it has no {operation}")
    return function  # type: ignore[no-any-return]


def _double(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    return x.to(torch.complex128) if x.is_complex() else x.double()
