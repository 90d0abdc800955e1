// The kernels of stft.h.
#include "kernels.h"

namespace l2i::cuda {
namespace {

template <int rows>
__global__ void __launch_bounds__(kMostThreads) stft_frames(const __grid_constant__ Stft p) {
  extern __shared__ __align__(16) char memory[];
  const Team team;
  stft<rows>(team, p, blockIdx.x, memory);
}

}  // namespace

const void* stft_kernel(int rows) {
  switch (rows) {
    case 16:
      return reinterpret_cast<const void*>(&stft_frames<16>);
    case 8:
      return reinterpret_cast<const void*>(&stft_frames<8>);
    case 4:
      return reinterpret_cast<const void*>(&stft_frames<4>);
    default:
      return nullptr;
  }
}

}  // namespace l2i::cuda
