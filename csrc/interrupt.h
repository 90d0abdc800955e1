// Ending a long operation before it is done.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>

namespace l2i {

// While it lives, operations in this thread call `check` about ten times a second; what it throws ends them.
class Interruptible {
 public:
  explicit Interruptible(void (*check)());
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;
};

// Calls the check of this thread, if it has one and the last call is long enough ago.
void check_if_due();

// While it lives, `Poll` in this thread throws once the flag is set.
class Stoppable {
 public:
  explicit Stoppable(const std::atomic<bool>& stopped);
  ~Stoppable();
  Stoppable(const Stoppable&) = delete;
  Stoppable& operator=(const Stoppable&) = delete;

 private:
  const std::atomic<bool>* before_;
};

// To be called by all loops that may last: throws where the operation is to end.
class Poll {
 public:
  // cost: the approximate time of one step in nanoseconds.
  explicit Poll(double cost)
      : period_(static_cast<std::ptrdiff_t>(std::clamp(1e6 / cost, 1.0, 1e15))), left_(period_) {}
  // n: the number of steps since the last call.
  void operator()(std::ptrdiff_t n) {
    if ((left_ -= n) <= 0) look();
  }

 private:
  void look();

  std::ptrdiff_t period_, left_;
};

}  // namespace l2i
