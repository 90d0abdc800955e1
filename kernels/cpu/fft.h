// Complex FFT of kLanes independent signals, one in each lane; stft.cpp describes the algorithm.
#pragma once

#include "simd.h"
#include "table.h"

namespace l2i::kernels::L2I_ISA {

// Point i of the work space: two vectors, real parts and imaginary parts of all frames.
static inline float* re(float* work, std::ptrdiff_t i) { return work + 2 * kLanes * i; }
static inline float* im(float* work, std::ptrdiff_t i) { return work + 2 * kLanes * i + kLanes; }

struct Complex {
  Vec r, i;
};

static inline Complex operator+(Complex a, Complex b) { return {a.r + b.r, a.i + b.i}; }
static inline Complex operator-(Complex a, Complex b) { return {a.r - b.r, a.i - b.i}; }
static inline Complex minus_i(Complex a) { return {a.i, -a.r}; }
static inline Complex times(Complex a, float wr, float wi) {
  return {a.r * wr - a.i * wi, a.r * wi + a.i * wr};
}

// Loads both parts into registers: GCC would read memory once for each use.
static inline Complex get(float* work, std::ptrdiff_t i) {
  return {rounded(load(re(work, i))), rounded(load(im(work, i)))};
}
static inline void put(float* work, std::ptrdiff_t i, Complex a) {
  store(re(work, i), a.r);
  store(im(work, i), a.i);
}

// Replaces a, b, c, d by their four-point transform.
static inline void radix4(Complex& a, Complex& b, Complex& c, Complex& d) {
  const Complex ac = a + c, a_c = a - c, bd = b + d, b_d = minus_i(b - d);
  a = ac + bd;
  b = a_c + b_d;
  c = ac - bd;
  d = a_c - b_d;
}

// Transforms four or eight points, `stride` apart, into neighbouring positions.
static inline void first_pass4(float* from, std::ptrdiff_t stride, float* to) {
  Complex a = get(from, 0), b = get(from, stride), c = get(from, 2 * stride), d = get(from, 3 * stride);
  radix4(a, b, c, d);
  put(to, 0, a);
  put(to, 1, b);
  put(to, 2, c);
  put(to, 3, d);
}

static inline void first_pass8(float* from, std::ptrdiff_t stride, float* to) {
  constexpr float kHalfRoot = 0.70710678118654752f;
  Complex a = get(from, 0), b = get(from, 2 * stride), c = get(from, 4 * stride), d = get(from, 6 * stride);
  Complex e = get(from, stride), f = get(from, 3 * stride), g = get(from, 5 * stride),
          h = get(from, 7 * stride);
  radix4(a, b, c, d);
  radix4(e, f, g, h);
  f = times(f, kHalfRoot, -kHalfRoot);
  g = minus_i(g);
  h = times(h, -kHalfRoot, -kHalfRoot);
  put(to, 0, a + e);
  put(to, 1, b + f);
  put(to, 2, c + g);
  put(to, 3, d + h);
  put(to, 4, a - e);
  put(to, 5, b - f);
  put(to, 6, c - g);
  put(to, 7, d - h);
}

static inline void first_pass(int radix, float* from, std::ptrdiff_t stride, float* to) {
  if (radix == 4) {
    first_pass4(from, stride, to);
  } else {
    first_pass8(from, stride, to);
  }
}

static inline int first_radix(const FftTables& fft) {
  return __builtin_ctzll(static_cast<unsigned long long>(fft.n)) % 2 == 1 ? 4 : 8;
}

// Complex FFT of `size` points in the order of FftTables, their quarters `gap` points apart; `first` is the
// radix of the first pass, which may be done already.
template <bool first_done>
static void transform(float* work, std::ptrdiff_t size, std::ptrdiff_t gap, int first,
                      const float* twiddles) {
  if (size == first) {
    if (!first_done) first_pass(first, work, 1, work);
    return;
  }
  const std::ptrdiff_t s = size / 4, step = s + gap;
  for (int quarter = 0; quarter < 4; ++quarter)
    transform<first_done>(work + 2 * kLanes * step * quarter, s, 0, first, twiddles);
  const float* w = twiddles + 2 * (s - first);  // after the 6 s' factors of each smaller pass
  for (std::ptrdiff_t j = 0; j < s; ++j, w += 6) {
    Complex a = get(work, j);
    Complex b = times(get(work, j + step), w[0], w[1]);
    Complex c = times(get(work, j + 2 * step), w[2], w[3]);
    Complex d = times(get(work, j + 3 * step), w[4], w[5]);
    radix4(a, b, c, d);
    put(work, j, a);
    put(work, j + step, b);
    put(work, j + 2 * step, c);
    put(work, j + 3 * step, d);
  }
}

// Complex FFT of n / 2 points from the order of the tables into their natural order.
template <bool first_done = false>
static inline void transform(const FftTables& fft, float* work) {
  transform<first_done>(work, fft.n / 2, fft.gap, first_radix(fft), fft.twiddles);
}

// The position of point k after the transform.
static inline std::ptrdiff_t placed(const FftTables& fft, std::ptrdiff_t k) {
  return fft.gap == 0 ? k : k + (k >> __builtin_ctzll(static_cast<unsigned long long>(fft.n / 8))) * fft.gap;
}

// The complex FFT of the points of n_frames frames of windowed samples, one frame in each lane. The first
// pass takes its points while they are in the first-level cache, and writes neighbours together.
static inline void transform_frames(const FftTables& fft, const float* const* frames, int n_frames,
                                    const float* window, float* work) {
  const float* rows[kLanes];
  for (int t = 0; t < kLanes; ++t) rows[t] = frames[t < n_frames ? t : n_frames - 1];
  const auto points_at = [&](std::ptrdiff_t n, Vec* v) {
    const Vec w = load(window + n);
    for (int t = 0; t < kLanes; ++t) v[t] = load(rows[t] + n) * w;
    transpose(v);
  };
  const int first = first_radix(fft);
  const std::ptrdiff_t step = fft.n / first;
  if (step < kLanes) {
    for (std::ptrdiff_t n = 0; n < fft.n; n += kLanes) {
      Vec v[kLanes];
      points_at(n, v);
      for (int i = 0; i < kLanes / 2; ++i) put(work, fft.order[n / 2 + i], {v[2 * i], v[2 * i + 1]});
    }
    transform(fft, work);
    return;
  }
  Vec v[8][kLanes];
  for (std::ptrdiff_t n = 0; n < step; n += kLanes) {
    for (int i = 0; i < first; ++i) points_at(n + i * step, v[i]);
    for (int i = 0; i < kLanes / 2; ++i)
      first_pass(first, reinterpret_cast<float*>(&v[0][2 * i]), kLanes / 2,
                 work + 2 * kLanes * static_cast<std::ptrdiff_t>(fft.order[n / 2 + i]));
  }
  transform<true>(fft, work);
}

// The reverse: adds the windowed samples of lane t, from points in natural order with their parts exchanged,
// to sums[t]; lanes with null sums are skipped. It runs from the end to the beginning: where frames overlap,
// each sample receives them in their order, wherever a tile begins.
static inline void add_frames(const FftTables& fft, float* work, int n_frames, const float* window,
                              float* const* sums) {
  Vec v[kLanes];
  for (std::ptrdiff_t n = fft.n - kLanes; n >= 0; n -= kLanes) {
    const Vec w = load(window + n);
    for (int i = 0; i < kLanes / 2; ++i) {
      const Complex z = get(work, placed(fft, n / 2 + i));
      v[2 * i] = z.i;
      v[2 * i + 1] = z.r;
    }
    transpose(v);
    for (int t = 0; t < n_frames; ++t) {
      if (sums[t] == nullptr) continue;
      float* const sum = sums[t] + n;
      store(sum, load(sum) + v[t] * w);
    }
  }
}

}  // namespace l2i::kernels::L2I_ISA
