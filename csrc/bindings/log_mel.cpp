#include "log_mel.h"

#include "arrays.h"
#include "bands.h"
#include "bindings.h"
#include "signals.h"

namespace py = pybind11;

namespace l2i::bindings {
namespace {

py::array_t<float> log_mel_array(const py::array& X, const Bands& bands, float amin, const py::object& out) {
  const auto rows = view<Complex64>(X, "X", 3, 3);
  const MelBands mel = bands.get(rows.size[2], amin);
  auto M = answer<float>(out, {rows.size[0], rows.size[1], mel.n_bands});
  float* const decibels = M.mutable_data();
  without_gil([&] { log_mel(mel, rows.data, rows.size[0] * rows.size[1], rows.size[2], decibels); });
  return M;
}

}  // namespace

void register_log_mel(py::module_& m) {
  py::class_<Bands>(m, "MelBands", "Mel filters, prepared once.")
      .def(py::init<const py::array&>(), py::arg("filters"));
  m.def("log_mel", &log_mel_array, py::arg("X"), py::arg("bands"), py::arg("amin"),
        py::arg("out") = py::none(),
        "Return decibels (B, T, M) of mel bands of the magnitudes of spectra X (B, T, F).");
}

}  // namespace l2i::bindings
