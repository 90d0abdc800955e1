// Threads shared by all native operations.
#pragma once

#include <algorithm>
#include <cstddef>

namespace l2i {

// The number of threads that an operation may use, the calling one included. Initially OMP_NUM_THREADS if
// that is a positive integer, otherwise the number of processors that this process may run on.
int num_threads();
// Throws std::invalid_argument for n < 1.
void set_num_threads(int n);

// A reference to a callable that takes a task's index and must outlive the call.
class TaskRef {
 public:
  template <typename F>
  TaskRef(const F& f)  // NOLINT: lambdas are meant to convert
      : object_(&f), call_([](const void* object, int i) { (*static_cast<const F*>(object))(i); }) {}
  void operator()(int i) const { call_(object_, i); }

 private:
  const void* object_;
  void (*call_)(const void*, int);
};

// Runs task(0) .. task(n_tasks - 1) on at most num_threads() threads, the caller being one of them, and
// returns when all are done. Which thread runs a task is left to chance: results must depend on the index
// alone. After a task has thrown, those that have not begun are skipped, those that poll (interrupt.h) end,
// and its exception is thrown here.
//
// One caller at a time uses the other threads. Any other, in another thread or in a task, runs its tasks
// itself. Idle threads sleep, and a forked child starts threads of its own.
void parallel(int n_tasks, TaskRef task);

// Splits [0, n) into parts and runs task(begin, end) for each, in parallel if that justifies waking threads:
// `cost` is the approximate time of one of the n, in nanoseconds. The parts depend on n, cost and
// num_threads().
template <typename F>
void parallel_parts(std::ptrdiff_t n, double cost, const F& task) {
  constexpr double kWorthwhile = 5e5;
  constexpr int kPartsPerThread = 4;  // so that a delayed thread runs fewer of them
  const int n_threads = num_threads();
  const auto worthwhile = static_cast<std::ptrdiff_t>(static_cast<double>(n) * cost / kWorthwhile);
  const std::ptrdiff_t most = n_threads == 1 ? 1 : std::min<std::ptrdiff_t>(kPartsPerThread * n_threads, n);
  std::ptrdiff_t n_parts = std::clamp<std::ptrdiff_t>(worthwhile, 1, std::max<std::ptrdiff_t>(most, 1));
  if (n_parts > n_threads) n_parts -= n_parts % n_threads;  // the same number for each thread
  parallel(static_cast<int>(n_parts), [&](int i) { task(n * i / n_parts, n * (i + 1) / n_parts); });
}

}  // namespace l2i
