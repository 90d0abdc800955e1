#include "interrupt.h"

#include <chrono>
#include <stdexcept>

namespace l2i {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kInterval{100};

thread_local void (*check)() = nullptr;
thread_local Clock::time_point due;
thread_local const std::atomic<bool>* stopped = nullptr;

}  // namespace

Interruptible::Interruptible(void (*function)()) {
  check = function;
  due = Clock::now() + kInterval;
}

Interruptible::~Interruptible() { check = nullptr; }

void check_if_due() {
  if (check == nullptr || Clock::now() < due) return;
  check();
  due = Clock::now() + kInterval;
}

Stoppable::Stoppable(const std::atomic<bool>& flag) : before_(stopped) { stopped = &flag; }

Stoppable::~Stoppable() { stopped = before_; }

void Poll::look() {
  left_ = period_;
  if (stopped != nullptr && stopped->load(std::memory_order_relaxed))
    throw std::runtime_error("the operation has been stopped");
  check_if_due();
}

}  // namespace l2i
