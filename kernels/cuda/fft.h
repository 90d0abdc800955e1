// Real FFTs of several frames at once, in the shared memory of a block.
//
//   X[k] = sum_n x[n] exp(-2 pi i k n / N),  k = 0 .. N / 2,  and its inverse, for N = 32 .. 8192
//
// The N / 2 complex points z[m] = x[2m] + i x[2m + 1] are transformed in place by passes of radix 8 and 4:
// each thread loads its butterflies into registers and, after a barrier, stores them where the next pass
// finds them in order (Stockham, in Cochran et al., 1967). A last pass makes the real spectrum. The inverse
// is the same transform with real and imaginary parts exchanged.
//
// A gap follows every sixteenth point, so that the strides of 8 and 4 with which the first pass writes use
// all banks; each row begins two points further round the banks than the row before it.
//
// Twiddles are read from device memory in the order of the threads: exp(-2 pi i k / N) for k = 0 .. N / 4,
// then, for each pass of radix R over transforms of n > 1 points, exp(-2 pi i j r / (n R)), a row of
// j = 0 .. n - 1 for each of r = 1 .. R - 1.
//
// dtypes: float32; twiddles are rounded from float64 by the caller.
// Precision: 1e-6 relative L2. Cost: 2.5 N log2(N) operations, and for 1,024 points three passes, each
// reading and writing 4 KB of shared memory per frame.
#pragma once

#include "team.h"

namespace l2i::cuda {

struct Fft {
  int log_points;  // of N / 2
  const Complex* twiddles;

