// Soft mask of a tile of frames from a dictionary, activations and component weights, applied to a spectrum.
//
//   m[t, f] = sum_k weight_k W[f, k] h[t, k] / (eps + sum_k W[f, k] h[t, k])
//   Y[t, f] = g X[t, f],   g = expm1(m log1p(a)) / a with a = |X[t, f]| (m where a = 0), or g = m
//
// Both sums of a block of bins x frames stay in registers and are used at once; W H is never stored. The
// numerator runs over the components of non-zero weight only. The phase of X is kept by the real gain g,
// never computed.
//
// dtypes: float32; spectra are frame-major complex64 as (re, im) pairs.
// Precision: float32; sums over the components in index order, log1p and expm1 within 2 ulp. |X| is the root
// of re^2 + im^2, so magnitudes below 1e-19 count as zero, and those above 1.8e19 as 1.8e19. Cost: (K + K
// selected) fused multiply-adds a bin, two divisions, one root, some 40 operations for the gain.
//
// The dictionary is packed into panels of kWidth vectors of bins: panel, component, bin. The last panel is as
// narrow as it can be; bins that do not exist are zero.
#include "soft_mask.h"

#include "simd.h"
#include "vmath.h"

namespace l2i::kernels::L2I_ISA {
namespace {

// A block of kWidth vectors of bins x kHeight frames: its sums fill the registers (32 with AVX-512, otherwise
// 16).
#if L2I_LANES == 16
constexpr int kWidth = 2, kHeight = 8;
#elif L2I_LANES == 8
constexpr int kWidth = 3, kHeight = 4;
#else
constexpr int kWidth = 2, kHeight = 4;
#endif
static_assert(kLanes % kHeight == 0);

template <int width, int height>
static inline void multiply(const float* panel, std::ptrdiff_t K, const float* h,
                            const std::int32_t* selected, Vec (&sum)[height][width]) {
  for (std::ptrdiff_t k = 0; k < K; ++k) {
    const float* w = panel + (selected != nullptr ? selected[k] : k) * (width * kLanes);
    Vec bins[width];
    for (int i = 0; i < width; ++i) bins[i] = load(w + i * kLanes);
    for (int t = 0; t < height; ++t) {
      const Vec x = broadcast(h[k * kLanes + t]);
      for (int i = 0; i < width; ++i) sum[t][i] += bins[i] * x;
    }
  }
}

template <bool log>
static inline Vec gain(Vec m, Vec re, Vec im) {
  if (!log) return m;
  const Vec a = square_root(minimum(re * re + im * im, broadcast(3.402823466e38f)));
  const Vec g = expm1_positive(m * log1p_positive(a)) / a;
  return a > Vec{} ? g : m;
}

template <bool log>
static inline void apply(Vec m, const float* x, float* y) {
  const Vec first = load(x), second = load(x + kLanes);
  const Vec g = gain<log>(m, real_parts(first, second), imaginary_parts(first, second));
  store(y, first * low_twice(g));
  store(y + kLanes, second * high_twice(g));
}

// Frames [t, t + height) of the bins of one panel, which begins at bin f.
template <int width, int height, bool log>
void block(const MaskTile& tile, const float* panel, std::ptrdiff_t f, std::ptrdiff_t t) {
  Vec whole[height][width], part[height][width];
  for (int j = 0; j < height; ++j) {
    for (int i = 0; i < width; ++i) whole[j][i] = broadcast(tile.eps);
  }
  multiply<width, height>(panel, tile.n_components, tile.h + t, nullptr, whole);
  for (int j = 0; j < height; ++j) {
    for (int i = 0; i < width; ++i) part[j][i] = Vec{};
  }
  multiply<width, height>(panel, tile.n_selected, tile.weighted + t, tile.selected, part);

  for (int j = 0; j < height; ++j) {
    const float* x = tile.X + (t + j) * tile.X_stride + 2 * f;
    float* y = tile.Y + (t + j) * tile.Y_stride + 2 * f;
    for (int i = 0; i < width; ++i) {
      const Vec m = part[j][i] / whole[j][i];
      const std::ptrdiff_t left = tile.n_bins - f - i * kLanes;
      if (left >= kLanes) {
        apply<log>(m, x + 2 * kLanes * i, y + 2 * kLanes * i);
      } else {
        const std::size_t bytes = static_cast<std::size_t>(left) * 2 * sizeof(float);
        float edge[2 * kLanes] = {};
        __builtin_memcpy(edge, x + 2 * kLanes * i, bytes);
        apply<log>(m, edge, edge);
        __builtin_memcpy(y + 2 * kLanes * i, edge, bytes);
      }
    }
  }
}

// All frames from t on, in blocks as high as they fit.
template <int width, int height, bool log>
static inline void column(const MaskTile& tile, const float* panel, std::ptrdiff_t f, std::ptrdiff_t t) {
  for (; t + height <= tile.n_frames; t += height) block<width, height, log>(tile, panel, f, t);
  if constexpr (height > 1) {
    if (t < tile.n_frames) column<width, height / 2, log>(tile, panel, f, t);
  }
}

template <int width, bool log>
static inline void panels(const MaskTile& tile, const float*& packed, std::ptrdiff_t& f) {
  for (; f + (width - 1) * kLanes < tile.n_bins; f += width * kLanes) {
    column<width, kHeight, log>(tile, packed, f, 0);
    packed += width * kLanes * tile.n_components;
  }
  if constexpr (width > 1) panels<width - 1, log>(tile, packed, f);
}

// Copies (or transposes) the bins [f, f + width * kLanes) into one panel.
static void pack_panel(const float* W, std::ptrdiff_t bin_stride, std::ptrdiff_t component_stride,
                       std::ptrdiff_t n_bins, std::ptrdiff_t K, std::ptrdiff_t f, int width, float* panel) {
  for (int i = 0; i < width; ++i, f += kLanes, panel += kLanes) {
    std::ptrdiff_t k = 0;
    if (component_stride == 1 && f + kLanes <= n_bins) {
      for (; k + kLanes <= K; k += kLanes) {
        Vec v[kLanes];
        for (int j = 0; j < kLanes; ++j) v[j] = load(W + (f + j) * bin_stride + k);
        transpose(v);
        for (int j = 0; j < kLanes; ++j) store(panel + (k + j) * width * kLanes, v[j]);
      }
    }
    for (; k < K; ++k) {
      for (int j = 0; j < kLanes; ++j) {
        panel[k * width * kLanes + j] =
            f + j < n_bins ? W[(f + j) * bin_stride + k * component_stride] : 0.0f;
      }
    }
  }
}

}  // namespace

std::ptrdiff_t packed_size(std::ptrdiff_t n_bins, std::ptrdiff_t n_components) {
  return (n_bins + kLanes - 1) / kLanes * kLanes * n_components;
}

void pack_dictionary(const float* W, std::ptrdiff_t bin_stride, std::ptrdiff_t component_stride,
                     std::ptrdiff_t n_bins, std::ptrdiff_t n_components, float* packed) {
  for (std::ptrdiff_t f = 0; f < n_bins;) {
    const std::ptrdiff_t vectors = (n_bins - f + kLanes - 1) / kLanes;
    const int width = vectors < kWidth ? static_cast<int>(vectors) : kWidth;
    pack_panel(W, bin_stride, component_stride, n_bins, n_components, f, width, packed);
    packed += width * kLanes * n_components;
    f += width * kLanes;
  }
}

void mask_tile(const MaskTile& tile) {
  const float* packed = tile.W;
  std::ptrdiff_t f = 0;
  if (tile.log) {
    panels<kWidth, true>(tile, packed, f);
  } else {
    panels<kWidth, false>(tile, packed, f);
  }
}

}  // namespace l2i::kernels::L2I_ISA
