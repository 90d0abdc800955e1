// Launches of the kernels in kernels/cuda, on the caller's current device and CUDA stream. Every CUDA call is
// checked; a failure is thrown as std::runtime_error that names the call.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "kernels.h"

namespace l2i::cuda {

// The reason why the kernels cannot run here, determined once; empty if they can.
const std::string& unavailable();

// Whether the kernels of streams, or all others, take frames of 2 * points samples and K components here.
bool fits(int points, long long K, bool streams);

// One hop of many streams, to be launched repeatedly on the device that is current at construction.
class TickLaunch {
 public:
  explicit TickLaunch(const Streams& streams);

  void operator()(const float* blocks, const float* H, float* out, cudaStream_t stream) const;

 private:
  Streams streams_;
  const void* kernel_;
  int rows_, n_threads_;
  long long bytes_;
};

void stft(const Stft& problem, cudaStream_t stream);

// Without a mask if W is null.
void decode(const Decode& problem, cudaStream_t stream);

}  // namespace l2i::cuda
