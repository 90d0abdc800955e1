// The real gain that a mask gives to a spectrum whose magnitudes are divided by a scale.
//
//   g = expm1(m log1p(a)) / a with a = |X| / s, and m where a = 0, if the mask acts on log(1 + a)
//   g = m                           if it acts on a
//   g = m^4 / (m^4 + (1 - m)^4)     if it acts as a Wiener filter
//
// Precision: log1pf and expm1f of the platform, 2 ulp at most. Magnitudes above 1.2e38 count as 1.2e38, as on
// the CPU.
#pragma once

#include "team.h"

namespace l2i::cuda {

constexpr float kTiny = 1.17549435e-38f;  // the smallest normal number
constexpr float kLargestMagnitude = 1.2e38f;

L2I_DEVICE float magnitude(Complex x, float per) {
  // By powers of two, so that no square overflows or vanishes.
  const float most = fmaxf(fabsf(x.r), fabsf(x.i));
  const float down = most > 0x1p60f ? 0x1p-65f : most < 0x1p-30f ? 0x1p75f : 1.0f;
  const float up = most > 0x1p60f ? 0x1p65f : most < 0x1p-30f ? 0x1p-75f : 1.0f;
  const float r = x.r * down, i = x.i * down;
  return fminf(fminf(sqrtf(r * r + i * i) * up, kLargestMagnitude) * per, kLargestMagnitude);
}

// Numbers of the domains of a mask, as l2i_fast.settings lists them.
constexpr int kLog = 0, kWiener = 2;

L2I_DEVICE Complex masked(Complex x, float mask, int domain, float per) {
  float g = mask;
  if (domain == kWiener) {
    const float r = (1.0f - mask) / mask, square = r * r;
    g = 1.0f / (1.0f + square * square);
  } else if (domain == kLog) {
    const float a = magnitude(x, per);
    if (a > 0.0f) g = expm1f(mask * log1pf(a)) / a;
  }
  return {x.r * g, x.i * g};
}

}  // namespace l2i::cuda
