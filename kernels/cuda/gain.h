// The real gain that a mask gives to a spectrum whose magnitudes are divided by a scale.
//
//   g = expm1(m log1p(a)) / a with a = |X| / s, and m where a = 0, if the mask acts on log(1 + a)
//   g = m                                                          otherwise
//
// Precision: log1pf and expm1f of the platform, 2 ulp at most. |X| is the root of re^2 + im^2, so magnitudes
// below 1e-22 count as zero, and those above 1.8e19 as 1.8e19, as on the CPU.
#pragma once

#include "team.h"

namespace l2i::cuda {

constexpr float kTiny = 1.17549435e-38f;            // the smallest normal number
constexpr float kLargestMagnitude = 1.8446743e19f;  // of a finite square

L2I_DEVICE float magnitude(Complex x, float per) {
  return fminf(fminf(sqrtf(x.r * x.r + x.i * x.i), kLargestMagnitude) * per, kLargestMagnitude);
}

L2I_DEVICE Complex masked(Complex x, float mask, bool log, float per) {
  float g = mask;
  if (log) {
    const float a = magnitude(x, per);
    if (a > 0.0f) g = expm1f(mask * log1pf(a)) / a;
  }
  return {x.r * g, x.i * g};
}

}  // namespace l2i::cuda
