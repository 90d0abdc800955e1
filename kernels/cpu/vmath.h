// log(x), log(1 + x), log2(1 + x), exp(x), exp(x) - 1 and 2^x - 1 of a vector, for x >= 0 (exp: any x).
//
// All are within 2 ulp of the exact value over their range (log2(1 + x) and 2^x - 1 within 2.2 ulp without a
// fused multiply-add); denormal arguments may yield zero if the processor flushes them.
// With s = f / (2 + f), log(1 + f) = 2 atanh(s) = f - s (f - s^2 P(s^2)): a few terms of P suffice, and their
// error and that of the quotient count for a fifth at most. The polynomials are minimax fits of
//   P(s^2) = (2 atanh(s) - 2 s) / s^3  for  sqrt(1/2) - 1 <= f <= sqrt(2) - 1,  error 1e-9 of log(1 + f),
//   (expm1(r) - r) / r^2               for  |r| <= log(2) / 2,                  error 3e-9,
//   (2^r - 1 - r log(2)) / r^2         for  |r| <= 1/2,                         error 2e-8 of 2^r - 1.
#pragma once

#include "simd.h"

namespace l2i::kernels::L2I_ISA {

constexpr std::int32_t kHalfRootBits = 0x3f3504f3;  // sqrt(1/2)
constexpr float kLog2 = 0.693147181f;

// A number as (1 + f) 2^n with sqrt(1/2) - 1 <= f <= sqrt(2) - 1.
struct Parts {
  Vec f, n;
};

// x normal and positive.
static inline Parts parts(Vec x) {
  const IntVec shifted = reinterpret_cast<IntVec>(x) - kHalfRootBits;
  return {reinterpret_cast<Vec>((shifted & 0x007fffff) + kHalfRootBits) - 1.0f,
          __builtin_convertvector(shifted >> 23, Vec)};
}

// 1 + x, for 0 <= x <= 1.2e38.
static inline Parts parts_of_successor(Vec x) {
  // 1 + x rounds to 2^n m with m in [sqrt(1/2), sqrt(2)); f = (1 + x) 2^-n - 1 is rounded once.
  const IntVec n = (reinterpret_cast<IntVec>(x + 1.0f) - kHalfRootBits) >> 23;
  const Vec down = reinterpret_cast<Vec>((127 - n) << 23);  // 2^-n
  return {x * down + (down - 1.0f), __builtin_convertvector(n, Vec)};
}

// log(1 + f)
static inline Vec log_of_fraction(Vec f) {
  const Vec s = f / (f + 2.0f), z = s * s;
  Vec p = z * 0x1.31e34ep-2f + 0x1.995eb6p-2f;
  p = p * z + 0x1.55557ap-1f;
  return f - s * (f - z * p);
}

static inline Vec logarithm(Parts x) { return log_of_fraction(x.f) + x.n * kLog2; }

// x normal and positive.
static inline Vec log_positive(Vec x) { return logarithm(parts(x)); }

// 0 <= x <= 1.2e38.
static inline Vec log1p_positive(Vec x) { return logarithm(parts_of_successor(x)); }

// The logarithm to base 2 of 1 + x.
static inline Vec log2_1p_positive(Vec x) {
  const Parts one_more = parts_of_successor(x);
  return log_of_fraction(one_more.f) * (1 / kLog2) + one_more.n;
}

constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, held by the lowest bits

// 2^n from n + kRound, whose lowest bits hold n.
static inline Vec power_of_two(Vec shifted) {
  return reinterpret_cast<Vec>((reinterpret_cast<IntVec>(shifted) + 127) << 23);
}

// 2^x - 1 for 0 <= x <= 127.
static inline Vec exp2m1_positive(Vec x) {
  const Vec shifted = x + kRound;
  const Vec r = x - (shifted - kRound);
  Vec q = r * 0x1.445fdcp-13f + 0x1.5eed1ap-10f;
  q = q * r + 0x1.3b29f8p-7f;
  q = q * r + 0x1.c6afbp-5f;
  q = q * r + 0x1.ebfbep-3f;
  const Vec scale = power_of_two(shifted), scaled = scale * r;
  return scaled * r * q + (scaled * kLog2 + (scale - 1.0f));
}

// exp(x) = (1 + p) scale, for |x| <= 88: returns p, which is small, and scale, a power of two.
static inline Vec exp_parts(Vec x, Vec& scale) {
  const Vec shifted = x * 1.44269504f + kRound;
  const Vec n = shifted - kRound;
  const Vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec q = r * 0x1.a12a42p-13f + 0x1.6d492p-10f;
  q = q * r + 0x1.1110ep-7f;
  q = q * r + 0x1.5554e4p-5f;
  q = q * r + 0x1.555556p-3f;
  q = q * r + 0.5f;
  scale = power_of_two(shifted);
  return r * r * q + r;
}

// exp(x) for |x| <= 87; beyond, its value at the bound.
static inline Vec exp_bounded(Vec x) {
  constexpr float kBound = 87.0f;
  x = x < kBound ? x : broadcast(kBound);
  x = x > -kBound ? x : broadcast(-kBound);
  Vec scale;
  const Vec p = exp_parts(x, scale);
  return (p + 1.0f) * scale;
}

// 0 <= x <= 88.
static inline Vec expm1_positive(Vec x) {
  Vec scale;
  const Vec p = exp_parts(x, scale);
  return p * scale + (scale - 1.0f);
}

}  // namespace l2i::kernels::L2I_ISA
