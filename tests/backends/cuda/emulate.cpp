// The block programs of kernels/cuda on the CPU, for the tests: blocks one after another, the threads of a
// block in any order, shared memory that begins as NaN and must not be left.
#include <cstring>
#include <memory>
#include <vector>

#include "kernels.h"

namespace {

using namespace l2i::cuda;

constexpr std::size_t kGuard = 1024;

// Runs program(team, block, memory) for all blocks. False where one wrote behind its memory.
template <typename Program>
bool run(long long n_blocks, long long bytes, const int* order, int n_threads, const Program& program) {
  const Team team(std::vector<int>(order, order + n_threads));
  const auto size = static_cast<std::size_t>(bytes);
  struct alignas(16) Unit {
    char bytes[16];
  };
  std::vector<Unit> units((size + kGuard + 15) / 16);
  char* const memory = units[0].bytes;
  for (long long block = 0; block < n_blocks; ++block) {
    std::memset(memory, 0xff, size + kGuard);
    program(team, block, memory);
    for (std::size_t i = size; i < size + kGuard; ++i) {
      if (memory[i] != static_cast<char>(0xff)) return false;
    }
  }
  return true;
}

template <int rows>
bool tick(const Streams& p, const int* order, int n_threads, const float* blocks, const float* H,
          float* out) {
  return run((p.n + rows - 1) / rows, stream_bytes(rows, 1 << p.log_points, p.K), order, n_threads,
             [&](const Team& team, long long block, char* memory) {
               Tick<rows>(team, p, static_cast<int>(block), memory).run(blocks, H, out);
             });
}

template <int rows>
bool forward_frames(const Stft& p, const int* order, int n_threads) {
  return run(stft_blocks(p, rows), stft_bytes(rows, 1 << p.log_points), order, n_threads,
             [&](const Team& team, long long block, char* memory) { stft<rows>(team, p, block, memory); });
}

template <int rows, bool masks>
bool decode_frames(const Decode& p, const int* order, int n_threads) {
  return run(p.n_clips * decode_tiles(p, rows), decode_bytes(rows, 1 << p.log_points, p.K), order, n_threads,
             [&](const Team& team, long long block, char* memory) {
               Decoding<rows, masks>(team, p, block, memory).run();
             });
}

template <int rows>
bool decode_rows(const Decode& p, const int* order, int n_threads) {
  return p.W != nullptr ? decode_frames<rows, true>(p, order, n_threads)
                        : decode_frames<rows, false>(p, order, n_threads);
}

}  // namespace

extern "C" {

int size_of_streams() { return sizeof(Streams); }
int size_of_stft() { return sizeof(Stft); }
int size_of_decode() { return sizeof(Decode); }
int threads_of(int points) { return n_threads(points); }
int position(int i) { return padded(i); }
int stride_of(int points) { return row_stride(points); }

int emulate_tick(const Streams* p, int rows, const int* order, int n_threads, const float* blocks,
                 const float* H, float* out) {
  switch (rows) {
    case 8:
      return tick<8>(*p, order, n_threads, blocks, H, out);
    case 4:
      return tick<4>(*p, order, n_threads, blocks, H, out);
    case 2:
      return tick<2>(*p, order, n_threads, blocks, H, out);
    default:
      return tick<1>(*p, order, n_threads, blocks, H, out);
  }
}

int emulate_stft(const Stft* p, int rows, const int* order, int n_threads) {
  switch (rows) {
    case 16:
      return forward_frames<16>(*p, order, n_threads);
    case 8:
      return forward_frames<8>(*p, order, n_threads);
    default:
      return forward_frames<4>(*p, order, n_threads);
  }
}

int emulate_decode(const Decode* p, int rows, const int* order, int n_threads) {
  switch (rows) {
    case 16:
      return decode_rows<16>(*p, order, n_threads);
    case 8:
      return decode_rows<8>(*p, order, n_threads);
    default:
      return decode_rows<4>(*p, order, n_threads);
  }
}

}  // extern "C"
