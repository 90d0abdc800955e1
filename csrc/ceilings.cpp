#include "ceilings.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.h"
#include "threads.h"

namespace l2i {
namespace {

using Clock = std::chrono::steady_clock;

// The shortest measured time, in seconds, of task(0) .. task(n_tasks - 1) in parallel.
template <typename F>
double shortest(int n_tasks, double seconds, const F& task) {
  const auto elapsed = [](Clock::time_point since) {
    return std::chrono::duration<double>(Clock::now() - since).count();
  };
  const auto start = Clock::now();
  double best = 0;
  do {
    const auto begin = Clock::now();
    parallel(n_tasks, task);
    const double taken = elapsed(begin);
    best = best == 0 ? taken : std::min(best, taken);
  } while (elapsed(start) < seconds);
  return best;
}

}  // namespace

double peak_flops(double seconds) {
  constexpr std::ptrdiff_t kRounds = 1000000;
  const kernels::CeilingKernels& ceilings = *current_kernels().ceilings;
  const int n = num_threads();
  std::vector<float> sums(static_cast<std::size_t>(n));
  const double taken = shortest(n, seconds, [&](int i) {
    sums[static_cast<std::size_t>(i)] = ceilings.multiply_adds(kRounds, 0.5f, 1.0f);
  });
  return static_cast<double>(kRounds) * ceilings.flops_per_round * n / taken;
}

double read_bandwidth(std::size_t n_bytes, double seconds) {
  constexpr std::size_t kStep = 8 * kernels::kMostLanes;
  // Floats in a run, enough for the time to wake the threads to be negligible.
  constexpr std::size_t kLeast = std::size_t{1} << 25;
  const std::size_t size = n_bytes / sizeof(float) / kStep * kStep;
  if (size == 0)
    throw std::invalid_argument("n_bytes is " + std::to_string(n_bytes) + ", but must be at least 512");
  const std::size_t n_passes = (kLeast + size - 1) / size;
  const kernels::CeilingKernels& ceilings = *current_kernels().ceilings;
  const auto n = static_cast<std::size_t>(num_threads());
  const std::vector<std::vector<float>> arrays(n, std::vector<float>(size, 1.0f));
  std::vector<float> sums(n);
  const double taken = shortest(static_cast<int>(n), seconds, [&](int i) {
    const auto t = static_cast<std::size_t>(i);
    for (std::size_t pass = 0; pass < n_passes; ++pass) {
      sums[t] += ceilings.read(arrays[t].data(), static_cast<std::ptrdiff_t>(size));
    }
  });
  return static_cast<double>(n * n_passes * size * sizeof(float)) / taken;
}

}  // namespace l2i
