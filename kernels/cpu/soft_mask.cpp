// Soft mask of a tile of frames from a dictionary, activations and component weights; its use and gradients.
//
//   m[t, f] = sum_k weight_k W[f, k] h[t, k] / (eps + sum_k W[f, k] h[t, k])
//   Y[t, f] = g X[t, f],   g = expm1(m log1p(a)) / a with a = |X[t, f]| (m where a = 0), or g = m,
//                     or g = m^4 / (m^4 + (1 - m)^4)
//
// A frame is a lane; a tile is one or two vectors of frames. Both sums of a block of bins x frames stay in
// registers and are used at once: W H is never stored, only m is. W is read in place, one number for a vector
// of frames, so it is neither packed nor copied. The numerator runs over the components of non-zero weight
// only. The real gain g (gain.h) keeps the phase of X, which is never computed.
//
// Gradients, for dg = Re(conj(dY) X), P and S the numerator and the denominator of m:
//
//   dP = dg dg/dm / S,   dg/dm = log1p(a) exp(m log1p(a)) / a (1 where a = 0), or 1,
//                              or 4 m^3 (1 - m)^3 / (m^4 + (1 - m)^4)^2;   dS = -m dP
//   dh[t, k] = sum_f W[f, k] (weight_k dP[t, f] + dS[t, f])
//   dweight_k = sum_t h[t, k] sum_f W[f, k] dP[t, f]
//
// dtypes: float32; spectra are frame-major complex64 as (re, im) pairs.
// Precision: float32, sums over the components or bins in index order. Cost: (K + K selected) fused
// multiply-adds and one division per bin for the mask, then the gain; 2 K more for the gradients. dh is a
// difference that is small beside its terms if all weights are alike; its rounding error is that of the
// terms.
#include "soft_mask.h"

#include "gain.h"
#include "magnitude.h"
#include "simd.h"

