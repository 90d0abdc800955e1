// The kernels of decode.h.
#include "kernels.h"

namespace l2i::cuda {
namespace {

template <int rows, bool masks>
__global__ void __launch_bounds__(kMostThreads) decode(const __grid_constant__ Decode p) {
  extern __shared__ __align__(16) char memory[];
  const Team team;
  Decoding<rows, masks>(team, p, blockIdx.x, memory).run();
}

template <int rows>
const void* kernel(bool masks) {
  return masks ? reinterpret_cast<const void*>(&decode<rows, true>)
               : reinterpret_cast<const void*>(&decode<rows, false>);
}

}  // namespace

const void* decode_kernel(int rows, bool masks) {
  switch (rows) {
    case 16:
      return kernel<16>(masks);
    case 8:
      return kernel<8>(masks);
    case 4:
      return kernel<4>(masks);
    default:
      return nullptr;
  }
}

}  // namespace l2i::cuda
