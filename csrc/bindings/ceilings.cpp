#include "ceilings.h"

#include <pybind11/pybind11.h>

#include "bindings.h"
#include "gil.h"

namespace py = pybind11;

namespace l2i::bindings {

void register_ceilings(py::module_& m) {
  const auto release = py::call_guard<GilRelease>();
  m.def("peak_flops", &peak_flops, release, py::arg("seconds"),
        "Measure float32 operations per second, with all operands in registers.");
  m.def("read_bandwidth", &read_bandwidth, release, py::arg("n_bytes"), py::arg("seconds"),
        "Measure the bytes per second that the threads read, each from an array of its own.");
}

}  // namespace l2i::bindings
