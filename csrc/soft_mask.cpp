#include "soft_mask.h"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace l2i {
namespace {

float weight_of(const MaskProblem& problem, std::ptrdiff_t clip, std::ptrdiff_t k) {
  return problem.weights[clip * problem.weights_stride + k * problem.weights_component_stride];
}

// Computes the masks of tiles of frames; with `gradients`, also their denominators.
class Masker {
 public:
  static constexpr int kVectors = 2;  // in a tile

  Masker(const Kernels& kernels, const MaskProblem& problem, std::ptrdiff_t clip, bool gradients = false)
      : kernels_(kernels), problem_(problem), clip_(clip), selected_(selection(problem, clip)) {
    thread_local Workspace workspace;
    const std::ptrdiff_t width = kVectors * kernels.lanes;
    const auto n_selected = static_cast<std::ptrdiff_t>(selected_.size());
    h_ = workspace.get(static_cast<std::size_t>(
        width * (problem.n_components + n_selected + (gradients ? 2 : 1) * problem.n_bins)));
    weighted_ = h_ + width * problem.n_components;
    mask_ = weighted_ + width * n_selected;
    whole_ = gradients ? mask_ + width * problem.n_bins : nullptr;
  }

  // The mask of the frames [t, t + n), at most kVectors * lanes of them.
  kernels::MaskTile mask(std::ptrdiff_t t, int n) {
    const int n_vectors = n > kernels_.lanes ? 2 : 1;
    const std::ptrdiff_t width = n_vectors * kernels_.lanes;
    kernels_.gather(problem_.H + clip_ * problem_.H_stride + t * problem_.H_frame_stride,
                    problem_.H_frame_stride, problem_.H_component_stride, n, problem_.n_components, n_vectors,
                    h_);
    for (std::size_t s = 0; s < selected_.size(); ++s) {
      const std::ptrdiff_t k = selected_[s];
      const float weight = weight_of(problem_, clip_, k);
      float* const row = weighted_ + static_cast<std::ptrdiff_t>(s) * width;
      for (std::ptrdiff_t i = 0; i < width; ++i) row[i] = weight * h_[k * width + i];
    }
    const kernels::MaskTile tile = {
        .W = problem_.W,
        .bin_stride = problem_.W_bin_stride,
        .component_stride = problem_.W_component_stride,
        .n_bins = problem_.n_bins,
        .n_components = problem_.n_components,
        .h = h_,
        .weighted = weighted_,
        .selected = selected_.data(),
        .n_selected = static_cast<std::ptrdiff_t>(selected_.size()),
        .eps = problem_.eps,
        .n_vectors = n_vectors,
        .wiener = problem_.domain == kernels::MaskDomain::wiener && whole_ == nullptr,
        .mask = mask_,
        .whole = whole_,
        .X = problem_.X + clip_ * problem_.X_stride + t * 2 * problem_.n_bins,
        .X_stride = 2 * problem_.n_bins,
        .n_frames = n,
    };
    kernels_.mask_tile(tile);
    return tile;
  }

 private:
  static std::vector<std::int32_t> selection(const MaskProblem& problem, std::ptrdiff_t clip) {
    std::vector<std::int32_t> selected;
    for (std::ptrdiff_t k = 0; k < problem.n_components; ++k) {
      if (weight_of(problem, clip, k) > 0) selected.push_back(static_cast<std::int32_t>(k));
    }
    return selected;
  }

  const Kernels& kernels_;
  const MaskProblem& problem_;
  std::ptrdiff_t clip_;
  std::vector<std::int32_t> selected_;
  float *h_, *weighted_, *mask_, *whole_;
};

bool is_log(const MaskProblem& problem) { return problem.domain == kernels::MaskDomain::log; }

// The approximate time of a mask for one frame, in nanoseconds.
double mask_cost(const MaskProblem& problem) {
  return static_cast<double>(problem.n_bins) * (1.0 + 0.01 * static_cast<double>(problem.n_components));
}

}  // namespace

