// Mel filters in the form that the engine uses.
#pragma once

#include <cfloat>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "arrays.h"
#include "log_mel.h"

namespace l2i::bindings {

// The bins that each band covers, and their factors one after another, made once from filters (M, F).
class Bands {
 public:
  explicit Bands(const pybind11::array& filters) {
    const auto bank = view<float>(filters, "filters", 2, 0);
    n_bins_ = bank.size[1];
    for (std::ptrdiff_t m = 0; m < bank.size[0]; ++m) {
      const auto factor = [&](std::ptrdiff_t f) {
        return bank.data[m * bank.stride[0] + f * bank.stride[1]];
      };
      std::ptrdiff_t first = 0, last = n_bins_;
      while (first < last && factor(last - 1) == 0) --last;
      while (first < last && factor(first) == 0) ++first;
      starts_.push_back(static_cast<std::int32_t>(first));
      counts_.push_back(static_cast<std::int32_t>(last - first));
      for (; first < last; ++first) factors_.push_back(factor(first));
    }
  }

  std::ptrdiff_t size() const { return static_cast<std::ptrdiff_t>(starts_.size()); }

  // For rows of n_bins.
  MelBands get(std::ptrdiff_t n_bins, float amin) const {
    require(n_bins == n_bins_, "bands must have as many bins as X");
    require(amin >= FLT_MIN && amin <= FLT_MAX, "amin must be a positive, normal number");
    return {size(), starts_.data(), counts_.data(), factors_.data(), amin};
  }

 private:
  std::ptrdiff_t n_bins_;
  std::vector<std::int32_t> starts_, counts_;
  std::vector<float> factors_;
};

}  // namespace l2i::bindings
