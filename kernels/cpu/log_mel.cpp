// Mel spectrogram in decibels of a tile of frames; one frame in each lane.
//
//   M[t, m] = 10 log10(max(amin, sum_f B[m, f] |X[t, f]|))
//
// The magnitudes of the tile are transposed into lanes once. Mel filters are narrow: each band sums only the
// bins that it covers, so the product with the filter bank costs two multiply-adds per bin instead of one for
// each band.
//
// dtypes: float32; spectrum rows are complex64 as (re, im) pairs, results frame-major.
// Precision: float32, sums in bin order; log within 2 ulp. Magnitudes are the cheap ones of `roots`
// (magnitude.h) unless their error shows in the sum of a band: then both kernels run again. Cost: per bin a
// transpose, one root and two multiply-adds; per band about 20 operations for the logarithm.
#include "log_mel.h"

#include "magnitude.h"
#include "simd.h"
#include "vmath.h"

namespace l2i::kernels::L2I_ISA {
namespace {

constexpr float kDecibels = 4.3429448190325183f;  // 10 / log(10)
constexpr float kLargest = 3.402823466e38f;
// Sums of magnitudes from this one on hardly depend on those below 1e-19.
constexpr float kLeastSum = 0x1p-36f;
constexpr int kBins = kLanes / 2;  // complex numbers in a vector

template <bool exact>
static inline void put_magnitudes(const float* X, std::ptrdiff_t X_stride, std::ptrdiff_t n_bins,
                                  int n_frames, float* magnitudes) {
  const float* row[kLanes];
  for (int t = 0; t < kLanes; ++t) row[t] = X + (t < n_frames ? t : n_frames - 1) * X_stride;

  Vec v[kLanes] = {}, a[kBins];
  IntVec most = {};
  std::ptrdiff_t f = 0;
  for (; f + kBins <= n_bins; f += kBins) {
    for (int t = 0; t < kLanes; ++t) v[t] = load(row[t] + 2 * f);
    transpose(v);
    if constexpr (exact) {
      magnitudes_of<kBins, 2>(v, v + 1, a);
    } else {
      roots<kBins, 2>(v, v + 1, a, most);
    }
    for (int i = 0; i < kBins; ++i) store(magnitudes + (f + i) * kLanes, a[i]);
  }
  for (; f < n_bins; ++f) {
    for (int t = 0; t < kLanes; ++t) {
      v[0][t] = row[t][2 * f];
      v[1][t] = row[t][2 * f + 1];
    }
    if constexpr (exact) {
      magnitudes_of<1>(v, v + 1, a);
    } else {
      roots<1>(v, v + 1, a, most);
    }
    store(magnitudes + f * kLanes, a[0]);
  }
}

}  // namespace

void magnitude_tile(const float* X, std::ptrdiff_t X_stride, std::ptrdiff_t n_bins, int n_frames, bool exact,
                    float* magnitudes) {
  if (exact) {
    put_magnitudes<true>(X, X_stride, n_bins, n_frames, magnitudes);
  } else {
    put_magnitudes<false>(X, X_stride, n_bins, n_frames, magnitudes);
  }
}

namespace {

// The sum of n bins times their factors, in two independent sums.
static inline Vec weighted_sum(const float* bins, const float* factors, std::int32_t n) {
  Vec even = {}, odd = {};
  std::int32_t i = 0;
  for (; i + 2 <= n; i += 2) {
    even += load(bins + i * kLanes) * factors[i];
    odd += load(bins + (i + 1) * kLanes) * factors[i + 1];
  }
  if (i < n) even += load(bins + i * kLanes) * factors[i];
  return even + odd;
}

template <bool decibels>
bool sum_bands(const MelTile& tile) {
  const Vec least = broadcast(tile.amin < kLeastSum ? kLeastSum : 0.0f);
  Vec v[kLanes];
  IntVec rough = {};
  const float* factors = tile.factors;
  for (std::ptrdiff_t m0 = 0; m0 < tile.n_bands; m0 += kLanes) {
    const int n_bands = tile.n_bands - m0 < kLanes ? static_cast<int>(tile.n_bands - m0) : kLanes;
    for (int m = 0; m < kLanes; ++m) v[m] = Vec{};
    for (int m = 0; m < n_bands; ++m) {
      const std::int32_t n = tile.counts[m0 + m];
      v[m] = weighted_sum(tile.magnitudes + tile.starts[m0 + m] * kLanes, factors, n);
      factors += n;
    }
    if (decibels) {
      for (int m = 0; m < kLanes; ++m) {
        const Vec sum = v[m], louder = sum < tile.amin ? broadcast(tile.amin) : sum;
        if (m < n_bands) rough |= ~((sum >= least) & (sum <= kLargest));
        v[m] = sum <= kLargest ? log_positive(louder) * kDecibels : sum;  // infinity and NaN are kept
      }
    }
    transpose(v);
    for (int t = 0; t < tile.n_frames; ++t) {
      float* out = tile.out + t * tile.n_bands + m0;
      if (n_bands == kLanes) {
        store(out, v[t]);
      } else {
        __builtin_memcpy(out, &v[t], static_cast<std::size_t>(n_bands) * sizeof(float));
      }
    }
  }
  return !any(rough);
}

}  // namespace

bool mel_tile(const MelTile& tile) { return sum_bands<true>(tile); }
void mel_sums_tile(const MelTile& tile) { sum_bands<false>(tile); }

}  // namespace l2i::kernels::L2I_ISA