void soft_mask(const MaskProblem& problem, float* Y) {
  const Kernels& kernels = current_kernels();
  const std::ptrdiff_t row = 2 * problem.n_bins;
  const int lanes = kernels.lanes, most = Masker::kVectors * lanes;
  parallel_frames(problem.n_clips, problem.n_frames, most, mask_cost(problem),
                  [&](std::ptrdiff_t b, std::ptrdiff_t first, std::ptrdiff_t last, Poll& poll) {
                    const FlushDenormals flush;
                    Masker masker(kernels, problem, b);
                    for (std::ptrdiff_t t = first; t < last; t += most) {
                      const int n = static_cast<int>(std::min<std::ptrdiff_t>(most, last - t));
                      const kernels::MaskTile tile = masker.mask(t, n);
                      for (int i = 0; i < n; i += lanes) {
                        kernels.apply_tile({problem.X + b * problem.X_stride + (t + i) * row, row,
                                            Y + (b * problem.n_frames + t + i) * row, row, tile.mask + i,
                                            tile.n_vectors * lanes, problem.n_bins, std::min(lanes, n - i),
                                            is_log(problem)});
                      }
                      poll(n);
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
                  [&](std::ptrdiff_t b, std::ptrdiff_t first, std::ptrdiff_t last, Poll& poll) {
                    thread_local Workspace workspace;
                    const FlushDenormals flush;
                    float* const work = workspace.get(plan.work_size(lanes));
                    Masker masker(kernels, problem, b);
                    OverlapAdd tile(synthesis, y + b * length, first, last, most);
                    for (; tile.n() > 0; tile.next()) {
                      const kernels::MaskTile masked = masker.mask(tile.t(), tile.n());
                      const float* X = problem.X + b * problem.X_stride + tile.t() * row;
                      for (int i = 0; i < tile.n(); i += lanes) {
                        kernels.decode_tile(plan.tables(), X + i * row, row, std::min(lanes, tile.n() - i),
                                            masked.mask + i, masked.n_vectors * lanes, is_log(problem),
                                            synthesis.window(), work, tile.sums() + i * synthesis.hop(),
                                            synthesis.hop());
                      }
                      poll(tile.n());
                    }
                  });
}

namespace {

// Runs over all tiles; rows(clip, t, n) returns the gradients for the masked rows of a tile.
template <typename RowsOf>
void gradients(const MaskProblem& problem, std::ptrdiff_t n_frames, double cost, const RowsOf& rows,
               float* dH, float* dweights) {
  constexpr std::ptrdiff_t kBlock = 512;  // frames whose weight gradients are summed together
  const Kernels& kernels = current_kernels();
  const std::ptrdiff_t K = problem.n_components, row = 2 * problem.n_bins;
  const std::ptrdiff_t n_blocks = (n_frames + kBlock - 1) / kBlock;
  const int lanes = kernels.lanes, most = Masker::kVectors * lanes;
  std::vector<double> sums(static_cast<std::size_t>(problem.n_clips * n_blocks * K));
  parallel_frames(
      problem.n_clips, n_frames, kBlock, 4 * mask_cost(problem) + cost,
      [&](std::ptrdiff_t b, std::ptrdiff_t first, std::ptrdiff_t last, Poll& poll) {
        thread_local Workspace workspace;
        const FlushDenormals flush;
        float* const weights =
            workspace.get(static_cast<std::size_t>(2 * most * problem.n_bins + (most + lanes + 1) * K));
        float* const dh = weights + K;
        float* const dw = dh + most * K;
        float* const work = dw + lanes * K;
        for (std::ptrdiff_t k = 0; k < K; ++k) weights[k] = weight_of(problem, b, k);
        Masker masker(kernels, problem, b, true);
        for (std::ptrdiff_t t = first; t < last; t += most) {
          const int n = static_cast<int>(std::min<std::ptrdiff_t>(most, last - t));
          const Rows dY = rows(b, t, n);
          const kernels::MaskTile tile = masker.mask(t, n);
          kernels.mask_gradient_tile({tile, problem.X + b * problem.X_stride + t * row, row, dY.data,
                                      dY.stride, weights, n, problem.domain, work, dh, dw});
          float* const out = dH + (b * problem.n_frames + t) * K;
          double* const sum = sums.data() + (b * n_blocks + t / kBlock) * K;
          for (std::ptrdiff_t k = 0; k < K; ++k) {
            for (int i = 0; i < n; ++i) out[i * K + k] = dh[k * tile.n_vectors * lanes + i];
            for (int i = 0; i < lanes; ++i) sum[k] += dw[k * lanes + i];
          }
          poll(n);
        }
      });
  for (std::ptrdiff_t b = 0; b < problem.n_clips; ++b) {
    for (std::ptrdiff_t k = 0; k < K; ++k) {
      double sum = 0;
      for (std::ptrdiff_t block = 0; block < n_blocks; ++block)
        sum += sums[static_cast<std::size_t>((b * n_blocks + block) * K + k)];
      dweights[b * K + k] = static_cast<float>(sum);
    }
  }
}

}  // namespace

void soft_mask_gradient(const MaskProblem& problem, const float* dY, float* dH, float* dweights) {
  const std::ptrdiff_t row = 2 * problem.n_bins;
  gradients(
      problem, problem.n_frames, 0,
      [&](std::ptrdiff_t b, std::ptrdiff_t t, int) {
        return Rows{dY + (b * problem.n_frames + t) * row, row};
      },
      dH, dweights);
}

void decode_gradient(const MaskProblem& problem, const FftPlan& plan, const float* window,
                     const StftShape& shape, const float* dy, std::ptrdiff_t length, float* dH,
                     float* dweights) {
  const Synthesis synthesis(plan, window, shape, length);
  const std::ptrdiff_t n_frames = synthesis.n_frames();
  for (std::ptrdiff_t b = 0; b < problem.n_clips; ++b) {  // frames that reach no requested sample
    std::fill(dH + (b * problem.n_frames + n_frames) * problem.n_components,
              dH + (b + 1) * problem.n_frames * problem.n_components, 0.0f);
  }
  gradients(
      problem, n_frames, plan.cost(),
      [&](std::ptrdiff_t b, std::ptrdiff_t t, int n) {
        return synthesis_gradient(synthesis, dy + b * length, t, n);
      },
      dH, dweights);
}

}  // namespace l2i
