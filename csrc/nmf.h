// One pass over the frames of a non-negative matrix factorisation, and the update of its dictionary.
#pragma once

#include <cstddef>
#include <optional>

#include "kernels.h"

namespace l2i {

// V ~ W H' with frames as rows: V n_frames x n_bins, W n_bins x n_components, H n_frames x n_components, each
// row contiguous and W without gaps. Strides are counted in floats.
struct NmfProblem {
  std::ptrdiff_t n_frames, n_bins, n_components;
  const float* V;
  std::ptrdiff_t V_stride;
  const float* mask;  // weights of the entries of V, or null
  std::ptrdiff_t mask_stride;
  const float* W;
  float* H;
  std::ptrdiff_t H_stride;
  float beta;
};

// coordinates: coordinate descent with Gram matrices, for the Euclidean loss without mask only.
enum class NmfMethod { multiplicative, coordinates, newton };

// The form of the denominator that a pass sums for the update of W: for the Euclidean loss without mask the
// Gram matrix of H (n_components squared), for Kullback-Leibler without mask the sums of H (n_components),
// otherwise as many values as the numerator (n_bins x n_components).
enum class NmfDenominator { gram, sums, full };
NmfDenominator denominator_of(float beta, bool masked);

struct NmfUpdate {
  NmfMethod method = NmfMethod::multiplicative;
  kernels::NmfPenalty penalty{};
  int n_updates = 0;
  int n_terms = 0;  // bfloat16 terms of a factor in a pass, 0 for float32; multiplicative only
  // For newton only. A pass changes the damping of each frame; an update of W uses one value for all rows.
  float* damping = nullptr;
  const float* bin_weights = nullptr;  // of each bin in the Hessian that all frames share
  float least_mean = 0;  // lower bound of a frame's mean model where its weight for W is computed
};

// The sums that a pass computes for the update of W. For newton: the gradient with respect to W and the
// diagonal of the Hessian (both n_bins x n_components), and the weighted Gram matrix of H (n_components
// squared).
struct NmfSums {
  double* numerator;
  double* denominator;
  double* gram = nullptr;
};

// Updates H in place, frame by frame, with W fixed; then computes `sums` for the update of W if given. Reads
// V once. If `measure`, returns the divergence of V from the model with the new H and the old W, without
// penalties (in the Euclidean case from the Gram matrix: good to about 1e-7 of the energy of V), otherwise 0.
double nmf_pass(const NmfProblem& problem, const NmfUpdate& update, const std::optional<NmfSums>& sums,
                bool measure);

// The divergence of V from the model, entry by entry.
double nmf_divergence(const NmfProblem& problem);

// Updates W (or any rows x n_components) in place from the sums of a pass. Components in `fixed` keep their
// values.
void nmf_update(float* W, std::ptrdiff_t n_rows, std::ptrdiff_t n_components, float beta, const NmfSums& sums,
                NmfDenominator denominator, const NmfUpdate& update, const bool* fixed);

}  // namespace l2i
