#include "soft_mask.h"

#include "arrays.h"
#include "bindings.h"

namespace py = pybind11;

namespace l2i::bindings {
namespace {

// X (B, T, F) with contiguous rows, W (F, K), H (B, T, K), weights (B, K); any strides otherwise.
MaskProblem problem_of(const py::array& X, const py::array& W, const py::array& H, const py::array& weights,
                       bool log, float eps) {
  const auto x = view<Complex64>(X, "X", 3, 2);
  const auto w = view<float>(W, "W", 2, 0);
  const auto h = view<float>(H, "H", 3, 0);
  const auto g = view<float>(weights, "weights", 2, 0);
  require(w.size[0] == x.size[2], "W must have as many rows as X has bins");
  require(h.size[0] == x.size[0] && h.size[1] == x.size[1], "H must have the clips and frames of X");
  require(h.size[2] == w.size[1] && g.size[1] == w.size[1],
          "H and weights must have as many components as W");
  require(g.size[0] == x.size[0], "weights must have the clips of X");
  return {x.size[0],   x.size[1],   x.size[2],   w.size[1],   x.data,      x.stride[0],
          w.data,      w.stride[0], w.stride[1], h.data,      h.stride[0], h.stride[1],
          h.stride[2], g.data,      g.stride[0], g.stride[1], eps,         log};
}

py::array_t<Complex64> soft_mask_array(const py::array& X, const py::array& W, const py::array& H,
                                       const py::array& weights, bool log, float eps) {
  const MaskProblem problem = problem_of(X, W, H, weights, log, eps);
  py::array_t<Complex64> Y({problem.n_clips, problem.n_frames, problem.n_bins});
  float* const out = reinterpret_cast<float*>(Y.mutable_data());
  const py::gil_scoped_release release;
  soft_mask(problem, out);
  return Y;
}

py::array_t<float> decode_array(const py::array& X, const py::array& W, const py::array& H,
                                const py::array& weights, bool log, float eps, const py::array& window,
                                std::ptrdiff_t hop, std::ptrdiff_t start, std::ptrdiff_t length) {
  const MaskProblem problem = problem_of(X, W, H, weights, log, eps);
  const auto v = view<float>(window, "window", 1, 1);
  require(FftPlan::supports(v.size[0]), "the window's length must be a power of two from 32 to 65536");
  require(problem.n_bins == v.size[0] / 2 + 1, "X must have one bin more than half the window's length");
  require(hop >= 1 && start >= 0 && length >= 0, "hop must be at least 1, start and length at least 0");
  const auto plan = FftPlan::of(v.size[0]);
  py::array_t<float> y({problem.n_clips, length});
  float* const out = y.mutable_data();
  const py::gil_scoped_release release;
  decode(problem, *plan, v.data, {problem.n_clips, problem.n_frames, hop, start}, out, length);
  return y;
}

}  // namespace

void register_soft_mask(py::module_& m) {
  m.def("soft_mask", &soft_mask_array, py::arg("X"), py::arg("W"), py::arg("H"), py::arg("weights"),
        py::arg("log"), py::arg("eps"),
        "Masked rows (B, T, F) of X (B, T, F), for W (F, K), H (B, T, K), weights (B, K).");
  m.def("decode", &decode_array, py::arg("X"), py::arg("W"), py::arg("H"), py::arg("weights"), py::arg("log"),
        py::arg("eps"), py::arg("window"), py::arg("hop"), py::arg("start"), py::arg("length"),
        "Samples (B, length) of the masked rows: soft_mask and istft in one pass.");
}

}  // namespace l2i::bindings
