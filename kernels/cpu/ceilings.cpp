// The processor's ceilings, with which the other kernels' speed is compared: multiply-adds that never leave
// the registers, and reads with negligible arithmetic.
//
// dtypes: float32. Both return a sum that depends on all the work, so that the compiler cannot remove it.
#include "ceilings.h"

#include "simd.h"

namespace l2i::kernels::L2I_ISA {
namespace {

constexpr int kChains = 12;  // hides the latency of 4 cycles at 2 or 3 a cycle, in 16 registers

static inline float total(const Vec* sum) {
  Vec all{};
  for (int i = 0; i < kChains; ++i) all += sum[i];
  float result = 0;
  for (int lane = 0; lane < kLanes; ++lane) result += all[lane];
  return result;
}

// sum[i] <- sum[i] * factor + term, n_rounds times. A factor below 1 keeps the sums bounded.
float multiply_adds(std::ptrdiff_t n_rounds, float factor, float term) {
  Vec sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = broadcast(static_cast<float>(i));
  const Vec f = broadcast(factor), t = broadcast(term);
  for (std::ptrdiff_t round = 0; round < n_rounds; ++round) {
    for (int i = 0; i < kChains; ++i) sum[i] = sum[i] * f + t;
  }
  return total(sum);
}

// Reads `size` floats, a multiple of 128.
float read(const float* x, std::ptrdiff_t size) {
  Vec sum[kChains] = {};
  constexpr int kLoads = 8;
  for (std::ptrdiff_t i = 0; i < size; i += kLoads * kLanes) {
    for (int j = 0; j < kLoads; ++j) sum[j] += load(x + i + j * kLanes);
  }
  return total(sum);
}

}  // namespace

constinit const CeilingKernels ceilings = {
    .flops_per_round = 2 * kChains * kLanes,
    .multiply_adds = &multiply_adds,
    .read = &read,
};

}  // namespace l2i::kernels::L2I_ISA
