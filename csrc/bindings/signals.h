// Operations without the GIL, which Ctrl-C can end.
#pragma once

#include <exception>
#include <thread>

#include "gil.h"
#include "interrupt.h"

namespace l2i::bindings {

// Runs the handlers of pending signals, if this is the main thread; throws what they raise.
void check_signals();
// Whether this thread is within such a handler.
bool handling_signals();

// Runs an operation without the GIL. Signals are handled meanwhile, and the exception of a handler, such as
// KeyboardInterrupt, ends the operation where it polls.
template <typename Operation>
void without_gil(const Operation& operation) {
  const GilRelease release;
  if (!handling_signals()) {
    const Interruptible here(&check_signals);
    operation();
    return;
  }
  // The workspaces of this thread are in use by the operation that the handler interrupts.
  std::exception_ptr error;
  std::thread([&] {
    try {
      operation();
    } catch (...) {
      error = std::current_exception();
    }
  }).join();
  if (error) std::rethrow_exception(error);
}

}  // namespace l2i::bindings
