"""Other libraries at their best settings, for one clip.

All peers work on float32, frame-major where they can, with denormals flushed. Those named "tuned" reuse preallocated
buffers and work in slices of frames that stay in the second-level cache. Each function prepares a problem and returns
the call that is timed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from l2i_fast.bench.case import Answer
from l2i_fast.bench.problem import SAMPLE_RATE, Problem
from l2i_fast.ops.log_mel import mel_filters

#: Frames in a slice.
SLICE = 144


def stft_torch(p: Problem) -> Answer:
    """torch.stft."""
    y, window = torch.from_numpy(p.y), torch.from_numpy(p.window)
    return lambda: torch.stft(y, p.n_fft, p.hop, window=window, pad_mode="constant", return_complex=True).numpy()


def stft_tuned(p: Problem) -> Answer:
    """Windowed frames and MKL's real FFT, slice by slice."""
    padded, window = torch.zeros(p.y.size + p.n_fft), torch.from_numpy(p.window)
    y, X = torch.from_numpy(p.y), torch.empty(p.X.shape[::-1], dtype=torch.complex64)
    frames = padded.unfold(0, p.n_fft, p.hop)
    buffer = torch.empty(SLICE, p.n_fft)

    def run() -> NDArray[Any]:
        padded[p.n_fft // 2 : -p.n_fft // 2] = y
        for t in range(0, len(X), SLICE):
            block = buffer[: len(X) - t]
            torch.mul(frames[t : t + SLICE], window, out=block)
            torch.fft.rfft(block, out=X[t : t + SLICE])
        return X.numpy().T

    return run


def stft_librosa(p: Problem) -> Answer:
    """librosa.stft."""
    import librosa

    return lambda: librosa.stft(p.y, n_fft=p.n_fft, hop_length=p.hop)


def istft_torch(p: Problem) -> Answer:
    """torch.istft."""
    X, window = torch.from_numpy(p.X), torch.from_numpy(p.window)
    return lambda: torch.istft(X, p.n_fft, p.hop, window=window, length=p.y.size).numpy()


class TunedIstft:
    """Inverse real FFT in slices; with hop = n_fft / 2, overlap-add is the sum of two shifted halves."""

    def __init__(self, p: Problem) -> None:
        T = p.X.shape[1]
        self.length, self.hop, self.n_fft = p.y.size, p.hop, p.n_fft
        self.window = torch.from_numpy(p.window)
        self.frames = torch.empty(SLICE, p.n_fft)
        self.sums = torch.empty(T + 1, p.hop)
        squares = torch.zeros(T + 1, p.hop)
        squares[:-1] += self.window[: p.hop] ** 2
        squares[1:] += self.window[p.hop :] ** 2
        self.scale = torch.where(squares > 1e-30, 1 / squares, 1.0)

    def __call__(self, t: int, rows: torch.Tensor) -> None:
        """Add the frames of these rows, the first of which is frame t."""
        n = len(rows)
        frames = torch.fft.irfft(rows, n=self.n_fft, out=self.frames[:n]).mul_(self.window)
        self.sums[t : t + n] += frames[:, : self.hop]
        self.sums[t + 1 : t + n + 1] += frames[:, self.hop :]

    def finish(self) -> NDArray[Any]:
        """Return the samples of all slices."""
        audio = self.sums.mul_(self.scale).view(-1)
        return audio[self.hop :][: self.length].numpy()


def istft_tuned(p: Problem) -> Answer:
    """Slices through `TunedIstft`."""
    synthesis, X = TunedIstft(p), torch.from_numpy(p.X.T)

    def run() -> NDArray[Any]:
        synthesis.sums.zero_()
        for t in range(0, len(X), SLICE):
            synthesis(t, X[t : t + SLICE])
        return synthesis.finish()

    return run


def istft_librosa(p: Problem) -> Answer:
    """librosa.istft."""
    import librosa

    return lambda: librosa.istft(p.X, hop_length=p.hop, length=p.y.size)


def log_mel_librosa(p: Problem) -> Answer:
    """NumPy and librosa.power_to_db."""
    import librosa

    bands = mel_filters(SAMPLE_RATE, p.n_fft, 128, 0.0, SAMPLE_RATE / 2).T
    return lambda: librosa.power_to_db(bands @ np.abs(p.X), top_db=None)


def log_mel_tuned(p: Problem) -> Answer:
    """torch, slice by slice."""
    bands = torch.from_numpy(mel_filters(SAMPLE_RATE, p.n_fft, 128, 0.0, SAMPLE_RATE / 2).copy())
    X = torch.view_as_real(torch.from_numpy(p.X.T))
    magnitude, mel = torch.empty(SLICE, X.shape[1]), torch.empty(X.shape[0], 128)
    scratch = torch.empty_like(magnitude)

    def run() -> NDArray[Any]:
        for t in range(0, len(X), SLICE):
            x, out = X[t : t + SLICE], mel[t : t + SLICE]
            a, b = magnitude[: len(x)], scratch[: len(x)]
            torch.mul(x[..., 0], x[..., 0], out=a)
            torch.mul(x[..., 1], x[..., 1], out=b)
            torch.matmul(a.add_(b).sqrt_(), bands, out=out)
            out.clamp_(min=1e-10).log10_().mul_(10)
        return mel.numpy().T

    return run


def analyze_tuned(p: Problem) -> Answer:
    """The spectrum, log(1 + |X|) and mel decibels, frame-major."""
    padded, window = torch.zeros(p.y.size + p.n_fft), torch.from_numpy(p.window)
    y, frames = torch.from_numpy(p.y), padded.unfold(0, p.n_fft, p.hop)
    bands = torch.from_numpy(mel_filters(SAMPLE_RATE, p.n_fft, 128, 0.0, SAMPLE_RATE / 2).copy())
    T, n_bins = len(frames), p.n_fft // 2 + 1
    X, V, mel = torch.empty(T, n_bins, dtype=torch.complex64), torch.empty(T, n_bins), torch.empty(T, 128)
    buffer, scratch = torch.empty(SLICE, p.n_fft), torch.empty(SLICE, n_bins)

    def run() -> tuple[NDArray[Any], ...]:
        padded[p.n_fft // 2 : -p.n_fft // 2] = y
        for t in range(0, T, SLICE):
            rows, magnitude, decibels = X[t : t + SLICE], V[t : t + SLICE], mel[t : t + SLICE]
            torch.fft.rfft(torch.mul(frames[t : t + SLICE], window, out=buffer[: len(rows)]), out=rows)
            x, b = torch.view_as_real(rows), scratch[: len(rows)]
            torch.mul(x[..., 0], x[..., 0], out=magnitude)
            torch.mul(x[..., 1], x[..., 1], out=b)
            torch.matmul(magnitude.add_(b).sqrt_(), bands, out=decibels)
            decibels.clamp_(min=1e-10).log10_().mul_(10)
            magnitude.log1p_()
        return X.numpy().T, V.numpy().T, mel.numpy().T

    return run


def analyze_librosa(p: Problem) -> Answer:
    """The same with librosa, as in the published code."""
    import librosa

    bands = mel_filters(SAMPLE_RATE, p.n_fft, 128, 0.0, SAMPLE_RATE / 2).T

    def run() -> tuple[NDArray[Any], ...]:
        X = librosa.stft(p.y, n_fft=p.n_fft, hop_length=p.hop)
        magnitude = np.abs(X)
        return X, np.log1p(magnitude), librosa.power_to_db(bands @ magnitude, top_db=None)

    return run


def soft_mask_torch(p: Problem) -> Answer:
    """Both products in full, phase and magnitude separately."""
    X, W, H, weights = (torch.from_numpy(a) for a in (p.X, p.W, p.H, p.weights))

    def run() -> NDArray[Any]:
        mask = (W * weights) @ H / (1e-6 + W @ H)
        magnitude = torch.expm1(mask * torch.log1p(X.abs()))
        return torch.polar(magnitude, X.angle()).numpy()

    return run


class TunedMask:
    """The product of the denominator in full, that of the numerator over the selected columns; the rest in place."""

    def __init__(self, p: Problem) -> None:
        selected = np.flatnonzero(p.weights)
        self.W = torch.from_numpy(p.W.T.copy())
        self.H = torch.from_numpy(p.H.T.copy())
        self.W_part = self.W[selected] * torch.from_numpy(p.weights[selected])[:, None]
        self.H_part = self.H[:, selected].contiguous()
        self.X = torch.view_as_real(torch.from_numpy(p.X.T))
        self.buffers = [torch.empty(SLICE, p.X.shape[0]) for _ in range(4)]

    def __call__(self, t: int, out: torch.Tensor) -> None:
        """Write the masked rows from t on to `out`, (frames, bins, 2)."""
        n = len(out)
        mask, whole, a, b = (buffer[:n] for buffer in self.buffers)
        x = self.X[t : t + n]
        torch.matmul(self.H_part[t : t + n], self.W_part, out=mask)
        torch.matmul(self.H[t : t + n], self.W, out=whole)
        mask.div_(whole.add_(1e-6))
        torch.mul(x[..., 0], x[..., 0], out=a)
        torch.mul(x[..., 1], x[..., 1], out=b)
        a.add_(b).sqrt_()
        torch.log1p(a, out=b)
        mask.mul_(b).expm1_().div_(a.clamp_(min=1e-30))
        torch.mul(x, mask.unsqueeze(-1), out=out)


def soft_mask_tuned(p: Problem) -> Answer:
    """Slices through `TunedMask`."""
    mask = TunedMask(p)
    Y = torch.empty_like(mask.X)

    def run() -> NDArray[Any]:
        for t in range(0, len(Y), SLICE):
            mask(t, Y[t : t + SLICE])
        return torch.view_as_complex(Y).numpy().T

    return run


def decode_tuned(p: Problem) -> Answer:
    """Slices through `TunedMask` and `TunedIstft`."""
    mask, synthesis = TunedMask(p), TunedIstft(p)
    buffer = torch.empty(SLICE, *mask.X.shape[1:])

    def run() -> NDArray[Any]:
        synthesis.sums.zero_()
        for t in range(0, len(mask.X), SLICE):
            rows = buffer[: len(mask.X) - t]
            mask(t, rows)
            synthesis(t, torch.view_as_complex(rows))
        return synthesis.finish()

    return run


def decode_torch(p: Problem) -> Answer:
    """`soft_mask_torch` and torch.istft."""
    masked, window = soft_mask_torch(p), torch.from_numpy(p.window)
    return lambda: torch.istft(torch.from_numpy(masked()), p.n_fft, p.hop, window=window, length=p.y.size).numpy()


def decode_loop(p: Problem, audible: bool = False) -> Answer:
    """Sum one selected component after another in float64, as the published code does to judge an interpretation."""
    import librosa

    V, phase = np.log1p(np.abs(p.X)), np.exp(1j * np.angle(p.X))

    def sound(part: NDArray[Any]) -> NDArray[Any]:
        y: NDArray[Any] = librosa.istft((np.exp(part) - 1) * phase, hop_length=p.hop, length=p.y.size)
        return y

    def run() -> NDArray[Any]:
        total = np.zeros(V.shape)
        for k in np.flatnonzero(p.weights).tolist():
            # The published code computes W H again for every component.
            part = V * (np.outer(p.W[:, k], p.H[k]) / (1e-6 + np.dot(p.W, p.H)))
            if audible:
                part = part.astype(np.float64)
                sound(part)
            total += part
        return sound(total)

    return run


def decode_loop_audible(p: Problem) -> Answer:
    """`decode_loop` with the sound of every component, as the published code does to explain a prediction."""
    return decode_loop(p, audible=True)
