// From spectra to audio, with or without the soft mask of a dictionary; for batches of clips.
//
//   m[t, f] = sum_k weight_k W[f, k] h[t, k] / (eps + sum_k W[f, k] h[t, k])
//   y = sum_t window irfft(g X[t]) / sum_t window^2          g: gain.h, or 1; 1 where the sum is 0
//
// A block owns the samples of `decode_tile` hops of one clip, and takes the frames that reach them `rows` at
// a time, including those that extend past its first sample, which its neighbour also computes. So each
// sample is summed by one block in the order of the frames, and is written once if `rows` frames suffice.
// Masked spectra are held in shared memory only. Both sums of two bins and all rows stay in the registers of
// a thread; the numerator runs over the components of non-zero weight, listed by the block.
//
// dtypes: float32, complex64 spectra, frame-major. Precision: float32, sums over components in index order.
// Cost of 64 clips of 431 frames, 513 bins, K = 100, on an H100, estimated and not yet measured:
//   2.8 GFLOP for the denominator and as much for a numerator of all components: 63 to 120 us at 50 TFLOP/s
//   with one frame of 16 computed twice; X and y are 170 MB, 57 us at 3 TB/s; W comes from the second-level
//   cache 1,840 times, 377 MB, about 70 us that overlap with the products.
// So with few components selected the three are about equal; to remain bound by memory with all of them
// selected, the sums would have to use the tensor cores (3xTF32: 3 x 5.7 GFLOP at 400 TFLOP/s, 45 us).
#pragma once

#include "fft.h"
#include "gain.h"

namespace l2i::cuda {

struct Decode {
  const Complex* X;         // (B, n_frames, bins), clips X_stride apart
  const float* W;           // (K, bins): rows of bins
  const float* H;           // (B, n_frames, K), clips H_stride apart
  const float* weights;     // (B, K), clips weights_stride apart
  const float* window;      // (n_fft)
  const Complex* twiddles;  // fft.h
  float* y;                 // (B, length)
  long long n_clips, n_frames, X_stride, K, H_stride, weights_stride;
  long long hop, start, length;  // samples start .. start + length of the padded axis
  int log_points, domain;        // of the mask: gain.h
  float eps;
};

// Hops that a block owns: those that `rows` frames complete, or `rows` if they complete fewer than half as
// many.
L2I_BOTH long long decode_tile(const Decode& p, int rows) {
  const long long before = ((2LL << p.log_points) - 1) / p.hop;
  return before <= rows / 2 ? rows - before : rows;
}

L2I_BOTH long long decode_tiles(const Decode& p, int rows) {
  const long long samples = decode_tile(p, rows) * p.hop;
  return (p.start % p.hop + p.length + samples - 1) / samples;
}

L2I_BOTH long long decode_bytes(int rows, int points, long long K) {
  return 8LL * rows * row_stride(points) + 4LL * rows * K + 8 * K + 16;
}

template <int rows, bool masks>
class Decoding {
 public:
  // memory: decode_bytes (K = 0 without a mask), at a multiple of 16.
  L2I_DEVICE Decoding(const Team& team, const Decode& p, long long block, char* memory)
      : team(team),
        p(p),
        fft{p.log_points, p.twiddles},
        n_fft(2 * fft.points()),
        bins(fft.points() + 1),
        stride(row_stride(fft.points())),
        K(static_cast<int>(p.K)) {
    const long long tiles = decode_tiles(p, rows);
    clip = block / tiles;
    first = p.start / p.hop + block % tiles * decode_tile(p, rows);
    Y = reinterpret_cast<Complex*>(memory);
    h = reinterpret_cast<float*>(Y + rows * stride);
    weights = h + rows * K;
    selected = reinterpret_cast<int*>(weights + K);
    n_selected = selected + K;
  }

  L2I_DEVICE void run() {
    const int n = static_cast<int>(decode_tile(p, rows));
    const int before = static_cast<int>((n_fft - 1) / p.hop);
    if (masks) select();
    for (long long t = first - before; t < first + n; t += rows) {
      if (masks) {
        gather(t);
        mask(t);
      } else {
        team.over(rows * bins, [&](int i) {
          const int row = i / bins, f = i - row * bins;
          Y[row * stride + padded(f)] = spectrum(t + row, f);
        });
      }
      inverse(team, fft, Y, rows);
      overlap_add(t, t == first - before, t + rows >= first + n, n);
    }
  }

 private:
  static constexpr int kTogether = rows < 4 ? rows : 4;  // frames in a vector

  L2I_DEVICE bool exists(long long t) const { return t >= 0 && t < p.n_frames; }

