"""Every benchmark: the operation, ours, the peers, what it has to compute and to move, and the exact answer.

`l2i bench` and the files in benchmarks/ both take their cases from here. The operations count what any implementation
has to do: two for a multiply-add, `ELEMENTARY` for a logarithm or an exponential, one for a quotient or a root. The
bytes are those of each input and output once.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from itertools import islice
from typing import Any

import numpy as np

from l2i_fast import reference
from l2i_fast.arrays import Float32
from l2i_fast.backends.precision import CpuPrecision as Precision
from l2i_fast.backends.precision import at_cpu_precision as at_precision
from l2i_fast.bench import peers_nmf
from l2i_fast.bench.hops import CHUNK, Hops, split
from l2i_fast.bench.problem import SAMPLE_RATE, SIZES, Problem
from l2i_fast.nmf.activations import activations
from l2i_fast.nmf.factorize import Factorization, factorize
from l2i_fast.ops.analyze import analyze
from l2i_fast.ops.log_mel import log_mel, mel_filters
from l2i_fast.ops.soft_mask import decode, soft_mask
from l2i_fast.ops.stft import istft, stft
from l2i_fast.stream import StreamDecoder

#: What is timed: a call that returns its answer, an array or several.
Answer = Callable[[], Any]
ELEMENTARY = 20
N_MELS = 128
#: Updates of the activations of a fixed dictionary; of scikit-learn before its objective is the one to reach.
N_UPDATES, N_TARGET = 50, 200
LOSSES = {"frobenius": 2.0, "kullback-leibler": 1.0, "itakura-saito": 0.0}
#: Recordings of 5 s in the race.
RACE_CLIPS = 5
#: Products below float32.
BF16: tuple[Precision, ...] = ("bf16x3", "bf16x2", "bf16")
#: The solvers of `factorize` that race to scikit-learn's objective.
SOLVERS = {"frobenius": ("hals", "newton"), "kullback-leibler": ("newton",)}
#: Frame lengths and hops of the streams, and how many updates a frame: none where activations are given.
FRAMES, STREAM_UPDATES = ((1024, 512), (512, 128)), (0, 10)


@dataclass(frozen=True)
class Case:
    """One operation at one size.

    Functions in `ours` and `peers` prepare all that is not timed and return what is; the strongest peer stands first.
    `piece` takes the part of an answer out that `exact` gives in float64, where that of the whole would take too long.
    """

    operation: str
    size: str
    dims: str
    flops: float
    bytes: float
    ours: Callable[[], Answer]
    exact: Callable[[], Any]
    variant: str = ""
    peers: dict[str, Callable[[], Answer]] = field(default_factory=dict)
    piece: Callable[[Any], Any] = lambda answer: answer
    in_place: bool = False  # ours returns what it was given
    tolerance: float = 1e-4

    @property
    def name(self) -> str:
        """Operation and variant."""
        return f"{self.operation} {self.variant}".rstrip()


def cases(operation: str, size: str) -> Iterator[Case]:
    """Yield the cases of an operation at one of its sizes, one after the other."""
    make, _ = OPERATIONS[operation]
    yield from make(Problem.of_size(size))


def _ours(p: Problem, call: Callable[..., Any], *like: Any) -> Callable[[], Answer]:
    """Return what prepares ours: a new answer in each call, but for an hour arrays like these, filled again and again.

    Tuned peers reuse theirs at any size.
    """

    def prepare() -> Answer:
        if p.size != "hour":
            return call
        first, *others = (np.ones_like(one) for one in like)  # written to, so that the pages are there
        return partial(call, out=(first, *others) if others else first)

    return prepare


def _peer(name: str, p: Problem) -> Callable[[], Answer]:
    """Return what prepares a peer of `peers`, which is imported no sooner: a package that it needs may be missing."""

    def prepare() -> Answer:
        make = getattr(import_module("l2i_fast.bench.peers"), name)
        answers: list[Answer] = [make(one) for one in p.clips()]
        return answers[0] if p.n_clips == 1 else lambda: [answer() for answer in answers]

    return prepare


def _peers(p: Problem, **names: str) -> dict[str, Callable[[], Answer]]:
    shown = {name: _peer(function, p) for function, name in names.items()}
    # An hour of a weak peer takes minutes: for more than a clip, the strongest alone.
    return shown if p.size == "clip" else dict(islice(shown.items(), 1))


def _first(p: Problem) -> Problem:
    """The first 5 s, at most, of the first clip: what answers of any size are compared in."""
    one = p.clips()[0]
    n = SIZES["clip"] * 5 * SAMPLE_RATE
    return one if one.y.size <= n else Problem(1, n, p.W.shape[1], p.dims[3], p.n_fft)


def _leading(p: Problem, n: int) -> Callable[[Any], Any]:
    """Take the first n frames or samples out of an answer for the first clip; a peer's answer is a list of clips."""

    def take(answer: Any) -> Any:
        if isinstance(answer, list):
            return take_from(answer[0])
        return take_from(answer, *((0,) if p.n_clips > 1 else ()))

    def take_from(answer: Any, *clip: int) -> Any:
        if isinstance(answer, tuple):
            return tuple(take_from(part, *clip) for part in answer)
        return answer[(*clip, ..., slice(n))]

    return take


