#include "log_mel.h"

#include <cfloat>
#include <vector>

#include "arrays.h"
#include "bindings.h"

namespace py = pybind11;

namespace l2i::bindings {
namespace {

// The bins that each band covers, and their factors one after another.
struct Bands {
  explicit Bands(const ArrayView& filters) {
    for (std::ptrdiff_t m = 0; m < filters.size[0]; ++m) {
      const auto factor = [&](std::ptrdiff_t f) {
        return filters.data[m * filters.stride[0] + f * filters.stride[1]];
      };
      std::ptrdiff_t first = 0, last = filters.size[1];
      while (first < last && factor(last - 1) == 0) --last;
      while (first < last && factor(first) == 0) ++first;
      starts.push_back(static_cast<std::int32_t>(first));
      counts.push_back(static_cast<std::int32_t>(last - first));
      for (; first < last; ++first) factors.push_back(factor(first));
    }
  }

  std::vector<std::int32_t> starts, counts;
  std::vector<float> factors;
};

py::array_t<float> log_mel_array(const py::array& X, const py::array& filters, float amin) {
  const auto rows = view<Complex64>(X, "X", 3, 3);
  const auto bank = view<float>(filters, "filters", 2, 0);
  require(bank.size[1] == rows.size[2], "filters must have as many columns as X has bins");
  require(amin >= FLT_MIN && amin <= FLT_MAX, "amin must be a positive, normal number");
  py::array_t<float> M({rows.size[0], rows.size[1], bank.size[0]});
  float* const out = M.mutable_data();
  const py::gil_scoped_release release;
  const Bands bands(bank);
  log_mel({rows.size[0], rows.size[1], rows.size[2], bank.size[0], rows.data, bands.starts.data(),
           bands.counts.data(), bands.factors.data(), amin},
          out);
  return M;
}

}  // namespace

void register_log_mel(py::module_& m) {
  m.def("log_mel", &log_mel_array, py::arg("X"), py::arg("filters"), py::arg("amin"),
        "Decibels (B, T, M) of the filters (M, F) applied to the magnitudes of the rows X (B, T, F).");
}

}  // namespace l2i::bindings
