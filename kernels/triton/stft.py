"""Real FFT of windowed frames as products of small matrices, its inverse with overlap-add, and mel decibels.

    forward   X[t, k] = sum_n window[n] y[t hop - pad + n] exp(-2 pi i k n / N),  k = 0 .. N/2
    inverse   z[t, n] = window[n] / N  sum_k c_k Re(X[t, k] exp(2 pi i k n / N)),  c_0 = c_{N/2} = 1, else 2
              y[p] = sum_t z[t, p - t hop] / sum_t window[p - t hop]^2
    log mel   10 log10(max(amin, sum_k |X[t, k]| bands[k, m]))

With N = N1 N2, n = N2 n1 + n2 and k = k1 + N1 k2 the forward transform is

    S[n2, k1] = sum_n1 y[n1, n2] exp(-2 pi i n1 k1 / N1)               real (N2, N1) by (N1, 2 N1)
    Z[n2, k1] = S[n2, k1] exp(-2 pi i n2 k1 / N)                       twiddle factors
    X[k1, k2] = sum_n2 Z[n2, k1] exp(-2 pi i n2 k2 / N2),  k2 < N2/2   real (N1, 2 N2) by (2 N2, N2)

Only the lower half of k2 is needed, and bins are computed in runs along k1, as in memory; no index is mirrored.
The first product is split by the parity of n1 into E and O, for k1 < N1/2 only: S[k1] = E + O and
S[k1 + N1/2] = E - O, which halves it. Bin N/2 is a sum with alternating signs. The inverse takes the same steps in
reverse, with the transposed matrices. A program has FRAMES frames and takes BLOCK residues k1 of both halves at a time.
Real and imaginary parts alternate in the columns of products as in memory, so they are neighbours in a thread's
registers.

dtypes: float32; complex64 as pairs (re, im), frame-major. Tables are rounded once from float64.
Precision: "tf32x3" and "ieee" stay within 6e-7 (N = 4096; 3e-7 for N = 1024) of float64, relative in L2; "tf32" gives
3e-4 and "bf16" 3e-3. Emulated in NumPy, with sums that the tensor cores truncate.
Cost: 2 N N1 + 4 N N2 FLOP per frame in either direction, 197 k for N = 1024 (N1 = N2 = 32), three times that in tf32x3.
64 clips of 5 s are 27,584 frames with a hop of 512: 5.4 GFLOP, 56 MB of samples and 113 MB of spectra. An H100 should
need 55 us for each, at 100 TFLOP/s and 3 TB/s, overlapping if three programs share a multiprocessor; estimated, not
measured. The inverse computes OVERLAP - 1 frames twice in n_tiles FRAMES, 7 % here, and moves the same bytes.
`analyze` adds 4 bytes per bin of V, and reads V, not X, again for its decibels, in a separate kernel: a mel band needs
all bins of a frame, and dense bands (F, 128) would cost as many FLOP as the transform. In that kernel, a block of bands
runs only over the bins that it covers, about once over V in all.

For kernels that hold a tile of bins in registers, such as the fused decoder, the inverse is available in steps, which
`inverse_frames` combines:
    inverse_bins, inverse_bin_products     for the lower and the upper half of a block of residues
    inverse_sample_products                for both; adds to the sums of the tile
    inverse_samples, overlap_add           after all blocks
"""

import triton
import triton.language as tl

from .arithmetic import dot, expm1, log1p

#: Larger magnitudes count as this, as in kernels/cpu/magnitude.h.
LARGEST_MAGNITUDE = tl.constexpr(1.2e38)
#: Arguments that are not specialised, since clips have any length: 1 and multiples of 16 would be compiled separately.
VARYING = ["n_rows", "n_frames", "n_samples", "y_stride", "n_programs", "n_tiles", "X_stride", "length"]


