#include "soft_mask.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace l2i {
namespace {

// Prepares and masks one tile of frames after another.
class Masker {
 public:
  Masker(const Kernels& kernels, const MaskProblem& problem, Workspace& dictionary)
      : kernels_(kernels),
        problem_(problem),
        h_(static_cast<std::size_t>(2 * problem.n_components * kernels.lanes)),
        selected_(static_cast<std::size_t>(problem.n_components)) {
    const auto size = kernels.packed_size(problem.n_bins, problem.n_components);
    W_ = dictionary.get(static_cast<std::size_t>(size));
    kernels.pack_dictionary(problem.W, problem.W_bin_stride, problem.W_component_stride, problem.n_bins,
                            problem.n_components, W_);
  }

  void begin(std::ptrdiff_t clip) {
    clip_ = clip;
    n_selected_ = 0;
    for (std::ptrdiff_t k = 0; k < problem_.n_components; ++k) {
      if (weight(k) > 0) selected_[n_selected_++] = static_cast<std::int32_t>(k);
    }
  }

  // Masks the frames [t, t + n) of the clip.
  void mask(std::ptrdiff_t t, int n, float* Y, std::ptrdiff_t Y_stride) {
    const std::ptrdiff_t K = problem_.n_components, lanes = kernels_.lanes;
    float* const weighted = h_.data() + K * lanes;
    const float* H = problem_.H + clip_ * problem_.H_stride + t * problem_.H_frame_stride;
    for (std::ptrdiff_t k = 0; k < K; ++k) {
      for (int i = 0; i < n; ++i) {
        h_[k * lanes + i] = H[k * problem_.H_component_stride + i * problem_.H_frame_stride];
      }
    }
    for (std::ptrdiff_t s = 0; s < n_selected_; ++s) {
      const float w = weight(selected_[s]);
      for (int i = 0; i < n; ++i) weighted[s * lanes + i] = w * h_[selected_[s] * lanes + i];
    }
    const std::ptrdiff_t row = 2 * problem_.n_bins;
    kernels_.mask_tile({problem_.X + clip_ * problem_.X_stride + t * row, row, Y, Y_stride, W_,
                        problem_.n_bins, K, h_.data(), weighted, selected_.data(), n_selected_, n,
                        problem_.eps, problem_.log});
  }

 private:
  float weight(std::ptrdiff_t k) const {
    return problem_.weights[clip_ * problem_.weights_stride + k * problem_.weights_component_stride];
  }

  const Kernels& kernels_;
  const MaskProblem& problem_;
  float* W_;
  std::vector<float> h_;
  std::vector<std::int32_t> selected_;
  std::ptrdiff_t clip_ = 0, n_selected_ = 0;
};

}  // namespace

void soft_mask(const MaskProblem& problem, float* Y) {
  thread_local Workspace dictionary;
  const FlushDenormals flush;
  const Kernels& kernels = current_kernels();
  const std::ptrdiff_t row = 2 * problem.n_bins;
  Masker masker(kernels, problem, dictionary);
  for (std::ptrdiff_t b = 0; b < problem.n_clips; ++b) {
    masker.begin(b);
    for (std::ptrdiff_t t = 0; t < problem.n_frames; t += kernels.lanes) {
      const int n = static_cast<int>(std::min<std::ptrdiff_t>(kernels.lanes, problem.n_frames - t));
      masker.mask(t, n, Y + (b * problem.n_frames + t) * row, row);
    }
  }
}

void decode(const MaskProblem& problem, const FftPlan& plan, const float* window, const StftShape& shape,
            float* y, std::ptrdiff_t length) {
  thread_local Workspace dictionary, tile;
  const FlushDenormals flush;
  const Kernels& kernels = current_kernels();
  Masker masker(kernels, problem, dictionary);
  Synthesis synthesis(kernels, plan, window, shape, length);
  const std::ptrdiff_t row = (2 * problem.n_bins + 15) / 16 * 16;  // whole cache lines
  float* const Y = tile.get(static_cast<std::size_t>(kernels.lanes * row));
  for (std::ptrdiff_t b = 0; b < problem.n_clips; ++b) {
    masker.begin(b);
    synthesis.begin(y + b * length);
    for (std::ptrdiff_t t = 0; t < synthesis.n_frames(); t += kernels.lanes) {
      const int n = static_cast<int>(std::min<std::ptrdiff_t>(kernels.lanes, synthesis.n_frames() - t));
      masker.mask(t, n, Y, row);
      synthesis.add(Y, row, n);
    }
  }
}

}  // namespace l2i
