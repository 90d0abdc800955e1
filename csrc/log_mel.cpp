#include "log_mel.h"

#include <algorithm>

#include "kernels.h"
#include "stft.h"
#include "workspace.h"

namespace l2i {

void log_mel(const MelBands& bands, const float* X, std::ptrdiff_t n_rows, std::ptrdiff_t n_bins, float* M) {
  const Kernels& kernels = current_kernels();
  const std::ptrdiff_t row = 2 * n_bins, lanes = kernels.lanes;
  parallel_frames(
      1, n_rows, lanes, 0.7 * static_cast<double>(n_bins),
      [&](std::ptrdiff_t, std::ptrdiff_t first, std::ptrdiff_t last, Poll& poll) {
        thread_local Workspace workspace;
        const FlushDenormals flush;
        float* const magnitudes = workspace.get(static_cast<std::size_t>(n_bins * lanes));
        for (std::ptrdiff_t t = first; t < last; t += lanes) {
          const int n = static_cast<int>(std::min(lanes, last - t));
          const kernels::MelTile tile = {
              magnitudes, M + t * bands.n_bands, bands.n_bands, bands.starts, bands.counts, bands.factors, n,
              bands.amin};
          kernels.magnitude_tile(X + t * row, row, n_bins, n, false, magnitudes);
          if (!kernels.mel_tile(tile)) {
            kernels.magnitude_tile(X + t * row, row, n_bins, n, true, magnitudes);
            kernels.mel_tile(tile);
          }
          poll(n);
        }
      });
}

}  // namespace l2i
