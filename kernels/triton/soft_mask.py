"""Soft mask of a spectrum from a dictionary, activations and component weights, and its gradients.

    m[t, f] = P / S,  P = sum_k weight_k W[f, k] h[t, k],  S = eps + sum_k W[f, k] h[t, k]
    Y[t, f] = g X[t, f],  g = expm1(m log1p(a)) / a with a = |X[t, f]| (m where a = 0),
                           or g = m, or g = m^4 / (m^4 + (1 - m)^4)

and for dg = Re(conj(dY) X), which goes through W once more:

    dP = dg dg/dm / S,  dg/dm = log1p(a) exp(m log1p(a)) / a (1 where a = 0), or 1,
    or 4 m^3 (1 - m)^3 / (m^4 + (1 - m)^4)^2;  dS = -m dP
    dh[t, k] = sum_f W[f, k] (weight_k dP + dS),  dweight_k = sum_t h[t, k] sum_f W[f, k] dP

A program handles a block of frames x bins. Both sums stay in registers and are used at once: neither W H nor the mask
is stored. Only components of non-zero weight enter P: each program finds them by counting, 16 at a time, and reads
their columns, so the host does not need their number. A complex number is one load and one store of 64 bits, the
alignment of rows of 513. The gradient runs over all bins of its frames; a tile's share of dweight is a row of float32
numbers, which are added over the tiles in float64, in order.

dtypes: float32; spectra are frame-major complex64, as int64. Outer strides may be 0; that of H is counted in frames,
so that the compiler can derive the alignment of its rows from K.
Precision: by PRECISION, sums over k in blocks of 32; emulated in NumPy on random input, relative in L2: "tf32x3" 2e-7
to 9e-7, as float32; "tf32" 3e-4 to 4e-4; "bf16" 2e-3 to 4e-3. Magnitudes as in kernels/cpu/magnitude.h.
Cost, estimated for 64 clips of 5 s (27,584 frames of 513 bins, K = 100) on an H100, not measured: X and H in and Y out
are 237 MB, 80 us at 3 TB/s. Products: 3.6 GFLOP for S, 0.5 for every 16 components in P, three times in tf32x3: 12
GFLOP, 30 us on tensor cores. About 130 instructions per bin, most of them for the gain: 65 us if the schedulers never
stall. Memory and instructions take about the same time, so two to four programs on a multiprocessor must overlap them.
The gradient reads 238 MB and takes 310 instructions per bin: 150 us, and more with one program of 8 warps on each
multiprocessor.
"""

import triton
import triton.language as tl

from .arithmetic import dot_parts, expm1, log1p, split

#: Squares are clipped to these limits; magnitudes above 2^60 are scaled by 2^-65 first, so 1.2e38 is the largest.
LEAST_SQUARE = tl.constexpr(1.1754944e-38)
LARGEST_SQUARE = tl.constexpr(1.0579e37)

#: Arguments that are not specialised: values of 1 and multiples of 16 would be compiled separately.
VARYING = ["X_stride", "H_frames", "weights_stride", "n_frames"]