  L2I_DEVICE int points() const { return 1 << log_points; }
};

// The position of point i in a row.
L2I_DEVICE int padded(int i) { return i + (i >> 4); }

// Complex numbers from one row to the next, each with room for N / 2 + 1; an even number.
L2I_BOTH int row_stride(int points) { return (points + points / 16 + 1 + 13) / 16 * 16 + 2; }

// Complex numbers that a thread holds in a pass; no row has more than the threads of a block hold.
constexpr int kHeld = 16;

L2I_DEVICE Complex operator+(Complex a, Complex b) { return {a.r + b.r, a.i + b.i}; }
L2I_DEVICE Complex operator-(Complex a, Complex b) { return {a.r - b.r, a.i - b.i}; }
L2I_DEVICE Complex operator*(Complex a, Complex b) { return {a.r * b.r - a.i * b.i, a.r * b.i + a.i * b.r}; }
L2I_DEVICE Complex conjugate(Complex a) { return {a.r, -a.i}; }
L2I_DEVICE Complex minus_i(Complex a) { return {a.i, -a.r}; }

// The transform of four points, in order.
L2I_DEVICE void butterfly(Complex& a, Complex& b, Complex& c, Complex& d) {
  const Complex even = a + c, other = a - c, odd = b + d, rotated = minus_i(b - d);
  a = even + odd;
  b = other + rotated;
  c = even - odd;
  d = other - rotated;
}

L2I_DEVICE void butterfly(Complex (&x)[4]) { butterfly(x[0], x[1], x[2], x[3]); }

L2I_DEVICE void butterfly(Complex (&x)[8]) {
  constexpr float kHalfRoot = 0.70710678f;
  butterfly(x[0], x[2], x[4], x[6]);
  butterfly(x[1], x[3], x[5], x[7]);
  x[3] = {kHalfRoot * (x[3].r + x[3].i), kHalfRoot * (x[3].i - x[3].r)};
  x[5] = minus_i(x[5]);
  x[7] = {kHalfRoot * (x[7].i - x[7].r), -kHalfRoot * (x[7].r + x[7].i)};
  const Complex y[8] = {x[0] + x[1], x[2] + x[3], x[4] + x[5], x[6] + x[7],
                        x[0] - x[1], x[2] - x[3], x[4] - x[5], x[6] - x[7]};
  L2I_UNROLL for (int i = 0; i < 8; ++i) x[i] = y[i];
}

// One pass, over transforms of 2^log_done points, for as many rows at a time as the threads hold.
template <int log_radix>
L2I_DEVICE void pass(const Team& team, const Fft& fft, int log_done, const Complex* twiddles, Complex* x,
                     int rows) {
  constexpr int kRadix = 1 << log_radix, kMost = kHeld / kRadix;  // butterflies of a thread
  struct Butterflies {
    Complex x[kMost][kRadix];
  };
  const int log_each = fft.log_points - log_radix, each = 1 << log_each, done = (1 << log_done) - 1;
  const int stride = row_stride(fft.points()), most = kMost * team.size() >> log_each;
  auto mine = team.locals<Butterflies>();
  for (int first = 0; first < rows; first += most) {
    Complex* const block = x + first * stride;
    const int n = (rows - first < most ? rows - first : most) << log_each;
    team.each([&](int thread) {
      L2I_UNROLL for (int c = 0; c < kMost; ++c) {
        const int i = thread + c * team.size(), j = i & (each - 1);
        if (i >= n) break;
        Complex(&y)[kRadix] = mine[thread].x[c];
        const Complex* const from = block + (i >> log_each) * stride;
        L2I_UNROLL for (int r = 0; r < kRadix; ++r) y[r] = from[padded(j + r * each)];
        if (log_done > 0) {
          const Complex* const twiddle = twiddles + (j & done);
          L2I_UNROLL for (int r = 1; r < kRadix; ++r) y[r] = y[r] * load(twiddle + ((r - 1) << log_done));
        }
        butterfly(y);
      }
    });
    team.each([&](int thread) {
      L2I_UNROLL for (int c = 0; c < kMost; ++c) {
        const int i = thread + c * team.size(), j = i & (each - 1);
        if (i >= n) break;
        Complex* const to = block + (i >> log_each) * stride;
        const int at = ((j & ~done) << log_radix) + (j & done);
        L2I_UNROLL for (int r = 0; r < kRadix; ++r) to[padded(at + (r << log_done))] = mine[thread].x[c][r];
      }
    });
  }
}

// The complex transform of all rows.
L2I_DEVICE void transform(const Team& team, const Fft& fft, Complex* x, int rows) {
  const Complex* twiddles = fft.twiddles + fft.points() / 2 + 1;
  for (int done = 0; done < fft.log_points;) {
    const int left = fft.log_points - done, log_radix = left == 2 || left == 4 ? 2 : 3;
    if (log_radix == 2) {
      pass<2>(team, fft, done, twiddles, x, rows);
    } else {
      pass<3>(team, fft, done, twiddles, x, rows);
    }
    if (done > 0) twiddles += ((1 << log_radix) - 1) << done;
    done += log_radix;
  }
}

// From pairs of samples, times 1/2, to spectra.
L2I_DEVICE void forward(const Team& team, const Fft& fft, Complex* x, int rows) {
  const int points = fft.points(), half = points / 2, stride = row_stride(points);
  transform(team, fft, x, rows);
  team.over(rows * (half + 1), [&](int i) {
    const int row = i / (half + 1), k = i - row * (half + 1);
    Complex* const z = x + row * stride;
    const Complex a = z[padded(k)], b = conjugate(z[padded((points - k) & (points - 1))]);
    const Complex even = a + b, odd = minus_i(a - b) * load(fft.twiddles + k);
    z[padded(k)] = even + odd;
    z[padded(points - k)] = conjugate(even - odd);
  });
}

// From spectra, whose first and last imaginary parts are ignored, to N times the samples, in pairs of an odd
// one and the even one before it.
L2I_DEVICE void inverse(const Team& team, const Fft& fft, Complex* x, int rows) {
  const int points = fft.points(), half = points / 2, stride = row_stride(points);
  team.over(rows * (half + 1), [&](int i) {
    const int row = i / (half + 1), k = i - row * (half + 1);
    Complex* const z = x + row * stride;
    Complex a = z[padded(k)], b = conjugate(z[padded(points - k)]);
    if (k == 0) a.i = b.i = 0.0f;
    const Complex even = a + b, odd = (a - b) * conjugate(load(fft.twiddles + k));
    // Z[k] = E + i O and Z[N/2 - k] = conj(E) + i conj(O), with their parts exchanged.
    z[padded(k)] = {even.i + odd.r, even.r - odd.i};
    if (k != 0) z[padded(points - k)] = {odd.r - even.i, even.r + odd.i};
  });
  transform(team, fft, x, rows);
}

// Sample n of a row after `inverse`.
L2I_DEVICE float sample(const Complex* row, int n) {
  const Complex pair = row[padded(n / 2)];
  return n % 2 == 0 ? pair.i : pair.r;
}

}  // namespace l2i::cuda
