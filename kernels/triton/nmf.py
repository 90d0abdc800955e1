"""Multiplicative updates of a non-negative matrix factorisation, V ~ H W', frame-major: V (T, F), H (T, K), W (F, K).

    M = H W'    up = (V M^(beta - 2)) W    down = M^(beta - 1) W    H <- H (up / (down + l1 + l2 H))^gamma

and the sums over frames (V M^(beta - 2))' H and (M^(beta - 1))' H that the update of W needs. Both are the same work
with rows and columns of V exchanged (`accumulate`): a program keeps a block of rows with their sums and, for one block
of columns after another, computes M, the quotients, and their products with the columns' factors. So only one block of
M is held at a time, in registers. In `update_H` a program does all updates of its frames; in `gather` it sums a range
of frames for a block of bins, and the ranges are added in float64, in their order. For beta 2 without mask M is not
needed: up = V W once, down = H (W'W).

dtypes: float32; the divergence of a tile is float64. Conventions (floors, missing entries) are those of kernels/cpu.

Precision. "tf32x3", float32's accuracy, is made of bfloat16 here: each factor is the sum of three terms, and of their
nine products the tensor cores compute the six that float32 can resolve. That takes as long as three products of TF32,
but 6 bytes per number instead of 8, which tensor cores read from shared memory in either orientation, so that W's block
is stored there once for both products; and the block of quotients becomes an operand without leaving its registers.
"tf32" and "bf16" take one product, of 11 and 8 significant bits. One update (513 bins, 100 components, arithmetic
emulated in NumPy) differs from float64 by 1e-6, 7e-5 and 6e-4 relative in L2, and by at most 2e-6, 4e-4 and 2e-3 in a
single activation. Tensor cores truncate when they add. Sums therefore leave them after each block, except those of M
and of two sums at once, for which registers do not suffice: these stay for up to 512 frames (4e-6, emulated; 1e-3 for
100,000 frames).

Cost of one iteration (update_H and gather) of 513 x 275,840 values with K = 100, padded to 544 or 576 and 128:
Kullback-Leibler 0.95 TFLOP of bfloat16 and two reads of V (1.1 GB), 0.96 ms of an H100's tensor cores at 989 TFLOP/s,
but 1.2 ms because both operands of the first product come from shared memory, too slowly for blocks of 32 columns;
Itakura-Saito 1.4 TFLOP and 1.7 ms, Euclidean 0.56 TFLOP and 0.6 ms. Loads do not overlap with a program's own products,
only with those of the other program on the multiprocessor, so 60 to 70 % of these rates are to be expected. None of
this has been measured.
"""

from typing import Any

import triton
import triton.language as tl

from .arithmetic import INTERPRETED

#: Least value of the model where its powers are taken, and of a denominator in place of zero, as in scikit-learn.
FLOOR = tl.constexpr(1.1920929e-7)
SMALLEST = tl.constexpr(1.1754944e-38)  # the smallest normal number; a smaller one would be float64
LARGEST = tl.constexpr(3.3895314e38)  # of bfloat16; larger numbers would round to infinity

#: The most components whose sums fit the registers.
MOST_COMPONENTS = 128


def blocks(hopper: bool, full: bool, masked: bool) -> list[tuple[int, int, int]]:
    """Return the rows and columns of V that a program can hold without spilling registers, and its warps.

    Hopper's tensor cores read both factors from shared memory, for 64 rows at a time. Ampere's read registers; and for
    64 rows on Blackwell, Triton would need more tensor memory than the device has, one accumulator for each product.
    """
    if masked:
        return [(32, 16, 4)]
    if not hopper:
        return [(32, 16, 4), (32, 32, 4)]
    return [(64, 16, 4), (128, 16, 8), (128, 32, 8)] if full else [(64, 32, 4), (128, 32, 8)]


_CHOICES = [(32, 16, 4), (32, 32, 4), (64, 16, 4), (64, 32, 4), (128, 16, 8), (128, 32, 8)]


def _configurations(rows: str, columns: str) -> list[triton.Config]:
    choices = _CHOICES[:1] if triton.knobs.runtime.interpret else _CHOICES
    return [triton.Config({rows: r, columns: c}, num_warps=warps, num_stages=1) for r, c, warps in choices]


def _that_fit(configurations: list[triton.Config], arguments: Any, **constants: Any) -> list[triton.Config]:
    hopper = triton.runtime.driver.active.get_current_target().arch == 90
    fit = blocks(hopper, constants["FULL"], constants["MASKED"])
    return [c for c in configurations if (*c.kwargs.values(), c.num_warps) in fit]