@triton.jit
def parts(x):
    """Return real and imaginary parts of complex numbers that were loaded as 64-bit integers."""
    re = (x & 0xFFFFFFFF).to(tl.int32).to(tl.float32, bitcast=True)
    im = (x >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    return re, im


@triton.jit
def whole(re, im):
    """Return complex numbers as 64-bit integers."""
    low = re.to(tl.int32, bitcast=True).to(tl.int64) & 0xFFFFFFFF
    return low | (im.to(tl.int32, bitcast=True).to(tl.int64) << 32)


@triton.jit
def magnitude(re, im):
    """Return magnitude and inverse, within limits at which the gain and its slope still have their values at 0."""
    large = tl.maximum(tl.abs(re), tl.abs(im)) > 1.152921504606847e18
    re = tl.where(large, re * 2.710505431213761e-20, re)
    im = tl.where(large, im * 2.710505431213761e-20, im)
    square = tl.minimum(tl.maximum(re * re + im * im, LEAST_SQUARE), LARGEST_SQUARE)
    inverse = tl.rsqrt(square)
    a = square * inverse
    return tl.where(large, a * 3.6893488147419103e19, a), tl.where(large, inverse * 2.710505431213761e-20, inverse)


@triton.jit
def gain(m, re, im, DOMAIN: tl.constexpr):
    """Return the real gain that the mask m gives to complex numbers."""
    g = m
    if DOMAIN == "wiener":
        square, rest = m * m, (1.0 - m) * (1.0 - m)
        g = square * square / (square * square + rest * rest)
    if DOMAIN == "log":
        a, inverse = magnitude(re, im)
        g = expm1(m * log1p(a)) * inverse
    return g


@triton.jit
def slope(m, re, im, DOMAIN: tl.constexpr):
    """Return the derivative of `gain` with respect to the mask."""
    d = tl.full(m.shape, 1.0, tl.float32)
    if DOMAIN == "wiener":
        square, rest = m * m, (1.0 - m) * (1.0 - m)
        powers = square * square + rest * rest
        d = 4.0 * square * rest * m * (1.0 - m) / (powers * powers)
    if DOMAIN == "log":
        a, inverse = magnitude(re, im)
        logarithm = log1p(a)
        d = (expm1(m * logarithm) + 1.0) * inverse * logarithm
    return d


@triton.jit
def selection(weights, K: tl.constexpr, K_PADDED: tl.constexpr):
    """Return, for each component, the number of non-zero weights up to it, and their total number."""
    k = tl.arange(0, K_PADDED)
    counts = tl.cumsum((tl.load(weights + k, mask=k < K, other=0.0) != 0).to(tl.int32), 0)
    return counts, tl.max(counts, 0)


@triton.jit
def mask(
    W,
    H,
    weights,
    counts,
    n_selected,
    t,
    f,
    inside,
    eps,
    F: tl.constexpr,
    K: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return the mask, and its denominator, of the frames t and bins f of one clip, with its H and weights.

    Beyond the last bin, and in frames that are not inside, they are 0 and eps.
    """
    in_t, in_f = inside[:, None], (f < F)[:, None]
    h_rows, w_rows = H + t[:, None] * K, W + f[:, None] * K
    total = tl.zeros((t.shape[0], f.shape[0]), tl.float32)
    for first in tl.range(0, K, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)[None, :]
        h, h_low = split(tl.load(h_rows + k, mask=in_t & (k < K), other=0.0), PRECISION)
        w, w_low = split(tl.load(w_rows + k, mask=in_f & (k < K), other=0.0), PRECISION)
        total = dot_parts(h, h_low, w.T, w_low.T, total, PRECISION)
    total += eps
    kept = tl.zeros((t.shape[0], f.shape[0]), tl.float32)
    first = 0
    while first < n_selected:
        # Component number i of those with a weight is the first one whose count is i + 1.
        i = first + tl.arange(0, 16)
        k = tl.sum((counts[:, None] <= i[None, :]).to(tl.int32), 0)
        weight = tl.load(weights + k, mask=k < K, other=0.0)[None, :]
        k = k[None, :]
        h, h_low = split(tl.load(h_rows + k, mask=in_t & (k < K), other=0.0) * weight, PRECISION)
        w, w_low = split(tl.load(w_rows + k, mask=in_f & (k < K), other=0.0), PRECISION)
        kept = dot_parts(h, h_low, w.T, w_low.T, kept, PRECISION)
        first += 16
    return kept / total, total


@triton.jit
def _mask_tile(
    X,
    W,
    H,
    weights,
    Y,
    counts,
    n_selected,
    t,
    f,
    n_frames,
    eps,
    F: tl.constexpr,
    K: tl.constexpr,
    BLOCK_K: tl.constexpr,
    DOMAIN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    # Y of the frames t and bins f.
    m, _ = mask(W, H, weights, counts, n_selected, t, f, t < n_frames, eps, F, K, BLOCK_K, PRECISION)
    at = t[:, None] * F + f[None, :]
    inside = (t < n_frames)[:, None] & (f < F)[None, :]
    re, im = parts(tl.load(X + at, mask=inside, other=0))
    g = gain(m, re, im, DOMAIN)
    tl.store(Y + at, whole(g * re, g * im), mask=inside)


@triton.jit(do_not_specialize=VARYING)
def soft_mask(
    X,
    W,
    H,
    weights,
    Y,
    X_stride,
    H_frames,
    weights_stride,
    n_frames,
    eps,
    F: tl.constexpr,
    K: tl.constexpr,
    K_PADDED: tl.constexpr,
    DOMAIN: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_F: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Compute Y of a block of frames x bins; blocks of bins are innermost in the grid, so that they share h in L2."""
    n_blocks: tl.constexpr = (F + BLOCK_F - 1) // BLOCK_F
    REST: tl.constexpr = 16 if (F - 1) % BLOCK_F < 16 else BLOCK_F  # bins of the last block: 513 = 8 x 64 + 1
    n_tiles = tl.cdiv(n_frames, BLOCK_T)
    block = tl.program_id(0) % n_blocks
    tile = tl.program_id(0) // n_blocks
    clip = (tile // n_tiles).to(tl.int64)
    first_frame = (tile % n_tiles * BLOCK_T).to(tl.int64)
    t = tl.arange(0, BLOCK_T)
    X += clip * X_stride + first_frame * F
    H += (clip * H_frames + first_frame) * K
    Y += (clip * n_frames + first_frame) * F
    weights += clip * weights_stride
    n_frames = tl.minimum(n_frames - first_frame, BLOCK_T).to(tl.int32)
    counts, n_selected = selection(weights, K, K_PADDED)
    if REST == BLOCK_F or block < n_blocks - 1:
        whole_block = block * BLOCK_F + tl.arange(0, BLOCK_F)
        _mask_tile(
            X, W, H, weights, Y, counts, n_selected, t, whole_block, n_frames, eps, F, K, BLOCK_K, DOMAIN, PRECISION
        )
    else:
        rest = block * BLOCK_F + tl.arange(0, REST)
        _mask_tile(X, W, H, weights, Y, counts, n_selected, t, rest, n_frames, eps, F, K, BLOCK_K, DOMAIN, PRECISION)


@triton.jit
def _accumulate(
    X,
    W,
    H,
    weights,
    dY,
    by_part,
    by_whole,
    counts,
    n_selected,
    t,
    f,
    n,
    n_frames,
    eps,
    F: tl.constexpr,
    K: tl.constexpr,
    BLOCK_K: tl.constexpr,
    DOMAIN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    # Adds the contribution of the bins f to the sums of dP W and dS W, for the frames t and components n.
    m, total = mask(W, H, weights, counts, n_selected, t, f, t < n_frames, eps, F, K, BLOCK_K, PRECISION)
    at = t[:, None] * F + f[None, :]
    inside = (t < n_frames)[:, None] & (f < F)[None, :]
    re, im = parts(tl.load(X + at, mask=inside, other=0))
    d_re, d_im = parts(tl.load(dY + at, mask=inside, other=0))
    d_part = (re * d_re + im * d_im) * slope(m, re, im, DOMAIN) / total
    w, w_low = split(
        tl.load(W + f[:, None] * K + n[None, :], mask=(f < F)[:, None] & (n < K)[None, :], other=0.0), PRECISION
    )
    d, d_low = split(d_part, PRECISION)
    by_part = dot_parts(d, d_low, w, w_low, by_part, PRECISION)
    d, d_low = split(-m * d_part, PRECISION)
    by_whole = dot_parts(d, d_low, w, w_low, by_whole, PRECISION)
    return by_part, by_whole


@triton.jit(do_not_specialize=VARYING)
def soft_mask_gradient(
    X,
    W,
    H,
    weights,
    dY,
    dH,
    shares,
    X_stride,
    H_frames,
    weights_stride,
    n_frames,
    eps,
    F: tl.constexpr,
    K: tl.constexpr,
    K_PADDED: tl.constexpr,
    DOMAIN: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_F: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Compute dH of a tile of frames, and its share of dweights, for a block of components."""
    n_tiles = tl.cdiv(n_frames, BLOCK_T)
    tile = tl.program_id(0)
    clip = (tile // n_tiles).to(tl.int64)
    first_frame = (tile % n_tiles * BLOCK_T).to(tl.int64)
    t = tl.arange(0, BLOCK_T)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    X += clip * X_stride + first_frame * F
    H += (clip * H_frames + first_frame) * K
    dY += (clip * n_frames + first_frame) * F
    dH += (clip * n_frames + first_frame) * K
    weights += clip * weights_stride
    n_frames = tl.minimum(n_frames - first_frame, BLOCK_T).to(tl.int32)
    counts, n_selected = selection(weights, K, K_PADDED)
    by_part = tl.zeros((BLOCK_T, BLOCK_N), tl.float32)
    by_whole = tl.zeros((BLOCK_T, BLOCK_N), tl.float32)
    REST: tl.constexpr = 16 if (F - 1) % BLOCK_F < 16 else BLOCK_F
    FULL: tl.constexpr = F // BLOCK_F * BLOCK_F
    for first in tl.range(0, FULL, BLOCK_F, num_stages=1, disable_licm=True):
        f = first + tl.arange(0, BLOCK_F)
        by_part, by_whole = _accumulate(
            X, W, H, weights, dY, by_part, by_whole, counts, n_selected,
            t, f, n, n_frames, eps, F, K, BLOCK_K, DOMAIN, PRECISION,
        )  # fmt: skip
    if FULL < F:
        rest = FULL + tl.arange(0, REST)
        by_part, by_whole = _accumulate(
            X, W, H, weights, dY, by_part, by_whole, counts, n_selected,
            t, rest, n, n_frames, eps, F, K, BLOCK_K, DOMAIN, PRECISION,
        )  # fmt: skip
    at = t[:, None] * K + n[None, :]
    inside = (t < n_frames)[:, None] & (n < K)[None, :]
    weight = tl.load(weights + n, mask=n < K, other=0.0)
    tl.store(dH + at, weight[None, :] * by_part + by_whole, mask=inside)
    h = tl.load(H + at, mask=inside, other=0.0)
    tl.store(shares + tile.to(tl.int64) * K + n, tl.sum(h * by_part, 0), mask=n < K)
