from collections.abc import Callable, Sequence
from typing import Any, TypedDict, overload

import numpy as np
from numpy.typing import NDArray

class CpuFeatures(TypedDict):
    avx2: bool
    avx512: bool
    avx512_bf16: bool
    amx: bool
    compiled: list[str]
    supported: list[str]
    path: str

class MelBands:
    def __init__(self, filters: NDArray[np.float32]) -> None: ...

FFT_SIZES: tuple[int, int]
LOUDEST: float

def cpu_features() -> CpuFeatures: ...
def use_cpu_path(name: str) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def parallel(n_tasks: int, task: Callable[[int], object]) -> None: ...
def peak_flops(seconds: float) -> float: ...
def read_bandwidth(n_bytes: int, seconds: float) -> float: ...
def in_range(x: NDArray[np.float32], low: float, high: float) -> bool: ...
def stft(
    y: NDArray[np.float32],
    window: NDArray[np.float32],
    hop: int,
    pad: int,
    out: NDArray[np.complex64] | None = None,
) -> NDArray[np.complex64]: ...
def istft(
    X: NDArray[np.complex64],
    window: NDArray[np.float32],
    hop: int,
    start: int,
    length: int,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]: ...
def analyze(
    y: NDArray[np.float32],
    window: NDArray[np.float32],
    hop: int,
    pad: int,
    bands: MelBands,
    amin: float,
    out: Sequence[NDArray[Any] | None] = (None, None, None),
) -> tuple[NDArray[np.complex64], NDArray[np.float32], NDArray[np.float32]]: ...
def log_mel(
    X: NDArray[np.complex64], bands: MelBands, amin: float, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]: ...
def soft_mask(
    X: NDArray[np.complex64],
    W: NDArray[np.float32],
    H: NDArray[np.float32],
    weights: NDArray[np.float32],
    domain: str,
    eps: float,
    out: NDArray[np.complex64] | None = None,
) -> NDArray[np.complex64]: ...
def decode(
    X: NDArray[np.complex64],
    W: NDArray[np.float32],
    H: NDArray[np.float32],
    weights: NDArray[np.float32],
    domain: str,
    eps: float,
    window: NDArray[np.float32],
    hop: int,
    start: int,
    length: int,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]: ...
def nmf_pass(
    V: NDArray[np.float32],
    mask: NDArray[np.float32] | None,
    W: NDArray[np.float32],
    H: NDArray[np.float32],
    beta: float,
    method: str,
    l1: float,
    l2: float,
    n_updates: int,
    numerator: NDArray[np.float64] | None,
    denominator: NDArray[np.float64] | None,
    measure: bool,
    n_terms: int,
) -> float: ...
def nmf_divergence(
    V: NDArray[np.float32],
    mask: NDArray[np.float32] | None,
    W: NDArray[np.float32],
    H: NDArray[np.float32],
    beta: float,
) -> float: ...
def nmf_update(
    W: NDArray[np.float32],
    numerator: NDArray[np.float64],
    denominator: NDArray[np.float64],
    masked: bool,
    beta: float,
    method: str,
    l1: float,
    l2: float,
    n_updates: int,
    fixed: NDArray[np.bool_] | None,
) -> None: ...
def nmf_newton_pass(
    V: NDArray[np.float32],
    mask: NDArray[np.float32] | None,
    W: NDArray[np.float32],
    H: NDArray[np.float32],
    beta: float,
    l1: float,
    l2: float,
    n_updates: int,
    damping: NDArray[np.float32],
    bin_weights: NDArray[np.float32],
    least_mean: float,
    gradient: NDArray[np.float64] | None,
    curvature: NDArray[np.float64] | None,
    gram: NDArray[np.float64] | None,
) -> float: ...
def nmf_newton_update(
    W: NDArray[np.float32],
    gradient: NDArray[np.float64],
    curvature: NDArray[np.float64],
    gram: NDArray[np.float64],
    damping: float,
    l1: float,
    l2: float,
    fixed: NDArray[np.bool_] | None,
) -> None: ...
def soft_mask_gradient(
    X: NDArray[np.complex64],
    W: NDArray[np.float32],
    H: NDArray[np.float32],
    weights: NDArray[np.float32],
    domain: str,
    eps: float,
    dY: NDArray[np.complex64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
def decode_gradient(
    X: NDArray[np.complex64],
    W: NDArray[np.float32],
    H: NDArray[np.float32],
    weights: NDArray[np.float32],
    domain: str,
    eps: float,
    window: NDArray[np.float32],
    hop: int,
    start: int,
    dy: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...

class StreamPlan:
    def __init__(
        self,
        W: NDArray[np.float32],
        window: NDArray[np.float32],
        hop: int,
        n_updates: int,
        domain: str,
        eps: float,
        bands: MelBands | None = None,
        lift: float = 0.0,
    ) -> None: ...

class Stream:
    latency: int
    hops: int
    def __init__(self, plan: StreamPlan, history: int = 0) -> None: ...
    def push(self, samples: object, until: int = -1, H: object = None) -> Any: ...
    def finish(self, until: int = -1, H: NDArray[np.float32] | None = None) -> NDArray[np.float32]: ...
    def reset(self) -> None: ...
    def publish(self, weights: NDArray[np.float32], scale: float, start: NDArray[np.float32] | None = None) -> None: ...
    def columns(self, first: int, n: int) -> NDArray[np.float32] | None: ...
    def activations(self) -> NDArray[np.float32]: ...
    def frames_in(self, n: int, last: bool) -> int: ...

class StreamPool:
    def __init__(self, plan: StreamPlan) -> None: ...
    @overload
    def push(self, streams: Sequence[Stream], blocks: NDArray[np.float32]) -> NDArray[np.float32]: ...
    @overload
    def push(
        self,
        streams: Sequence[Stream],
        blocks: Sequence[NDArray[np.float32] | None],
        until: Sequence[int] | None = None,
    ) -> list[NDArray[np.float32]]: ...
