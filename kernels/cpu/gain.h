// The real gain that a mask gives to a spectrum, for several vectors at a time.
//
//   g = expm1(m log1p(a)) / a with a = |X|, and m where a = 0, if the mask acts on log(1 + |X|)
//   g = m                           if it acts on |X|
//   g = m^4 / (m^4 + (1 - m)^4)     if it is to act as a Wiener filter
//
// The last is taken of the mask itself, by wiener; gains is for the first. The power is taken to base 2, 2^(m
// log2(1 + a)), so that separating the whole exponent needs no constants.
//
// Precision: log2(1 + a) and 2^x - 1 as in vmath.h. Cost: about 40 operations and two divisions per vector,
// in one long dependency chain; taking each stage for all n vectors lets the chains overlap.
#pragma once

#include "simd.h"
#include "vmath.h"

namespace l2i::kernels::L2I_ISA {

// From the mask; as 1 / (1 + r^4), whose intermediate numbers are not subnormal.
static inline Vec wiener(Vec m) {
  const Vec r = (1.0f - m) / m, square = r * r;
  return 1.0f / (1.0f + square * square);
}

// From masks and magnitudes. g is m for all a below 1e-8, so a may be rough there.
template <int n>
static inline void gains(const Vec* m, const Vec* a, Vec* g) {
  Vec x[n];
  for (int i = 0; i < n; ++i) x[i] = rounded(m[i] * log2_1p_positive(a[i]));
  for (int i = 0; i < n; ++i) x[i] = exp2m1_positive(x[i]);
  for (int i = 0; i < n; ++i) g[i] = a[i] > Vec{} ? x[i] / a[i] : m[i];
}

}  // namespace l2i::kernels::L2I_ISA
