#include "log_mel.h"

#include <algorithm>

#include "kernels.h"
#include "stft.h"
#include "workspace.h"

namespace l2i {

void log_mel(const MelProblem& problem, float* M) {
  const Kernels& kernels = current_kernels();
  const std::ptrdiff_t row = 2 * problem.n_bins, lanes = kernels.lanes;
  parallel_frames(1, problem.n_clips * problem.n_frames, lanes, 0.7 * static_cast<double>(problem.n_bins),
                  [&](std::ptrdiff_t, std::ptrdiff_t first, std::ptrdiff_t last) {
                    thread_local Workspace workspace;
                    const FlushDenormals flush;
                    float* const work = workspace.get(static_cast<std::size_t>(problem.n_bins * lanes));
                    for (std::ptrdiff_t t = first; t < last; t += lanes) {
                      const int n = static_cast<int>(std::min(lanes, last - t));
                      kernels.mel_tile({problem.X + t * row, row, M + t * problem.n_bands, problem.n_bins,
                                        problem.n_bands, problem.starts, problem.counts, problem.factors,
                                        work, n, problem.amin});
                    }
                  });
}

}  // namespace l2i
