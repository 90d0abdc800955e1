#include "log_mel.h"

#include <algorithm>

#include "kernels.h"
#include "workspace.h"

namespace l2i {

void log_mel(const MelProblem& problem, float* M) {
  thread_local Workspace workspace;
  const FlushDenormals flush;
  const Kernels& kernels = current_kernels();
  const std::ptrdiff_t row = 2 * problem.n_bins, n_rows = problem.n_clips * problem.n_frames;
  float* const work = workspace.get(static_cast<std::size_t>(problem.n_bins * kernels.lanes));
  for (std::ptrdiff_t t = 0; t < n_rows; t += kernels.lanes) {
    kernels.mel_tile({problem.X + t * row, row, M + t * problem.n_bands, problem.n_bins, problem.n_bands,
                      problem.starts, problem.counts, problem.factors, work,
                      static_cast<int>(std::min<std::ptrdiff_t>(kernels.lanes, n_rows - t)), problem.amin});
  }
}

}  // namespace l2i