@triton.jit
def magnitude(re, im):
    """Return |X|, at most 1.2e38; NaN is kept."""
    # By powers of two, so that no square overflows or vanishes: above 2^60 by 2^-65, below 2^-30 by 2^75.
    most = tl.maximum(tl.abs(re), tl.abs(im))
    down = tl.where(most > 1.152921504606847e18, 2.710505431213761e-20, 1.0)
    down = tl.where(most < 9.313225746154785e-10, 3.777893186295716e22, down)
    up = tl.where(most > 1.152921504606847e18, 3.6893488147419103e19, 1.0)
    up = tl.where(most < 9.313225746154785e-10, 2.6469779601696886e-23, up)
    re, im = re * down, im * down
    a = tl.sqrt(re * re + im * im) * up
    return tl.where(a > LARGEST_MAGNITUDE, LARGEST_MAGNITUDE, a)


@triton.jit
def times(z, re, im):
    """Return the complex numbers z (..., 2) times re + i im."""
    a, b = tl.split(z)
    return tl.join(a * re - b * im, a * im + b * re)


@triton.jit
def exchange(z, FRAMES: tl.constexpr, A: tl.constexpr, B: tl.constexpr):
    """Return complex numbers (FRAMES, a, b, 2) as the operand (FRAMES b, 2 a) of a product along a."""
    return tl.reshape(tl.permute(z, (0, 2, 1, 3)), (FRAMES * B, 2 * A))