  L2I_DEVICE Complex spectrum(long long t, int f) const {
    return exists(t) ? load(p.X + clip * p.X_stride + t * bins + f) : Complex{};
  }

  L2I_DEVICE void select() {
    team.over(K, [&](int k) { weights[k] = p.weights[clip * p.weights_stride + k]; });
    team.over(K, [&](int k) {
      int n = 0;
      for (int j = 0; j < k; ++j) n += weights[j] > 0.0f;
      if (weights[k] > 0.0f) selected[n++] = k;
      if (k == K - 1) *n_selected = n;
    });
  }

  L2I_DEVICE void gather(long long t) {
    team.over(rows * K, [&](int i) {
      const int row = i / K, k = i - row * K;
      h[k * rows + row] = exists(t + row) ? p.H[clip * p.H_stride + (t + row) * K + k] : 0.0f;
    });
  }

  // sums += scale W[k, f] h[k] for two bins.
  L2I_DEVICE void add(float (&sums)[2][rows], int k, int f, float scale) const {
    const float* const from = p.W + static_cast<long long>(k) * bins + f;
    const float w[2] = {scale * load(from), scale * load(from + fft.points() / 2)};
    L2I_UNROLL for (int row = 0; row < rows; row += kTogether) {
      const Vec<kTogether> x = shared<kTogether>(h + k * rows + row);
      L2I_UNROLL for (int i = 0; i < 2; ++i) {
        L2I_UNROLL for (int j = 0; j < kTogether; ++j) sums[i][row + j] += w[i] * x.x[j];
      }
    }
  }

  // Each thread takes two bins of all rows, and the last bin of one row.
  L2I_DEVICE void mask(long long t) {
    const int half = fft.points() / 2;
    team.each([&](int thread) {
      for (int f = thread; f < half; f += team.size()) {
        float whole[2][rows] = {}, part[2][rows] = {};
        L2I_UNROLL_BY(4) for (int k = 0; k < K; ++k) add(whole, k, f, 1.0f);
        L2I_UNROLL_BY(2)
        for (int n = 0; n < *n_selected; ++n) add(part, selected[n], f, weights[selected[n]]);
        L2I_UNROLL for (int i = 0; i < 2; ++i) {
          L2I_UNROLL for (int row = 0; row < rows; ++row)
              apply(t, row, f + i * half, part[i][row], whole[i][row]);
        }
      }
      for (int row = thread; row < rows; row += team.size()) {
        float whole = 0.0f, part = 0.0f;
        L2I_UNROLL_BY(8) for (int k = 0; k < K; ++k) {
          const float term = load(p.W + static_cast<long long>(k) * bins + 2 * half) * h[k * rows + row];
          whole += term;
          part += weights[k] * term;
        }
        apply(t, row, 2 * half, part, whole);
      }
    });
  }

  L2I_DEVICE void apply(long long t, int row, int f, float part, float whole) {
    Y[row * stride + padded(f)] = masked(spectrum(t + row, f), part / (whole + p.eps), p.domain, 1.0f);
  }

  // Adds the frames [t, t + rows) to the samples of the block.
  L2I_DEVICE void overlap_add(long long t, bool begins, bool ends, int n) {
    const int hop = static_cast<int>(p.hop);
    team.over(n * hop, [&](int i) {
      const long long position = first * hop + i, at = position - p.start;
      if (at < 0 || at >= p.length) return;
      // The frames that reach this sample.
      const long long after = first + i / hop + 1, reach = after - (n_fft - i % hop + hop - 1) / hop;
      const long long oldest = reach > 0 ? reach : 0, end = after < p.n_frames ? after : p.n_frames;
      float* const to = p.y + clip * p.length + at;
      float sum = begins ? 0.0f : *to;
      for (long long u = t > oldest ? t : oldest; u < end && u < t + rows; ++u) {
        const int m = static_cast<int>(position - u * hop);
        sum += sample(Y + (u - t) * stride, m) * load(p.window + m);
      }
      if (ends) {
        float squares = 0.0f;
        for (long long u = oldest; u < end; ++u) {
          const float w = load(p.window + (position - u * hop));
          squares += w * w;
        }
        sum /= static_cast<float>(n_fft);
        if (squares > kTiny) sum /= squares;
      }
      *to = sum;
    });
  }

  const Team& team;
  const Decode& p;
  Fft fft;
  int n_fft, bins, stride, K;
  long long clip, first;  // first: the hop of the clip with which the block begins
  Complex* Y;
  float *h, *weights;  // a row of frames and one weight for each component
  int *selected, *n_selected;
};

}  // namespace l2i::cuda
