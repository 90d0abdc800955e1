#include "launch.h"

#include <iterator>
#include <limits>
#include <stdexcept>

namespace l2i::cuda {
namespace {

void check(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // otherwise the next call would report it again
  throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(error));
}

int attribute(cudaDeviceAttr name) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&value, name, device), "cudaDeviceGetAttribute");
  return value;
}

long long most_bytes() { return attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); }

// Rows of a block: the fewest with which all blocks run at once, one on each multiprocessor; otherwise the
// most, which share each pass over W.
template <std::size_t n, typename Blocks, typename Bytes>
int choose(const int (&candidates)[n], const Blocks& blocks, const Bytes& bytes) {
  const int multiprocessors = attribute(cudaDevAttrMultiProcessorCount);
  int chosen = 0;
  for (const int rows : candidates) {
    if (bytes(rows) > most_bytes()) continue;
    if (chosen == 0 || blocks(rows) <= multiprocessors) chosen = rows;
  }
  if (chosen == 0)
    throw std::invalid_argument("a frame and its components must fit the shared memory of a block");
  return chosen;
}

// Allows all shared memory in every call: a kernel has one limit on each device, which a smaller problem
// would lower for the launches, and captured graphs, of a larger one.
void allow(const void* kernel) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(most_bytes())),
        "cudaFuncSetAttribute");
}

void launch(const void* kernel, long long n_blocks, int n_threads, long long bytes, void** arguments,
            cudaStream_t stream) {
  if (n_blocks > 0x7fffffff)
    throw std::invalid_argument("n_blocks must be at most 2147483647, the size of a grid");
  check(
      cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(n_blocks)), dim3(static_cast<unsigned>(n_threads)),
                       arguments, static_cast<std::size_t>(bytes), stream),
      "cudaLaunchKernel");
}

}  // namespace

const std::string& unavailable() {
  static const std::string reason = [] {
    int n = 0;
    cudaError_t error = cudaGetDeviceCount(&n);
    cudaFuncAttributes attributes;
    if (error == cudaSuccess && n > 0) error = cudaFuncGetAttributes(&attributes, stft_kernel(kFrameRows[0]));
    cudaGetLastError();
    return std::string(error != cudaSuccess ? cudaGetErrorString(error) : n > 0 ? "" : "no CUDA device");
  }();
  return reason;
}

bool fits(int points, long long K, bool streams) {
  constexpr int kStreams = kStreamRows[std::size(kStreamRows) - 1],
                kFrames = kFrameRows[std::size(kFrameRows) - 1];
  return (streams ? stream_bytes(kStreams, points, K) : decode_bytes(kFrames, points, K)) <= most_bytes();
}

TickLaunch::TickLaunch(const Streams& streams) : streams_(streams) {
  const int points = 1 << streams.log_points;
  const auto bytes = [&](int rows) { return stream_bytes(rows, points, streams.K); };
  rows_ = choose(kStreamRows, [&](int rows) { return (streams.n + rows - 1) / rows; }, bytes);
  kernel_ = tick_kernel(rows_);
  n_threads_ = n_threads(points);
  bytes_ = bytes(rows_);
  allow(kernel_);
}

void TickLaunch::operator()(const float* blocks, const float* H, float* out, cudaStream_t stream) const {
  Streams streams = streams_;
  void* arguments[] = {&streams, &blocks, &H, &out};
  launch(kernel_, (streams.n + rows_ - 1) / rows_, n_threads_, bytes_, arguments, stream);
}

void stft(const Stft& problem, cudaStream_t stream) {
  const int points = 1 << problem.log_points;
  const auto bytes = [&](int rows) { return stft_bytes(rows, points); };
  const auto blocks = [&](int rows) { return stft_blocks(problem, rows); };
  const int rows = choose(kFrameRows, blocks, bytes);
  const void* const kernel = stft_kernel(rows);
  allow(kernel);
  Stft copy = problem;
  void* arguments[] = {&copy};
  launch(kernel, blocks(rows), n_threads(points), bytes(rows), arguments, stream);
}

void decode(const Decode& problem, cudaStream_t stream) {
  // Samples of a block are counted in 32 bits.
  constexpr long long kMostHop = std::numeric_limits<int>::max() / kFrameRows[0];
  if (problem.hop > kMostHop)
    throw std::invalid_argument("hop is " + std::to_string(problem.hop) + ", but must be at most " +
                                std::to_string(kMostHop));
  const int points = 1 << problem.log_points;
  const auto bytes = [&](int rows) { return decode_bytes(rows, points, problem.K); };
  const auto blocks = [&](int rows) { return problem.n_clips * decode_tiles(problem, rows); };
  const int rows = choose(kFrameRows, blocks, bytes);
  const void* const kernel = decode_kernel(rows, problem.W != nullptr);
  allow(kernel);
  Decode copy = problem;
  void* arguments[] = {&copy};
  launch(kernel, blocks(rows), n_threads(points), bytes(rows), arguments, stream);
}

}  // namespace l2i::cuda
