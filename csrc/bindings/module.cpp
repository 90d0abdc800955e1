#include <pybind11/pybind11.h>

#include "bindings.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The native engine of l2i_fast.";
  l2i::bindings::register_analyze(m);
  l2i::bindings::register_ceilings(m);
  l2i::bindings::register_cpu(m);
  l2i::bindings::register_log_mel(m);
  l2i::bindings::register_nmf(m);
  l2i::bindings::register_soft_mask(m);
  l2i::bindings::register_stft(m);
  l2i::bindings::register_stream(m);
  l2i::bindings::register_threads(m);
}
