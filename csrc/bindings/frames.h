// Checks shared by all transforms of samples.
#pragma once

#include <cstddef>
#include <memory>

#include "arrays.h"
#include "stft.h"

namespace l2i::bindings {

inline std::shared_ptr<const FftPlan> plan_of(std::ptrdiff_t n_fft) {
  require(FftPlan::supports(n_fft), "the window's length must be a power of two from 32 to 65536");
  return FftPlan::of(n_fft);
}

// The shape of the frames of samples (B, N), padded by `pad` zeros on both sides.
inline StftShape shape_of(const ArrayView& samples, std::ptrdiff_t n_fft, std::ptrdiff_t hop,
                          std::ptrdiff_t pad) {
  require(hop >= 1 && pad >= 0, "hop must be at least 1 and pad at least 0");
  require(samples.size[1] + 2 * pad >= n_fft,
          "y with its padding is shorter than the window, but must be at least as long");
  return {samples.size[0], 1 + (samples.size[1] + 2 * pad - n_fft) / hop, hop, pad};
}

}  // namespace l2i::bindings
