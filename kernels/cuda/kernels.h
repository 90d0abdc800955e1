// The kernels of this folder, as arguments of cudaLaunchKernel, and the sizes of their blocks.
#pragma once

#include "decode.h"
#include "stft.h"
#include "stream.h"

namespace l2i::cuda {

constexpr int kMostThreads = 512;
constexpr int kLogPoints[2] = {4, 12};  // least and most, for frames of 32 to 8192 samples

// Threads of a block: one for two bins, but from 128 to kMostThreads.
constexpr int n_threads(int points) {
  const int n = points / 2;
  return n < 128 ? 128 : n > kMostThreads ? kMostThreads : n;
}

// The numbers of streams or frames of a block for which kernels are compiled, largest first.
constexpr int kStreamRows[] = {8, 4, 2, 1};
constexpr int kFrameRows[] = {16, 8, 4};

// Arguments: Streams, then blocks, H and out. Null for other numbers of rows.
const void* tick_kernel(int rows);
// Argument: Stft or Decode.
const void* stft_kernel(int rows);
const void* decode_kernel(int rows, bool masks);

}  // namespace l2i::cuda
