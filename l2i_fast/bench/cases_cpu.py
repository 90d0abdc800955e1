"""The benchmarks of `l2i bench` on the CPU: ours, the peers, and the exact answer.

`l2i bench` and the files in benchmarks/ both take their cases from here.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import islice
from typing import Any, get_args

import numpy as np

from l2i_fast import reference
from l2i_fast.arrays import Float32
from l2i_fast.backends.precision import CpuPrecision, at_cpu_precision
from l2i_fast.bench import peers_nmf, work
from l2i_fast.bench.case import LOSSES, N_UPDATES, Answer, Case, Prepare
from l2i_fast.bench.hops import CHUNK, Hops, split
from l2i_fast.bench.names import Operation, Size
from l2i_fast.bench.problem import SAMPLE_RATE, Problem
from l2i_fast.bench.work import N_MELS
from l2i_fast.nmf.activations import activations
from l2i_fast.nmf.factorize import Factorization, factorize
from l2i_fast.ops.analyze import analyze
from l2i_fast.ops.log_mel import log_mel, mel_filters
from l2i_fast.ops.soft_mask import decode, soft_mask
from l2i_fast.ops.stft import istft, stft
from l2i_fast.stream.decoder import StreamDecoder

#: Peers of the operations on frames, the strongest first: functions of `l2i_fast.bench.peers`.
PEERS = {
    "stft": {"torch, tuned": "stft_tuned", "torch.stft": "stft_torch", "librosa": "stft_librosa"},
    "istft": {"torch, tuned": "istft_tuned", "torch.istft": "istft_torch", "librosa": "istft_librosa"},
    "log_mel": {"torch, tuned": "log_mel_tuned", "librosa": "log_mel_librosa"},
    "analyze": {"torch, tuned": "analyze_tuned", "librosa": "analyze_librosa"},
    "soft_mask": {"torch, tuned": "soft_mask_tuned", "torch": "soft_mask_torch"},
    "decode": {"torch, tuned": "decode_tuned", "torch": "decode_torch"},
}
#: Updates of scikit-learn whose objective is to be reached in a race, and recordings of 5 s that it runs on.
N_TARGET, RACE_CLIPS = 200, 5
#: The solvers of `factorize` that race.
SOLVERS = {"frobenius": ("hals", "newton"), "kullback-leibler": ("newton",)}
#: Frame lengths and hops of the streams, and the number of updates per frame: 0 where activations are given.
FRAMES, STREAM_UPDATES = ((1024, 512), (512, 128)), (0, 10)


def cases(operation: Operation, size: Size) -> Iterator[Case]:
    """Yield the cases of an operation at one of its sizes, one after the other."""
    make, _ = OPERATIONS[operation]
    yield from make(Problem.of_size(size))


def framed_cases(operation: str, p: Problem) -> Iterator[Case]:
    """Yield the case of an operation on frames: one of `PEERS`.

    Ours returns new arrays or, for an hour, writes into the same arrays, as tuned peers always do. Of an answer the
    first 5 s, at most, of the first clip are compared.
    """
    in_place, length = p.size == "hour", p.y.shape[-1]
    first = p.head()
    y, X, frame = first.y, first.X, (p.window, p.hop)
    T, N = first.n_frames - 2, y.size - p.n_fft  # the last frames and samples depend on those that follow
    bands: Any = (
        mel_filters(SAMPLE_RATE, p.n_fft, N_MELS, 0.0, SAMPLE_RATE / 2).T
        if operation in ("log_mel", "analyze")
        else None
    )
    decibels = np.empty((p.n_frames, N_MELS), np.float32).T

    def analysis() -> Any:
        rows = reference.stft(y, *frame)[:, :T]
        return rows, np.log1p(np.abs(rows)), reference.log_mel(rows, bands)

    # Ours, arrays shaped like its output, and the exact answer.
    calls: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Callable[[], Any]]] = {
        "stft": (
            partial(stft, p.y, n_fft=p.n_fft, hop_length=p.hop),
            (p.X,),
            lambda: reference.stft(y, *frame)[:, :T],
        ),
        "istft": (
            partial(istft, p.X, p.hop, length=length),
            (p.y,),
            lambda: reference.istft(X, *frame, length=y.size)[:N],
        ),
        "log_mel": (
            partial(log_mel, p.X, SAMPLE_RATE, N_MELS),
            (decibels,),
            lambda: reference.log_mel(X[:, :T], bands),
        ),
        "analyze": (
            partial(analyze, p.y, SAMPLE_RATE, N_MELS, p.n_fft, p.hop),
            (p.X, p.X.real, decibels),
            analysis,
        ),
        "soft_mask": (
            partial(soft_mask, p.X, p.W, p.H, p.weights),
            (p.X,),
            lambda: reference.soft_mask(X[:, :T], p.W, first.H[:, :T], p.weights),
        ),
        "decode": (
            partial(decode, p.X, p.W, p.H, p.weights, p.hop, length=length),
            (p.y,),
            lambda: reference.decode(X, p.W, first.H, p.weights, *frame, length=y.size)[:N],
        ),
    }
    call, outputs, exact = calls[operation]

    def in_place_call() -> Answer:
        out, *others = (np.ones_like(output) for output in outputs)  # written to, so that their pages exist
        return partial(call, out=(out, *others) if others else out)

    dims = f"{p.n_clips} x " * (p.n_clips > 1) + f"{len(p.W)} x {p.n_frames:,}"
    if operation in ("soft_mask", "decode"):
        dims += f", K = {p.dims[2]}, {p.dims[3]} selected"
    count = getattr(work, operation)
    flops, n_bytes = count(p) if bands is None else count(p, int(np.count_nonzero(bands)))
    # Weak peers take minutes for an hour of sound: beyond a clip only the strongest is timed.
    peers = islice(PEERS[operation].items(), None if p.size == "clip" else 1)
    yield Case(
        operation,
        p.size,
        dims,
        flops,
        n_bytes,
        exact=exact,
        ours={"ours": in_place_call if in_place else lambda: call},
        peers={name: _peer(function, p) for name, function in peers},
        piece=partial(_leading, p.n_clips, N if operation in ("istft", "decode") else T),
        in_place=in_place,
    )


def _peer(name: str, p: Problem) -> Prepare:
    """Prepare a peer of `l2i_fast.bench.peers`, which is imported only then: a package that it needs may be missing."""

    def prepare() -> Answer:
        make = getattr(import_module("l2i_fast.bench.peers"), name)
        answers: list[Answer] = [make(one) for one in p.clips()]
        return answers[0] if p.n_clips == 1 else lambda: [answer() for answer in answers]

    return prepare


def _leading(n_clips: int, n: int, answer: Any) -> Any:
    """Take the first n frames or samples of the first clip; a peer's answer is a list of clips."""
    if isinstance(answer, list):
        return _leading(1, n, answer[0])
    if isinstance(answer, tuple):
        return tuple(_leading(n_clips, n, part) for part in answer)
    return answer[(*((0,) if n_clips > 1 else ()), ..., slice(n))]


