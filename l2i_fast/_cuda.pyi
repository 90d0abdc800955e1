from typing import Any

FFT_SIZES: tuple[int, int]

def available() -> tuple[bool, str]: ...
def fits(n_fft: int, K: int, streams: bool) -> bool: ...

class Tick:
    def __init__(self, **members: Any) -> None: ...
    def __call__(self, blocks: int, H: int, out: int, stream: int) -> None: ...

def stft(
    *,
    y: int,
    window: int,
    twiddles: int,
    X: int,
    n_clips: int,
    n_samples: int,
    n_frames: int,
    n_fft: int,
    hop: int,
    pad: int,
    stream: int,
) -> None: ...
def decode(
    *,
    X: int,
    W: int,
    H: int,
    weights: int,
    window: int,
    twiddles: int,
    y: int,
    n_clips: int,
    n_frames: int,
    X_stride: int,
    K: int,
    H_stride: int,
    weights_stride: int,
    n_fft: int,
    hop: int,
    start: int,
    length: int,
    domain: int,
    eps: float,
    stream: int,
) -> None: ...
