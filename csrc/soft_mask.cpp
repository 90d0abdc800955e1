#include "soft_mask.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace l2i {
namespace {

// Prepares one tile of frames after another, and computes its mask.
class Masker {
 public:
  static constexpr int kVectors = 2;  // in a tile

  Masker(const Kernels& kernels, const MaskProblem& problem, std::ptrdiff_t clip)
      : kernels_(kernels), problem_(problem), clip_(clip), selected_(selection(problem, clip)) {
    thread_local Workspace workspace;
    const std::ptrdiff_t width = kVectors * kernels.lanes;
    const auto n_selected = static_cast<std::ptrdiff_t>(selected_.size());
    h_ =
        workspace.get(static_cast<std::size_t>(width * (problem.n_components + n_selected + problem.n_bins)));
    weighted_ = h_ + width * problem.n_components;
    mask_ = weighted_ + width * n_selected;
  }

  // The mask of the frames [t, t + n), at most kVectors * lanes of them: a row of stride() for each bin.
  const float* mask(std::ptrdiff_t t, int n) {
    const int n_vectors = n > kernels_.lanes ? 2 : 1;
    stride_ = n_vectors * kernels_.lanes;
    kernels_.gather(problem_.H + clip_ * problem_.H_stride + t * problem_.H_frame_stride,
                    problem_.H_frame_stride, problem_.H_component_stride, n, problem_.n_components, n_vectors,
                    h_);
    for (std::size_t s = 0; s < selected_.size(); ++s) {
      const std::ptrdiff_t k = selected_[s];
      const float weight = weight_of(problem_, clip_, k);
      float* const row = weighted_ + static_cast<std::ptrdiff_t>(s) * stride_;
      for (std::ptrdiff_t i = 0; i < stride_; ++i) row[i] = weight * h_[k * stride_ + i];
    }
    kernels_.mask_tile({problem_.W, problem_.W_bin_stride, problem_.W_component_stride, problem_.n_bins,
                        problem_.n_components, h_, weighted_, selected_.data(),
                        static_cast<std::ptrdiff_t>(selected_.size()), problem_.eps, n_vectors, mask_});
    return mask_;
  }
  std::ptrdiff_t stride() const { return stride_; }

 private:
  static float weight_of(const MaskProblem& problem, std::ptrdiff_t clip, std::ptrdiff_t k) {
    return problem.weights[clip * problem.weights_stride + k * problem.weights_component_stride];
  }

  static std::vector<std::int32_t> selection(const MaskProblem& problem, std::ptrdiff_t clip) {
    std::vector<std::int32_t> selected;
    for (std::ptrdiff_t k = 0; k < problem.n_components; ++k) {
      if (weight_of(problem, clip, k) > 0) selected.push_back(static_cast<std::int32_t>(k));
    }
    return selected;
  }

  const Kernels& kernels_;
  const MaskProblem& problem_;
  std::ptrdiff_t clip_, stride_ = 0;
  std::vector<std::int32_t> selected_;
  float *h_, *weighted_, *mask_;
};

// About what the mask of a frame takes, in nanoseconds.
double mask_cost(const MaskProblem& problem) {
  return static_cast<double>(problem.n_bins) * (1.0 + 0.01 * static_cast<double>(problem.n_components));
}

}  // namespace

void soft_mask(const MaskProblem& problem, float* Y) {
  const Kernels& kernels = current_kernels();
  const std::ptrdiff_t row = 2 * problem.n_bins;
  const int lanes = kernels.lanes, most = Masker::kVectors * lanes;
  parallel_frames(
      problem.n_clips, problem.n_frames, most, mask_cost(problem),
      [&](std::ptrdiff_t b, std::ptrdiff_t first, std::ptrdiff_t last) {
        const FlushDenormals flush;
        Masker masker(kernels, problem, b);
        for (std::ptrdiff_t t = first; t < last; t += most) {
          const int n = static_cast<int>(std::min<std::ptrdiff_t>(most, last - t));
          const float* mask = masker.mask(t, n);
          for (int i = 0; i < n; i += lanes) {
            kernels.apply_tile({problem.X + b * problem.X_stride + (t + i) * row, row,
                                Y + (b * problem.n_frames + t + i) * row, row, mask + i, masker.stride(),
                                problem.n_bins, std::min(lanes, n - i), problem.log});
          }
        }
      });
}

void decode(const MaskProblem& problem, const FftPlan& plan, const float* window, const StftShape& shape,
            float* y, std::ptrdiff_t length) {
  const Kernels& kernels = current_kernels();
  const std::ptrdiff_t row = 2 * problem.n_bins;
  const int lanes = kernels.lanes, most = Masker::kVectors * lanes;
  const Synthesis synthesis(plan, window, shape, length);
  if (synthesis.n_frames() == 0) std::fill_n(y, problem.n_clips * length, 0.0f);
  parallel_frames(problem.n_clips, synthesis.n_frames(), most, mask_cost(problem) + plan.cost(),
                  [&](std::ptrdiff_t b, std::ptrdiff_t first, std::ptrdiff_t last) {
                    thread_local Workspace workspace;
                    const FlushDenormals flush;
                    float* const work = workspace.get(plan.work_size(lanes));
                    Masker masker(kernels, problem, b);
                    OverlapAdd tile(synthesis, y + b * length, first, last, most);
                    for (; tile.n() > 0; tile.next()) {
                      const float* mask = masker.mask(tile.t(), tile.n());
                      const float* X = problem.X + b * problem.X_stride + tile.t() * row;
                      for (int i = 0; i < tile.n(); i += lanes) {
                        kernels.decode_tile(plan.tables(), X + i * row, row, std::min(lanes, tile.n() - i),
                                            mask + i, masker.stride(), problem.log, synthesis.window(), work,
                                            tile.sums() + i * shape.hop, shape.hop);
                      }
                    }
                  });
}

}  // namespace l2i
