// log(x), log(1 + x), exp(x) and exp(x) - 1 of a vector, for x >= 0 (exp: any x).
//
// All are within 2 ulp of the exact value over their range; denormal arguments may come out as zero where
// the processor flushes them. The polynomials are minimax (Chebyshev) fits of
//   (log1p(f) - f + f^2 / 2) / f^3  for  sqrt(1/2) - 1 <= f <= sqrt(2) - 1,  relative error 3e-8,
//   (expm1(r) - r) / r^2            for  |r| <= log(2) / 2,                 relative error 3e-9.
#pragma once

#include "simd.h"

namespace l2i::kernels::L2I_ISA {

// |X|, infinite where its square is. Magnitudes below 1e-19 come out as zero.
static inline Vec magnitude(Vec re, Vec im) { return square_root(re * re + im * im); }

constexpr float kLargestMagnitude = 1.8446743e19f;  // of a finite square

// log((1 + f) 2^n) for sqrt(1/2) - 1 <= f <= sqrt(2) - 1.
static inline Vec log_of_parts(Vec f, IntVec exponent) {
  Vec p = f * 0x1.1dedf8p-4f - 0x1.d6d10ep-4f;
  p = p * f + 0x1.dec8ccp-4f;
  p = p * f - 0x1.fce37ap-4f;
  p = p * f + 0x1.23cf72p-3f;
  p = p * f - 0x1.555b8ap-3f;
  p = p * f + 0x1.999d6ep-3f;
  p = p * f - 0x1.fffffcp-3f;
  p = p * f + 0x1.555554p-2f;
  const Vec n = __builtin_convertvector(exponent, Vec);
  const Vec square = f * f;
  Vec tail = square * f * p + n * -2.12194440e-4f;  // log(2) in two parts, the first exact times any n
  tail = tail - 0.5f * square;
  return (f + tail) + n * 0.693359375f;
}

constexpr std::int32_t kHalfRootBits = 0x3f3504f3;  // sqrt(1/2)

// x normal and positive.
static inline Vec log_positive(Vec x) {
  const IntVec shifted = reinterpret_cast<IntVec>(x) - kHalfRootBits;
  return log_of_parts(reinterpret_cast<Vec>((shifted & 0x007fffff) + kHalfRootBits) - 1.0f, shifted >> 23);
}

// 0 <= x <= 1.8e19.
static inline Vec log1p_positive(Vec x) {
  // 1 + x rounds to 2^e m with m in [sqrt(1/2), sqrt(2)); f = (1 + x) 2^-e - 1 is rounded once.
  const IntVec e = (reinterpret_cast<IntVec>(x + 1.0f) - kHalfRootBits) >> 23;
  const Vec down = reinterpret_cast<Vec>((127 - e) << 23);  // 2^-e
  return log_of_parts(x * down + (down - 1.0f), e);
}

// exp(x) = (1 + p) scale, for |x| <= 88: returns p, which is small, and scale, a power of two.
static inline Vec exp_parts(Vec x, Vec& scale) {
  constexpr float kRound = 12582912.0f;          // 1.5 * 2^23: adding it rounds to an integer
  const Vec shifted = x * 1.44269504f + kRound;  // and leaves it in the lowest bits
  const Vec n = shifted - kRound;
  const Vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec q = r * 0x1.a12a42p-13f + 0x1.6d492p-10f;
  q = q * r + 0x1.1110ep-7f;
  q = q * r + 0x1.5554e4p-5f;
  q = q * r + 0x1.555556p-3f;
  q = q * r + 0.5f;
  scale = reinterpret_cast<Vec>((reinterpret_cast<IntVec>(shifted) + 127) << 23);
  return r * r * q + r;
}

// exp(x) for |x| <= 87; beyond, what it is at the bound.
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