namespace l2i::kernels::L2I_ISA {
namespace {

// Rows in a block of two vectors: their sums fill the registers (32 with AVX-512, otherwise 16).
constexpr int kRows = kLanes == 16 ? 12 : 6;

constexpr int kLine = 16;  // floats in a cache line

// sum[i][v] += A[i, k] B[k][v] over the steps k, or over the steps that `steps` lists.
template <int rows, int vectors>
static inline void multiply(const float* A, std::ptrdiff_t row_stride, std::ptrdiff_t step_stride,
                            std::ptrdiff_t n_steps, const std::int32_t* steps, const float* B,
                            Vec (&sum)[rows][vectors]) {
  for (std::ptrdiff_t k = 0; k < n_steps; ++k) {
    const float* a = A + (steps != nullptr ? steps[k] : k) * step_stride;
    Vec b[vectors];
    for (int v = 0; v < vectors; ++v) b[v] = load(B + (k * vectors + v) * kLanes);
    for (int i = 0; i < rows; ++i) {
      const Vec x = broadcast(a[i * row_stride]);
      for (int v = 0; v < vectors; ++v) sum[i][v] += x * b[v];
    }
  }
}

// Bins [f, f + rows).
template <int rows, int vectors>
void mask_block(const MaskTile& tile, std::ptrdiff_t f) {
  const float* W = tile.W + f * tile.bin_stride;
  for (int t = 0; t < tile.n_frames; ++t) {
    const float* x = tile.X + t * tile.X_stride + 2 * f;
    __builtin_prefetch(x, 0, 2);
    __builtin_prefetch(x + kLine, 0, 2);
  }
  Vec whole[rows][vectors], part[rows][vectors];
  for (int i = 0; i < rows; ++i) {
    for (int v = 0; v < vectors; ++v) whole[i][v] = broadcast(tile.eps);
  }
  multiply<rows, vectors>(W, tile.bin_stride, tile.component_stride, tile.n_components, nullptr, tile.h,
                          whole);
  for (int i = 0; i < rows; ++i) {
    for (int v = 0; v < vectors; ++v) part[i][v] = Vec{};
  }
  multiply<rows, vectors>(W, tile.bin_stride, tile.component_stride, tile.n_selected, tile.selected,
                          tile.weighted, part);
  for (int i = 0; i < rows; ++i) {
    for (int v = 0; v < vectors; ++v) {
      const std::ptrdiff_t at = ((f + i) * vectors + v) * kLanes;
      const Vec m = part[i][v] / whole[i][v];
      store(tile.mask + at, tile.wiener ? wiener(m) : m);
      if (tile.whole != nullptr) store(tile.whole + at, whole[i][v]);
    }
  }
}

// The last block overlaps the one before it, so that all are full.
template <int vectors>
static inline void mask_blocks(const MaskTile& tile) {
  std::ptrdiff_t f = 0;
  for (; f + kRows <= tile.n_bins; f += kRows) mask_block<kRows, vectors>(tile, f);
  if (f == tile.n_bins) return;
  if (tile.n_bins >= kRows) {
    mask_block<kRows, vectors>(tile, tile.n_bins - kRows);
  } else {
    for (; f < tile.n_bins; ++f) mask_block<1, vectors>(tile, f);
  }
}

// The gradient for m of the gain g, dg dg/dm, from X and dY.
static inline Vec gain_gradient(MaskDomain domain, Vec m, Vec re, Vec im, Vec dre, Vec dim) {
  const Vec dg = re * dre + im * dim;
  if (domain == MaskDomain::magnitude) return dg;
  if (domain == MaskDomain::wiener) {
    const Vec rest = 1.0f - m, product = m * rest, square = m * m, other = rest * rest;
    const Vec powers = square * square + other * other;
    return dg * (4.0f * product * product * product / (powers * powers));
  }
  Vec a;
  magnitudes_of<1, 1, false>(&re, &im, &a);
  const Vec logarithm = log1p_positive(a), power = expm1_positive(m * logarithm) + 1.0f;
  const Vec gradient = dg * (a > Vec{} ? power * logarithm / a : broadcast(1.0f));
  // Above, the products may overflow where the gradient does not.
  const IntVec loud = a > 1.8e19f;
  if (any(loud)) [[unlikely]]
    return loud ? (re / a * dre + im / a * dim) * logarithm * power : gradient;
  return gradient;
}

// dP and dS of vector v of the tile: work[f] holds dP of all vectors for bin f, then dS.
static inline void bin_gradients(const MaskGradientTile& tile, int v) {
  constexpr int kBins = kLanes / 2;  // complex numbers in a vector
  const MaskTile& forward = tile.forward;
  const int vectors = forward.n_vectors, n_frames = tile.n_frames - v * kLanes;
  for (std::ptrdiff_t f = 0; f < forward.n_bins; f += kBins) {
    const int n = forward.n_bins - f < kBins ? static_cast<int>(forward.n_bins - f) : kBins;
    Vec x[kLanes] = {}, dy[kLanes] = {};
    for (int t = 0; t < kLanes && t < n_frames; ++t) {
      const std::ptrdiff_t frame = v * kLanes + t;
      const auto bytes = static_cast<std::size_t>(2 * n) * sizeof(float);
      __builtin_memcpy(&x[t], tile.X + frame * tile.X_stride + 2 * f, n == kBins ? sizeof(Vec) : bytes);
      __builtin_memcpy(&dy[t], tile.dY + frame * tile.dY_stride + 2 * f, n == kBins ? sizeof(Vec) : bytes);
    }
    transpose(x);
    transpose(dy);
    for (int i = 0; i < n; ++i) {
      const std::ptrdiff_t at = ((f + i) * vectors + v) * kLanes;
      const Vec re = x[2 * i], im = x[2 * i + 1], m = load(forward.mask + at);
      const Vec dP =
          gain_gradient(tile.domain, m, re, im, dy[2 * i], dy[2 * i + 1]) / load(forward.whole + at);
      float* out = tile.work + ((f + i) * 2 * vectors + v) * kLanes;
      store(out, dP);
      store(out + vectors * kLanes, -m * dP);
    }
  }
}

// Components [k, k + rows).
template <int rows, int vectors>
void component_gradients(const MaskGradientTile& tile, std::ptrdiff_t k) {
  const MaskTile& forward = tile.forward;
  Vec sum[rows][2 * vectors] = {};
  multiply<rows, 2 * vectors>(forward.W + k * forward.component_stride, forward.component_stride,
                              forward.bin_stride, forward.n_bins, nullptr, tile.work, sum);
  for (int i = 0; i < rows; ++i) {
    Vec dw = {};
    for (int v = 0; v < vectors; ++v) {
      const std::ptrdiff_t at = ((k + i) * vectors + v) * kLanes;
      store(tile.dh + at, tile.weights[k + i] * sum[i][v] + sum[i][vectors + v]);
      dw += load(forward.h + at) * sum[i][v];
    }
    store(tile.dw + (k + i) * kLanes, dw);
  }
}

// As in mask_blocks, the last block overlaps the one before it.
template <int rows, int vectors>
static inline void all_component_gradients(const MaskGradientTile& tile) {
  const std::ptrdiff_t K = tile.forward.n_components;
  std::ptrdiff_t k = 0;
  for (; k + rows <= K; k += rows) component_gradients<rows, vectors>(tile, k);
  if (k == K) return;
  if (K >= rows) {
    component_gradients<rows, vectors>(tile, K - rows);
  } else {
    for (; k < K; ++k) component_gradients<1, vectors>(tile, k);
  }
}

// Frames whose gains are computed together.
constexpr int kGroup = kLanes < 8 ? kLanes : 8;

template <bool log>
static inline void apply(const ApplyTile& tile) {
  for (std::ptrdiff_t f = 0; f < tile.n_bins; f += kLanes) {
    const std::ptrdiff_t left = tile.n_bins - f;
    Vec m[kLanes];
    for (int i = 0; i < kLanes; ++i)
      m[i] = load(tile.mask + (i < left ? f + i : tile.n_bins - 1) * tile.mask_stride);
    transpose(m);
    for (int t0 = 0; t0 < tile.n_frames; t0 += kGroup) {
      const int n = tile.n_frames - t0 < kGroup ? tile.n_frames - t0 : kGroup;
      Vec first[kGroup] = {}, second[kGroup] = {}, re[kGroup], im[kGroup], a[kGroup], gain[kGroup];
      for (int t = 0; t < n; ++t) {
        const float* x = tile.X + (t0 + t) * tile.X_stride + 2 * f;
        float edge[2 * kLanes] = {};
        if (left < kLanes) {
          __builtin_memcpy(edge, x, static_cast<std::size_t>(left) * 2 * sizeof(float));
          x = edge;
        }
        first[t] = load(x);
        second[t] = load(x + kLanes);
      }
      for (int t = 0; t < kGroup; ++t) {
        re[t] = real_parts(first[t], second[t]);
        im[t] = imaginary_parts(first[t], second[t]);
      }
      const Vec* g = m + t0;
      if (log) {
        magnitudes_of<kGroup, 1, false>(re, im, a);
        gains<kGroup>(m + t0, a, gain);
        g = gain;
      }
      for (int t = 0; t < n; ++t) {
        float* y = tile.Y + (t0 + t) * tile.Y_stride + 2 * f;
        const Vec low = first[t] * low_twice(g[t]), high = second[t] * high_twice(g[t]);
        if (left < kLanes) {
          const Vec edge[2] = {low, high};
          __builtin_memcpy(y, edge, static_cast<std::size_t>(left) * 2 * sizeof(float));
        } else {
          store(y, low);
          store(y + kLanes, high);
        }
      }
    }
  }
}

}  // namespace

void gather(const float* H, std::ptrdiff_t frame_stride, std::ptrdiff_t component_stride, int n_frames,
            std::ptrdiff_t n_components, int n_vectors, float* h) {
  const int width = n_vectors * kLanes;
  std::ptrdiff_t k = 0;
  if (component_stride == 1) {
    for (; k + kLanes <= n_components; k += kLanes) {
      for (int t = 0; t < width; t += kLanes) {
        Vec v[kLanes];
        for (int i = 0; i < kLanes; ++i)
          v[i] = t + i < n_frames ? load(H + (t + i) * frame_stride + k) : Vec{};
        transpose(v);
        for (int i = 0; i < kLanes; ++i) store(h + (k + i) * width + t, v[i]);
      }
    }
  }
  for (; k < n_components; ++k) {
    const float* row = H + k * component_stride;
    float* out = h + k * width;
    if (frame_stride == 1) {
      __builtin_memcpy(out, row, static_cast<std::size_t>(n_frames) * sizeof(float));
    } else {
      for (int t = 0; t < n_frames; ++t) out[t] = row[t * frame_stride];
    }
    for (int t = n_frames; t < width; ++t) out[t] = 0.0f;
  }
}

void mask_tile(const MaskTile& tile) {
  if (tile.n_vectors == 2) {
    mask_blocks<2>(tile);
  } else {
    mask_blocks<1>(tile);
  }
}

void apply_tile(const ApplyTile& tile) {
  if (tile.log) {
    apply<true>(tile);
  } else {
    apply<false>(tile);
  }
}

void mask_gradient_tile(const MaskGradientTile& tile) {
  for (int v = 0; v < tile.forward.n_vectors; ++v) bin_gradients(tile, v);
  if (tile.forward.n_vectors == 2) {
    all_component_gradients<kRows / 2, 2>(tile);
  } else {
    all_component_gradients<kRows, 1>(tile);
  }
}

}  // namespace l2i::kernels::L2I_ISA
