// One hop of many streams; a block owns `rows` of them.
//
//   X = rfft(window x), v = log(1 + |X| / s)
//   b = W' v,  h <- h b / (W' W h) a few times
//   m = sum_k weight_k W_k h_k / (eps + W h),  y += window irfft(g X)            g: gain.h
//
// All state that changes from hop to hop is in device memory, so that a launch can be replayed unchanged.
// Frame t is centred on sample t * hop; the output lags behind by n_fft samples. Conventions, the fades and
// the start are those of csrc/stream.cpp.
//
// Each block reads W twice per hop, once in each layout: rows of components (bins, K) for b, rows of bins
// (K, bins) for the mask. Each value goes from the second-level cache to a register of one thread, which uses
// it for all streams of the block, so shared memory would not save a byte; it holds what the threads share:
// spectra, v and h.
//
// dtypes: float32. Precision: sums over bins in as many partial sums as the block has room for, added in
// their order; sums over components in index order.
// Cost of 1,024 streams, 513 bins, K = 100, 10 updates: 0.1 GFLOP for b, 0.2 each for the updates and the
// mask. On an H100, estimated and not yet measured: 128 blocks of 8 streams read 52 MB of W from the
// second-level cache (10 us at 5.5 TB/s); 2.0 million multiply-adds per block take 9 us of its multiprocessor
// (128 per cycle at 1.75 GHz); rings and samples are 20 MB (6 us). Phases do not overlap, so 25 to 50 us.
#pragma once

#include "fft.h"
#include "gain.h"

namespace l2i::cuda {

// Pointers into device memory. Rows of streams are contiguous.
struct Streams {
  // Shared by all streams. K4: K padded with zeros to a multiple of 4.
  const float* by_bins;        // W (bins, K4)
  const float* by_components;  // W (K, bins)
  const float* gram;           // W' W (K, K)
  const float* window;         // (n_fft)
  // Sums of squares of the windows that began 0 to c hops earlier (ceil(n_fft / hop), hop)
  const float* norms;
  const Complex* twiddles;  // fft.h
  // State of each stream: the last 2 n_fft samples and sums of frames, at their numbers modulo 2 n_fft;
  // activations; and the current mask.
  long long* hops;  // since the signal began
  float *input, *sums;
  float *h, *weights, *start, *scale;
  int *has_start, *fading;  // remaining hops
  // The mask that was published last, and whether the stream has yet to take it.
  const float *next_weights, *next_start, *next_scale;
  const int* next_has_start;
  int* fresh;
  long long n, hop, K;
  int log_points, n_updates, domain;  // of the mask: gain.h
  float eps;
};

constexpr int kFade = 4;  // hops over which an old mask fades to a new one

// Bytes of shared memory of a block.
L2I_BOTH long long stream_bytes(int rows, int points, long long K) {
  const long long K4 = (K + 3) / 4 * 4;
  return 4 * rows * (2LL * row_stride(points) + points + 1 + 4 * K4) + 64 * rows + 16;
}

template <int rows>
class Tick {
 public:
  // H: activations (n, K), or null. memory: stream_bytes, at a multiple of 16.
  L2I_DEVICE Tick(const Team& team, const Streams& p, int block, char* memory)
      : team(team),
        p(p),
        fft{p.log_points, p.twiddles},
        n_fft(2 * fft.points()),
        bins(fft.points() + 1),
        stride(row_stride(fft.points())),
        K(static_cast<int>(p.K)),
        K4((K + 3) / 4 * 4),
        hop(static_cast<int>(p.hop)),
        first(static_cast<long long>(block) * rows) {
    X = reinterpret_cast<Complex*>(memory);
    v = reinterpret_cast<float*>(X + rows * stride);
    h = v + (rows * bins + 3) / 4 * 4;
    other = h + rows * K4;
    b = other + rows * K4;
    weighted = b + rows * K4;
    state = reinterpret_cast<State*>(weighted + rows * K4);
  }

