// One vector of floats and its operations, for the instruction set that this file is compiled for.
//
// GCC and Clang vector extensions carry the arithmetic; only minimum, square root and any use intrinsics. All
// functions are static and in the namespace of the instruction set, so that no copy of them is linked
// elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if !defined(L2I_ISA)
#error "compile with -DL2I_ISA=<name> -DL2I_LANES=<floats in a register>"
#endif

namespace l2i::kernels::L2I_ISA {

constexpr int kLanes = L2I_LANES;

typedef float Vec __attribute__((vector_size(4 * L2I_LANES)));
typedef std::int32_t IntVec __attribute__((vector_size(4 * L2I_LANES)));
typedef std::uint32_t UnsignedVec __attribute__((vector_size(4 * L2I_LANES)));
typedef float UnalignedVec __attribute__((vector_size(4 * L2I_LANES), aligned(4), may_alias));

static inline Vec load(const float* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
static inline void store(float* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }
static inline Vec broadcast(float x) { return x - Vec{}; }

// The smaller value; b where one of them is NaN.
static inline Vec minimum(Vec a, Vec b) {
#if L2I_LANES == 16
  return _mm512_maskz_min_ps(0xffff, a, b);
#elif L2I_LANES == 8
  return _mm256_min_ps(a, b);
#elif defined(__SSE2__)
  return _mm_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}

static inline Vec square_root(Vec x) {
#if L2I_LANES == 16
  return _mm512_maskz_sqrt_ps(0xffff, x);
#elif L2I_LANES == 8
  return _mm256_sqrt_ps(x);
#elif defined(__SSE2__)
  return _mm_sqrt_ps(x);
#else
  for (int i = 0; i < kLanes; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

// Whether a comparison holds in any lane.
static inline bool any(IntVec x) {
#if L2I_LANES == 16
  return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(x)) != 0;
#elif L2I_LANES == 8
  return _mm256_movemask_ps(reinterpret_cast<__m256>(x)) != 0;
#elif defined(__SSE2__)
  return _mm_movemask_ps(reinterpret_cast<__m128>(x)) != 0;
#else
  std::int32_t all = 0;
  for (int i = 0; i < kLanes; ++i) all |= x[i];
  return all != 0;
#endif
}

// Returns x. A product passed through is rounded, not fused with a later addition.
static inline Vec rounded(Vec x) {
#if defined(__x86_64__)
  __asm__("" : "+v"(x));
#elif defined(__aarch64__)
  __asm__("" : "+w"(x));
#endif
  return x;
}

// The lanes that the shuffles below select; those of the second operand count from kLanes on.
#if L2I_LANES == 16
#define L2I_UNPACK_LOW 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define L2I_UNPACK_HIGH 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#define L2I_PAIRS_LOW 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define L2I_PAIRS_HIGH 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define L2I_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define L2I_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define L2I_LOW_TWICE 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7
#define L2I_HIGH_TWICE 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15
#define L2I_INTERLEAVE_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define L2I_INTERLEAVE_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define L2I_REVERSED 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0
#define L2I_BLOCKS_EVEN 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27
#define L2I_BLOCKS_ODD 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31
#elif L2I_LANES == 8
#define L2I_UNPACK_LOW 0, 8, 1, 9, 4, 12, 5, 13
#define L2I_UNPACK_HIGH 2, 10, 3, 11, 6, 14, 7, 15
#define L2I_PAIRS_LOW 0, 1, 8, 9, 4, 5, 12, 13
#define L2I_PAIRS_HIGH 2, 3, 10, 11, 6, 7, 14, 15
#define L2I_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define L2I_ODD 1, 3, 5, 7, 9, 11, 13, 15
#define L2I_LOW_TWICE 0, 0, 1, 1, 2, 2, 3, 3
#define L2I_HIGH_TWICE 4, 4, 5, 5, 6, 6, 7, 7
#define L2I_INTERLEAVE_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define L2I_INTERLEAVE_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#define L2I_REVERSED 7, 6, 5, 4, 3, 2, 1, 0
#define L2I_HALVES_LOW 0, 1, 2, 3, 8, 9, 10, 11
#define L2I_HALVES_HIGH 4, 5, 6, 7, 12, 13, 14, 15
#else
#define L2I_UNPACK_LOW 0, 4, 1, 5
#define L2I_UNPACK_HIGH 2, 6, 3, 7
#define L2I_PAIRS_LOW 0, 1, 4, 5
#define L2I_PAIRS_HIGH 2, 3, 6, 7
#define L2I_EVEN 0, 2, 4, 6
#define L2I_ODD 1, 3, 5, 7
#define L2I_LOW_TWICE 0, 0, 1, 1
#define L2I_HIGH_TWICE 2, 2, 3, 3
#define L2I_INTERLEAVE_LOW 0, 4, 1, 5
#define L2I_INTERLEAVE_HIGH 2, 6, 3, 7
#define L2I_REVERSED 3, 2, 1, 0
#endif

// Half of a transposition, at half of its cost: lane row_of(half, i) of all r becomes row[i].
constexpr int row_of(int half, int i) { return i / 2 * 4 + 2 * half + i % 2; }

template <int half>
static inline void transpose_half(const Vec* r, Vec* row) {
  Vec s[kLanes / 2];
  for (int i = 0; i < kLanes; i += 4) {  // 4 x 4 values in each block of four lanes
    Vec a, b;
    if constexpr (half == 0) {
      a = __builtin_shufflevector(r[i], r[i + 1], L2I_UNPACK_LOW);
      b = __builtin_shufflevector(r[i + 2], r[i + 3], L2I_UNPACK_LOW);
    } else {
      a = __builtin_shufflevector(r[i], r[i + 1], L2I_UNPACK_HIGH);
      b = __builtin_shufflevector(r[i + 2], r[i + 3], L2I_UNPACK_HIGH);
    }
    s[i / 2] = __builtin_shufflevector(a, b, L2I_PAIRS_LOW);
    s[i / 2 + 1] = __builtin_shufflevector(a, b, L2I_PAIRS_HIGH);
  }
  for (int i = 0; i < 2; ++i) {  // then the blocks themselves
#if L2I_LANES == 16
    const Vec a = __builtin_shufflevector(s[i], s[i + 2], L2I_BLOCKS_EVEN);
    const Vec b = __builtin_shufflevector(s[i], s[i + 2], L2I_BLOCKS_ODD);
    const Vec c = __builtin_shufflevector(s[i + 4], s[i + 6], L2I_BLOCKS_EVEN);
    const Vec d = __builtin_shufflevector(s[i + 4], s[i + 6], L2I_BLOCKS_ODD);
    row[i] = __builtin_shufflevector(a, c, L2I_BLOCKS_EVEN);
    row[i + 2] = __builtin_shufflevector(b, d, L2I_BLOCKS_EVEN);
    row[i + 4] = __builtin_shufflevector(a, c, L2I_BLOCKS_ODD);
    row[i + 6] = __builtin_shufflevector(b, d, L2I_BLOCKS_ODD);
#elif L2I_LANES == 8
    row[i] = __builtin_shufflevector(s[i], s[i + 2], L2I_HALVES_LOW);
    row[i + 2] = __builtin_shufflevector(s[i], s[i + 2], L2I_HALVES_HIGH);
#else
    row[i] = s[i];
#endif
  }
}

// Transposes the square of kLanes vectors: lane j of r[i] becomes lane i of r[j].
static inline void transpose(Vec* r) {
  Vec first[kLanes / 2], second[kLanes / 2];
  transpose_half<0>(r, first);
  transpose_half<1>(r, second);
  for (int i = 0; i < kLanes / 2; ++i) {
    r[row_of(0, i)] = first[i];
    r[row_of(1, i)] = second[i];
  }
}

// Complex numbers are stored as (re, im) pairs: a and b hold kLanes of them.
static inline Vec real_parts(Vec a, Vec b) { return __builtin_shufflevector(a, b, L2I_EVEN); }
static inline Vec imaginary_parts(Vec a, Vec b) { return __builtin_shufflevector(a, b, L2I_ODD); }

// The reverse: the first or last kLanes / 2 pairs of real parts a and imaginary parts b.
static inline Vec interleave_low(Vec a, Vec b) { return __builtin_shufflevector(a, b, L2I_INTERLEAVE_LOW); }
static inline Vec interleave_high(Vec a, Vec b) { return __builtin_shufflevector(a, b, L2I_INTERLEAVE_HIGH); }

static inline Vec reversed(Vec x) { return __builtin_shufflevector(x, x, L2I_REVERSED); }

// The first or last kLanes / 2 values, each twice: one real factor for both parts of a complex number.
static inline Vec low_twice(Vec x) { return __builtin_shufflevector(x, x, L2I_LOW_TWICE); }
static inline Vec high_twice(Vec x) { return __builtin_shufflevector(x, x, L2I_HIGH_TWICE); }

}  // namespace l2i::kernels::L2I_ISA
