// Checks of NumPy arguments. Nothing is converted here: the Python layer does that once.
#pragma once

#include <pybind11/numpy.h>

#include <algorithm>
#include <complex>
#include <cstddef>
#include <initializer_list>
#include <string>

namespace l2i::bindings {

struct ArrayView {
  const float* data;
  std::ptrdiff_t size[3];
  std::ptrdiff_t stride[3];  // in floats
};

// A view of an aligned array of dtype T with `ndim` dimensions, the innermost `contiguous` of them without
// gaps.
template <typename T>
ArrayView view(const pybind11::array& array, const char* name, int ndim, int contiguous) {
  if (!pybind11::isinstance<pybind11::array_t<T>>(array) || array.ndim() != ndim ||
      !(array.flags() & pybind11::detail::npy_api::NPY_ARRAY_ALIGNED_)) {
    throw pybind11::type_error(std::string(name) + " must be an aligned array of " + std::to_string(ndim) +
                               " dimensions and dtype " +
                               pybind11::str(pybind11::dtype::of<T>()).cast<std::string>());
  }
  ArrayView result{static_cast<const float*>(array.data()), {}, {}};
  std::ptrdiff_t packed = sizeof(T);
  for (int i = ndim - 1; i >= 0; --i) {
    result.size[i] = array.shape(i);
    result.stride[i] = array.strides(i) / static_cast<std::ptrdiff_t>(sizeof(float));
    if (i >= ndim - contiguous && array.shape(i) > 1 && array.strides(i) != packed && array.size() > 0) {
      throw pybind11::value_error(
          std::string(name) + " must be contiguous in its last " +
          (contiguous == 1 ? "dimension" : std::to_string(contiguous) + " dimensions"));
    }
    packed *= array.shape(i);
  }
  return result;
}

using Complex64 = std::complex<float>;

inline void require(bool condition, const char* message) {
  if (!condition) throw pybind11::value_error(message);
}

// The array for an answer of this shape: a new one, or the caller's, which must have dtype T, this shape and
// no gaps.
template <typename T>
pybind11::array_t<T> answer(const pybind11::object& out, std::initializer_list<std::ptrdiff_t> shape) {
  if (out.is_none()) return pybind11::array_t<T>(shape);
  constexpr int kFlags =
      pybind11::detail::npy_api::NPY_ARRAY_ALIGNED_ | pybind11::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  using Packed = pybind11::array_t<T, pybind11::array::c_style>;
  const auto fits = [&](const pybind11::array& array) {
    return (array.flags() & kFlags) == kFlags &&
           std::equal(shape.begin(), shape.end(), array.shape(), array.shape() + array.ndim());
  };
  require(pybind11::isinstance<Packed>(out) && fits(pybind11::reinterpret_borrow<pybind11::array>(out)),
          "out must be a contiguous, aligned and writeable array of the answer's shape and dtype");
  return pybind11::reinterpret_borrow<pybind11::array_t<T>>(out);
}

}  // namespace l2i::bindings
