// The kernels of this folder, for those who launch them: what cudaLaunchKernel takes, and sizes of blocks.
#pragma once

#include "decode.h"
#include "stft.h"
#include "stream.h"

namespace l2i::cuda {

constexpr int kMostThreads = 512;
constexpr int kLogPoints[2] = {4, 12};  // least and most, of frames of 32 to 8192 samples

// Threads of a block: two bins each, where so many fit.
constexpr int n_threads(int points) {
  const int n = points / 2;
  return n < 128 ? 128 : n > kMostThreads ? kMostThreads : n;
}

// Streams or frames of a block, for which there are kernels, most first.
constexpr int kStreamRows[] = {8, 4, 2, 1};
constexpr int kFrameRows[] = {16, 8, 4};

// Arguments: Streams, then blocks, H and out; null for other rows.
const void* tick_kernel(int rows);
// Argument: Stft or Decode.
const void* stft_kernel(int rows);
const void* decode_kernel(int rows, bool masks);

}  // namespace l2i::cuda