  // blocks, out: samples (n, hop).
  L2I_DEVICE void run(const float* blocks, const float* H, float* out) {
    begin();
    take(blocks);
    fade();
    forward(team, fft, X, rows);
    if (H == nullptr) {
      logarithms();
      correlate();
      update();
    } else {
      team.over(rows * K, [&](int i) {
        const int s = i / K, k = i - s * K;
        h[k * rows + s] = state[s].in_signal ? H[(first + s) * K + k] : 0.0f;
      });
    }
    keep();
    mask();
    inverse(team, fft, X, rows);
    give(out);
  }

 private:
  struct State {
    long long hop, frame;
    int live, in_signal, has_start, start_anew, audible;
    float share, scale;  // share: of the way to the next mask
  };
  static constexpr int kTogether = rows < 4 ? rows : 4;  // streams in a vector

  L2I_DEVICE long long ring(long long s, long long position) const {
    return (first + s) * 2 * n_fft + (position & (2 * n_fft - 1));
  }

  // An input sample; zero before the first.
  L2I_DEVICE float input_at(long long s, long long position) const {
    return position >= 0 ? p.input[ring(s, position)] : 0.0f;
  }

  L2I_DEVICE void begin() {
    team.over(rows, [&](int s) {
      State& mine = state[s];
      mine.live = first + s < p.n;
      mine.hop = mine.live ? p.hops[first + s] : 0;
      mine.frame = mine.hop + 1 - (n_fft / 2 + hop - 1) / hop;
      mine.in_signal = mine.live && mine.frame >= 0;
      mine.audible = 0;
    });
  }

  // Stores the samples, and determines whether any current weight is non-zero.
  L2I_DEVICE void take(const float* blocks) {
    team.each([&](int thread) {
      for (int i = thread; i < rows * hop; i += team.size()) {
        const int s = i / hop, n = i - s * hop;
        if (state[s].live) p.input[ring(s, state[s].hop * hop + n)] = blocks[(first + s) * hop + n];
      }
      for (int i = thread; i < rows * K; i += team.size()) {
        const int s = i / K;
        if (state[s].live && p.weights[first * K + i] != 0.0f) state[s].audible = 1;
      }
    });
    team.over(rows, [&](int s) { plan_fade(state[s], first + s); });
  }

  L2I_DEVICE void plan_fade(State& mine, long long s) const {
    mine.share = 0.0f;
    mine.scale = 1.0f;
    mine.has_start = mine.start_anew = 0;
    if (!mine.in_signal) return;
    int fading = p.fading[s];
    mine.scale = p.scale[s];
    mine.has_start = p.has_start[s];
    if (p.fresh[s] != 0) {
      fading = mine.frame == 0 ? 1 : kFade;
      // The output is still silent, so it cannot jump.
      if (mine.audible == 0) mine.scale = p.next_scale[s];
      mine.start_anew = !mine.has_start;
      mine.has_start = p.next_has_start[s];
      p.fresh[s] = 0;
    }
    if (fading > 0) {
      mine.share = 1.0f / static_cast<float>(fading);
      const float next = p.next_scale[s];
      mine.scale = fading == 1 ? next : mine.scale * powf(next / mine.scale, mine.share);
    }
    p.fading[s] = fading > 0 ? fading - 1 : 0;
    p.scale[s] = mine.scale;
    p.has_start[s] = mine.has_start;
  }

  // Prepares the current mask, the start of the updates, and the windowed frame.
  L2I_DEVICE void fade() {
    team.each([&](int thread) {
      for (int i = thread; i < rows * K4; i += team.size()) {
        const int s = i / K4, k = i - s * K4, at = k * rows + s;
        h[at] = weighted[at] = b[at] = 0.0f;
        const State& mine = state[s];
        if (k >= K || !mine.in_signal) continue;
        const long long from = (first + s) * K + k;
        float weight = p.weights[from], start = p.start[from];
        if (mine.share > 0.0f) {
          const float next = p.next_weights[from], next_start = p.next_start[from];
          weight = mine.share == 1.0f ? next : weight + mine.share * (next - weight);
          if (mine.start_anew || mine.share == 1.0f) start = next_start;
          start += mine.share * (next_start - start);
          p.weights[from] = weight;
          p.start[from] = start;
        }
        weighted[at] = weight;
        h[at] = mine.has_start ? start : p.h[from];
      }
      for (int i = thread; i < rows * fft.points(); i += team.size()) {
        const int s = i >> fft.log_points, m = i & (fft.points() - 1);
        const State& mine = state[s];
        Complex z = {};
        if (mine.in_signal) {
          const long long position = mine.frame * hop - n_fft / 2 + 2 * m;
          z.r = input_at(s, position) * (0.5f * load(p.window + 2 * m));
          z.i = input_at(s, position + 1) * (0.5f * load(p.window + 2 * m + 1));
        }
        X[s * stride + padded(m)] = z;
      }
    });
  }