def _text(p: Problem) -> str:
    batch = f"{p.n_clips} x " if p.n_clips > 1 else ""
    return f"{batch}{len(p.W)} x {p.n_frames:,}"


def _fft_flops(n: int) -> float:
    """Operations of a real FFT of n points and the window."""
    return 2.5 * n * math.log2(n) + n


def stft_cases(p: Problem) -> Iterator[Case]:
    """The spectrum of samples."""
    T, F, _, _ = p.dims
    first = _first(p)
    inner = first.n_frames - 2  # frames near the end see what follows
    yield Case(
        "stft",
        p.size,
        _text(p),
        flops=T * _fft_flops(p.n_fft),
        bytes=4 * p.y.size + 8 * T * F,
        ours=_ours(p, partial(stft, p.y, n_fft=p.n_fft, hop_length=p.hop), p.X),
        in_place=p.size == "hour",
        peers=_peers(p, stft_tuned="torch, tuned", stft_torch="torch.stft", stft_librosa="librosa"),
        exact=lambda: reference.stft(first.y, p.window, p.hop)[:, :inner],
        piece=_leading(p, inner),
    )


def istft_cases(p: Problem) -> Iterator[Case]:
    """Samples from a spectrum."""
    T, F, _, _ = p.dims
    first = _first(p)
    n, length = first.y.size - p.n_fft, p.y.shape[-1]
    yield Case(
        "istft",
        p.size,
        _text(p),
        flops=T * (_fft_flops(p.n_fft) + p.n_fft),
        bytes=4 * p.y.size + 8 * T * F,
        ours=_ours(p, partial(istft, p.X, p.hop, length=length), p.y),
        in_place=p.size == "hour",
        peers=_peers(p, istft_tuned="torch, tuned", istft_torch="torch.istft", istft_librosa="librosa"),
        exact=lambda: reference.istft(first.X, p.window, p.hop, length=first.y.size)[:n],
        piece=_leading(p, n),
    )


def _decibels(p: Problem) -> Float32:
    """Memory like that of a mel spectrogram."""
    return np.empty((p.n_frames, N_MELS), np.float32).T


def log_mel_cases(p: Problem) -> Iterator[Case]:
    """The mel spectrogram of a spectrum."""
    T, F, _, _ = p.dims
    first = _first(p)
    bands = mel_filters(SAMPLE_RATE, p.n_fft, N_MELS, 0.0, None).T
    inner = first.n_frames - 2
    yield Case(
        "log_mel",
        p.size,
        _text(p),
        flops=T * (4 * F + 2 * int(np.count_nonzero(bands)) + ELEMENTARY * N_MELS),
        bytes=8 * T * F + 4 * T * N_MELS,
        ours=_ours(p, partial(log_mel, p.X, SAMPLE_RATE, N_MELS), _decibels(p)),
        in_place=p.size == "hour",
        peers=_peers(p, log_mel_tuned="torch, tuned", log_mel_librosa="librosa"),
        exact=lambda: reference.log_mel(first.X[:, :inner], bands),
        piece=_leading(p, inner),
    )


def analyze_cases(p: Problem) -> Iterator[Case]:
    """The spectrum, its log magnitudes and mel spectrogram from samples."""
    T, F, _, _ = p.dims
    first = _first(p)
    inner = first.n_frames - 2
    bands = mel_filters(SAMPLE_RATE, p.n_fft, N_MELS, 0.0, None).T

    def exact() -> Any:
        X = reference.stft(first.y, p.window, p.hop)[:, :inner]
        return X, np.log1p(np.abs(X)), reference.log_mel(X, bands)

    mel_flops = 2 * int(np.count_nonzero(bands)) + ELEMENTARY * N_MELS
    yield Case(
        "analyze",
        p.size,
        _text(p),
        flops=T * (_fft_flops(p.n_fft) + (4 + ELEMENTARY) * F + mel_flops),
        bytes=4 * p.y.size + 12 * T * F + 4 * T * N_MELS,
        ours=_ours(p, partial(analyze, p.y, SAMPLE_RATE, N_MELS, p.n_fft, p.hop), p.X, p.X.real, _decibels(p)),
        in_place=p.size == "hour",
        peers=_peers(p, analyze_tuned="torch, tuned", analyze_librosa="librosa"),
        exact=exact,
        piece=_leading(p, inner),
    )


