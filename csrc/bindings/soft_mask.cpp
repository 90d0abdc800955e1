#include "soft_mask.h"

#include <pybind11/stl.h>

#include <utility>

#include "arrays.h"
#include "bindings.h"
#include "frames.h"
#include "signals.h"

namespace py = pybind11;

namespace l2i::bindings {
namespace {

// X (B, T, F) with contiguous rows, W (F, K), H (B, T, K), weights (B, K); any strides otherwise.
MaskProblem problem_of(const py::array& X, const py::array& W, const py::array& H, const py::array& weights,
                       const std::string& domain, float eps) {
  const auto x = view<Complex64>(X, "X", 3, 2);
  const auto w = view<float>(W, "W", 2, 0);
  const auto h = view<float>(H, "H", 3, 0);
  const auto g = view<float>(weights, "weights", 2, 0);
  require(w.size[0] == x.size[2], "W must have as many rows as X has bins");
  require(h.size[0] == x.size[0] && h.size[1] == x.size[1], "H must have as many clips and frames as X");
  require(h.size[2] == w.size[1] && g.size[1] == w.size[1],
          "H and weights must have as many components as W");
  require(g.size[0] == x.size[0], "weights must have as many clips as X");
  return {x.size[0],   x.size[1],   x.size[2],   w.size[1],   x.data,      x.stride[0],
          w.data,      w.stride[0], w.stride[1], h.data,      h.stride[0], h.stride[1],
          h.stride[2], g.data,      g.stride[0], g.stride[1], eps,         domain_of(domain)};
}

py::array_t<Complex64> soft_mask_array(const py::array& X, const py::array& W, const py::array& H,
                                       const py::array& weights, const std::string& domain, float eps,
                                       const py::object& out) {
  const MaskProblem problem = problem_of(X, W, H, weights, domain, eps);
  auto Y = answer<Complex64>(out, {problem.n_clips, problem.n_frames, problem.n_bins});
  float* const rows = reinterpret_cast<float*>(Y.mutable_data());
  without_gil([&] { soft_mask(problem, rows); });
  return Y;
}

py::array_t<float> decode_array(const py::array& X, const py::array& W, const py::array& H,
                                const py::array& weights, const std::string& domain, float eps,
                                const py::array& window, std::ptrdiff_t hop, std::ptrdiff_t start,
                                std::ptrdiff_t length, const py::object& out) {
  const MaskProblem problem = problem_of(X, W, H, weights, domain, eps);
  const auto v = view<float>(window, "window", 1, 1);
  const auto plan = plan_of(v.size[0]);
  check_synthesis(problem.n_bins, v.size[0], hop, start, length);
  auto y = answer<float>(out, {problem.n_clips, length});
  float* const samples = y.mutable_data();
  const StftShape shape{problem.n_clips, problem.n_frames, hop, start};
  without_gil([&] { decode(problem, *plan, v.data, shape, samples, length); });
  return y;
}

using Gradients = std::pair<py::array_t<float>, py::array_t<float>>;  // for H (B, T, K) and weights (B, K)

Gradients empty_gradients(const MaskProblem& problem) {
  return {py::array_t<float>({problem.n_clips, problem.n_frames, problem.n_components}),
          py::array_t<float>({problem.n_clips, problem.n_components})};
}

Gradients soft_mask_gradient_arrays(const py::array& X, const py::array& W, const py::array& H,
                                    const py::array& weights, const std::string& domain, float eps,
                                    const py::array& dY) {
  const MaskProblem problem = problem_of(X, W, H, weights, domain, eps);
  const auto d = view<Complex64>(dY, "dY", 3, 3);
  require(d.size[0] == problem.n_clips && d.size[1] == problem.n_frames && d.size[2] == problem.n_bins,
          "dY must have the shape of X");
  Gradients result = empty_gradients(problem);
  float *const dH = result.first.mutable_data(), *const dweights = result.second.mutable_data();
  without_gil([&] { soft_mask_gradient(problem, d.data, dH, dweights); });
  return result;
}

Gradients decode_gradient_arrays(const py::array& X, const py::array& W, const py::array& H,
                                 const py::array& weights, const std::string& domain, float eps,
                                 const py::array& window, std::ptrdiff_t hop, std::ptrdiff_t start,
                                 const py::array& dy) {
  const MaskProblem problem = problem_of(X, W, H, weights, domain, eps);
  const auto v = view<float>(window, "window", 1, 1);
  const auto d = view<float>(dy, "dy", 2, 2);
  const auto plan = plan_of(v.size[0]);
  check_synthesis(problem.n_bins, v.size[0], hop, start, d.size[1]);
  require(d.size[0] == problem.n_clips, "dy must have as many clips as X");
  Gradients result = empty_gradients(problem);
  float *const dH = result.first.mutable_data(), *const dweights = result.second.mutable_data();
  const StftShape shape{problem.n_clips, problem.n_frames, hop, start};
  without_gil([&] { decode_gradient(problem, *plan, v.data, shape, d.data, d.size[1], dH, dweights); });
  return result;
}

}  // namespace

void register_soft_mask(py::module_& m) {
  m.def("soft_mask", &soft_mask_array, py::arg("X"), py::arg("W"), py::arg("H"), py::arg("weights"),
        py::arg("domain"), py::arg("eps"), py::arg("out") = py::none(),
        "Return the masked spectra X (B, T, F), for W (F, K), H (B, T, K) and weights (B, K); out may be X.");
  m.def("decode", &decode_array, py::arg("X"), py::arg("W"), py::arg("H"), py::arg("weights"),
        py::arg("domain"), py::arg("eps"), py::arg("window"), py::arg("hop"), py::arg("start"),
        py::arg("length"), py::arg("out") = py::none(),
        "Return samples (B, length) of the masked spectra: soft_mask and istft in one pass.");
  m.def("soft_mask_gradient", &soft_mask_gradient_arrays, py::arg("X"), py::arg("W"), py::arg("H"),
        py::arg("weights"), py::arg("domain"), py::arg("eps"), py::arg("dY"),
        "Return gradients for H (B, T, K) and weights (B, K), given that for soft_mask's answer (B, T, F).");
  m.def("decode_gradient", &decode_gradient_arrays, py::arg("X"), py::arg("W"), py::arg("H"),
        py::arg("weights"), py::arg("domain"), py::arg("eps"), py::arg("window"), py::arg("hop"),
        py::arg("start"), py::arg("dy"),
        "Return gradients for H (B, T, K) and weights (B, K), given that for decode's answer (B, length).");
}

}  // namespace l2i::bindings
