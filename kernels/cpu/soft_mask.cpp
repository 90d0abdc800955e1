// Soft mask of a tile of frames from a dictionary, activations and component weights, and its use.
//
//   m[t, f] = sum_k weight_k W[f, k] h[t, k] / (eps + sum_k W[f, k] h[t, k])
//   Y[t, f] = g X[t, f],   g = expm1(m log1p(a)) / a with a = |X[t, f]| (m where a = 0), or g = m
//
// A frame is a lane; a tile is one or two vectors of frames. Both sums of a block of bins x frames stay in
// registers and are used at once: W H is never stored, only m is. W is read as it lies, one number for a
// vector of frames, so it is neither packed nor copied. The numerator runs over the components of non-zero
// weight only. The phase of X is kept by the real gain g (gain.h), never computed.
//
// dtypes: float32; spectra are frame-major complex64 as (re, im) pairs.
// Precision: float32, sums over the components in index order. Cost: (K + K selected) fused multiply-adds and
// one division a bin for the mask, then the gain.
#include "soft_mask.h"

#include "gain.h"
#include "simd.h"

namespace l2i::kernels::L2I_ISA {
namespace {

// Rows in a block of two vectors: their sums fill the registers (32 with AVX-512, otherwise 16).
constexpr int kRows = kLanes == 16 ? 12 : 6;

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
    for (int v = 0; v < vectors; ++v)
      store(tile.mask + ((f + i) * vectors + v) * kLanes, part[i][v] / whole[i][v]);
  }
}

// The last block reaches back over the one before it, so that all are full.
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
      Vec first[kGroup] = {}, second[kGroup] = {}, re[kGroup], im[kGroup], g[kGroup];
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
      gains<kGroup, log>(m + t0, re, im, g);
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

}  // namespace l2i::kernels::L2I_ISA
