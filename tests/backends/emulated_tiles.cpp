// The AMX kernels of kernels/cpu/bf16.cpp with tile registers in memory, called through ctypes by
// test_precision.py. Instructions that would fault, or leave results undefined, are counted.
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

namespace tiles {

constexpr int kTiles = 8;
struct Config {
  std::uint8_t palette, start_row, reserved[14];
  std::uint16_t row_bytes[16];
  std::uint8_t rows[16];
};

Config config;
std::uint32_t data[kTiles][16][16];
bool defined[kTiles];
bool configured;
int faults, n_products;

bool usable(int tile) {
  const bool good = configured && tile < kTiles && config.rows[tile] > 0 && config.rows[tile] <= 16 &&
                    config.row_bytes[tile] > 0 && config.row_bytes[tile] <= 64 &&
                    config.row_bytes[tile] % 4 == 0;
  faults += !good;
  return good;
}

void load_config(const void* from) {
  std::memcpy(&config, from, sizeof config);
  faults += config.palette != 1 || config.start_row != 0 || configured;
  for (const std::uint8_t zero : config.reserved) faults += zero != 0;
  for (int tile = kTiles; tile < 16; ++tile) faults += config.rows[tile] != 0 || config.row_bytes[tile] != 0;
  configured = true;
  std::memset(defined, 0, sizeof defined);
}

void release() {
  faults += !configured;
  configured = false;
}

void zero(int tile) {
  if (!usable(tile)) return;
  std::memset(data[tile], 0, sizeof data[tile]);
  defined[tile] = true;
}

void load(int tile, const void* from, std::ptrdiff_t stride) {
  if (!usable(tile)) return;
  std::memset(data[tile], 0, sizeof data[tile]);
  for (int row = 0; row < config.rows[tile]; ++row) {
    std::memcpy(data[tile][row], static_cast<const char*>(from) + row * stride, config.row_bytes[tile]);
  }
  defined[tile] = true;
}

void store(int tile, void* to, std::ptrdiff_t stride) {
  if (!usable(tile)) return;
  faults += !defined[tile];
  for (int row = 0; row < config.rows[tile]; ++row) {
    std::memcpy(static_cast<char*>(to) + row * stride, data[tile][row], config.row_bytes[tile]);
  }
}

float value(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return std::fpclassify(x) == FP_SUBNORMAL ? 0.0f : x;
}

// Intel's Software Developer's Manual, TDPBF16PS: the sums of the first and of the second values of the pairs
// apart, each by fused multiply-adds, then both added to C.
void dpbf16ps(int c, int a, int b) {
  if (!usable(c) || !usable(a) || !usable(b)) return;
  faults += !defined[c] || !defined[a] || !defined[b] || config.rows[c] != config.rows[a] ||
            config.row_bytes[a] / 4 != config.rows[b] || config.row_bytes[c] != config.row_bytes[b];
  ++n_products;
  for (int m = 0; m < config.rows[c]; ++m) {
    for (int n = 0; n < config.row_bytes[c] / 4; ++n) {
      float first = 0, second = 0;
      for (int k = 0; k < config.rows[b]; ++k) {
        const std::uint32_t x = data[a][m][k], y = data[b][k][n];
        first = std::fma(value(x << 16), value(y << 16), first);
        second = std::fma(value(x & 0xffff0000u), value(y & 0xffff0000u), second);
      }
      const float sum = value(data[c][m][n]) + (first + second);
      std::memcpy(&data[c][m][n], &sum, sizeof sum);
    }
  }
}

}  // namespace tiles

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig tiles::load_config
#define _tile_release tiles::release
#define _tile_zero tiles::zero
#define _tile_loadd tiles::load
#define _tile_stored tiles::store
#define _tile_dpbf16ps tiles::dpbf16ps
#include "cpu/bf16.cpp"
#include "products.h"

using l2i::kernels::amx::bf16;

extern "C" {

void pack_rows(const float* A, std::ptrdiff_t stride, std::ptrdiff_t n_rows, std::ptrdiff_t n_columns,
               int n_terms, std::uint32_t* out) {
  bf16.pack_rows(A, stride, n_rows, n_columns, n_terms, out);
}

void pack_columns(const float* A, std::ptrdiff_t stride, std::ptrdiff_t n_rows, std::ptrdiff_t n_columns,
                  int n_terms, std::uint32_t* out) {
  bf16.pack_columns(A, stride, n_rows, n_columns, n_terms, out);
}

void pack_panel(const float* B, std::ptrdiff_t stride, std::ptrdiff_t depth, std::ptrdiff_t lanes,
                int n_terms, std::uint32_t* out) {
  bf16.pack_panel(B, stride, depth, lanes, n_terms, out);
}

// Returns the number of faults.
int multiply(const std::uint32_t* A, std::ptrdiff_t A_stride, const std::uint32_t* B, int n_terms,
             std::ptrdiff_t n_rows, std::ptrdiff_t depth, std::ptrdiff_t lanes, bool add, float* C) {
  tiles::faults = tiles::n_products = 0;
  const l2i::Arithmetic arithmetic{{}, bf16, n_terms};
  {
    const l2i::Multiplying multiplying(arithmetic);
    bf16.multiply({A, A_stride, B, n_terms, n_rows, depth, lanes, add, C});
  }
  return tiles::faults + tiles::configured;
}

int n_products() { return tiles::n_products; }

}  // extern "C"
