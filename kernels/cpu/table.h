// The functions that every instruction set provides. Plain pointers and sizes only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace l2i::kernels {

struct Kernels {
  const char* name;  // "scalar", "avx2", "avx512"
  int lanes;         // frames in a tile: floats in a vector register
};

namespace scalar {
extern const Kernels table;
}
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}

}  // namespace l2i::kernels
