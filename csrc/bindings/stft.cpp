#include "stft.h"

#include "arrays.h"
#include "bindings.h"
#include "frames.h"
#include "signals.h"

namespace py = pybind11;

namespace l2i::bindings {
namespace {

py::array_t<Complex64> stft_array(const py::array& y, const py::array& window, std::ptrdiff_t hop,
                                  std::ptrdiff_t pad, const py::object& out) {
  const auto samples = view<float>(y, "y", 2, 1);
  const auto w = view<float>(window, "window", 1, 1);
  const auto plan = plan_of(w.size[0]);
  const StftShape shape = shape_of(samples, w.size[0], hop, pad);
  auto X = answer<Complex64>(out, {shape.n_clips, shape.n_frames, w.size[0] / 2 + 1});
  float* const rows = reinterpret_cast<float*>(X.mutable_data());
  without_gil([&] { stft(*plan, samples.data, samples.stride[0], samples.size[1], w.data, shape, rows); });
  return X;
}

py::array_t<float> istft_array(const py::array& X, const py::array& window, std::ptrdiff_t hop,
                               std::ptrdiff_t start, std::ptrdiff_t length, const py::object& out) {
  const auto rows = view<Complex64>(X, "X", 3, 2);
  const auto w = view<float>(window, "window", 1, 1);
  const auto plan = plan_of(w.size[0]);
  check_synthesis(rows.size[2], w.size[0], hop, start, length);
  auto y = answer<float>(out, {rows.size[0], length});
  float* const samples = y.mutable_data();
  const StftShape shape{rows.size[0], rows.size[1], hop, start};
  without_gil([&] { istft(*plan, rows.data, rows.stride[0], w.data, shape, samples, length); });
  return y;
}

bool in_range(const py::array& x, float low, float high) {
  const auto values = view<float>(x, "x", 1, 1);
  const GilRelease release;
  return current_kernels().in_range(values.data, values.size[0], low, high);
}

}  // namespace

void register_stft(py::module_& m) {
  m.attr("LOUDEST") = kLoudest;
  m.attr("FFT_SIZES") = py::make_tuple(FftPlan::kSmallest, FftPlan::kLargest);
  m.def("stft", &stft_array, py::arg("y"), py::arg("window"), py::arg("hop"), py::arg("pad"),
        py::arg("out") = py::none(),
        "Return spectra (B, T, F) of the windowed frames of y (B, N), padded by `pad` zeros on both sides.");
  m.def("istft", &istft_array, py::arg("X"), py::arg("window"), py::arg("hop"), py::arg("start"),
        py::arg("length"), py::arg("out") = py::none(),
        "Return the samples (B, length) of spectra X (B, T, F) from padded position `start` on.");
  m.def("in_range", &in_range, py::arg("x"), py::arg("low"), py::arg("high"),
        "Return whether low <= x <= high everywhere; False if any x is NaN.");
}

}  // namespace l2i::bindings
