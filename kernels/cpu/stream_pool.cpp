// One hop of as many streams as a vector has lanes; the formulas are those of stream.cpp.
//
//   X = rfft(window x), a = |X|, v = log(1 + a / s)                              spectra
//   h <- h b / (G h) a few times, G = W' W                                       update
//   g = expm1(m v) s / a (m where a = 0), or g = m,  y += window irfft(g X)      synthesis
//
// b = W' v and the mask m are left to nmf.cpp and soft_mask.cpp, so that W is read once for a whole tile.
// Spectra stay in lanes from one transform to the other: only samples are transposed. Each lane has its own
// scale and sums, and no lane depends on the content of the others.
//
// dtypes: float32. Precision: as in stream.cpp, sums in index order. Cost: a frame's two transforms (see
// stft.cpp), about 90 operations, a root and two divisions per bin, and K^2 multiply-adds per update.
#include "stream_pool.h"

#include "fft.h"
#include "magnitude.h"
#include "vmath.h"

namespace l2i::kernels::L2I_ISA {
namespace {

constexpr int kHeight = 8;  // components whose products stay in registers, of two vectors of lanes

// Bin k of the spectra, its magnitudes and their logarithms.
static inline void put_bin(const PoolFrames& tile, std::ptrdiff_t k, Complex x, Vec per) {
  Vec a;
  magnitudes_of<1>(&x.r, &x.i, &a);
  put(tile.X, k, x);
  store(tile.a + k * kLanes, a);
  store(tile.v + k * tile.width, log1p_positive(minimum(a * per, broadcast(kLargestMagnitude))));
}

void spectra(const PoolFrames& tile, const float* const* frames, const float* window) {
  const FftTables& fft = tile.fft;
  const std::ptrdiff_t points = fft.n / 2;
  const Vec per = load(tile.per);
  transform_frames(fft, frames, tile.n_frames, window, tile.work);
  for (std::ptrdiff_t k = 0; k < points / 2; ++k) {
    const Complex a = get(tile.work, placed(fft, k)),
                  b = get(tile.work, placed(fft, (points - k) & (points - 1)));
    const Complex even = {a.r + b.r, a.i - b.i};
    const Complex odd = times(minus_i({a.r - b.r, a.i + b.i}), fft.split[2 * k], fft.split[2 * k + 1]);
    put_bin(tile, k, even + odd, per);
    put_bin(tile, points - k, {even.r - odd.r, odd.i - even.i}, per);
  }
  const Complex middle = get(tile.work, placed(fft, points / 2));
  put_bin(tile, points / 2, {2 * middle.r, -2 * middle.i}, per);
}

// Bin k of the spectra, times its gain.
template <bool log>
static inline Complex masked_bin(const PoolFrames& tile, std::ptrdiff_t k, const float* mask, Vec per) {
  Vec g = load(mask + k * tile.width);
  if (log) {
    const Vec a = minimum(load(tile.a + k * kLanes) * per, broadcast(kLargestMagnitude));
    const Vec louder = expm1_positive(g * load(tile.v + k * tile.width)) / a;
    g = a > Vec{} ? louder : g;
  }
  const Complex x = get(tile.X, k);
  return {x.r * g, x.i * g};
}

template <bool log>
static inline void synthesis_of(const PoolFrames& tile, const float* mask, const float* window,
                                float* const* sums) {
  const FftTables& fft = tile.fft;
  const std::ptrdiff_t points = fft.n / 2;
  const Vec per = load(tile.per);
  for (std::ptrdiff_t k = 0; k < points / 2; ++k) {
    const Complex a = masked_bin<log>(tile, k, mask, per), b = masked_bin<log>(tile, points - k, mask, per);
    const Complex even = {a.r + b.r, a.i - b.i};
    const Complex odd = times({a.r - b.r, a.i + b.i}, fft.split[2 * k], -fft.split[2 * k + 1]);
    // Z[k] = E + i O and Z[N/2 - k] = conj(E) + i conj(O), with their parts exchanged: see stft.cpp.
    put(tile.work, fft.order[k], {even.i + odd.r, even.r - odd.i});
    if (k != 0) put(tile.work, fft.order[points - k], {odd.r - even.i, even.r + odd.i});
  }
  const Complex middle = masked_bin<log>(tile, points / 2, mask, per);
  put(tile.work, fft.order[points / 2], {-2 * middle.i, 2 * middle.r});
  transform(fft, tile.work);
  add_frames(fft, tile.work, tile.n_frames, window, sums);
}

void synthesis(const PoolFrames& tile, const float* mask, bool log, const float* window, float* const* sums) {
  if (log) {
    synthesis_of<true>(tile, mask, window, sums);
  } else {
    synthesis_of<false>(tile, mask, window, sums);
  }
}

// out[k .. k + height) = h b / (G h)
template <int width, int height>
static void update_block(const float* G, std::ptrdiff_t stride, std::ptrdiff_t K, std::ptrdiff_t k,
                         const float* b, const float* h, float* out) {
  constexpr float kTiny = 1.17549435e-38f;
  Vec sum[height][width] = {};
  for (std::ptrdiff_t j = 0; j < K; ++j) {
    Vec x[width];
    for (int i = 0; i < width; ++i) x[i] = load(h + (j * width + i) * kLanes);
    for (int row = 0; row < height; ++row) {
      const Vec g = broadcast(G[j * stride + k + row]);
      for (int i = 0; i < width; ++i) sum[row][i] += g * x[i];
    }
  }
  for (int row = 0; row < height; ++row) {
    for (int i = 0; i < width; ++i) {
      const std::ptrdiff_t at = ((k + row) * width + i) * kLanes;
      const Vec below = sum[row][i];
      store(out + at, load(h + at) * load(b + at) / (below > kTiny ? below : broadcast(kTiny)));
    }
  }
}

// Components [k, K).
template <int width, int height>
static void update_rows(const float* G, std::ptrdiff_t stride, std::ptrdiff_t K, std::ptrdiff_t k,
                        const float* b, const float* h, float* out) {
  for (; k + height <= K; k += height) update_block<width, height>(G, stride, K, k, b, h, out);
  if constexpr (height > 1) {
    if (k < K) update_rows<width, height / 2>(G, stride, K, k, b, h, out);
  }
}

template <int width>
static void update_all(const float* G, std::ptrdiff_t K, const float* b, const float* least, int n_updates,
                       float* h, float* other) {
  constexpr int kMost = kLanes == 16 ? kHeight : kHeight / 2;  // by the number of registers
  const std::ptrdiff_t stride = (K + kLanes - 1) / kLanes * kLanes, size = K * width * kLanes;
  for (std::ptrdiff_t i = 0; i < size; i += kLanes) {
    const Vec low = load(least + i % (width * kLanes)) * load(b + i), x = load(h + i);
    store(h + i, x > low ? x : low);
  }
  float *from = h, *to = other;
  for (int i = 0; i < n_updates; ++i) {
    update_rows<width, kMost>(G, stride, K, 0, b, from, to);
    float* const swapped = from;
    from = to;
    to = swapped;
  }
  if (from != h) __builtin_memcpy(h, from, static_cast<std::size_t>(size) * sizeof(float));
}

void update(const float* G, std::ptrdiff_t K, int n_vectors, const float* b, const float* least,
            int n_updates, float* h, float* other) {
  if (n_vectors == 2) {
    update_all<2>(G, K, b, least, n_updates, h, other);
  } else {
    update_all<1>(G, K, b, least, n_updates, h, other);
  }
}

}  // namespace

extern const StreamPoolKernels stream_pool;
constinit const StreamPoolKernels stream_pool = {
    .spectra = &spectra,
    .update = &update,
    .synthesis = &synthesis,
};

}  // namespace l2i::kernels::L2I_ISA