def _mask_flops(p: Problem) -> float:
    """Both products, magnitude, quotients, log1p, expm1, and the gain on both parts."""
    T, F, K, selected = p.dims
    return T * F * (2 * (K + selected) + 2 * ELEMENTARY + 10)


def soft_mask_cases(p: Problem) -> Iterator[Case]:
    """The masked spectrum from activations."""
    T, F, K, selected = p.dims
    first = _first(p)
    inner = first.n_frames - 2
    yield Case(
        "soft_mask",
        p.size,
        f"{_text(p)}, K = {K}, {selected} selected",
        flops=_mask_flops(p),
        bytes=16 * T * F + 4 * K * (T + F),
        ours=_ours(p, partial(soft_mask, p.X, p.W, p.H, p.weights), p.X),
        in_place=p.size == "hour",
        peers=_peers(p, soft_mask_tuned="torch, tuned", soft_mask_torch="torch"),
        exact=lambda: reference.soft_mask(first.X[:, :inner], p.W, first.H[:, :inner], p.weights),
        piece=_leading(p, inner),
    )


def decode_cases(p: Problem) -> Iterator[Case]:
    """Audio from activations."""
    T, F, K, selected = p.dims
    first = _first(p)
    n, length = first.y.size - p.n_fft, p.y.shape[-1]
    yield Case(
        "decode",
        p.size,
        f"{_text(p)}, K = {K}, {selected} selected",
        flops=_mask_flops(p) + T * (_fft_flops(p.n_fft) + p.n_fft),
        bytes=8 * T * F + 4 * K * (T + F) + 4 * p.y.size,
        ours=_ours(p, partial(decode, p.X, p.W, p.H, p.weights, p.hop, length=length), p.y),
        in_place=p.size == "hour",
        peers=_peers(p, decode_tuned="torch, tuned", decode_torch="torch"),
        exact=lambda: reference.decode(first.X, p.W, first.H, p.weights, p.window, p.hop, length=first.y.size)[:n],
        piece=_leading(p, n),
    )


def decode_and_loop_cases(p: Problem) -> Iterator[Case]:
    """Beside them, for one clip, the published loop over the selected components, 5 and all of them."""
    yield from decode_cases(p)
    for n in (5, len(p.weights)) if p.size == "clip" else ():
        one = Problem(n_selected=n)
        (case,) = decode_cases(one)
        peers = _peers(one, decode_loop="NumPy loop", decode_loop_audible="NumPy loop, all parts audible")
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

        # The products V W and V' H for all losses; W H twice, or W'W and H'H and their products, which are small;
        # for beta 0 the denominators need products, too.
        products = 4 * T * F * K * {2.0: 1, 1.0: 2, 0.0: 3}[beta]
        yield Case(
            "nmf",
            p.size,
            f"{F} x {T:,}, K = {K}",
            variant=loss,
            flops=products + (4 * K * K * (T + F) if beta == 2 else 2 * T * F * (2 if beta == 0 else 1)),
            bytes=4 * T * F + 8 * K * (T + F),
            ours=ours,
            peers=_nmf_peers(V, W, H, beta),
            exact=exact,
            in_place=True,
        )


def precision_cases(p: Problem) -> Iterator[Case]:
    """`nmf_cases` with products of bfloat16. Floors and GFLOP/s are those of float32 products."""
    for case in nmf_cases(p):
        strongest = dict(islice(case.peers.items(), 1))
        for precision in BF16:

            def ours(case: Case = case, precision: Precision = precision) -> Answer:
                with at_precision(precision):
                    return case.ours()

            peers = {"ours, float32": case.ours, **strongest}
            variant = f"{precision}, {case.variant}"
            yield replace(case, operation="precision", variant=variant, ours=ours, peers=peers, tolerance=2e-2)


def _nmf_peers(V: Float32, W: Float32, H: Float32, beta: float) -> dict[str, Callable[[], Answer]]:
    def ours_in(library: str) -> Callable[[], Answer]:
        return lambda: peers_nmf.Iteration(import_module(library), V, W, H, beta)

    return {
        "NumPy, buffers reused": ours_in("numpy"),
        "torch, buffers reused": ours_in("torch"),
        "scikit-learn": lambda: peers_nmf.ByDifference(peers_nmf.scikit_learn(V, W, H, beta)),
        "torchnmf": lambda: peers_nmf.ByDifference(peers_nmf.torchnmf(V, W, H, beta)),
    }


