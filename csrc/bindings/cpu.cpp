#include "cpu.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings.h"

namespace py = pybind11;

namespace l2i::bindings {

void register_cpu(py::module_& m) {
  m.def(
      "cpu_features",
      [] {
        const CpuFeatures cpu = detect_cpu();
        py::dict features;
        features["avx2"] = cpu.avx2;
        features["avx512"] = cpu.avx512;
        features["avx512_bf16"] = cpu.avx512_bf16;
        features["amx"] = cpu.amx;
        features["compiled"] = compiled_paths();
        features["supported"] = supported_paths();
        features["path"] = current_path();
        return features;
      },
      "Return the features of the processor, the compiled paths, those that run here, and the one in use.");
  m.def("use_cpu_path", &use_path, py::arg("name"),
        "Use one of the supported paths from now on, in all threads.");
}

}  // namespace l2i::bindings
