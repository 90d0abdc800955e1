// Products of a matrix with panels, in float32 or with factors rounded to bfloat16.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"
#include "workspace.h"

namespace l2i {

// The kernels and the precision of products.
struct Arithmetic {
  const kernels::NmfKernels& nmf;
  const kernels::Bf16Kernels& bf16;
  int n_terms;  // bfloat16 terms of a value, see kernels/cpu/bf16.cpp; 0 for float32
};

// Prepares the current thread for products, for the lifetime of the object.
class Multiplying {
 public:
  explicit Multiplying(const Arithmetic& arithmetic) : arithmetic_(arithmetic) {
    if (arithmetic_.n_terms > 0) arithmetic_.bf16.begin();
  }
  ~Multiplying() {
    if (arithmetic_.n_terms > 0) arithmetic_.bf16.end();
  }
  Multiplying(const Multiplying&) = delete;
  Multiplying& operator=(const Multiplying&) = delete;

 private:
  const Arithmetic& arithmetic_;
};

// The right factor of a product: rows of a panel, as they are or packed.
struct Panel {
  const float* data;
  std::ptrdiff_t stride;
  const std::uint32_t* packed;
};

// Words of a packed panel.
std::ptrdiff_t packed_size(const Arithmetic& arithmetic, std::ptrdiff_t n_rows, std::ptrdiff_t lanes);

// Room for one packed panel.
class PanelPacker {
 public:
  void layout(Slices& slices, const Arithmetic& arithmetic, std::ptrdiff_t n_rows, std::ptrdiff_t lanes);
  Panel operator()(const float* rows, std::ptrdiff_t stride, std::ptrdiff_t n_rows, std::ptrdiff_t lanes);

 private:
  const Arithmetic* arithmetic_ = nullptr;
  std::uint32_t* words_ = nullptr;
};

// The left factor A of products with many panels.
class Factor {
 public:
  // with_product: allocate for product(), too, not for accumulate() alone.
  void layout(Slices& slices, const Arithmetic& arithmetic, std::ptrdiff_t most_rows,
              std::ptrdiff_t n_columns, bool with_product);
  void set(const float* A, std::ptrdiff_t stride, std::ptrdiff_t n_rows);

  // C = A[begin, begin + n) B and N += A[begin, begin + n)' Q, with `begin` a multiple of kTileDepth.
  void product(std::ptrdiff_t begin, std::ptrdiff_t n, const Panel& B, std::ptrdiff_t lanes, float* C) const;
  void accumulate(std::ptrdiff_t begin, std::ptrdiff_t n, const Panel& Q, std::ptrdiff_t lanes,
                  float* N) const;

 private:
  const Arithmetic* arithmetic_ = nullptr;
  std::ptrdiff_t n_columns_ = 0, n_rows_ = 0, stride_ = 0;
  const float* A_ = nullptr;
  std::uint32_t *rows_ = nullptr, *columns_ = nullptr;
};

}  // namespace l2i
