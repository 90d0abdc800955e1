// The functions that every instruction set provides: plain pointers, sizes and strides.
#pragma once

#include <cstddef>
#include <cstdint>

namespace l2i::kernels {

// Tables of a real FFT of n points as a complex FFT of n / 2, n a power of two from 32 on.
//   order     n / 2 positions: where point i goes before the first pass
//   twiddles  for each radix-4 pass of sub-transforms of s points, j = 0 .. s - 1:
//             (re, im) of w, w^2, w^3 for w = exp(-2 pi i j / 4s)
//   split     (re, im) of exp(-2 pi i k / n), k = 0 .. n / 4
struct FftTables {
  std::ptrdiff_t n;
  const std::uint32_t* order;
  const float* twiddles;
  const float* split;
};

// A tile of at most `lanes` frames for soft_mask. Strides are counted in floats.
struct MaskTile {
  const float* X;  // frames of n_bins complex numbers
  std::ptrdiff_t X_stride;
  float* Y;  // the same for the answer; may be X
  std::ptrdiff_t Y_stride;
  const float* W;  // dictionary as packed by pack_dictionary
  std::ptrdiff_t n_bins;
  std::ptrdiff_t n_components;
  const float* h;         // activations, n_components x lanes, zero beyond n_frames
  const float* weighted;  // activations times weight of the selected components, n_selected x lanes
  const std::int32_t* selected;
  std::ptrdiff_t n_selected;
  int n_frames;
  float eps;
  bool log;  // the mask acts on log(1 + |X|), not on |X|
};

// A tile of at most `lanes` frames for log_mel. Band m sums counts[m] bins from starts[m] on, with its own
// run of `factors`. work: n_bins x lanes floats.
struct MelTile {
  const float* X;
  std::ptrdiff_t X_stride;
  float* out;  // n_frames rows of n_bands floats
  std::ptrdiff_t n_bins, n_bands;
  const std::int32_t* starts;
  const std::int32_t* counts;
  const float* factors;
  float* work;
  int n_frames;
  float amin;
};

struct Kernels {
  const char* name;  // "scalar", "avx2", "avx512"
  int lanes;         // frames in a tile: floats in a vector register

  // Is every value at least `low` and at most `high`? NaN is not.
  bool (*in_range)(const float* x, std::ptrdiff_t size, float low, float high);

  // stft.cpp
  void (*stft_tile)(const FftTables& fft, const float* const* frames, int n_frames, const float* window,
                    float* work, float* out, std::ptrdiff_t out_stride);
  void (*istft_tile)(const FftTables& fft, const float* rows, std::ptrdiff_t row_stride, int n_frames,
                     const float* window, float* work, float* sums, std::ptrdiff_t hop);

  // soft_mask.cpp
  std::ptrdiff_t (*packed_size)(std::ptrdiff_t n_bins, std::ptrdiff_t n_components);
  void (*pack_dictionary)(const float* W, std::ptrdiff_t bin_stride, std::ptrdiff_t component_stride,
                          std::ptrdiff_t n_bins, std::ptrdiff_t n_components, float* packed);
  void (*mask_tile)(const MaskTile& tile);

  // log_mel.cpp
  void (*mel_tile)(const MelTile& tile);
};

namespace scalar {
extern const Kernels table;
}
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}

}  // namespace l2i::kernels