  L2I_DEVICE void logarithms() {
    team.over(rows * bins, [&](int i) {
      const int f = i / rows, s = i % rows;
      v[i] = log1pf(magnitude(X[s * stride + padded(f)], 1.0f / state[s].scale));
    });
  }

  // b = W' v: each thread takes four components, all streams and every n_parts-th bin.
  L2I_DEVICE void correlate() {
    struct Sums {
      float x[4][rows];
    };
    auto sums = team.locals<Sums>();
    const int width = K4 / 4 < team.size() ? K4 / 4 : team.size();  // threads side by side
    const int n_parts = team.size() / width;
    for (int k0 = 0; k0 < K4; k0 += 4 * width) {
      team.each([&](int thread) {
        Sums& sum = sums[thread];
        L2I_UNROLL for (int i = 0; i < 4; ++i) {
          L2I_UNROLL for (int s = 0; s < rows; ++s) sum.x[i][s] = 0.0f;
        }
        const int part = thread / width, k = k0 + 4 * (thread - part * width);
        if (part >= n_parts || k >= K4) return;
        L2I_UNROLL_BY(4) for (int f = part; f < bins; f += n_parts) {
          const Vec<4> w = load<4>(p.by_bins + static_cast<long long>(f) * K4 + k);
          L2I_UNROLL for (int s = 0; s < rows; s += kTogether) {
            const Vec<kTogether> y = shared<kTogether>(v + f * rows + s);
            L2I_UNROLL for (int i = 0; i < 4; ++i) {
              L2I_UNROLL for (int j = 0; j < kTogether; ++j) sum.x[i][s + j] += w.x[i] * y.x[j];
            }
          }
        }
      });
      for (int next = 0; next < n_parts; ++next) {
        team.each([&](int thread) {
          const int part = thread / width, k = k0 + 4 * (thread - part * width);
          if (part != next || k >= K4) return;
          L2I_UNROLL for (int i = 0; i < 4; ++i) {
            L2I_UNROLL for (int s = 0; s < rows; ++s) b[(k + i) * rows + s] += sums[thread].x[i][s];
          }
        });
      }
    }
  }

  // From h back to h. The lower bound lets a component that has faded out return.
  L2I_DEVICE void update() {
    constexpr float kLeast = 1e-3f;  // lower bound of activations, relative to W' v
    team.over(rows * K, [&](int i) {
      if (!state[i % rows].has_start) h[i] = fmaxf(h[i], kLeast * b[i]);
    });
    for (int n = 0; n < p.n_updates; ++n) {
      team.over(K * (rows / kTogether), [&](int i) {
        const int group = i / K, k = i - group * K;
        float sum[kTogether] = {};
        L2I_UNROLL_BY(8) for (int j = 0; j < K; ++j) {
          const float g = load(p.gram + static_cast<long long>(j) * K + k);
          const Vec<kTogether> x = shared<kTogether>(h + j * rows + group * kTogether);
          L2I_UNROLL for (int s = 0; s < kTogether; ++s) sum[s] += g * x.x[s];
        }
        L2I_UNROLL for (int s = 0; s < kTogether; ++s) {
          const int at = k * rows + group * kTogether + s;
          other[at] = h[at] * b[at] / fmaxf(sum[s], kTiny);
        }
      });
      float* const swapped = h;
      h = other;
      other = swapped;
    }
  }

