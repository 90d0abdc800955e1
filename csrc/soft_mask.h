// Soft masks over batches, and decoding from activations straight to audio.
#pragma once

#include <cstddef>

#include "stft.h"

namespace l2i {

// Operands of soft_mask; strides are counted in floats, and are 0 if clips share an operand.
struct MaskProblem {
  std::ptrdiff_t n_clips, n_frames, n_bins, n_components;
  const float* X;  // clips of n_frames contiguous rows of n_bins complex numbers
  std::ptrdiff_t X_stride;
  const float* W;
  std::ptrdiff_t W_bin_stride, W_component_stride;
  const float* H;
  std::ptrdiff_t H_stride, H_frame_stride, H_component_stride;
  const float* weights;
  std::ptrdiff_t weights_stride, weights_component_stride;
  float eps;
  kernels::MaskDomain domain;
};

// Y: n_clips x n_frames x n_bins complex numbers, contiguous.
void soft_mask(const MaskProblem& problem, float* Y);

// y: n_clips x length, contiguous. Memory use does not grow with the number of frames.
void decode(const MaskProblem& problem, const FftPlan& plan, const float* window, const StftShape& shape,
            float* y, std::ptrdiff_t length);

// Gradients for H and weights, given the gradient dY for soft_mask's answer: n_clips x n_frames rows of
// n_bins complex numbers, contiguous, the derivatives with respect to real and imaginary parts. dH: n_clips x
// n_frames x n_components, dweights: n_clips x n_components, contiguous.
void soft_mask_gradient(const MaskProblem& problem, const float* dY, float* dH, float* dweights);

// The same for decode; dy: n_clips x length, contiguous.
void decode_gradient(const MaskProblem& problem, const FftPlan& plan, const float* window,
                     const StftShape& shape, const float* dy, std::ptrdiff_t length, float* dH,
                     float* dweights);

}  // namespace l2i
