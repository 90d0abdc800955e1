// Native work without Python's global interpreter lock (GIL).
#pragma once

#include <cxxabi.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

namespace l2i::bindings {

// Releases the GIL during its lifetime.
//
// Python 3.13 and older ends a daemon thread that takes the GIL back while the interpreter ends: it unwinds
// the thread's frames, which would abort the process here, or touch objects without the GIL. As in
// Python 3.14, the thread sleeps instead until the process has ended.
class GilRelease {
 public:
  GilRelease() : state_(PyEval_SaveThread()) {}
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;
  ~GilRelease() {
    try {
      PyEval_RestoreThread(state_);
    } catch (const abi::__forced_unwind&) {
      for (;;) pause();
    }
  }

 private:
  PyThreadState* state_;
};

}  // namespace l2i::bindings
