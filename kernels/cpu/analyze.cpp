// Logarithmic magnitudes of a tile of frames; one frame in each lane.
//
//   V[t, f] = log(1 + |X[t, f]|)
//
// dtypes: float32; magnitudes hold a vector of frames for each bin, V is frame-major.
// Precision: log1p within 2 ulp.
// Cost: about 30 operations and a transpose per bin.
#include "analyze.h"

#include "simd.h"
#include "vmath.h"

namespace l2i::kernels::L2I_ISA {

void log1p_tile(const float* magnitudes, std::ptrdiff_t n_bins, int n_frames, float* V) {
  for (std::ptrdiff_t f = 0; f < n_bins; f += kLanes) {
    const int width = n_bins - f < kLanes ? static_cast<int>(n_bins - f) : kLanes;
    Vec v[kLanes] = {};
    for (int i = 0; i < width; ++i) v[i] = log1p_positive(load(magnitudes + (f + i) * kLanes));
    transpose(v);
    for (int t = 0; t < n_frames; ++t) {
      float* out = V + t * n_bins + f;
      if (width == kLanes) {
        store(out, v[t]);
      } else {
        __builtin_memcpy(out, &v[t], static_cast<std::size_t>(width) * sizeof(float));
      }
    }
  }
}

}  // namespace l2i::kernels::L2I_ISA
