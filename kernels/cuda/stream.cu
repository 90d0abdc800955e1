// The kernels of stream.h.
#include "kernels.h"

namespace l2i::cuda {
namespace {

template <int rows>
__global__ void __launch_bounds__(kMostThreads)
    tick(const __grid_constant__ Streams p, const float* blocks, const float* H, float* out) {
  extern __shared__ __align__(16) char memory[];
  const Team team;
  Tick<rows>(team, p, static_cast<int>(blockIdx.x), memory).run(blocks, H, out);
}

}  // namespace

const void* tick_kernel(int rows) {
  switch (rows) {
    case 8:
      return reinterpret_cast<const void*>(&tick<8>);
    case 4:
      return reinterpret_cast<const void*>(&tick<4>);
    case 2:
      return reinterpret_cast<const void*>(&tick<2>);
    case 1:
      return reinterpret_cast<const void*>(&tick<1>);
    default:
      return nullptr;
  }
}

}  // namespace l2i::cuda
