#include "threads.h"

#include <pybind11/pybind11.h>

#include "bindings.h"
#include "gil.h"

namespace py = pybind11;

namespace l2i::bindings {

void register_threads(py::module_& m) {
  m.def("get_num_threads", &num_threads,
        "Return the number of threads that an operation may use, the calling one included.");
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  m.def(
      "parallel",
      [](int n_tasks, const py::function& task) {
        const GilRelease release;
        parallel(n_tasks, [&](int i) {
          const py::gil_scoped_acquire acquire;
          task(i);
        });
      },
      py::arg("n_tasks"), py::arg("task"), "Call task(0) .. task(n_tasks - 1) on the engine's threads.");
}

}  // namespace l2i::bindings
