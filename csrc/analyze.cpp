#include "analyze.h"

#include <algorithm>
#include <vector>

#include "kernels.h"
#include "threads.h"
#include "workspace.h"

namespace l2i {

void analyze(const FftPlan& plan, const float* y, std::ptrdiff_t y_stride, std::ptrdiff_t n_samples,
             const float* window, const StftShape& shape, const MelBands& bands, float* X, float* V,
             float* M) {
  const Kernels& kernels = current_kernels();
  const std::ptrdiff_t n_fft = plan.tables().n, n_bins = n_fft / 2 + 1, lanes = kernels.lanes;
  const std::vector<float> half = scaled(window, n_fft, 0.5f);
  const double cost = plan.cost() + 1.0 * static_cast<double>(n_bins);
  parallel_frames(shape.n_clips, shape.n_frames, lanes, cost,
                  [&](std::ptrdiff_t b, std::ptrdiff_t first, std::ptrdiff_t last, Poll& poll) {
                    thread_local Workspace workspace;
                    const FlushDenormals flush;
                    const std::size_t size = plan.work_size(kernels.lanes);
                    float* const work = workspace.get(size + static_cast<std::size_t>(n_bins * lanes));
                    float* const magnitudes = work + size;
                    FrameReader frames(y + b * y_stride, n_samples, n_fft, shape.hop, shape.start);
                    for (std::ptrdiff_t t = first; t < last; t += lanes) {
                      const int n = static_cast<int>(std::min(lanes, last - t));
                      const std::ptrdiff_t row = b * shape.n_frames + t;
                      kernels.stft_tile(plan.tables(), frames.at(t, n), n, half.data(), work,
                                        X + 2 * row * n_bins, 2 * n_bins, magnitudes);
                      kernels.log1p_tile(magnitudes, n_bins, n, V + row * n_bins);
                      kernels.mel_tile({magnitudes, M + row * bands.n_bands, bands.n_bands, bands.starts,
                                        bands.counts, bands.factors, n, bands.amin});
                      poll(n);
                    }
                  });
}

}  // namespace l2i