  L2I_DEVICE void keep() {
    team.over(rows * K, [&](int i) {
      const int s = i / K, k = i - s * K, at = k * rows + s;
      if (state[s].in_signal) p.h[(first + s) * K + k] = h[at];
      weighted[at] *= h[at];
    });
  }

  // Each thread takes two bins of all streams, and the last bin of one stream.
  L2I_DEVICE void mask() {
    const int half = fft.points() / 2;
    team.each([&](int thread) {
      for (int f = thread; f < half; f += team.size()) {
        float whole[2][rows] = {}, part[2][rows] = {};
        L2I_UNROLL_BY(4) for (int k = 0; k < K; ++k) {
          const float* const from = p.by_components + static_cast<long long>(k) * bins + f;
          const float w[2] = {load(from), load(from + half)};
          L2I_UNROLL for (int s = 0; s < rows; s += kTogether) {
            const Vec<kTogether> x = shared<kTogether>(h + k * rows + s);
            const Vec<kTogether> y = shared<kTogether>(weighted + k * rows + s);
            L2I_UNROLL for (int i = 0; i < 2; ++i) {
              L2I_UNROLL for (int j = 0; j < kTogether; ++j) {
                whole[i][s + j] += w[i] * x.x[j];
                part[i][s + j] += w[i] * y.x[j];
              }
            }
          }
        }
        L2I_UNROLL for (int i = 0; i < 2; ++i) {
          L2I_UNROLL for (int s = 0; s < rows; ++s) apply(s, f + i * half, part[i][s], whole[i][s]);
        }
      }
      for (int s = thread; s < rows; s += team.size()) {
        float whole = 0.0f, part = 0.0f;
        L2I_UNROLL_BY(8) for (int k = 0; k < K; ++k) {
          const float w = load(p.by_components + static_cast<long long>(k) * bins + 2 * half);
          whole += w * h[k * rows + s];
          part += w * weighted[k * rows + s];
        }
        apply(s, 2 * half, part, whole);
      }
    });
  }

  L2I_DEVICE void apply(int s, int f, float part, float whole) {
    Complex& x = X[s * stride + padded(f)];
    x = masked(x, part / (whole + p.eps), p.domain, 1.0f / state[s].scale);
  }

  // Adds the frame to the sums, and writes their next hop.
  L2I_DEVICE void give(float* out) {
    team.over(rows * n_fft, [&](int i) {
      const int s = i >> (fft.log_points + 1), n = i & (n_fft - 1);
      const State& mine = state[s];
      if (!mine.in_signal) return;
      float& sum = p.sums[ring(s, mine.frame * hop - n_fft / 2 + n)];
      const float y = sample(X + s * stride, n) * (load(p.window + n) / static_cast<float>(n_fft));
      sum = mine.frame == 0 || n >= n_fft - hop ? y : sum + y;
    });
    team.over(rows * hop, [&](int i) {
      const int s = i / hop, n = i - s * hop;
      const State& mine = state[s];
      if (!mine.live) return;
      const long long position = mine.hop * hop - n_fft + n;
      float y = 0.0f;
      if (position >= 0) {
        // Frames before the first are missing.
        const long long newest = (position + n_fft / 2) / hop;
        const int windows = (n_fft + hop - 1) / hop,
                  before = newest < windows ? static_cast<int>(newest) : windows - 1;
        const float norm =
            load(p.norms + before * hop + static_cast<int>((position + n_fft / 2) - newest * hop));
        const float sum = p.sums[ring(s, position)];
        y = norm > kTiny ? sum / norm : sum;
      }
      out[(first + s) * hop + n] = y;
      if (n == 0) p.hops[first + s] = mine.hop + 1;
    });
  }

  const Team& team;
  const Streams& p;
  Fft fft;
  int n_fft, bins, stride, K, K4, hop;
  long long first;
  Complex* X;
  // Rows of streams, for each bin or component.
  float *v, *h, *other, *b, *weighted;
  State* state;
};

}  // namespace l2i::cuda
