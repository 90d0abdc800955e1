// The mel filters (M, F) that Python gives, as the engine wants them.
#pragma once

#include <cfloat>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "arrays.h"
#include "log_mel.h"

namespace l2i::bindings {

// The bins that each band covers, and their factors one after another.
class Bands {
 public:
  Bands(const ArrayView& filters, std::ptrdiff_t n_bins, float amin) : amin_(amin) {
    require(filters.size[1] == n_bins, "filters must have as many columns as X has bins");
    require(amin >= FLT_MIN && amin <= FLT_MAX, "amin must be a positive, normal number");
    for (std::ptrdiff_t m = 0; m < filters.size[0]; ++m) {
      const auto factor = [&](std::ptrdiff_t f) {
        return filters.data[m * filters.stride[0] + f * filters.stride[1]];
      };
      std::ptrdiff_t first = 0, last = n_bins;
      while (first < last && factor(last - 1) == 0) --last;
      while (first < last && factor(first) == 0) ++first;
      starts_.push_back(static_cast<std::int32_t>(first));
      counts_.push_back(static_cast<std::int32_t>(last - first));
      for (; first < last; ++first) factors_.push_back(factor(first));
    }
  }

  MelBands get() const {
    return {static_cast<std::ptrdiff_t>(starts_.size()), starts_.data(), counts_.data(), factors_.data(),
            amin_};
  }

 private:
  float amin_;
  std::vector<std::int32_t> starts_, counts_;
  std::vector<float> factors_;
};

}  // namespace l2i::bindings