def decode_cases(p: Problem) -> Iterator[Case]:
    """Yield the case of decode and, for one clip, those of the published loop over 5 and over all components."""
    yield from framed_cases("decode", p)
    for n in (5, len(p.weights)) if p.size == "clip" else ():
        one = Problem(n_selected=n)
        (case,) = framed_cases("decode", one)
        names = {"NumPy loop": "decode_loop", "NumPy loop, all parts audible": "decode_loop_audible"}
        peers = {name: _peer(function, one) for name, function in names.items()}
        yield replace(case, variant=f"{n} parts", peers=peers)


def _start(p: Problem) -> tuple[Float32, Float32, Float32]:
    """V (T, F), W (F, K) and H (T, K), positive."""
    _, _, K, _ = p.dims
    H = np.ascontiguousarray(p.H.swapaxes(-1, -2)).reshape(-1, K) + np.float32(1e-3)
    return np.ascontiguousarray(p.V.T), p.W + np.float32(1e-3), H


def nmf_cases(p: Problem, losses: tuple[str, ...] = tuple(LOSSES)) -> Iterator[Case]:
    """One multiplicative update of H and of W."""
    T, F, K, _ = p.dims
    V, W, H = _start(p)
    for loss in losses:
        beta = LOSSES[loss]

        def ours(beta: float = beta) -> Answer:
            f = Factorization(V, W.copy(), H.copy(), beta)

            def iterate() -> tuple[Float32, Float32]:
                f.update_H_and_gather()
                f.update_W()
                return f.H, f.W

            return iterate

        def exact(beta: float = beta) -> Any:
            w, h = W.astype(np.float64), H.astype(np.float64)
            reference.factorize(V, w, h, beta=beta, max_iter=1)
            return h, w

        yield Case(
            "nmf",
            p.size,
            f"{F} x {T:,}, K = {K}",
            *work.nmf(T, F, K, beta),
            variant=loss,
            ours={"ours": ours},
            peers=_nmf_peers(V, W, H, beta),
            exact=exact,
            in_place=True,
        )


