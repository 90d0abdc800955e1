"""Every operation in plain torch, on any device: for calls that neither CUDA C++ nor Triton takes, and for comparison.

All tensors of a call are on one device, checked, float32 or complex64, and frame-major: clips (B, N), spectra
(B, T, F), activations (B, T, K), weights (B, K), dictionary (F, K). The precision of matrix products follows torch's
own setting (`torch.backends.cuda.matmul.allow_tf32`, False by default).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from l2i_fast.arrays import TINY, Device
from l2i_fast.backends.live_streams import FADE, LEAST, Plan, State, Tick
from l2i_fast.defaults import default_settings

#: Larger magnitudes count as this, as in kernels/cpu/magnitude.h.
LARGEST_MAGNITUDE = 1.2e38
#: Least value of W H in logarithms and negative powers, and what replaces denominators of 0: scikit-learn's.
FLOOR = float(np.finfo(np.float32).eps)


def refuses(operation: str, device: Device, n_fft: int = 0, K: int = 0) -> str:
    """Say why torch does not take a call, or return an empty string: it takes every tensor."""
    return "" if device is not None else "torch takes tensors, not NumPy arrays"


def stft(clips: Tensor, window: Tensor, hop: int, pad: int) -> Tensor:
    """Spectra (B, T, F) of clips (B, N), padded by `pad` zeros at both ends."""
    frames = F.pad(clips, (pad, pad)).unfold(-1, window.numel(), hop)
    rows: Tensor = torch.fft.rfft(frames * window)
    return rows


def istft(rows: Tensor, window: Tensor, hop: int, start: int, length: int) -> Tensor:
    """Samples (B, length), from position `start` on, of the overlap-add of spectra (B, T, F)."""
    if not len(rows):  # which torch refuses
        return window.new_empty((0, length))
    n_fft = window.numel()
    rows = rows[:, : max(1, -(-(start + length) // hop))]  # the others begin later
    frames = torch.fft.irfft(rows, n=n_fft) * window
    size = n_fft + hop * (rows.shape[1] - 1)
    y = _overlap_add(frames, hop, size) / _squares(window, hop, rows.shape[1], size)
    return F.pad(y, (0, max(0, start + length - size)))[:, start : start + length]


@default_settings()
def log_mel(rows: Tensor, bands: Tensor, amin: float) -> Tensor:
    """Decibels (B, T, M) of spectra (B, T, F), for mel bands (F, M)."""
    return 10 * torch.log10(torch.clamp(_magnitude(rows) @ bands, min=amin))


def analyze(
    clips: Tensor, window: Tensor, hop: int, pad: int, bands: Tensor, amin: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Spectra X (B, T, F), log1p(abs(X)), and decibels (B, T, M)."""
    X = stft(clips, window, hop, pad)
    return X, torch.log1p(_magnitude(X)), log_mel(X, bands, amin)


@default_settings()
def soft_mask(X: Tensor, W: Tensor, H: Tensor, weights: Tensor, domain: str, eps: float) -> Tensor:
    """What the components weighted by (B, K) hold of X (B, T, F): complex64 of that shape."""
    mask = ((H * weights[:, None]) @ W.T) / (eps + H @ W.T)
    if domain == "wiener":
        mask = _wiener(mask)
    if domain != "log":
        return mask * X
    a = _magnitude(X)
    silent = a == 0
    return torch.where(silent, mask, torch.expm1(mask * torch.log1p(a)) / torch.where(silent, 1, a)) * X


def _wiener(mask: Tensor) -> Tensor:
    wanted, rest = mask.square().square(), (1 - mask).square().square()
    return wanted / (wanted + rest)


