#include "signals.h"

#include <cfenv>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <pthread.h>
#endif

namespace py = pybind11;

namespace l2i::bindings {
namespace {

thread_local bool handling = false;

// Python handles signals in the main thread only; others need not wait for the GIL.
bool in_main_thread() {
#if defined(__linux__)
  return syscall(SYS_gettid) == getpid();
#elif defined(__APPLE__)
  return pthread_main_np() != 0;
#else
  return true;
#endif
}

// Handlers run in the usual floating-point mode, with denormals.
class Handling {
 public:
  Handling() {
    handling = true;
    std::fegetenv(&mode_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~Handling() {
    std::fesetenv(&mode_);
    handling = false;
  }
  Handling(const Handling&) = delete;
  Handling& operator=(const Handling&) = delete;

 private:
  std::fenv_t mode_;
};

}  // namespace

void check_signals() {
  if (!in_main_thread()) return;
  const Handling here;
  const py::gil_scoped_acquire acquire;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

bool handling_signals() { return handling; }

}  // namespace l2i::bindings
