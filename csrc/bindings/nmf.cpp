#include "nmf.h"

#include <pybind11/stl.h>

#include <optional>

#include "arrays.h"
#include "bindings.h"
#include "signals.h"

namespace py = pybind11;

namespace l2i::bindings {
namespace {

constexpr const char* kHalsNeedsGram =
    "method is 'hals', but must be 'mu' for all but the Euclidean loss without mask";

// V (T, F) and mask (T, F) with contiguous rows, W (F, K) without gaps, H (T, K) with contiguous rows.
NmfProblem problem_of(const py::array& V, const std::optional<py::array>& mask, const py::array& W,
                      const py::array& H, float beta) {
  const auto v = view<float>(V, "V", 2, 1);
  const auto w = view<float>(W, "W", 2, 2);
  const auto h = view<float>(H, "H", 2, 1);
  require(w.size[0] == v.size[1], "W must have as many rows as V has bins");
  require(h.size[0] == v.size[0] && h.size[1] == w.size[1],
          "H must have as many frames as V and as many components as W");
  require(w.size[1] >= 1 && v.size[1] >= 1, "V must have at least one bin, and W at least one component");
  NmfProblem problem{v.size[0], v.size[1], w.size[1], v.data,      v.stride[0], nullptr,
                     0,         w.data,    nullptr,   h.stride[0], beta};
  if (mask) {
    const auto m = view<float>(*mask, "mask", 2, 1);
    require(m.size[0] == v.size[0] && m.size[1] == v.size[1], "mask must have the shape of V");
    problem.mask = m.data;
    problem.mask_stride = m.stride[0];
  }
  problem.H = const_cast<float*>(h.data);
  return problem;
}

NmfUpdate update_of(const std::string& method, float l1, float l2, int n_updates, int n_terms) {
  require(method == "mu" || method == "hals", "method must be 'mu' or 'hals'");
  require(n_updates >= 0, "n_updates must be at least 0");
  require(n_terms >= 0 && n_terms <= kernels::kMostTerms, "n_terms must be from 0 to 3");
  require(n_terms == 0 || method == "mu", "n_terms must be 0 for method 'hals', which multiplies in float32");
  const NmfMethod kind = method == "mu" ? NmfMethod::multiplicative : NmfMethod::coordinates;
  return {.method = kind, .penalty = {l1, l2}, .n_updates = n_updates, .n_terms = n_terms};
}

void require_writeable(const py::array& array, const char* message) { require(array.writeable(), message); }

// Checks the shapes of the sums.
void check_sums(const py::array_t<double>& numerator, const py::array_t<double>& denominator,
                NmfDenominator kind, std::ptrdiff_t F, std::ptrdiff_t K) {
  constexpr int kPlain = py::array::c_style;
  require((numerator.flags() & kPlain) && numerator.ndim() == 2 && numerator.shape(0) == F &&
              numerator.shape(1) == K,
          "numerator must be contiguous and of shape (F, K)");
  const std::ptrdiff_t rows = kind == NmfDenominator::full ? F : kind == NmfDenominator::gram ? K : 1;
  require((denominator.flags() & kPlain) && denominator.size() == rows * K,
          "denominator must be contiguous and of the shape that the loss needs: (F, K), (K, K) or (K,)");
}

const bool* fixed_of(const std::optional<py::array_t<bool>>& fixed, std::ptrdiff_t K) {
  if (!fixed) return nullptr;
  require(fixed->ndim() == 1 && fixed->shape(0) == K, "fixed must be of shape (K,)");
  return fixed->data();
}

double pass(const py::array& V, const std::optional<py::array>& mask, const py::array& W, py::array H,
            float beta, const std::string& method, float l1, float l2, int n_updates,
            std::optional<py::array_t<double>> numerator, std::optional<py::array_t<double>> denominator,
            bool measure, int n_terms) {
  const NmfProblem problem = problem_of(V, mask, W, H, beta);
  const NmfUpdate update = update_of(method, l1, l2, n_updates, n_terms);
  const NmfDenominator kind = denominator_of(beta, mask.has_value());
  require(update.method == NmfMethod::multiplicative || kind == NmfDenominator::gram, kHalsNeedsGram);
  require_writeable(H, "H must be writeable");
  require(numerator.has_value() == denominator.has_value(),
          "numerator and denominator must be given together");
  std::optional<NmfSums> sums;
  if (numerator) {
    check_sums(*numerator, *denominator, kind, problem.n_bins, problem.n_components);
    sums = NmfSums{numerator->mutable_data(), denominator->mutable_data()};
  }
  double d = 0;
  without_gil([&] { d = nmf_pass(problem, update, sums, measure); });
  return d;
}

double divergence(const py::array& V, const std::optional<py::array>& mask, const py::array& W,
                  const py::array& H, float beta) {
  const NmfProblem problem = problem_of(V, mask, W, H, beta);
  double d = 0;
  without_gil([&] { d = nmf_divergence(problem); });
  return d;
}

void update(py::array W, const py::array_t<double>& numerator, const py::array_t<double>& denominator,
            bool masked, float beta, const std::string& method, float l1, float l2, int n_updates,
            const std::optional<py::array_t<bool>>& fixed) {
  const auto w = view<float>(W, "W", 2, 2);
  require_writeable(W, "W must be writeable");
  const NmfUpdate step = update_of(method, l1, l2, n_updates, 0);
  const std::ptrdiff_t F = w.size[0], K = w.size[1];
  const NmfDenominator kind = denominator_of(beta, masked);
  check_sums(numerator, denominator, kind, F, K);
  require(step.method == NmfMethod::multiplicative || kind == NmfDenominator::gram, kHalsNeedsGram);
  const bool* const stay = fixed_of(fixed, K);
  float* const rows = const_cast<float*>(w.data);
  const NmfSums sums{const_cast<double*>(numerator.data()), const_cast<double*>(denominator.data())};
  without_gil([&] { nmf_update(rows, F, K, beta, sums, kind, step, stay); });
}

void check_gram(const py::array_t<double>& gram, std::ptrdiff_t K) {
  require((gram.flags() & py::array::c_style) && gram.ndim() == 2 && gram.shape(0) == K && gram.shape(1) == K,
          "gram must be contiguous and of shape (K, K)");
}

double newton_pass(const py::array& V, const std::optional<py::array>& mask, const py::array& W, py::array H,
                   float beta, float l1, float l2, int n_updates, py::array_t<float> damping,
                   const py::array_t<float>& bin_weights, float least_mean,
                   std::optional<py::array_t<double>> gradient, std::optional<py::array_t<double>> curvature,
                   std::optional<py::array_t<double>> gram) {
  const NmfProblem problem = problem_of(V, mask, W, H, beta);
  require_writeable(H, "H must be writeable");
  require(n_updates >= 0, "n_updates must be at least 0");
  require(damping.ndim() == 1 && damping.shape(0) == problem.n_frames, "damping must be of shape (T,)");
  require(bin_weights.ndim() == 1 && bin_weights.shape(0) == problem.n_bins,
          "bin_weights must be of shape (F,)");
  require(gradient.has_value() == curvature.has_value() && gradient.has_value() == gram.has_value(),
          "gradient, curvature and gram must be given together");
  std::optional<NmfSums> sums;
  if (gradient) {
    check_sums(*gradient, *curvature, NmfDenominator::full, problem.n_bins, problem.n_components);
    check_gram(*gram, problem.n_components);
    sums = NmfSums{gradient->mutable_data(), curvature->mutable_data(), gram->mutable_data()};
  }
  const NmfUpdate step{.method = NmfMethod::newton,
                       .penalty = {l1, l2},
                       .n_updates = n_updates,
                       .damping = damping.mutable_data(),
                       .bin_weights = bin_weights.data(),
                       .least_mean = least_mean};
  double d = 0;
  without_gil([&] { d = nmf_pass(problem, step, sums, gradient.has_value()); });
  return d;
}

void newton_update(py::array W, const py::array_t<double>& gradient, const py::array_t<double>& curvature,
                   const py::array_t<double>& gram, float damping, float l1, float l2,
                   const std::optional<py::array_t<bool>>& fixed) {
  const auto w = view<float>(W, "W", 2, 2);
  require_writeable(W, "W must be writeable");
  const std::ptrdiff_t F = w.size[0], K = w.size[1];
  check_sums(gradient, curvature, NmfDenominator::full, F, K);
  check_gram(gram, K);
  const bool* const stay = fixed_of(fixed, K);
  float* const rows = const_cast<float*>(w.data);
  const NmfSums sums{const_cast<double*>(gradient.data()), const_cast<double*>(curvature.data()),
                     const_cast<double*>(gram.data())};
  const NmfUpdate step{.method = NmfMethod::newton, .penalty = {l1, l2}, .n_updates = 1, .damping = &damping};
  without_gil([&] { nmf_update(rows, F, K, 1, sums, NmfDenominator::full, step, stay); });
}

}  // namespace

void register_nmf(py::module_& m) {
  m.def(
      "nmf_pass", &pass, py::arg("V"), py::arg("mask"), py::arg("W"), py::arg("H"), py::arg("beta"),
      py::arg("method"), py::arg("l1"), py::arg("l2"), py::arg("n_updates"), py::arg("numerator").noconvert(),
      py::arg("denominator").noconvert(), py::arg("measure"), py::arg("n_terms"),
      "Update H (T, K) in place for V (T, F) and W (F, K), store the sums that the update of W needs in\n"
      "numerator and denominator, and return the divergence, or 0 unless `measure`. Factors of products are\n"
      "sums of n_terms bfloat16 terms, or float32 if n_terms is 0.");
  m.def("nmf_divergence", &divergence, py::arg("V"), py::arg("mask"), py::arg("W"), py::arg("H"),
        py::arg("beta"), "Return the divergence of V (T, F) from H W'.");
  m.def("nmf_update", &update, py::arg("W"), py::arg("numerator").noconvert(),
        py::arg("denominator").noconvert(), py::arg("masked"), py::arg("beta"), py::arg("method"),
        py::arg("l1"), py::arg("l2"), py::arg("n_updates"), py::arg("fixed"),
        "Update W (F, K) in place from the sums of a pass.");
  m.def(
      "nmf_newton_pass", &newton_pass, py::arg("V"), py::arg("mask"), py::arg("W"), py::arg("H"),
      py::arg("beta"), py::arg("l1"), py::arg("l2"), py::arg("n_updates"), py::arg("damping").noconvert(),
      py::arg("bin_weights").noconvert(), py::arg("least_mean"), py::arg("gradient").noconvert(),
      py::arg("curvature").noconvert(), py::arg("gram").noconvert(),
      "Take Newton steps of H (T, K) and adapt the damping (T,) of its frames, both in place. If gradient,\n"
      "curvature and gram are given, store the sums for the step of W in them and return the divergence.");
  m.def("nmf_newton_update", &newton_update, py::arg("W"), py::arg("gradient").noconvert(),
        py::arg("curvature").noconvert(), py::arg("gram").noconvert(), py::arg("damping"), py::arg("l1"),
        py::arg("l2"), py::arg("fixed"), "Take a Newton step of W (F, K) in place, from the sums of a pass.");
}

}  // namespace l2i::bindings
