// Short-time Fourier transform of a batch of clips; a block takes `rows` frames of one clip.
//
//   X[b, t, k] = sum_n window[n] y[b, t hop - pad + n] exp(-2 pi i k n / N), zeros outside the clip
//
// dtypes: float32 samples, complex64 spectra, frame-major. Precision: as in fft.h.
// Cost: the samples are read once from device memory (N / hop times from the caches), the spectra written
// once. 64 clips of 431 frames, 1,024 points, hop 512: 56 + 113 MB, 57 us at 3 TB/s; 1.4 GFLOP. Bound by
// memory; estimated, not yet measured.
#pragma once

#include "fft.h"

namespace l2i::cuda {

struct Stft {
  const float* y;           // (B, n_samples)
  const float* window;      // (n_fft)
  const Complex* twiddles;  // fft.h
  Complex* X;               // (B, n_frames, bins)
  long long n_clips, n_samples, n_frames, hop, pad;
  int log_points;
};

L2I_BOTH long long stft_bytes(int rows, int points) { return 8LL * rows * row_stride(points); }

L2I_BOTH long long stft_blocks(const Stft& p, int rows) {
  return p.n_clips * ((p.n_frames + rows - 1) / rows);
}

template <int rows>
L2I_DEVICE void stft(const Team& team, const Stft& p, long long block, char* memory) {
  const Fft fft = {p.log_points, p.twiddles};
  const int points = fft.points(), bins = points + 1, stride = row_stride(points);
  const long long tiles = (p.n_frames + rows - 1) / rows, clip = block / tiles, first = block % tiles * rows;
  Complex* const z = reinterpret_cast<Complex*>(memory);
  const auto sample = [&](long long at, int n) {
    at += n;
    return at >= 0 && at < p.n_samples ? load(p.y + clip * p.n_samples + at) * (0.5f * load(p.window + n))
                                       : 0.0f;
  };
  team.over(rows * points, [&](int i) {
    const int row = i >> p.log_points, m = i & (points - 1);
    const long long at = (first + row) * p.hop - p.pad;
    z[row * stride + padded(m)] = {sample(at, 2 * m), sample(at, 2 * m + 1)};
  });
  forward(team, fft, z, rows);
  team.over(rows * bins, [&](int i) {
    const int row = i / bins, k = i - row * bins;
    if (first + row >= p.n_frames) return;
    p.X[(clip * p.n_frames + first + row) * bins + k] = z[row * stride + padded(k)];
  });
}

}  // namespace l2i::cuda