@default_settings()
def soft_mask_gradient(
    X: Tensor, W: Tensor, H: Tensor, weights: Tensor, domain: str, eps: float, dY: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of H (B, T, K) and weights (B, K) from that of the masked spectra (B, T, F)."""
    with torch.enable_grad():
        h, w = (x.detach().requires_grad_() for x in (H, weights))
        dH, dweights = torch.autograd.grad(soft_mask(X, W, h, w, domain, eps), (h, w), dY)
    return dH, dweights


def decode(
    X: Tensor,
    W: Tensor,
    H: Tensor,
    weights: Tensor,
    domain: str,
    eps: float,
    window: Tensor,
    hop: int,
    start: int,
    length: int,
) -> Tensor:
    """Samples (B, length) of the masked spectra."""
    return istft(soft_mask(X, W, H, weights, domain, eps), window, hop, start, length)


def decode_gradient(
    X: Tensor,
    W: Tensor,
    H: Tensor,
    weights: Tensor,
    domain: str,
    eps: float,
    window: Tensor,
    hop: int,
    start: int,
    dy: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of H (B, T, K) and weights (B, K) from that of the samples (B, length)."""
    return soft_mask_gradient(X, W, H, weights, domain, eps, istft_adjoint(dy, window, hop, start, X.shape[1]))


def istft_adjoint(dy: Tensor, window: Tensor, hop: int, start: int, n_frames: int) -> Tensor:
    """Gradients of the spectra (B, T, F), by real and imaginary part, from that of the samples (B, length)."""
    n_fft, later = window.numel(), n_frames - max(1, -(-(start + dy.shape[1]) // hop))
    n_frames -= max(0, later)
    size = n_fft + hop * (n_frames - 1)
    samples = F.pad(dy, (start, max(0, size - start - dy.shape[1])))[:, :size]
    rows = stft(samples / _squares(window, hop, n_frames, size), window, hop, 0) * (2 / n_fft)
    ends = rows[..., :1] if n_fft % 2 else rows[..., :: n_fft // 2]  # counted once, and without their imaginary parts
    ends.copy_(ends.real / 2)
    return F.pad(rows, (0, 0, 0, max(0, later)))  # frames that begin later


@default_settings()
def nmf_update_H(
    V: Tensor,
    mask: Tensor | None,
    W: Tensor,
    H: Tensor,
    beta: float,
    l1: float,
    l2: float,
    n: int,
    lengths: Tensor | None = None,
) -> None:
    """Update H (T, K) in V (T, F) ~ H W' n times in place (Fevotte and Idier, 2011, table 2).

    With `lengths` (B,), V is (B, T, F) and H (B, T, K), and frames beyond a clip's length stay as they are.
    """
    if lengths is not None:
        new, beyond = H.clone(), torch.arange(H.shape[1], device=H.device) >= lengths[:, None]
        nmf_update_H(V.flatten(0, 1), mask, W, new.flatten(0, 1), beta, l1, l2, n)
        H.copy_(torch.where(beyond[..., None], H, new))
        return
    gram, sums, gamma = W.T @ W, W.sum(0), exponent(beta)
    fixed = V @ W if beta == 2 and mask is None else None
    for _ in range(n):
        if fixed is not None:
            numerator, denominator = fixed, H @ gram
        else:
            rise, fall = _ratios(V, mask, H @ W.T, beta)
            numerator, denominator = rise @ W, sums if fall is None else fall @ W
        denominator = denominator + l1 + l2 * H if l2 else denominator + l1
        H *= (numerator / torch.where(denominator == 0, FLOOR, denominator)) ** gamma


@default_settings()
def nmf_gather(V: Tensor, mask: Tensor | None, W: Tensor, H: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Return the sums over frames that the update of W needs, in float64: numerator (F, K) and denominator.

    The denominator is H'H (K, K) for beta 2 and the sums of H (K,) for beta 1, both without mask, otherwise (F, K).
    """
    F_, K = W.shape
    numerator = V.new_zeros((F_, K), dtype=torch.float64)
    full = mask is not None or beta not in (1, 2)
    denominator = V.new_zeros((F_, K) if full else (K, K) if beta == 2 else (K,), dtype=torch.float64)
    for t in range(0, len(V), _BLOCK):  # in two levels: float32 within a block, float64 beyond
        v, h = V[t : t + _BLOCK], H[t : t + _BLOCK]
        m = None if mask is None else mask[t : t + _BLOCK]
        if beta == 2 and m is None:
            numerator += v.T @ h
            denominator += h.T @ h
        else:
            rise, fall = _ratios(v, m, h @ W.T, beta)
            numerator += rise.T @ h
            denominator += h.sum(0) if fall is None else fall.T @ h
    return numerator, denominator


def nmf_pass(
    V: Tensor,
    mask: Tensor | None,
    W: Tensor,
    H: Tensor,
    beta: float,
    l1: float,
    l2: float,
    n: int,
    measure: bool,
) -> tuple[Tensor, Tensor, float]:
    """Update H n times, and return the sums of `nmf_gather` and, if `measure`, the divergence (otherwise 0).

    The divergence is waited for.
    """
    if n:
        nmf_update_H(V, mask, W, H, beta, l1, l2, n)
    sums = nmf_gather(V, mask, W, H, beta)
    return *sums, float(nmf_divergence(V, mask, W, H, beta)) if measure else 0.0


@default_settings()
def nmf_update_W(
    W: Tensor,
    numerator: Tensor,
    denominator: Tensor,
    masked: bool,
    beta: float,
    l1: float,
    l2: float,
    n: int,
    fixed: Any = None,
) -> None:
    """Update W (F, K) n times in place from the sums of `nmf_gather`; components for which `fixed` (K,) holds stay."""
    stays = None if fixed is None else torch.as_tensor(fixed, device=W.device)
    gram = beta == 2 and not masked
    for _ in range(n):
        down = (W.double() @ denominator if gram else denominator) + l1 + l2 * W
        new = W * (numerator / torch.where(down == 0, FLOOR, down)) ** exponent(beta)
        W.copy_(new if stays is None else torch.where(stays, W, new))


@default_settings()
def nmf_divergence(V: Tensor, mask: Tensor | None, W: Tensor, H: Tensor, beta: float) -> Tensor:
    """Return D_beta(V | H W') of V (T, F) as a tensor without dimensions, float64 (Fevotte and Idier, 2011, eq. 3)."""
    total = V.new_zeros((), dtype=torch.float64)
    for t in range(0, len(V), _BLOCK):
        v, m = V[t : t + _BLOCK].double(), (H[t : t + _BLOCK] @ W.T).double()
        weights = None if mask is None else mask[t : t + _BLOCK].double()
        if weights is not None:
            v = torch.where(weights > 0, v, 0)
        safe = m.clamp(min=FLOOR)
        if beta <= 0:
            v = v.clamp(min=FLOOR)
        if beta == 0:
            d = v / safe - torch.log(v / safe) - 1
        elif beta == 1:
            d = torch.where(v > 0, v * torch.log(torch.where(v > 0, v, 1) / safe), 0) - v + m
        else:
            model = (m if beta > 0 else safe) ** beta
            d = v**beta + (beta - 1) * model - beta * v * (m if beta > 1 else safe) ** (beta - 1)
            d = d / (beta * (beta - 1))
        total += (d if weights is None else weights * d).sum()
    return total


def ticker(plan: Plan, state: State) -> Tick:
    """Return one hop of all streams as a function of samples, given activations and output."""
    return lambda blocks, H, out: tick(plan, state, blocks, H, out)


@default_settings()
def tick(plan: Plan, state: State, blocks: Tensor, H: Tensor | None, out: Tensor) -> None:
    """Advance all streams by one hop: kernels/cuda/stream.h states the formulas."""
    n_fft, hop = plan.n_fft, plan.hop
    ring = 2 * n_fft
    along = torch.arange(n_fft, device=blocks.device)
    hops = state.hops[:, None]
    first = hops * hop  # sample of each block
    state.input.scatter_(1, (first + along[:hop]) % ring, blocks)
    frame = hops - plan.lead
    heard = frame >= 0

    positions = frame * hop - n_fft // 2 + along
    samples = torch.where(positions >= 0, state.input.gather(1, positions % ring), 0)
    X = torch.fft.rfft(samples * plan.window)
    _fade(state, heard[:, 0], frame[:, 0])
    scale = state.scale[:, None]
    a = (X.abs().clamp(max=LARGEST_MAGNITUDE) / scale).clamp(max=LARGEST_MAGNITUDE)
    v = torch.log1p(a)
    if H is None:
        b = v @ plan.W
        h = torch.where(state.has_start[:, None] != 0, state.start, torch.maximum(state.h, LEAST * b))
        for _ in range(plan.n_iter):
            h = h * b / (h @ plan.gram).clamp(min=TINY)
    else:
        h = H
    mask = ((h * state.weights) @ plan.W.T) / (h @ plan.W.T + plan.eps)
    gain = mask
    if plan.domain == "log":
        gain = torch.where(a > 0, torch.expm1(mask * v) / a, mask)
    elif plan.domain == "wiener":
        gain = _wiener(mask)
    y = torch.fft.irfft(X * gain, n=n_fft) * plan.window

    at = positions % ring
    before = state.sums.gather(1, at)
    begins = (frame == 0) | (along >= n_fft - hop)  # the first frame that reaches a sample
    state.sums.scatter_(1, at, torch.where(heard, torch.where(begins, y, before + y), before))
    state.h.copy_(torch.where(heard, h, state.h))

    positions = first - n_fft + along[:hop]
    newest = torch.div(positions + n_fft // 2, hop, rounding_mode="floor")
    norm = plan.norms[newest.clamp(0, len(plan.norms) - 1), (positions + n_fft // 2) % hop]
    sums = state.sums.gather(1, positions % ring)
    out.copy_(torch.where(positions >= 0, sums / torch.where(norm > TINY, norm, 1), 0))
    state.hops.add_(1)


def _fade(state: State, heard: Tensor, frame: Tensor) -> None:
    # The mask in force approaches the published one: by a quarter, a third, half of the rest, and all of it.
    fresh = heard & (state.fresh != 0)
    audible = (state.weights != 0).any(1)
    fading = torch.where(fresh, torch.where(frame == 0, 1, FADE), state.fading)
    # Where nothing is audible yet, nothing can jump.
    scale = torch.where(fresh & ~audible, state.next_scale, state.scale)
    start = torch.where((fresh & (state.has_start == 0))[:, None], state.next_start, state.start)
    has_start = torch.where(fresh, state.next_has_start, state.has_start)
    share = torch.where(heard & (fading > 0), 1 / fading.clamp(min=1).float(), 0)
    ends = share == 1
    scale = torch.where(ends, state.next_scale, scale * (state.next_scale / scale) ** share)

    def faded(now: Tensor, then: Tensor) -> Tensor:
        return torch.where(ends[:, None], then, now + share[:, None] * (then - now))

    state.weights.copy_(faded(state.weights, state.next_weights))
    state.start.copy_(faded(start, state.next_start))
    state.scale.copy_(scale)
    state.has_start.copy_(has_start)
    state.fading.copy_(torch.where(heard, (fading - 1).clamp(min=0), state.fading))
    state.fresh.copy_(torch.where(heard, 0, state.fresh))


def exponent(beta: float) -> float:
    """Exponent of the quotient of a multiplicative update (Fevotte and Idier, 2011, equation 58)."""
    return 1 / (2 - beta) if beta < 1 else 1 / (beta - 1) if beta > 2 else 1.0


#: Frames whose model is in memory at a time.
_BLOCK = 16384


def _ratios(V: Tensor, mask: Tensor | None, model: Tensor, beta: float) -> tuple[Tensor, Tensor | None]:
    # What numerator and denominator multiply with the other factor; None stands for ones.
    safe = model.clamp(min=FLOOR)
    v = V if mask is None else torch.where(mask > 0, V, 0) * mask
    rise = v / safe if beta == 1 else v / safe / safe if beta == 0 else v * (safe if beta < 2 else model) ** (beta - 2)
    fall = 1 / safe if beta == 0 else (safe if beta < 1 else model) ** (beta - 1) if beta != 1 else None
    if mask is not None:
        fall = mask if fall is None else fall * mask
    return rise, fall


def _magnitude(X: Tensor) -> Tensor:
    return X.abs().clamp(max=LARGEST_MAGNITUDE)


def _overlap_add(frames: Tensor, hop: int, size: int) -> Tensor:
    # fold adds in a fixed order, so the same input gives the same bits, which scatter_add would not.
    columns = frames.transpose(1, 2)
    return F.fold(columns, (1, size), (1, frames.shape[2]), stride=(1, hop))[:, 0, 0]


def _squares(window: Tensor, hop: int, n_frames: int, size: int) -> Tensor:
    squares = _overlap_add((window.double() ** 2).expand(1, n_frames, -1), hop, size)[0]
    return torch.where(squares > TINY, squares, 1).to(window.dtype)
