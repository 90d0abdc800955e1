// Checks of NumPy arrays on the way in. Nothing is converted here: the Python layer does that, once.
#pragma once

#include <pybind11/numpy.h>

#include <complex>
#include <cstddef>
#include <string>

namespace l2i::bindings {

struct ArrayView {
  const float* data;
  std::ptrdiff_t size[3];
  std::ptrdiff_t stride[3];  // in floats
};

// An aligned array of dtype T with `ndim` dimensions; the innermost `contiguous` of them without gaps.
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
      throw pybind11::value_error(std::string(name) + " must be contiguous in its last " +
                                  std::to_string(contiguous) + " dimensions");
    }
    packed *= array.shape(i);
  }
  return result;
}

using Complex64 = std::complex<float>;

inline void require(bool condition, const char* message) {
  if (!condition) throw pybind11::value_error(message);
}

}  // namespace l2i::bindings
