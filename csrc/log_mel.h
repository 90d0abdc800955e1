// Mel spectrogram in decibels over batches.
#pragma once

#include <cstddef>
#include <cstdint>

namespace l2i {

// Mel bands: band m sums counts[m] bins from starts[m] on, with the next counts[m] of `factors`, and is at
// least amin.
struct MelBands {
  std::ptrdiff_t n_bands;
  const std::int32_t* starts;
  const std::int32_t* counts;
  const float* factors;
  float amin;
};

// X: n_rows contiguous rows of n_bins complex numbers. M: n_rows x n_bands, contiguous.
void log_mel(const MelBands& bands, const float* X, std::ptrdiff_t n_rows, std::ptrdiff_t n_bins, float* M);

}  // namespace l2i
