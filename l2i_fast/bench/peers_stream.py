"""A hop of a stream in NumPy and in torch: all memory that can be reused is, and torch flushes denormals.

A push of one hop completes one frame and returns a hop of samples, `n_fft` samples behind the newest, as ours does. It
is a view that the next push overwrites.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from l2i_fast.arrays import Float32
from l2i_fast.bench.hops import CHUNK, Hops, split
from l2i_fast.bench.problem import Problem

#: Frames that the buffers take before the newest one moves to the front.
FRAMES = 16
#: Least initial activations, relative to W' v, and least magnitudes in a division.
START, TINY = 1e-3, 1e-30


class Buffers:
    """The newest samples and the sums of frames, and views of both for each position of a frame.

    `first` holds the samples before the first push, fewer than n_fft.
    """

    def __init__(self, n_fft: int, hop: int, first: Float32) -> None:
        self.n_fft = n_fft
        self.samples, self.sums = np.zeros((2, n_fft + FRAMES * hop), np.float32)
        self.samples[n_fft - first.size : n_fft] = first
        starts = range(hop, (FRAMES + 1) * hop, hop)
        self.newest = [self.samples[s + n_fft - hop : s + n_fft] for s in starts]
        self.frames = [self.samples[s : s + n_fft] for s in starts]
        self.open = [self.sums[s : s + n_fft] for s in starts]
        self.ready = [self.sums[s - hop : s] for s in starts]
        self.position = -1

    def advance(self) -> int:
        """Return the position of the next frame."""
        self.position += 1
        if self.position == FRAMES:
            self.position = 0
            self.samples[: self.n_fft] = self.samples[-self.n_fft :]
            self.sums[: self.n_fft] = self.sums[-self.n_fft :]
            self.sums[self.n_fft :] = 0
        return self.position


def synthesis_window(window: Float32, hop: int) -> Float32:
    """Return the window over the sum of the squared windows that overlap in the middle of a signal."""
    squares = (window.astype(np.float64) ** 2).reshape(-1, hop).sum(0)
    synthesis: Float32 = (window / np.tile(squares, window.size // hop)).astype(np.float32)
    return synthesis


def stream_numpy(p: Problem, n_iter: int) -> Hops:
    """NumPy in float32: SciPy's forward FFT and NumPy's inverse, which are the faster ones."""
    n_fft, K = p.n_fft, p.W.shape[1]
    first, blocks = split(p)
    buffers = Buffers(n_fft, p.hop, first)
    window, synthesis = p.window, synthesis_window(p.window, p.hop)
    selected = np.flatnonzero(p.weights)
    W, W_part = p.W, np.asfortranarray(p.W[:, selected] * p.weights[selected])
    gram = p.W.T @ p.W
    h, b, quotient = np.zeros((3, K), np.float32)
    part = np.empty(selected.size, np.float32)
    frame = np.empty(n_fft, np.float32)
    magnitude, log, mask, whole = np.empty((4, len(p.W)), np.float32)
    eps, start, tiny = (np.array(value, np.float32) for value in (1e-6, START, TINY))  # faster than Python's numbers

    def push(block: Float32, given: Float32 | None = None) -> Float32:
        i = buffers.advance()
        np.copyto(buffers.newest[i], block)
        np.multiply(buffers.frames[i], window, out=frame)
        X = scipy.fft.rfft(frame)
        np.abs(X, out=magnitude)
        np.log1p(magnitude, out=log)
        if given is None:
            np.dot(W.T, log, out=b)
            np.maximum(h, np.multiply(b, start, out=quotient), out=h)
            for _ in range(n_iter):
                np.dot(gram, h, out=quotient)
                np.divide(b, quotient, out=quotient)
                np.multiply(h, quotient, out=h)
            given = h
        np.dot(W, given, out=whole)
        np.add(whole, eps, out=whole)
        given.take(selected, out=part, mode="clip")
        np.dot(W_part, part, out=mask)
        np.divide(mask, whole, out=mask)
        np.multiply(mask, log, out=mask)
        np.expm1(mask, out=mask)
        np.divide(mask, np.maximum(magnitude, tiny, out=magnitude), out=mask)
        np.multiply(X, mask, out=X)
        np.fft.irfft(X, n_fft, out=frame)  # type: ignore[arg-type]  # accepts float32, too
        np.multiply(frame, synthesis, out=frame)
        np.add(buffers.open[i], frame, out=buffers.open[i])
        return buffers.ready[i]

    return Hops(push, blocks, [None] * CHUNK if n_iter else p.H.T[:CHUNK])


@torch.inference_mode()
def stream_torch(p: Problem, n_iter: int) -> Hops:
    """torch: MKL's FFT, products fused with sums where torch can."""
    n_fft, K = p.n_fft, p.W.shape[1]
    first, blocks = split(p)
    buffers = Buffers(n_fft, p.hop, first)
    newest, frames, sums, ready = (
        [torch.from_numpy(view) for view in views]
        for views in (buffers.newest, buffers.frames, buffers.open, buffers.ready)
    )
    window, synthesis = (torch.from_numpy(w) for w in (p.window, synthesis_window(p.window, p.hop)))
    W, selected = torch.from_numpy(p.W), torch.from_numpy(np.flatnonzero(p.weights))
    W_part = W[:, selected] * torch.from_numpy(p.weights)[selected]
    columns, gram = W.T, W.T @ W
    h, b, quotient = torch.zeros(3, K)
    part = torch.empty(len(selected))
    frame, X = torch.empty(n_fft), torch.empty(len(W), dtype=torch.complex64)
    pairs = torch.view_as_real(X)
    real, imaginary = pairs.unbind(1)
    magnitude, log, mask, whole = torch.empty(4, len(W))
    wide, eps = mask[:, None], torch.full((len(W),), 1e-6)

    def push(block: Tensor, given: Tensor | None = None) -> Tensor:
        i = buffers.advance()
        newest[i].copy_(block)
        torch.mul(frames[i], window, out=frame)
        torch.fft.rfft(frame, out=X)
        torch.hypot(real, imaginary, out=magnitude)
        torch.log1p(magnitude, out=log)
        if given is None:
            torch.mv(columns, log, out=b)
            torch.maximum(h, torch.mul(b, START, out=quotient), out=h)
            for _ in range(n_iter):
                torch.mv(gram, h, out=quotient)
                torch.div(b, quotient, out=quotient)
                h.mul_(quotient)
            given = h
        torch.addmv(eps, W, given, out=whole)
        torch.index_select(given, 0, selected, out=part)
        torch.mv(W_part, part, out=mask)
        mask.div_(whole).mul_(log).expm1_().div_(magnitude.clamp_(min=TINY))
        pairs.mul_(wide)
        torch.fft.irfft(X, n_fft, out=frame)
        sums[i].addcmul_(frame, synthesis)
        return ready[i]

    given = [None] * CHUNK if n_iter else list(torch.from_numpy(p.H.T[:CHUNK]))
    return Hops(push, list(torch.from_numpy(blocks)), given, torch.inference_mode)