_SIZES = ["F", "K", "LOSS", "MASKED", "PRECISION"]
#: Arguments that are not specialised: values of 1 and multiples of 16 would be compiled separately.
_VARYING = ["T", "n", "chunks", "M", "N", "span"]


@triton.jit
def load(p, n_rows, n_columns, row, column, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Load the block at p of a matrix with strides row and column; zero beyond n_rows and n_columns."""
    r, c = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    return tl.load(p + (r * row + c * column), (r < n_rows) & (c < n_columns), 0.0)


@triton.jit
def store(p, x, n_rows, n_columns, row):
    """Store x where `load` would read it, with a column stride of 1."""
    r, c = tl.arange(0, x.shape[0])[:, None], tl.arange(0, x.shape[1])[None, :]
    tl.store(p + (r * row + c), x, (r < n_rows) & (c < n_columns))


@triton.jit
def bfloat16(x):
    """Round x to bfloat16, kept as float32 for the interpreter, whose bfloat16 products are wrong."""
    x = x.to(tl.bfloat16)
    return x.to(tl.float32) if INTERPRETED else x


@triton.jit
def terms(x, PRECISION: tl.constexpr):
    """Return the terms to multiply in place of x: for float32's accuracy, three bfloat16 terms whose sum is x."""
    if PRECISION == "tf32x3":
        first = bfloat16(x)
        rest = x - first.to(tl.float32)
        second = bfloat16(rest)
        answer = (first, second, bfloat16(rest - second.to(tl.float32)))
    elif PRECISION == "bf16":
        answer = (bfloat16(x),)
    else:
        answer = (x,)
    return answer


@triton.jit
def transposed(x):
    """Return the terms of x'."""
    return (x[0].T, x[1].T, x[2].T) if len(x) == 3 else (x[0].T,)


@triton.jit
def add_product(acc, a, b, PRECISION: tl.constexpr, IN_PLACE: tl.constexpr = False):
    """Return acc + a b of terms, without the products that float32 would round away.

    Tensor cores truncate when they add, so the product is summed separately, in registers of its own; IN_PLACE saves
    these registers.
    """
    s = acc if IN_PLACE else tl.zeros(acc.shape, tl.float32)
    if PRECISION == "tf32x3":
        s = tl.dot(a[2], b[0], s)
        s = tl.dot(a[0], b[2], s)
        s = tl.dot(a[1], b[1], s)
        s = tl.dot(a[1], b[0], s)
        s = tl.dot(a[0], b[1], s)
        s = tl.dot(a[0], b[0], s)
    elif PRECISION == "bf16":
        s = tl.dot(a[0], b[0], s)
    else:
        s = tl.dot(a[0], b[0], s, input_precision=PRECISION)
    return s if IN_PLACE else acc + s


@triton.jit
def load_pieces(p, n_rows, K: tl.constexpr, ROWS: tl.constexpr, PIECE: tl.constexpr, PRECISION: tl.constexpr):
    """Load rows of a contiguous matrix (..., K) as terms, in a tuple of blocks of PIECE columns."""
    answer = ()
    for i in tl.static_range((K + PIECE - 1) // PIECE):
        x = load(p + i * PIECE, n_rows, K - i * PIECE, K, 1, ROWS, PIECE)
        answer += (terms(x, PRECISION),)
    return answer


@triton.jit
def zero_pieces(K: tl.constexpr, ROWS: tl.constexpr, PIECE: tl.constexpr):
    """Return zeros (ROWS, K), in the blocks of `load_pieces`."""
    answer = ()
    for _ in tl.static_range((K + PIECE - 1) // PIECE):
        answer += (tl.zeros((ROWS, PIECE), tl.float32),)
    return answer


@triton.jit
def product_of_rows(a, b, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr):
    """Return the product a b' of pieces."""
    m = tl.zeros((ROWS, COLUMNS), tl.float32)
    for i in tl.static_range(len(a)):
        m = add_product(m, a[i], transposed(b[i]), PRECISION, True)
    return m


@triton.jit
def add_products(acc, q, b, PRECISION: tl.constexpr, IN_PLACE: tl.constexpr):
    """Return the pieces acc + q b for terms q."""
    answer = ()
    for i in tl.static_range(len(b)):
        answer += (add_product(acc[i], q, b[i], PRECISION, IN_PLACE),)
    return answer


@triton.jit
def power(x, p):
    """Return x^p for normal positive x, good to about abs(p log2 x) ulp."""
    return tl.exp2(p * tl.log2(x))


@triton.jit
def quotients(v, m, beta, LOSS: tl.constexpr):
    """Return v m^(beta - 2) and m^(beta - 1) for the model m > 0."""
    if LOSS == "euclidean":
        up, down = v, m
    elif LOSS == "three_halves":
        down = tl.sqrt(m)
        up = v / down
    elif LOSS == "kullback_leibler":
        up, down = v / m, tl.full(m.shape, 1.0, tl.float32)
    elif LOSS == "half":
        inverse = 1.0 / m
        down = tl.sqrt(inverse)
        up = v * (inverse * down)
    elif LOSS == "itakura_saito":
        down = 1.0 / m
        up = v * (down * down)
    else:
        down = power(m, beta - 1)
        up = v * (down / m)
    return up, down


@triton.jit
def accumulate(
    up, down, a, B, V, mask, n_rows, n_columns, row, column, beta, K: tl.constexpr,
    LOSS: tl.constexpr, FULL: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PIECE: tl.constexpr,
):  # fmt: skip
    """Add the products over n_columns for a block of rows: up += (V M^(beta - 2)) B, down += M^(beta - 1) B if FULL.

    M = a B' for pieces of terms a, and V has the strides row and column.
    """
    for c in range(0, n_columns, COLUMNS):
        left = n_columns - c
        b = load_pieces(B, left, K, COLUMNS, PIECE, PRECISION)
        if MASKED:  # loaded late, since registers are scarce
            m = tl.maximum(product_of_rows(a, b, ROWS, COLUMNS, PRECISION), FLOOR)
            weight = load(mask, n_rows, left, row, column, ROWS, COLUMNS)
            v = load(V, n_rows, left, row, column, ROWS, COLUMNS)
            v = tl.where(weight > 0, v * weight, 0.0)  # missing entries may be NaN
        else:
            v = load(V, n_rows, left, row, column, ROWS, COLUMNS)
            m = tl.maximum(product_of_rows(a, b, ROWS, COLUMNS, PRECISION), FLOOR)
        if LOSS == "general":  # powers of the floor may overflow outside the matrix
            inside = (tl.arange(0, ROWS)[:, None] < n_rows) & (tl.arange(0, COLUMNS)[None, :] < left)
            m = tl.where(inside, m, 1.0)
        risen, fallen = quotients(v, m, beta, LOSS)
        if MASKED:
            fallen *= weight
        up = add_products(up, terms(risen, PRECISION), b, PRECISION, FULL)
        if FULL:
            down = add_products(down, terms(fallen, PRECISION), b, PRECISION, FULL)
        B += COLUMNS * K
        V += COLUMNS * column
        mask += COLUMNS * column
    return up, down


@triton.jit
def multiplied(h, up, down, gamma, l1, l2):
    """Return the multiplicative update of h (Fevotte and Idier, 2011, section 4; the penalties as in scikit-learn)."""
    down = down + l1 + l2 * h
    step = tl.minimum(up / tl.where(down == 0, FLOOR, down), LARGEST)
    raised = tl.where(step > SMALLEST, power(tl.maximum(step, SMALLEST), gamma), 0.0)
    return tl.minimum(h * tl.where(gamma == 1, step, raised), LARGEST)


@triton.autotune(
    _configurations("FRAMES", "BINS"), key=_SIZES, restore_value=["H"],
    prune_configs_by={"early_config_prune": _that_fit}, cache_results=True,
)  # fmt: skip
@triton.jit(do_not_specialize=_VARYING)
def update_H(
    V, mask, W, sums, H, lengths, T, beta, gamma, l1, l2, n, F: tl.constexpr, K: tl.constexpr,
    LOSS: tl.constexpr, FULL: tl.constexpr, MASKED: tl.constexpr, RAGGED: tl.constexpr, PRECISION: tl.constexpr,
    FRAMES: tl.constexpr, BINS: tl.constexpr, PIECE: tl.constexpr,
):  # fmt: skip
    """Update a tile of FRAMES frames of H n times; sums (K,) of the columns of W replace `down` unless FULL."""
    tiles = tl.cdiv(T, FRAMES)
    clip, t = tl.program_id(0) // tiles, tl.program_id(0) % tiles * FRAMES
    length = tl.minimum(tl.load(lengths + clip), T).to(tl.int32) if RAGGED else T
    n_frames = tl.minimum(length - t, FRAMES)
    first = clip.to(tl.int64) * T + t
    V += first * F
    mask += first * F
    H += first * K
    h = load_pieces(H, n_frames, K, FRAMES, PIECE, PRECISION)
    for _ in range(tl.where(n_frames > 0, n, 0)):
        up, down = accumulate(
            zero_pieces(K, FRAMES, PIECE), zero_pieces(K, FRAMES, PIECE), h, W, V, mask, n_frames, F, F, 1, beta, K,
            LOSS, FULL, MASKED, PRECISION, FRAMES, BINS, PIECE,
        )  # fmt: skip
        for i in tl.static_range(len(up)):
            if FULL:
                d = down[i]
            else:
                k = i * PIECE + tl.arange(0, PIECE)
                d = tl.load(sums + k, k < K, 0.0)[None, :]
            x = load(H + i * PIECE, n_frames, K - i * PIECE, K, 1, FRAMES, PIECE)
            store(H + i * PIECE, multiplied(x, up[i], d, gamma, l1, l2), n_frames, K - i * PIECE, K)
        # Read back: values carried by a loop go to shared memory, those computed in it stay in registers.
        tl.debug_barrier()
        h = load_pieces(H, n_frames, K, FRAMES, PIECE, PRECISION)


@triton.jit
def multiply(
    X, Y, n_rows, n_terms, row, column, K: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PIECE: tl.constexpr,
):  # fmt: skip
    """Return the pieces of X Y for X (n_rows, n_terms), with strides row and column, and Y (n_terms, K)."""
    total = zero_pieces(K, ROWS, PIECE)
    for n in range(0, n_terms, COLUMNS):
        x = load(X, n_rows, n_terms - n, row, column, ROWS, COLUMNS)
        y = load_pieces(Y, n_terms - n, K, COLUMNS, PIECE, PRECISION)
        total = add_products(total, terms(x, PRECISION), y, PRECISION, False)
        X += COLUMNS * column
        Y += COLUMNS * K
    return total


@triton.jit(do_not_specialize=_VARYING)
def product(
    X, Y, out, M, N, span, row, column, K: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PIECE: tl.constexpr,
):  # fmt: skip
    """Compute partial sums (splits, M, K) of X Y, `span` terms each; X (M, N) has strides row, column; Y is (N, K)."""
    m = tl.program_id(0).to(tl.int64) * ROWS
    n_rows = tl.minimum(M - m, ROWS).to(tl.int32)
    n = tl.program_id(1).to(tl.int64) * span
    n_terms = tl.minimum(N - n, span).to(tl.int32)
    X += m * row + n * column
    total = multiply(X, Y + n * K, n_rows, n_terms, row, column, K, PRECISION, ROWS, COLUMNS, PIECE)
    out += (tl.program_id(1).to(tl.int64) * M + m) * K
    for i in tl.static_range(len(total)):
        store(out + i * PIECE, total[i], n_rows, K - i * PIECE, K)


@triton.jit(do_not_specialize=_VARYING)
def update_H_euclidean(
    numerator, gram, H, lengths, T, l1, l2, n, K: tl.constexpr, RAGGED: tl.constexpr, PRECISION: tl.constexpr,
    FRAMES: tl.constexpr, COLUMNS: tl.constexpr, PIECE: tl.constexpr,
):  # fmt: skip
    """Update a tile of FRAMES frames of H n times for beta 2 without mask; numerator = V W, gram = W'W."""
    tiles = tl.cdiv(T, FRAMES)
    clip, t = tl.program_id(0) // tiles, tl.program_id(0) % tiles * FRAMES
    length = tl.minimum(tl.load(lengths + clip), T).to(tl.int32) if RAGGED else T
    n_frames = tl.minimum(length - t, FRAMES)
    first = (clip.to(tl.int64) * T + t) * K
    H += first
    numerator += first
    for _ in range(tl.where(n_frames > 0, n, 0)):
        down = multiply(H, gram, n_frames, K, K, 1, K, PRECISION, FRAMES, COLUMNS, PIECE)
        tl.debug_barrier()  # all of the tile is read before any of it is written, and below, written before it is read
        for i in tl.static_range(len(down)):
            left = K - i * PIECE
            up = load(numerator + i * PIECE, n_frames, left, K, 1, FRAMES, PIECE)
            h = load(H + i * PIECE, n_frames, left, K, 1, FRAMES, PIECE)
            store(H + i * PIECE, multiplied(h, up, down[i], 1.0, l1, l2), n_frames, left, K)
        tl.debug_barrier()


@triton.autotune(
    _configurations("BINS", "FRAMES"), key=_SIZES, reset_to_zero=["numerator", "denominator"],
    prune_configs_by={"early_config_prune": _that_fit}, cache_results=True,
)  # fmt: skip
@triton.jit(do_not_specialize=_VARYING)
def gather(
    V, mask, W, H, numerator, denominator, T, chunks, beta, F: tl.constexpr, K: tl.constexpr,
    LOSS: tl.constexpr, FULL: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr,
    BINS: tl.constexpr, FRAMES: tl.constexpr, CHUNK: tl.constexpr, PIECE: tl.constexpr,
):  # fmt: skip
    """Add sums over `chunks` chunks of CHUNK frames, for a block of BINS bins, to zeroed parts (splits, F, K)."""
    f = tl.program_id(0) * BINS
    n_bins = F - f
    W += f * K
    part = (tl.program_id(1).to(tl.int64) * F + f) * K
    numerator += part
    denominator += part
    w = load_pieces(W, n_bins, K, BINS, PIECE, PRECISION)
    begin = tl.program_id(1) * chunks
    t = begin.to(tl.int64) * CHUNK
    H += t * K
    V += t * F + f
    mask += t * F + f
    for chunk in range(begin, tl.minimum(begin + chunks, (T + CHUNK - 1) // CHUNK)):
        up, down = accumulate(
            zero_pieces(K, BINS, PIECE), zero_pieces(K, BINS, PIECE), w, H, V, mask,
            n_bins, tl.minimum(T - chunk * CHUNK, CHUNK), 1, F, beta, K,
            LOSS, FULL, MASKED, PRECISION, BINS, FRAMES, PIECE,
        )  # fmt: skip
        for i in tl.static_range(len(up)):
            k = i * PIECE
            store(numerator + k, load(numerator + k, n_bins, K - k, K, 1, BINS, PIECE) + up[i], n_bins, K - k, K)
            if FULL:
                x = load(denominator + k, n_bins, K - k, K, 1, BINS, PIECE)
                store(denominator + k, x + down[i], n_bins, K - k, K)
        w = load_pieces(W, n_bins, K, BINS, PIECE, PRECISION)  # as in update_H
        H += CHUNK * K
        V += CHUNK * F
        mask += CHUNK * F


@triton.jit
def divergence_of(v, m, beta, LOSS: tl.constexpr):
    """Return the divergence of v from the model m, entry by entry (Fevotte and Idier, 2011, equation 3)."""
    safe = tl.maximum(m, FLOOR)
    if LOSS == "euclidean":
        d = 0.5 * (v - m) * (v - m)
    elif LOSS == "kullback_leibler":
        logs = tl.log(tl.maximum(v, SMALLEST)) - tl.log(safe)
        d = tl.where(v > 0, v * logs, 0.0) - v + m
    elif LOSS == "itakura_saito":
        v = tl.maximum(v, FLOOR)
        d = v / safe - (tl.log(v) - tl.log(safe)) - 1.0
    else:
        # If no power is negative, tiny values count as they are: many frames may be silent.
        least = tl.where(beta > 0, SMALLEST, FLOOR)
        raised = power(tl.maximum(v, least), beta)
        raised = tl.where((v > 0) | (beta < 0), raised, 0.0)
        model = power(tl.maximum(m, least), beta)
        d = (raised + (beta - 1) * model - beta * v * power(safe, beta - 1)) / (beta * (beta - 1))
    return d


@triton.jit(do_not_specialize=_VARYING)
def divergence(
    V, mask, W, H, out, T, beta, F: tl.constexpr, K: tl.constexpr,
    LOSS: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr,
    FRAMES: tl.constexpr, BINS: tl.constexpr, PIECE: tl.constexpr,
):  # fmt: skip
    """Compute the divergence of each tile of FRAMES frames from its model, in float64."""
    t = tl.program_id(0).to(tl.int64) * FRAMES
    n_frames = tl.minimum(T - t, FRAMES).to(tl.int32)
    h = load_pieces(H + t * K, n_frames, K, FRAMES, PIECE, PRECISION)
    total = tl.zeros((FRAMES, BINS), tl.float32)
    for f in range(0, F, BINS):
        w = load_pieces(W + f * K, F - f, K, BINS, PIECE, PRECISION)
        v = load(V + (t * F + f), n_frames, F - f, F, 1, FRAMES, BINS)
        m = product_of_rows(h, w, FRAMES, BINS, PRECISION)
        if MASKED:
            weight = load(mask + (t * F + f), n_frames, F - f, F, 1, FRAMES, BINS)
            d = divergence_of(tl.where(weight > 0, v, 0.0), m, beta, LOSS)
            total += tl.where(weight > 0, weight * d, 0.0)
        else:
            inside = (tl.arange(0, FRAMES)[:, None] < n_frames) & (tl.arange(0, BINS)[None, :] < F - f)
            total += tl.where(inside, divergence_of(v, m, beta, LOSS), 0.0)
    tl.store(out + tl.program_id(0), tl.sum(total.to(tl.float64)))