def precision_cases(p: Problem) -> Iterator[Case]:
    """`nmf_cases` with products of bfloat16. Floors and GFLOP/s are those of float32 products."""
    for case in nmf_cases(p):
        in_float32, strongest = case.ours["ours"], dict(islice(case.peers.items(), 1))
        for precision in get_args(CpuPrecision)[1:]:

            def ours(prepare: Prepare = in_float32, precision: CpuPrecision = precision) -> Answer:
                with at_cpu_precision(precision):
                    return prepare()

            yield replace(
                case,
                operation="precision",
                variant=f"{precision}, {case.variant}",
                ours={"ours": ours},
                peers={"ours, float32": in_float32, **strongest},
                tolerance=2e-2,
            )


def _nmf_peers(V: Float32, W: Float32, H: Float32, beta: float) -> dict[str, Prepare]:
    def reusing(library: str) -> Prepare:
        return lambda: peers_nmf.Iteration(import_module(library), V, W, H, beta)

    return {
        "NumPy, buffers reused": reusing("numpy"),
        "torch, buffers reused": reusing("torch"),
        "scikit-learn": lambda: peers_nmf.ByDifference(peers_nmf.scikit_learn(V, W, H, beta)),
        "torchnmf": lambda: peers_nmf.ByDifference(peers_nmf.torchnmf(V, W, H, beta)),
    }


