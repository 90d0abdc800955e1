// Mel spectrogram in decibels over batches.
#pragma once

#include <cstddef>
#include <cstdint>

namespace l2i {

// X: n_clips x n_frames rows of n_bins complex numbers, contiguous. M: n_clips x n_frames x n_bands,
// contiguous. Band m sums counts[m] bins from starts[m] on, with the next counts[m] of `factors`.
struct MelProblem {
  std::ptrdiff_t n_clips, n_frames, n_bins, n_bands;
  const float* X;
  const std::int32_t* starts;
  const std::int32_t* counts;
  const float* factors;
  float amin;
};

void log_mel(const MelProblem& problem, float* M);

}  // namespace l2i
