// Products of float32 matrices from sums of bfloat16 ones.
//
// A value x is split into terms x = x_0 + x_1 + ..., each the bfloat16 number nearest to what the terms
// before it leave, so that n of them carry 8 n bits. Of a product, the partial products A_i B_j with
// i + j < n_terms are computed: 1, 3 or 6 of them; the others are of the size of the last term's rounding.
//
//   n_terms   products   relative error of a sum of non-negative products, about
//      1         1       2^-9
//      2         3       2^-16
//      3         6       float32's own
//
// Both factors are stored in tiles of kTileRows rows (of A) or kLanes columns (of B) times kTileDepth values
// along the sum, two neighbours of which share 32 bits, as Intel's tile registers and VDPBF16PS require:
//
//   A   [rows / 16][depth / 32][term][row][pair]           B   [depth / 32][term][lanes / kLanes][pair][lane]
//
// Sums are float32, in the order of the depth. Denormals count as zero, and values above bfloat16's
// largest, 3.39e38, as that. Without bfloat16 instructions the pairs are widened to float32, which is slower
// than products of float32 and as accurate as those instructions.
#include "bf16.h"

#include "simd.h"

namespace l2i::kernels::L2I_ISA {
namespace {

constexpr std::ptrdiff_t kPairs = kTileDepth / 2;
constexpr std::ptrdiff_t kTile = kTileRows * kPairs;     // words of a tile of A
constexpr std::ptrdiff_t kVectorTile = kPairs * kLanes;  // words of a tile of B
constexpr float kLargest = 0x1.fep+127f;                 // of bfloat16

inline IntVec load_words(const std::uint32_t* p) {
  return reinterpret_cast<IntVec>(load(reinterpret_cast<const float*>(p)));
}
inline void store_words(std::uint32_t* p, IntVec v) {
  store(reinterpret_cast<float*>(p), reinterpret_cast<Vec>(v));
}

// The floats whose upper halves are the lower and the upper halves of words.
inline Vec lower(IntVec words) { return reinterpret_cast<Vec>(words << 16); }
inline Vec upper(IntVec words) { return reinterpret_cast<Vec>(words & ~0xffff); }

// Rounds both vectors to bfloat16, ties to even, the first into the lower halves. Finite values only.
inline IntVec round_pair(Vec first, Vec second) {
#if defined(__AVX512BF16__)
  alignas(64) static constexpr std::uint16_t kInterleaved[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                                 21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                                 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(second, first);
  return (IntVec)_mm512_permutexvar_epi16(_mm512_load_si512(kInterleaved), both);
#else
  const auto nearest = [](Vec x) {
    const IntVec bits = reinterpret_cast<IntVec>(x);
    return bits + 0x7fff + ((bits >> 16) & 1);
  };
  return ((nearest(first) >> 16) & 0xffff) | (nearest(second) & ~0xffff);
#endif
}

// Splits a pair of vectors into terms, handed to put(term, words).
template <typename Put>
inline void split(Vec first, Vec second, int n_terms, const Put& put) {
  first = minimum(first, broadcast(kLargest));
  second = minimum(second, broadcast(kLargest));
  for (int term = 0; term < n_terms; ++term) {
    const IntVec words = round_pair(first, second);
    put(term, words);
    first -= lower(words);
    second -= upper(words);
  }
}

// A block of n_rows x n_columns values, padded with zeros to height x width; in place if it is whole.
template <int height, int width>
inline const float* padded(const float* A, std::ptrdiff_t& stride, std::ptrdiff_t n_rows,
                           std::ptrdiff_t n_columns, float (&edge)[height][width]) {
  if (n_rows >= height && n_columns >= width) return A;
  for (int r = 0; r < height; ++r) {
    for (int c = 0; c < width; ++c) edge[r][c] = r < n_rows && c < n_columns ? A[r * stride + c] : 0.0f;
  }
  stride = width;
  return edge[0];
}

void pack_rows(const float* A, std::ptrdiff_t stride, std::ptrdiff_t n_rows, std::ptrdiff_t n_columns,
               int n_terms, std::uint32_t* out) {
  for (std::ptrdiff_t r = 0; r < n_rows; r += kTileRows) {
    for (std::ptrdiff_t c = 0; c < n_columns; c += kTileDepth) {
      float edge[kTileRows][kTileDepth];
      std::ptrdiff_t from_stride = stride;
      const float* const from = padded(A + r * stride + c, from_stride, n_rows - r, n_columns - c, edge);
      for (std::ptrdiff_t row = 0; row < kTileRows; ++row) {
        for (std::ptrdiff_t pair = 0; pair < kPairs; pair += kLanes) {
          const float* const x = from + row * from_stride + 2 * pair;
          const Vec a = load(x), b = load(x + kLanes);
          split(real_parts(a, b), imaginary_parts(a, b), n_terms, [&](int term, IntVec words) {
            store_words(out + term * kTile + row * kPairs + pair, words);
          });
        }
      }
      out += n_terms * kTile;
    }
  }
}

void pack_columns(const float* A, std::ptrdiff_t stride, std::ptrdiff_t n_rows, std::ptrdiff_t n_columns,
                  int n_terms, std::uint32_t* out) {
  for (std::ptrdiff_t c = 0; c < n_columns; c += kTileRows) {
    for (std::ptrdiff_t r = 0; r < n_rows; r += kTileDepth) {
      float edge[kTileDepth][kTileRows];
      std::ptrdiff_t from_stride = stride;
      const float* const from = padded(A + r * stride + c, from_stride, n_rows - r, n_columns - c, edge);
      for (std::ptrdiff_t column = 0; column < kTileRows; column += kLanes) {
        for (std::ptrdiff_t pair = 0; pair < kPairs; pair += kLanes) {
          Vec square[kMostTerms][kLanes];
          for (int i = 0; i < kLanes; ++i) {
            const float* const x = from + 2 * (pair + i) * from_stride + column;
            split(load(x), load(x + from_stride), n_terms,
                  [&](int term, IntVec words) { square[term][i] = reinterpret_cast<Vec>(words); });
          }
          for (int term = 0; term < n_terms; ++term) {
            transpose(square[term]);
            for (int i = 0; i < kLanes; ++i) {
              store_words(out + term * kTile + (column + i) * kPairs + pair,
                          reinterpret_cast<IntVec>(square[term][i]));
            }
          }
        }
      }
      out += n_terms * kTile;
    }
  }
}

void pack_panel(const float* B, std::ptrdiff_t stride, std::ptrdiff_t depth, std::ptrdiff_t lanes,
                int n_terms, std::uint32_t* out) {
  const std::ptrdiff_t term_stride = lanes / kLanes * kVectorTile;
  for (std::ptrdiff_t k = 0; k < depth; k += kTileDepth) {
    for (std::ptrdiff_t l = 0; l < lanes; l += kLanes) {
      const auto row_at = [&](std::ptrdiff_t row) {
        return row < depth ? load(B + row * stride + l) : Vec{};
      };
      for (std::ptrdiff_t pair = 0; pair < kPairs; ++pair) {
        const std::ptrdiff_t row = k + 2 * pair;
        split(row_at(row), row_at(row + 1), n_terms, [&](int term, IntVec words) {
          store_words(out + term * term_stride + l / kLanes * kVectorTile + pair * kLanes, words);
        });
      }
    }
    out += n_terms * term_stride;
  }
}

#if !defined(__AMX_BF16__)

constexpr int kWidth = 3;
#if defined(__AVX512BF16__)
constexpr int kHeight = 8;
#else
constexpr int kHeight = 4;
#endif

// sum + the products of both halves of the words
inline Vec add_products(Vec sum, IntVec a, IntVec b) {
#if defined(__AVX512BF16__)
  return _mm512_dpbf16_ps(sum, (__m512bh)b, (__m512bh)a);
#else
  return sum + lower(a) * lower(b) + upper(a) * upper(b);
#endif
}

// n_rows rows of C, at most kHeight; A begins with the first of them.
template <int width>
void multiply_block(const Bf16Product& p, const std::uint32_t* A, int n_rows, float* C) {
  Vec sum[kHeight][width];
  for (int j = 0; j < kHeight; ++j) {
    for (int i = 0; i < width; ++i) sum[j][i] = Vec{};
  }
  const std::uint32_t* B = p.B;
  for (std::ptrdiff_t k = 0; k < p.depth; k += kTileDepth) {
    const std::ptrdiff_t pairs_left = (p.depth - k + 1) / 2,
                         n_pairs = pairs_left < kPairs ? pairs_left : kPairs;
    for (int term = 0; term < p.n_terms; ++term) {
      for (int other = 0; other < p.n_terms - term; ++other) {
        const std::uint32_t* const a = A + term * kTile;
        const std::uint32_t* const b = B + other * width * kVectorTile;
        for (std::ptrdiff_t pair = 0; pair < n_pairs; ++pair) {
          IntVec words[width];
          for (int i = 0; i < width; ++i) words[i] = load_words(b + i * kVectorTile + pair * kLanes);
          for (int j = 0; j < kHeight; ++j) {
            const IntVec one = static_cast<std::int32_t>(a[j * kPairs + pair]) - IntVec{};
            for (int i = 0; i < width; ++i) sum[j][i] = add_products(sum[j][i], one, words[i]);
          }
        }
      }
    }
    A += p.n_terms * kTile;
    B += p.n_terms * width * kVectorTile;
  }
  for (int j = 0; j < n_rows; ++j) {
    for (int i = 0; i < width; ++i) {
      float* const c = C + j * p.lanes + i * kLanes;
      store(c, p.add ? load(c) + sum[j][i] : sum[j][i]);
    }
  }
}

template <int width>
void multiply_rows(const Bf16Product& p) {
  for (std::ptrdiff_t r = 0; r < p.n_rows; r += kHeight) {
    const std::ptrdiff_t left = p.n_rows - r;
    multiply_block<width>(p, p.A + r / kTileRows * p.A_stride + r % kTileRows * kPairs,
                          static_cast<int>(left < kHeight ? left : kHeight), p.C + r * p.lanes);
  }
}

void multiply(const Bf16Product& product) {
  switch (product.lanes / kLanes) {
    case 1:
      return multiply_rows<1>(product);
    case 2:
      return multiply_rows<2>(product);
    default:
      return multiply_rows<3>(product);
  }
}

void begin() {}
void end() {}

#else

// Tile registers: 0 to 3 are sums of 2 x 2 tiles, 4 and 5 hold tiles of A, 6 and 7 tiles of B.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileConfig kConfig;

void begin() { _tile_loadconfig(&kConfig); }
void end() { _tile_release(); }

// Sums of `height` x `width` tiles, 1 or 2 of each.
template <int height, int width>
struct TileBlock {
  static void clear() {
    _tile_zero(0);
    if constexpr (width == 2) _tile_zero(1);
    if constexpr (height == 2) _tile_zero(2);
    if constexpr (height == 2 && width == 2) _tile_zero(3);
  }
  static void load_A(const std::uint32_t* A, std::ptrdiff_t stride) {
    _tile_loadd(4, A, 4 * kPairs);
    if constexpr (height == 2) _tile_loadd(5, A + stride, 4 * kPairs);
  }
  static void load_B(const std::uint32_t* B) {
    _tile_loadd(6, B, 4 * kLanes);
    if constexpr (width == 2) _tile_loadd(7, B + kVectorTile, 4 * kLanes);
  }
  static void add_products() {
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (width == 2) _tile_dpbf16ps(1, 4, 7);
    if constexpr (height == 2) _tile_dpbf16ps(2, 5, 6);
    if constexpr (height == 2 && width == 2) _tile_dpbf16ps(3, 5, 7);
  }
  static void store_sums(float* C, std::ptrdiff_t stride) {
    _tile_stored(0, C, 4 * stride);
    if constexpr (width == 2) _tile_stored(1, C + kLanes, 4 * stride);
    if constexpr (height == 2) _tile_stored(2, C + kTileRows * stride, 4 * stride);
    if constexpr (height == 2 && width == 2) _tile_stored(3, C + kTileRows * stride + kLanes, 4 * stride);
  }
};

// The partial products, ordered so that each after the first needs only one new factor.
struct PartialProduct {
  int term, other;
};
constexpr PartialProduct kOrder[kMostTerms][kMostTerms * (kMostTerms + 1) / 2] = {
    {{0, 0}}, {{0, 1}, {0, 0}, {1, 0}}, {{0, 2}, {0, 1}, {1, 1}, {1, 0}, {2, 0}, {0, 0}}};

// n_rows rows of C, at most height * kTileRows, and `width` vectors of lanes from the vector `v` on.
template <int height, int width>
void multiply_block(const Bf16Product& p, const std::uint32_t* A, std::ptrdiff_t v, std::ptrdiff_t n_rows,
                    float* C) {
  using Block = TileBlock<height, width>;
  const std::ptrdiff_t term_stride = p.lanes / kLanes * kVectorTile;
  const std::uint32_t* B = p.B + v * kVectorTile;
  Block::clear();
  for (std::ptrdiff_t k = 0; k < p.depth; k += kTileDepth) {
    int term = -1, other = -1;
    for (int i = 0; i < p.n_terms * (p.n_terms + 1) / 2; ++i) {
      const PartialProduct next = kOrder[p.n_terms - 1][i];
      if (next.term != term) Block::load_A(A + next.term * kTile, p.A_stride);
      if (next.other != other) Block::load_B(B + next.other * term_stride);
      term = next.term;
      other = next.other;
      Block::add_products();
    }
    A += p.n_terms * kTile;
    B += p.n_terms * term_stride;
  }
  if (!p.add && n_rows == height * kTileRows) return Block::store_sums(C, p.lanes);
  alignas(64) float sums[height * kTileRows][width * kLanes];
  Block::store_sums(sums[0], width * kLanes);
  for (std::ptrdiff_t j = 0; j < n_rows; ++j) {
    for (int i = 0; i < width; ++i) {
      float* const c = C + j * p.lanes + i * kLanes;
      const Vec sum = load(sums[j] + i * kLanes);
      store(c, p.add ? load(c) + sum : sum);
    }
  }
}

template <int height>
void multiply_rows(const Bf16Product& p, std::ptrdiff_t r) {
  const std::uint32_t* const A = p.A + r / kTileRows * p.A_stride;
  const std::ptrdiff_t n_vectors = p.lanes / kLanes;
  const std::ptrdiff_t n_rows = p.n_rows - r < height * kTileRows ? p.n_rows - r : height * kTileRows;
  float* const C = p.C + r * p.lanes;
  std::ptrdiff_t v = 0;
  for (; v + 2 <= n_vectors; v += 2) multiply_block<height, 2>(p, A, v, n_rows, C + v * kLanes);
  if (v < n_vectors) multiply_block<height, 1>(p, A, v, n_rows, C + v * kLanes);
}

void multiply(const Bf16Product& p) {
  std::ptrdiff_t r = 0;
  for (; r + kTileRows < p.n_rows; r += 2 * kTileRows) multiply_rows<2>(p, r);
  if (r < p.n_rows) multiply_rows<1>(p, r);
}

#endif

}  // namespace

constinit const Bf16Kernels bf16 = {
    .pack_rows = &pack_rows,
    .pack_columns = &pack_columns,
    .pack_panel = &pack_panel,
    .begin = &begin,
    .multiply = &multiply,
    .end = &end,
};

}  // namespace l2i::kernels::L2I_ISA
