"""The input of the benchmarks."""

from __future__ import annotations

import numpy as np
from scipy.signal import get_window

from l2i_fast.arrays import Float32
from l2i_fast.bench.names import Size
from l2i_fast.ops.stft import stft

SAMPLE_RATE = 44100
CLIP = 5 * SAMPLE_RATE
#: Each size in clips of 5 s (431 frames).
SIZES: dict[Size, int] = {"clip": 1, "batch": 32, "archive": 64, "hour": 720}


class Problem:
    """Clips of modulated noise, their spectra, a dictionary with activations, and weights that select components.

    Parameters
    ----------
    n_clips : int
        B, the leading dimension of `y`, `X` and `H`, which 1 leaves out.
    n_samples : int
        N, the length of a clip at 44.1 kHz, by default 5 s: noise, repeated every 5 s.
    n_components, n_selected : int
        K, and the number of `weights` that are 1 instead of 0.
    n_fft, hop : int
        Frame length and hop, by default half of it.
    size : str
        Name of the size.
    """

    def __init__(
        self,
        n_clips: int = 1,
        n_samples: int | None = None,
        n_components: int = 100,
        n_selected: int = 6,
        n_fft: int = 1024,
        size: str = "clip",
        hop: int | None = None,
    ) -> None:
        rng = np.random.default_rng(0)
        self.size, self.n_clips, self.n_fft, self.hop = size, n_clips, n_fft, hop or n_fft // 2
        n_samples = CLIP if n_samples is None else n_samples
        envelope = np.repeat(rng.uniform(0.01, 1, 50), CLIP // 50)
        clip = (0.3 * envelope * rng.standard_normal(CLIP)).astype(np.float32)
        self.y = np.resize(clip, n_samples)
        self.window = get_window("hann", n_fft).astype(np.float32)
        self.W = rng.gamma(0.5, 1.0, (n_fft // 2 + 1, n_components)).astype(np.float32)
        self.n_frames = 1 + n_samples // self.hop
        h = rng.gamma(0.3, 1.0, (1 + CLIP // self.hop, n_components)).astype(np.float32)
        h = np.resize(h, (self.n_frames, n_components))
        self.weights = np.zeros(n_components, np.float32)
        self.weights[rng.choice(n_components, min(n_selected, n_components), replace=False)] = 1
        if n_clips > 1:
            self.y, h = np.tile(self.y, (n_clips, 1)), np.tile(h, (n_clips, 1, 1))
        self.H = h.swapaxes(-1, -2)
        self.X = stft(self.y, n_fft=n_fft, hop_length=self.hop)

    @classmethod
    def of_size(cls, size: Size) -> Problem:
        """Return the problem of one of `SIZES`: clips, except for the hour, which is one long recording."""
        if size == "hour":
            return cls(n_samples=SIZES[size] * CLIP, size=size)
        return cls(n_clips=SIZES[size], size=size)

    @property
    def dims(self) -> tuple[int, int, int, int]:
        """B T (the frames of all clips), F, K, and the number of selected components."""
        F, K = self.W.shape
        return self.n_clips * self.n_frames, F, K, int(np.count_nonzero(self.weights))

    @property
    def V(self) -> Float32:
        """Log magnitudes of all clips, (F, B T), frame-major and positive."""
        rows = self.X.swapaxes(-1, -2).reshape(-1, len(self.W))
        V: Float32 = (np.log1p(np.abs(rows)) + np.float32(1e-6)).T
        return V

    def clips(self) -> list[Problem]:
        """Return the clips one by one, as views."""
        if self.n_clips == 1:
            return [self]
        every = []
        for y, X, H in zip(self.y, self.X, self.H, strict=True):
            one = object.__new__(Problem)
            one.__dict__ = self.__dict__ | {"n_clips": 1, "y": y, "X": X, "H": H}
            every.append(one)
        return every

    def head(self) -> Problem:
        """Return the first 5 s, at most, of the first clip."""
        first = self.clips()[0]
        return first if first.y.size <= CLIP else Problem(1, CLIP, self.W.shape[1], self.dims[3], self.n_fft)