def activations_cases(p: Problem) -> Iterator[Case]:
    """Updates of the activations of a fixed dictionary."""
    T, F, K, _ = p.dims
    V, W, _ = _start(p)
    first = np.ascontiguousarray(V[: len(V) // p.n_clips].T)
    for loss in ("frobenius", "kullback-leibler"):
        beta = LOSSES[loss]

        def peer(library: str, beta: float = beta) -> Prepare:
            def prepare() -> Answer:
                update = peers_nmf.Activations(import_module(library), V, W, beta, N_UPDATES)
                return lambda: update().T

            return prepare

        def ours(loss: str = loss) -> Answer:
            return lambda: activations(V.T, W, loss, N_UPDATES)

        def exact(beta: float = beta) -> Any:
            return reference.activations(first, W, beta, N_UPDATES)

        yield Case(
            "activations",
            p.size,
            f"{F} x {T:,}, K = {K}, {N_UPDATES} updates",
            *work.activations(T, F, K, beta, N_UPDATES),
            variant=loss,
            ours={"ours": ours},
            peers={"NumPy, buffers reused": peer("numpy"), "torch, buffers reused": peer("torch")},
            exact=exact,
            piece=lambda answer: answer[:, : first.shape[1]],
        )


def stream_cases(_: Problem) -> Iterator[Case]:
    """A push of one hop, which completes a frame."""
    for n_fft, hop in FRAMES:
        p = Problem(n_samples=n_fft // 2 + (CHUNK - 1) * hop, n_fft=n_fft, hop=hop)
        yield from (_stream_case(p, n_iter) for n_iter in STREAM_UPDATES)


def _stream_case(p: Problem, n_iter: int) -> Case:
    """The answers are the samples of `CHUNK` pushes; without updates the activations are given."""
    _, F, K, selected = p.dims
    n_fft, hop = p.n_fft, p.hop

    def ours() -> Answer:
        first, blocks = split(p)
        stream = StreamDecoder(p.W, hop, max(n_iter, 1))
        stream.weights = p.weights
        stream.push(first)
        return Hops(stream.push, blocks, [None] * CHUNK if n_iter else [p.H[:, [t]] for t in range(CHUNK)])

    def peer(name: str) -> Prepare:
        return lambda: getattr(import_module("l2i_fast.bench.peers_stream"), name)(p, n_iter)

    def exact() -> Any:
        answer = reference.stream(p.y, p.W, p.window, hop, p.weights, None if n_iter else p.H, n_iter)
        return settled(answer[n_fft // 2 - hop : p.y.size])

    def settled(answer: Any) -> Any:
        return answer[2 * n_fft :]  # peers treat the beginning of a signal as its middle

    return Case(
        "stream",
        "clip",
        f"{n_fft} / {hop}, K = {K}, {selected} selected",
        flops=work.hop_flops(p, n_iter),
        bytes=8 * hop + 4 * K * (F + K if n_iter else F),
        variant=f"{n_iter} updates" if n_iter else "given activations",
        ours={"ours": ours},
        peers={"NumPy, buffers reused": peer("stream_numpy"), "torch, buffers reused": peer("stream_torch")},
        exact=exact,
        piece=settled,
    )


def race_cases(p: Problem) -> Iterator[Case]:
    """Our solvers, up to the objective that scikit-learn reaches in `N_TARGET` multiplicative updates of sound.

    The answers are objectives, and the error is their distance from scikit-learn's.
    """
    from l2i_fast.data.scene import SCENES, demo_scene

    _, F, K, _ = p.dims
    sounds = [demo_scene(kind, sr=SAMPLE_RATE) for kind in list(SCENES)[:RACE_CLIPS]]
    V = np.concatenate([np.log1p(np.abs(stft(y, n_fft=p.n_fft, hop_length=p.hop))).T for y in sounds])
    V += np.float32(1e-6)
    rng = np.random.default_rng(0)
    scale = math.sqrt(float(V.mean()) / K)
    W, H = (np.abs(scale * rng.standard_normal((n, K))).astype(np.float32) for n in (F, len(V)))
    for loss, solvers in SOLVERS.items():
        beta = LOSSES[loss]
        peer = peers_nmf.scikit_learn(V, W, H, beta)
        h, w = peer(N_TARGET)
        target = Factorization(V, np.ascontiguousarray(w), h, beta).divergence()
        for solver in solvers:
            n = _iterations_to(target, V, W, H, beta, solver)

            def ours(beta: float = beta, solver: str = solver, n: int = n) -> Answer:
                def run() -> Any:
                    w, h = W.copy(), H.copy()
                    return np.array([factorize(V, w, h, beta=beta, solver=solver, max_iter=n)[1]])

                return run

            def theirs(beta: float = beta, peer: Any = peer) -> Answer:
                def run() -> Any:
                    h, w = peer(N_TARGET)
                    return np.array([Factorization(V, np.ascontiguousarray(w), h, beta).divergence()])

                return run

            T = len(V)
            yield Case(
                "race",
                p.size,
                f"{F} x {T:,}, K = {K}, {n} iterations",
                variant=f"{loss}, {solver}",
                flops=n * (4 * T * F * K + 4 * K * K * (T + F) if beta == 2 else 8 * T * F * K),
                bytes=4 * n * T * F,
                ours={"ours": ours},
                peers={f"scikit-learn, mu, {N_TARGET} iterations": theirs},
                exact=lambda target=target: np.array([target]),  # type: ignore[misc]
                tolerance=math.inf,
            )


def _iterations_to(target: float, V: Float32, W: Float32, H: Float32, beta: float, solver: str) -> int:
    """Return the least number of iterations in which a solver reaches an objective, at most twice scikit-learn's."""

    def reached(n: int) -> bool:
        return factorize(V, W.copy(), H.copy(), beta=beta, solver=solver, max_iter=n)[1] <= target

    candidates = range(1, 2 * N_TARGET)
    few = 8
    while few < len(candidates) and not reached(few):
        few *= 2
    return candidates[0] + bisect_left(candidates[:few], True, key=reached)


#: Makes the cases of each operation, and the sizes at which it is measured.
OPERATIONS: dict[Operation, tuple[Callable[[Problem], Iterator[Case]], tuple[Size, ...]]] = {
    "stft": (partial(framed_cases, "stft"), ("clip", "batch", "hour")),
    "istft": (partial(framed_cases, "istft"), ("clip", "batch", "hour")),
    "log_mel": (partial(framed_cases, "log_mel"), ("clip", "batch", "hour")),
    "analyze": (partial(framed_cases, "analyze"), ("clip", "batch", "hour")),
    "soft_mask": (partial(framed_cases, "soft_mask"), ("clip", "batch", "hour")),
    "decode": (decode_cases, ("clip", "batch", "hour")),
    "nmf": (nmf_cases, ("archive",)),
    "precision": (precision_cases, ("archive",)),
    "activations": (activations_cases, ("clip", "batch")),
    "stream": (stream_cases, ("clip",)),
    "race": (race_cases, ("clip",)),
}