def activations_cases(p: Problem) -> Iterator[Case]:
    """Updates of the activations of a fixed dictionary."""
    T, F, K, _ = p.dims
    V, W, _ = _start(p)
    shown = np.ascontiguousarray(V[: len(V) // p.n_clips].T)
    for loss in ("frobenius", "kullback-leibler"):
        beta = LOSSES[loss]

        def peer(library: str, beta: float = beta) -> Callable[[], Answer]:
            def prepare() -> Answer:
                update = peers_nmf.Activations(import_module(library), V, W, beta, N_UPDATES)
                return lambda: update().T

            return prepare

        def ours(loss: str = loss) -> Answer:
            return lambda: activations(V.T, W, loss, N_UPDATES)

        def exact(beta: float = beta) -> Any:
            return reference.activations(shown, W, beta, N_UPDATES)

        flops = 2 * T * F * K + (2 * F + N_UPDATES * 2 * T) * K * K if beta == 2 else N_UPDATES * T * F * (4 * K + 1)
        yield Case(
            "activations",
            p.size,
            f"{F} x {T:,}, K = {K}, {N_UPDATES} updates",
            variant=loss,
            flops=flops,
            bytes=4 * T * F + 4 * K * (T + F),
            ours=ours,
            peers={"NumPy, buffers reused": peer("numpy"), "torch, buffers reused": peer("torch")},
            exact=exact,
            piece=lambda answer: answer[:, : shown.shape[1]],
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

    def peer(name: str) -> Callable[[], Answer]:
        return lambda: getattr(import_module("l2i_fast.bench.peers_stream"), name)(p, n_iter)

    def exact() -> Any:
        answer = reference.stream(p.y, p.W, p.window, hop, p.weights, None if n_iter else p.H, n_iter)
        return settled(answer[n_fft // 2 - hop : p.y.size])

    def settled(answer: Any) -> Any:
        return answer[2 * n_fft :]  # peers know no beginning

    return Case(
        "stream",
        "clip",
        f"{n_fft} / {hop}, K = {K}, {selected} selected",
        variant=f"{n_iter} updates" if n_iter else "given activations",
        flops=_mask_flops(p) / p.n_frames + 2 * _fft_flops(n_fft) + n_fft + 2 * K * (F + n_iter * K if n_iter else 0),
        bytes=8 * hop + 4 * K * (F + K if n_iter else F),
        ours=ours,
        peers={"NumPy, buffers reused": peer("stream_numpy"), "torch, buffers reused": peer("stream_torch")},
        exact=exact,
        piece=settled,
    )


def race_cases(p: Problem) -> Iterator[Case]:
    """Our solvers to the objective that scikit-learn reaches in `N_TARGET` multiplicative updates, on sound.

    The answers are objectives, and the error is how far they are from scikit-learn's.
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

            def others(beta: float = beta, peer: Any = peer) -> Answer:
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
                ours=ours,
                peers={f"scikit-learn, mu, {N_TARGET} iterations": others},
                exact=lambda target=target: np.array([target]),  # type: ignore[misc]
                tolerance=math.inf,
            )


def _iterations_to(target: float, V: Float32, W: Float32, H: Float32, beta: float, solver: str) -> int:
    """The least number of iterations that take a solver to an objective; twice scikit-learn's where none do."""

    def reached(n: int) -> bool:
        return factorize(V, W.copy(), H.copy(), beta=beta, solver=solver, max_iter=n)[1] <= target

    candidates = range(1, 2 * N_TARGET)
    few = 8
    while few < len(candidates) and not reached(few):
        few *= 2
    return candidates[0] + bisect_left(candidates[:few], True, key=reached)


#: What makes the cases of an operation, and the sizes that it is measured at.
OPERATIONS: dict[str, tuple[Callable[[Problem], Iterator[Case]], tuple[str, ...]]] = {
    "stft": (stft_cases, ("clip", "batch", "hour")),
    "istft": (istft_cases, ("clip", "batch", "hour")),
    "log_mel": (log_mel_cases, ("clip", "batch", "hour")),
    "analyze": (analyze_cases, ("clip", "batch", "hour")),
    "soft_mask": (soft_mask_cases, ("clip", "batch", "hour")),
    "decode": (decode_and_loop_cases, ("clip", "batch", "hour")),
    "nmf": (nmf_cases, ("archive",)),
    "precision": (precision_cases, ("archive",)),
    "activations": (activations_cases, ("clip", "batch")),
    "stream": (stream_cases, ("clip",)),
    "race": (race_cases, ("clip",)),
}
