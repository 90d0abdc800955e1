// |X| of several vectors of complex numbers at a time.
//
// Precision: 1 ulp, at every magnitude: where re^2 + im^2 overflows, or loses bits near the smallest numbers,
// both parts are scaled by a power of two first. Magnitudes above 1.2e38 count as 1.2e38; infinity and NaN
// are kept. Cost: 4 operations and a root per vector, and one branch for all n; where small magnitudes may be
// rough, one operation less.
#pragma once

#include "simd.h"

namespace l2i::kernels::L2I_ISA {

// The largest number of which log1p_positive and log2_1p_positive take the logarithm.
constexpr float kLargestMagnitude = 1.2e38f;

// Squares between these bounds have accurate roots; as integers, by their bits.
constexpr float kLeastSquare = 0x1p-100f, kLargestSquare = 3.402823466e38f;
constexpr std::int32_t kLeastBits = 0x0d800000, kLargestBits = 0x7f7fffff;

// a[i] = root(re[i step]^2 + im[i step]^2), which is rough for |X| below 1e-15, and zero below 1e-19. Raises
// most above kLargestBits where a square is infinite.
template <int n, int step = 1>
static inline void roots(const Vec* re, const Vec* im, Vec* a, IntVec& most) {
  for (int i = 0; i < n; ++i) {
    a[i] = re[i * step] * re[i * step] + im[i * step] * im[i * step];
    const IntVec bits = reinterpret_cast<IntVec>(a[i]);
    most = bits > most ? bits : most;
  }
  for (int i = 0; i < n; ++i) a[i] = square_root(a[i]);
}

// Out of line, and by value, so that the usual path keeps its numbers in registers.
template <bool small>
[[gnu::noinline, gnu::cold]] static Vec scaled_magnitude(Vec re, Vec im, Vec square) {
  const IntVec low = small ? square < kLeastSquare : IntVec{}, high = ~(square <= kLargestSquare);
  const Vec one = broadcast(1.0f);
  const Vec scale = high ? broadcast(0x1p-65f) : low ? broadcast(0x1p75f) : one;
  const Vec inverse = high ? broadcast(0x1p65f) : low ? broadcast(0x1p-75f) : one;
  const Vec r = re * scale, i = im * scale;
  const Vec root = square_root(r * r + i * i) * inverse;
  const Vec nothing = re * 0.0f + im * 0.0f;  // unless infinite
  const Vec capped = nothing == Vec{} ? minimum(root, broadcast(kLargestMagnitude)) : root;
  return (low | high) ? capped : square_root(square);
}

// a[i] = |re[i step] + i im[i step]|; small magnitudes are those of `roots` unless `small` is set.
template <int n, int step = 1, bool small = true>
static inline void magnitudes_of(const Vec* re, const Vec* im, Vec* a) {
  // Shifted so that one comparison finds both small and large squares.
  constexpr std::uint32_t kShift = small ? 0x80000000u - kLeastBits : 0;
  constexpr std::int32_t kMost = static_cast<std::int32_t>(kLargestBits + kShift);
  const auto shifted = [](Vec x) {
    return reinterpret_cast<IntVec>(reinterpret_cast<UnsignedVec>(x) + kShift);
  };
  IntVec most = IntVec{} + kMost;
  for (int i = 0; i < n; ++i) {
    a[i] = re[i * step] * re[i * step] + im[i * step] * im[i * step];
    const IntVec x = shifted(a[i]);
    most = x > most ? x : most;
  }
  if (any(most != kMost)) [[unlikely]] {
    for (int i = 0; i < n; ++i) {
      const Vec r = re[i * step], m = im[i * step];
      const IntVec sounds = (r != Vec{}) | (m != Vec{});
      a[i] = any((shifted(a[i]) > kMost) & sounds) ? scaled_magnitude<small>(r, m, a[i]) : square_root(a[i]);
    }
    return;
  }
  for (int i = 0; i < n; ++i) a[i] = square_root(a[i]);
}

}  // namespace l2i::kernels::L2I_ISA
