// Checks shared by all transforms of samples.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "arrays.h"
#include "kernels.h"
#include "stft.h"

namespace l2i::bindings {

// The largest samples: the spectra of louder ones might leave float32.
constexpr float kLoudest = 1e30f;

// More than any array holds: sizes up to this can be added, and multiplied by a tile's.
constexpr std::ptrdiff_t kLongest = std::ptrdiff_t{1} << 40;

inline std::shared_ptr<const FftPlan> plan_of(std::ptrdiff_t n_fft) {
  require(FftPlan::supports(n_fft), "the window's length must be a power of two from 32 to 65536");
  return FftPlan::of(n_fft);
}

inline kernels::MaskDomain domain_of(const std::string& name) {
  require(name == "log" || name == "magnitude" || name == "wiener",
          "domain must be log, magnitude or wiener");
  return name == "log"         ? kernels::MaskDomain::log
         : name == "magnitude" ? kernels::MaskDomain::magnitude
                               : kernels::MaskDomain::wiener;
}

// The shape of the frames of samples (B, N), padded by `pad` zeros on both sides.
inline StftShape shape_of(const ArrayView& samples, std::ptrdiff_t n_fft, std::ptrdiff_t hop,
                          std::ptrdiff_t pad) {
  require(hop >= 1 && pad >= 0, "hop must be at least 1 and pad at least 0");
  require(pad <= kLongest, "pad must be at most 2^40");
  require(samples.size[1] + 2 * pad >= n_fft,
          "y with its padding is shorter than the window, but must be at least as long");
  return {samples.size[0], 1 + (samples.size[1] + 2 * pad - n_fft) / hop, hop, pad};
}

// Checks the settings of an inverse transform.
inline void check_synthesis(std::ptrdiff_t n_bins, std::ptrdiff_t n_fft, std::ptrdiff_t hop,
                            std::ptrdiff_t start, std::ptrdiff_t length) {
  require(n_bins == n_fft / 2 + 1, "X must have one bin more than half the window's length");
  require(hop >= 1 && start >= 0 && length >= 0, "hop must be at least 1, start and length at least 0");
  require(start <= kLongest && length <= kLongest, "start and length must be at most 2^40");
}

}  // namespace l2i::bindings
