#include "analyze.h"

#include <pybind11/stl.h>

#include <array>

#include "arrays.h"
#include "bands.h"
#include "bindings.h"
#include "frames.h"
#include "signals.h"

namespace py = pybind11;

namespace l2i::bindings {
namespace {

py::tuple analyze_array(const py::array& y, const py::array& window, std::ptrdiff_t hop, std::ptrdiff_t pad,
                        const Bands& bands, float amin, const std::array<py::object, 3>& out) {
  const auto samples = view<float>(y, "y", 2, 1);
  const auto w = view<float>(window, "window", 1, 1);
  const auto plan = plan_of(w.size[0]);
  const StftShape shape = shape_of(samples, w.size[0], hop, pad);
  const std::ptrdiff_t n_bins = w.size[0] / 2 + 1;
  const MelBands mel = bands.get(n_bins, amin);
  auto X = answer<Complex64>(out[0], {shape.n_clips, shape.n_frames, n_bins});
  auto V = answer<float>(out[1], {shape.n_clips, shape.n_frames, n_bins});
  auto M = answer<float>(out[2], {shape.n_clips, shape.n_frames, mel.n_bands});
  float* const x = reinterpret_cast<float*>(X.mutable_data());
  float *const v = V.mutable_data(), *const decibels = M.mutable_data();
  without_gil([&] {
    analyze(*plan, samples.data, samples.stride[0], samples.size[1], w.data, shape, mel, x, v, decibels);
  });
  return py::make_tuple(X, V, M);
}

}  // namespace

void register_analyze(py::module_& m) {
  m.def("analyze", &analyze_array, py::arg("y"), py::arg("window"), py::arg("hop"), py::arg("pad"),
        py::arg("bands"), py::arg("amin"),
        py::arg("out") = std::array<py::object, 3>{py::none(), py::none(), py::none()},
        "Return X and log(1 + |X|) (B, T, F), and decibels (B, T, M) of mel bands, of samples (B, N).");
}

}  // namespace l2i::bindings
