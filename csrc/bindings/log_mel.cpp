#include "log_mel.h"

#include "arrays.h"
#include "bands.h"
#include "bindings.h"

namespace py = pybind11;

namespace l2i::bindings {
namespace {

py::array_t<float> log_mel_array(const py::array& X, const py::array& filters, float amin) {
  const auto rows = view<Complex64>(X, "X", 3, 3);
  const auto bank = view<float>(filters, "filters", 2, 0);
  const Bands bands(bank, rows.size[2], amin);
  py::array_t<float> M({rows.size[0], rows.size[1], bank.size[0]});
  float* const out = M.mutable_data();
  const py::gil_scoped_release release;
  log_mel(bands.get(), rows.data, rows.size[0] * rows.size[1], rows.size[2], out);
  return M;
}

}  // namespace

void register_log_mel(py::module_& m) {
  m.def("log_mel", &log_mel_array, py::arg("X"), py::arg("filters"), py::arg("amin"),
        "Decibels (B, T, M) of the filters (M, F) applied to the magnitudes of the rows X (B, T, F).");
}

}  // namespace l2i::bindings
