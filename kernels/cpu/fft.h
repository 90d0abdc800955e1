// Complex FFT of kLanes independent signals, one in each lane; see stft.cpp for how.
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

// Both parts in registers: GCC would read from memory once for each use.
static inline Complex get(float* work, std::ptrdiff_t i) {
  return {rounded(load(re(work, i))), rounded(load(im(work, i)))};
}
static inline void put(float* work, std::ptrdiff_t i, Complex a) {
  store(re(work, i), a.r);
  store(im(work, i), a.i);
}

// a, b, c, d become their four-point transform.
static inline void radix4(Complex& a, Complex& b, Complex& c, Complex& d) {
  const Complex ac = a + c, a_c = a - c, bd = b + d, b_d = minus_i(b - d);
  a = ac + bd;
  b = a_c + b_d;
  c = ac - bd;
  d = a_c - b_d;
}

static inline void first_pass4(float* work) {
  Complex a = get(work, 0), b = get(work, 1), c = get(work, 2), d = get(work, 3);
  radix4(a, b, c, d);
  put(work, 0, a);
  put(work, 1, b);
  put(work, 2, c);
  put(work, 3, d);
}

static inline void first_pass8(float* work) {
  constexpr float kHalfRoot = 0.70710678118654752f;
  Complex a = get(work, 0), b = get(work, 2), c = get(work, 4), d = get(work, 6);
  Complex e = get(work, 1), f = get(work, 3), g = get(work, 5), h = get(work, 7);
  radix4(a, b, c, d);
  radix4(e, f, g, h);
  f = times(f, kHalfRoot, -kHalfRoot);
  g = minus_i(g);
  h = times(h, -kHalfRoot, -kHalfRoot);
  put(work, 0, a + e);
  put(work, 1, b + f);
  put(work, 2, c + g);
  put(work, 3, d + h);
  put(work, 4, a - e);
  put(work, 5, b - f);
  put(work, 6, c - g);
  put(work, 7, d - h);
}

// Complex FFT of `size` points that lie in the order of FftTables, their quarters `gap` points apart; `first`
// is the radix of the first pass.
static void transform(float* work, std::ptrdiff_t size, std::ptrdiff_t gap, int first,
                      const float* twiddles) {
  if (size == first) {
    if (first == 4) {
      first_pass4(work);
    } else {
      first_pass8(work);
    }
    return;
  }
  const std::ptrdiff_t s = size / 4, step = s + gap;
  for (int quarter = 0; quarter < 4; ++quarter)
    transform(work + 2 * kLanes * step * quarter, s, 0, first, twiddles);
  const float* w = twiddles + 2 * (s - first);  // behind the 6 s' factors of each smaller pass
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

// Complex FFT of n / 2 points that lie in the order of the tables, into their natural order.
static inline void transform(const FftTables& fft, float* work) {
  const std::ptrdiff_t points = fft.n / 2;
  transform(work, points, fft.gap, __builtin_ctzll(static_cast<unsigned long long>(points)) % 2 == 0 ? 4 : 8,
            fft.twiddles);
}

// Where point k lies after the transform.
static inline std::ptrdiff_t placed(const FftTables& fft, std::ptrdiff_t k) {
  return fft.gap == 0 ? k : k + (k >> __builtin_ctzll(static_cast<unsigned long long>(fft.n / 8))) * fft.gap;
}

// Windowed samples of n_frames frames, a lane each, as points in the order of the tables.
static inline void put_frames(const FftTables& fft, const float* const* frames, int n_frames,
                              const float* window, float* work) {
  const float* rows[kLanes];
  for (int t = 0; t < kLanes; ++t) rows[t] = frames[t < n_frames ? t : n_frames - 1];
  Vec v[kLanes];
  for (std::ptrdiff_t n = 0; n < fft.n; n += kLanes) {
    const Vec w = load(window + n);
    for (int t = 0; t < kLanes; ++t) v[t] = load(rows[t] + n) * w;
    transpose(v);
    for (int i = 0; i < kLanes / 2; ++i) put(work, fft.order[n / 2 + i], {v[2 * i], v[2 * i + 1]});
  }
}

// And back: adds the windowed samples of lane t, points in natural order with their parts exchanged, to
// sums[t]; lanes without sums are left out. From the end on: where frames overlap, each sample gets those
// that reach it in their order, wherever a tile begins.
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