@triton.jit
def frame_samples(y, window, start, inside, n_samples, parity, N_FFT: tl.constexpr, N1: tl.constexpr):
    """Load the windowed samples (FRAMES, N2, N1 / 2) whose n1 has this parity, of the frames at `start`."""
    N2: tl.constexpr = N_FFT // N1
    n = N2 * (2 * tl.arange(0, N1 // 2)[None, None, :] + parity) + tl.arange(0, N2)[None, :, None]
    position = start[:, None, None] + n
    seen = inside[:, None, None] & (position >= 0) & (position < n_samples)
    return tl.load(y[:, None, None] + position, seen, 0.0) * tl.load(window + n)


@triton.jit(do_not_specialize=VARYING)
def stft_kernel(
    y,
    window,
    X,
    V,
    first_table,
    twiddles,
    second_table,
    n_rows,
    n_frames,
    n_samples,
    y_stride,
    hop,
    pad,
    N_FFT: tl.constexpr,
    N1: tl.constexpr,
    FRAMES: tl.constexpr,
    BLOCK: tl.constexpr,
    LOG_MAGNITUDES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute X (rows, F, 2) and V = log(1 + |X|) (rows, F) of frames of clips y: row = clip * n_frames + frame."""
    N2: tl.constexpr = N_FFT // N1
    HALF: tl.constexpr = N1 // 2
    F: tl.constexpr = N_FFT // 2 + 1
    row = tl.program_id(0).to(tl.int64) * FRAMES + tl.arange(0, FRAMES)
    inside = row < n_rows
    clip = row // n_frames
    start = (row - clip * n_frames).to(tl.int32) * hop - pad
    y += clip * y_stride
    X += row * (2 * F)
    V += row * F

    even = frame_samples(y, window, start, inside, n_samples, 0, N_FFT, N1)
    odd = frame_samples(y, window, start, inside, n_samples, 1, N_FFT, N1)
    even = tl.reshape(even, (FRAMES * N2, HALF))
    odd = tl.reshape(odd, (FRAMES * N2, HALF))

    n2 = tl.arange(0, N2)
    part = tl.arange(0, 2)[None, None, None, :]
    first = first_table + 2 * tl.arange(0, HALF)[:, None] * N1 + tl.arange(0, 2 * BLOCK)[None, :]
    second = second_table + tl.arange(0, 2 * N2)[:, None] * N2 + n2[None, :]
    for block in range(HALF // BLOCK):
        zero = tl.zeros((FRAMES * N2, 2 * BLOCK), tl.float32)
        e = dot(even, tl.load(first + 2 * BLOCK * block), zero, PRECISION)
        o = dot(odd, tl.load(first + 2 * BLOCK * block + N1), zero, PRECISION)
        if block == 0:  # bin N/2: the real part for k1 = 0, with signs that alternate along n2
            sums, _ = tl.split(tl.reshape(e + o, (FRAMES, N2, BLOCK, 2)))
            sign = tl.where(tl.arange(0, BLOCK)[None, :] == 0, (1 - 2 * (n2 % 2))[:, None], 0).to(tl.float32)
            last = tl.sum(tl.sum(sums * sign[None], 2), 1)
            tl.store(X + 2 * (F - 1), last, inside)
            tl.store(X + 2 * (F - 1) + 1, tl.zeros_like(last), inside)
            if LOG_MAGNITUDES:
                tl.store(V + (F - 1), log1p(magnitude(last, 0.0)), inside)
        for half in tl.static_range(2):
            k1 = half * HALF + block * BLOCK + tl.arange(0, BLOCK)
            s = tl.reshape(e + (1 - 2 * half) * o, (FRAMES, N2, BLOCK, 2))
            factor = twiddles + 2 * (n2[:, None] * N1 + k1[None, :])
            z = exchange(times(s, tl.load(factor)[None], tl.load(factor + 1)[None]), FRAMES, N2, BLOCK)
            x = dot(z, tl.load(second), tl.zeros((FRAMES * BLOCK, N2), tl.float32), PRECISION)
            x = tl.permute(tl.reshape(x, (FRAMES, BLOCK, N2 // 2, 2)), (0, 2, 1, 3))
            k = N1 * tl.arange(0, N2 // 2)[None, :, None] + k1[None, None, :]
            tl.store(X[:, None, None, None] + 2 * k[:, :, :, None] + part, x, inside[:, None, None, None])
            if LOG_MAGNITUDES:
                re, im = tl.split(x)
                tl.store(V[:, None, None] + k, log1p(magnitude(re, im)), inside[:, None, None])


@triton.jit
def inverse_bins(x, k, part):
    """Return the bins x as the inverse weights them: bin 0 half as much as the others, without its imaginary part."""
    return tl.where(k == 0, tl.where(part == 0, 0.5 * x, 0.0), x)


@triton.jit
def inverse_bin_products(
    x,
    twiddles,
    second_table,
    k1,
    FRAMES: tl.constexpr,
    BLOCK: tl.constexpr,
    N1: tl.constexpr,
    N2: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return the inverse's first product, over k2, times the twiddle factors.

    Takes bins (FRAMES, N2 / 2, BLOCK, 2) for k1 (BLOCK,), returns (FRAMES, BLOCK, N2, 2) for all n2.
    """
    n2 = tl.arange(0, N2)
    x = tl.reshape(tl.permute(x, (0, 2, 1, 3)), (FRAMES * BLOCK, N2))
    transposed = second_table + tl.arange(0, 2 * N2)[None, :] * N2 + n2[:, None]
    z = dot(x, tl.load(transposed), tl.zeros((FRAMES * BLOCK, 2 * N2), tl.float32), PRECISION)
    factor = twiddles + 2 * (n2[None, :] * N1 + k1[:, None])
    return times(tl.reshape(z, (FRAMES, BLOCK, N2, 2)), tl.load(factor)[None], -tl.load(factor + 1)[None])


@triton.jit
def inverse_sample_products(
    low,
    high,
    even,
    odd,
    first_table,
    block,
    FRAMES: tl.constexpr,
    BLOCK: tl.constexpr,
    N1: tl.constexpr,
    N2: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Add the inverse's second product, over the residues k1 of a block in the lower and in the upper half.

    Takes and returns the sums (FRAMES N2, N1 / 2) for even and odd n1.
    """
    column = 2 * BLOCK * block + tl.arange(0, 2 * BLOCK)[:, None]
    transposed = first_table + 2 * tl.arange(0, N1 // 2)[None, :] * N1 + column
    even = dot(exchange(low + high, FRAMES, BLOCK, N2), tl.load(transposed), even, PRECISION)
    odd = dot(exchange(low - high, FRAMES, BLOCK, N2), tl.load(transposed + N1), odd, PRECISION)
    return even, odd


@triton.jit
def inverse_samples(even, odd, last, window, FRAMES: tl.constexpr, N_FFT: tl.constexpr, N1: tl.constexpr):
    """Return the windowed samples (FRAMES N_FFT,) from the inverse's sums and the real parts `last` of bin N/2."""
    N2: tl.constexpr = N_FFT // N1
    z = tl.join(tl.reshape(even, (FRAMES, N2, N1 // 2)), tl.reshape(odd, (FRAMES, N2, N1 // 2)))
    z = tl.reshape(tl.permute(z, (0, 2, 3, 1)), (FRAMES, N_FFT))
    n = tl.arange(0, N_FFT)
    sign = (1 - 2 * (n % 2)).to(tl.float32)
    z = (z + 0.5 * last[:, None] * sign[None, :]) * (tl.load(window + n) * (2.0 / N_FFT))[None, :]
    return tl.reshape(z, (FRAMES * N_FFT,))


@triton.jit
def inverse_frames(
    X,
    window,
    first_table,
    twiddles,
    second_table,
    inside,
    N_FFT: tl.constexpr,
    N1: tl.constexpr,
    FRAMES: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return the windowed samples (FRAMES N_FFT,) of the spectra at the pointers X (FRAMES,); zeros unless inside."""
    N2: tl.constexpr = N_FFT // N1
    HALF: tl.constexpr = N1 // 2
    even = tl.zeros((FRAMES * N2, HALF), tl.float32)
    odd = tl.zeros((FRAMES * N2, HALF), tl.float32)
    part = tl.arange(0, 2)[None, None, None, :]
    for block in range(HALF // BLOCK):
        k1 = block * BLOCK + tl.arange(0, BLOCK)
        k = N1 * tl.arange(0, N2 // 2)[None, :, None, None] + k1[None, None, :, None]
        bins = X[:, None, None, None] + 2 * k + part
        seen = inside[:, None, None, None]
        x = inverse_bins(tl.load(bins, seen, 0.0), k, part)
        low = inverse_bin_products(x, twiddles, second_table, k1, FRAMES, BLOCK, N1, N2, PRECISION)
        x = tl.load(bins + N1, seen, 0.0)
        high = inverse_bin_products(x, twiddles, second_table, k1 + HALF, FRAMES, BLOCK, N1, N2, PRECISION)
        even, odd = inverse_sample_products(low, high, even, odd, first_table, block, FRAMES, BLOCK, N1, N2, PRECISION)
    last = tl.load(X + N_FFT, inside, 0.0)
    return inverse_samples(even, odd, last, window, FRAMES, N_FFT, N1)


@triton.jit
def overlap_add(z, carried, hop, N_FFT: tl.constexpr, FRAMES: tl.constexpr, OVERLAP: tl.constexpr):
    """Return the samples that these frames complete, and the sums for the next: FRAMES * hop of each, then zeros.

    Takes the frames' samples z (FRAMES N_FFT,) and the sums carried over from earlier frames (a power of two,). OVERLAP
    frames reach a sample, at most FRAMES + 1. Sums run from the oldest frame to the newest, however frames are divided.
    """
    i = tl.arange(0, carried.shape[0])
    frame = i // hop
    n = i - frame * hop
    sums, left = carried, tl.zeros_like(carried)
    for late in tl.static_range(OVERLAP - 1, -1, -1):
        at = (frame - late) * N_FFT + n + late * hop
        inside = n + late * hop < N_FFT
        ends = inside & (frame >= late) & (frame < FRAMES)
        sums += tl.where(ends, tl.gather(z, tl.where(ends, at, 0), 0), 0.0)
        if late > 0:
            stays = inside & (frame < late)
            left += tl.where(stays, tl.gather(z, tl.where(stays, at + FRAMES * N_FFT, 0), 0), 0.0)
    return sums, left


@triton.jit(do_not_specialize=VARYING)
def istft_kernel(
    X,
    window,
    scale,
    y,
    first_table,
    twiddles,
    second_table,
    n_frames,
    n_programs,
    n_tiles,
    X_stride,
    hop,
    start,
    length,
    N_FFT: tl.constexpr,
    N1: tl.constexpr,
    FRAMES: tl.constexpr,
    BLOCK: tl.constexpr,
    OVERLAP: tl.constexpr,
    SAMPLES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute samples y (clips, length) of spectra X (clips, n_frames, F, 2), OVERLAP of which reach a sample.

    Each of a clip's n_programs programs runs over n_tiles tiles of frames; it shares the first OVERLAP - 1 frames with
    the program before it. SAMPLES is a power of two, at least FRAMES * hop.
    """
    clip = tl.program_id(0) // n_programs
    program = tl.program_id(0) - clip * n_programs
    clip = clip.to(tl.int64)
    X += 2 * clip * X_stride
    y += clip * length
    i = tl.arange(0, SAMPLES)
    carried = tl.zeros((SAMPLES,), tl.float32)
    first = program * (n_tiles * FRAMES - OVERLAP + 1) + start // hop - (OVERLAP - 1)
    fresh = tl.maximum((first + OVERLAP - 1) * hop - start, 0)
    for tile in tl.range(n_tiles, disable_licm=True):
        t = first + tile * FRAMES + tl.arange(0, FRAMES)
        row = X + t.to(tl.int64) * (N_FFT + 2)
        inside = (t >= 0) & (t < n_frames)
        z = inverse_frames(
            row, window, first_table, twiddles, second_table, inside, N_FFT, N1, FRAMES, BLOCK, PRECISION
        )
        sums, carried = overlap_add(z, carried, hop, N_FFT, FRAMES, OVERLAP)
        at = (first + tile * FRAMES) * hop - start + i
        wanted = (i < FRAMES * hop) & (at >= fresh) & (at < length)
        tl.store(y + at, sums * tl.load(scale + at, wanted, 0.0), wanted)


@triton.jit(do_not_specialize=VARYING)
def istft_frames_kernel(
    X,
    window,
    frames,
    first_table,
    twiddles,
    second_table,
    n_rows,
    n_frames,
    X_stride,
    N_FFT: tl.constexpr,
    N1: tl.constexpr,
    FRAMES: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute windowed samples, as frames (clips n_frames, N_FFT), of spectra X (clips, n_frames, F, 2)."""
    row = tl.program_id(0).to(tl.int64) * FRAMES + tl.arange(0, FRAMES)
    inside = row < n_rows
    clip = row // n_frames
    z = inverse_frames(
        X + 2 * (clip * X_stride + (row - clip * n_frames) * (N_FFT // 2 + 1)),
        window,
        first_table,
        twiddles,
        second_table,
        inside,
        N_FFT,
        N1,
        FRAMES,
        BLOCK,
        PRECISION,
    )
    at = row[:, None] * N_FFT + tl.arange(0, N_FFT)[None, :]
    tl.store(frames + at, tl.reshape(z, (FRAMES, N_FFT)), inside[:, None])


@triton.jit(do_not_specialize=VARYING)
def overlap_add_kernel(
    frames,
    scale,
    y,
    n_frames,
    n_programs,
    hop,
    start,
    length,
    N_FFT: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """Compute samples y (clips, length) from the frames (clips, n_frames, N_FFT) of `istft_frames_kernel`."""
    clip = tl.program_id(0) // n_programs
    i = (tl.program_id(0) - clip * n_programs) * SAMPLES + tl.arange(0, SAMPLES)
    clip = clip.to(tl.int64)
    newest = (i + start) // hop
    n = i + start - newest * hop
    sums = tl.zeros((SAMPLES,), tl.float32)
    for late in range((N_FFT - 1) // hop, -1, -1):
        t = newest - late
        reached = (i < length) & (n + late * hop < N_FFT) & (t >= 0) & (t < n_frames)
        sums += tl.load(frames + (clip * n_frames + t) * N_FFT + n + late * hop, reached, 0.0)
    tl.store(y + clip * length + i, sums * tl.load(scale + i, i < length, 0.0), i < length)


@triton.jit(do_not_specialize=VARYING)
def inverse_squares_kernel(window, scale, n_frames, hop, start, length, N_FFT: tl.constexpr, SAMPLES: tl.constexpr):
    """Compute 1 over the sum of all squared windows at each sample, 1 where none reaches it; summed in float64."""
    i = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    newest = (i + start) // hop
    n = i + start - newest * hop
    squares = tl.zeros((SAMPLES,), tl.float64)
    for late in range((N_FFT - 1) // hop, -1, -1):
        t = newest - late
        reached = (n + late * hop < N_FFT) & (t >= 0) & (t < n_frames)
        w = tl.load(window + n + late * hop, reached, 0.0).to(tl.float64)
        squares += w * w
    squares = tl.where(squares > 1.1754943508222875e-38, squares, 1.0)
    tl.store(scale + i, (1.0 / squares).to(tl.float32), i < length)


@triton.jit
def band_edges_kernel(bands, edges, n_bins, n_bands, BANDS: tl.constexpr, BINS: tl.constexpr):
    """Find the range of bins in which a block of BANDS of bands (n_bins, n_bands) is not 0, as edges (blocks, 2)."""
    band = tl.program_id(0) * BANDS + tl.arange(0, BANDS)[None, :]
    first = tl.zeros((BINS,), tl.int32) + n_bins
    stop = tl.zeros((BINS,), tl.int32)
    for start in range(0, n_bins, BINS):
        k = start + tl.arange(0, BINS)
        at = k.to(tl.int64)[:, None] * n_bands + band
        value = tl.load(bands + at, (k[:, None] < n_bins) & (band < n_bands), 0.0)
        some = tl.max((value != 0).to(tl.int32), 1) > 0
        first = tl.where(some, tl.minimum(first, k), first)
        stop = tl.where(some, k + 1, stop)
    tl.store(edges + 2 * tl.program_id(0), tl.min(first, 0))
    tl.store(edges + 2 * tl.program_id(0) + 1, tl.max(stop, 0))


@triton.jit(do_not_specialize=VARYING)
def log_mel_kernel(
    spectra,
    bands,
    edges,
    decibels,
    amin,
    n_rows,
    n_bins,
    n_bands,
    LOG_MAGNITUDES: tl.constexpr,
    ROWS: tl.constexpr,
    BANDS: tl.constexpr,
    BINS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute decibels (rows, n_bands): 10 log10 of the magnitudes in bands (n_bins, n_bands), at least amin.

    The spectra are X (rows, n_bins, 2), or V = log(1 + |X|) (rows, n_bins) with LOG_MAGNITUDES.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    band = tl.program_id(1) * BANDS + tl.arange(0, BANDS)
    sums = tl.zeros((ROWS, BANDS), tl.float32)
    first = tl.load(edges + 2 * tl.program_id(1))
    stop = tl.load(edges + 2 * tl.program_id(1) + 1)
    for start in range(first, stop, BINS):
        k = start + tl.arange(0, BINS)
        seen = (row < n_rows)[:, None] & (k < stop)[None, :]
        at = row[:, None] * n_bins + k[None, :]
        if LOG_MAGNITUDES:
            a = expm1(tl.load(spectra + at, seen, 0.0))
        else:
            part = tl.arange(0, 2)[None, None, :]
            re, im = tl.split(tl.load(spectra + 2 * at[:, :, None] + part, seen[:, :, None], 0.0))
            a = magnitude(re, im)
        weight = bands + k[:, None] * n_bands + band[None, :]
        b = tl.load(weight, (k < stop)[:, None] & (band < n_bands)[None, :], 0.0)
        sums = dot(a, b, sums, PRECISION)
    sums = tl.where(sums < amin, amin, sums)  # NaN is kept
    at = row[:, None] * n_bands + band[None, :]
    tl.store(decibels + at, tl.log(sums) * 4.3429448190325183, (row < n_rows)[:, None] & (band < n_bands)[None, :])
