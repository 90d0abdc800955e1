// One hop of one stream: a single frame, with neighbouring bins or components in the lanes.
//
//   X = rfft(window x), a = |X|, v = log(1 + a / s)                              spectrum, magnitudes
//   b = W' v,  h <- h b / (W' W h) a few times                                   correlate, update
//   m = sum_k weight_k W_k h_k / (eps + W h),  y += window irfft(g X)            mask, synthesis
//   g = expm1(m v) s / a (m where a = 0), or g = m
//
// The FFT. The n / 2 complex points z[m] = x[2m] + i x[2m+1] are a matrix of n / 2 / lanes rows: one FFT down
// the columns, all lanes at once, a twiddle factor for each point, a transpose of squares of lanes x lanes,
// and an FFT of `lanes` points across the former rows (Bailey's four steps). Hence n >= 2 lanes^2. Real and
// imaginary parts are kept in two arrays from then on, so nothing is shuffled until the samples are assembled
// again.
//
// The dictionary is read twice per hop, in memory order: it is packed in groups of four components, whose
// vectors of bins alternate. W' W of a usual dictionary fits the first-level cache, so the updates cost less
// than the passes over W.
//
// dtypes: float32. Precision: sums over the bins in `lanes` partial sums, over the components in index order
// (four partial sums for the last bins); log1p and expm1 within 2 ulp. Cost: 2 F K multiply-adds per hop and
// K^2 per update, bound by the second-level cache: 4 F K bytes per pass.
#include "stream.h"

#include "fft.h"
#include "gain.h"
#include "magnitude.h"
#include "vmath.h"

namespace l2i::kernels::L2I_ISA {
namespace {

constexpr int kGroup = kStreamGroup;

// Transforms points, which are in `work` in the order of fft.columns, into natural order: zr and zi.
static inline void transform_points(const FrameFft& fft, float* work, float* zr, float* zi) {
  const std::ptrdiff_t n_rows = fft.n / 2 / kLanes;
  float* const across = work + fft.n + 6 * fft.columns.gap * kLanes;
  transform(fft.columns, work);
  for (std::ptrdiff_t k = 0; k < n_rows; k += kLanes) {
    Vec r[kLanes], i[kLanes];
    for (int row = 0; row < kLanes; ++row) {
      const Complex a = get(work, placed(fft.columns, k + row));
      const float* twiddle = fft.twiddles + 2 * kLanes * (k + row);
      const Vec wr = load(twiddle), wi = load(twiddle + kLanes);
      r[row] = a.r * wr - a.i * wi;
      i[row] = a.r * wi + a.i * wr;
    }
    transpose(r);
    transpose(i);
    for (int column = 0; column < kLanes; ++column)
      put(across, fft.rows.order[column], {r[column], i[column]});
    transform(fft.rows, across);
    for (int j = 0; j < kLanes; ++j) {
      const Complex z = get(across, j);
      store(zr + n_rows * j + k, z.r);
      store(zi + n_rows * j + k, z.i);
    }
  }
}

void spectrum(const FrameFft& fft, const float* frame, const float* window, float* work, float* re,
              float* im) {
  const std::ptrdiff_t points = fft.n / 2;
  for (std::ptrdiff_t row = 0; row < points / kLanes; ++row) {
    const std::ptrdiff_t n = 2 * kLanes * row;
    const Vec low = load(frame + n) * load(window + n);
    const Vec high = load(frame + n + kLanes) * load(window + n + kLanes);
    put(work, fft.columns.order[row], {real_parts(low, high), imaginary_parts(low, high)});
  }
  float* const zr = work + 2 * fft.n;
  float* const zi = zr + points + kLanes;
  transform_points(fft, work, zr, zi);
  zr[points] = zr[0];
  zi[points] = zi[0];
  for (std::ptrdiff_t k = 0; k < points / 2; k += kLanes) {
    const std::ptrdiff_t mirrored = points - k - kLanes + 1;
    const Complex a = {load(zr + k), load(zi + k)};
    const Complex b = {reversed(load(zr + mirrored)), reversed(load(zi + mirrored))};
    const Vec wr = load(fft.split_re + k), wi = load(fft.split_im + k);
    const Complex even = {a.r + b.r, a.i - b.i};
    const Complex c = minus_i({a.r - b.r, a.i + b.i});
    const Complex odd = {c.r * wr - c.i * wi, c.r * wi + c.i * wr};
    store(re + k, even.r + odd.r);
    store(im + k, even.i + odd.i);
    store(re + mirrored, reversed(even.r - odd.r));
    store(im + mirrored, reversed(odd.i - even.i));
  }
  re[points / 2] = 2 * zr[points / 2];
  im[points / 2] = -2 * zi[points / 2];
}

void synthesis(const FrameFft& fft, const float* re, const float* im, const float* window, float* work,
               float* sums) {
  const std::ptrdiff_t points = fft.n / 2;
  float* const zr = work + 2 * fft.n;
  float* const zi = zr + points + kLanes;
  for (std::ptrdiff_t k = 0; k < points / 2; k += kLanes) {
    const std::ptrdiff_t mirrored = points - k - kLanes + 1;
    const Complex a = {load(re + k), load(im + k)};
    const Complex b = {reversed(load(re + mirrored)), reversed(load(im + mirrored))};
    const Vec wr = load(fft.split_re + k), wi = load(fft.split_im + k);
    const Complex even = {a.r + b.r, a.i - b.i}, c = {a.r - b.r, a.i + b.i};
    const Complex odd = {c.r * wr + c.i * wi, c.i * wr - c.r * wi};
    // Z[k] = E + i O and Z[N/2 - k] = conj(E) + i conj(O), with their parts exchanged: see stft.cpp.
    store(zr + mirrored, reversed(odd.r - even.i));
    store(zi + mirrored, reversed(even.r + odd.i));
    store(zr + k, even.i + odd.r);
    store(zi + k, even.r - odd.i);
  }
  zr[points / 2] = -2 * im[points / 2];
  zi[points / 2] = 2 * re[points / 2];
  for (std::ptrdiff_t row = 0; row < points / kLanes; ++row)
    put(work, fft.columns.order[row], {load(zr + kLanes * row), load(zi + kLanes * row)});
  transform_points(fft, work, zr, zi);
  for (std::ptrdiff_t m = 0; m < points; m += kLanes) {
    const Vec even = load(zi + m), odd = load(zr + m);
    float* const sum = sums + 2 * m;
    store(sum, load(sum) + interleave_low(even, odd) * load(window + 2 * m));
    store(sum + kLanes, load(sum + kLanes) + interleave_high(even, odd) * load(window + 2 * m + kLanes));
  }
}

// n vectors from re and im on.
template <int n>
static inline void some_magnitudes(const float* re, const float* im, Vec per, float* a, float* v) {
  const Vec largest = broadcast(kLargestMagnitude);
  Vec r[n], i[n], x[n];
  for (int j = 0; j < n; ++j) {
    r[j] = load(re + j * kLanes);
    i[j] = load(im + j * kLanes);
  }
  magnitudes_of<n>(r, i, x);
  for (int j = 0; j < n; ++j) {
    store(a + j * kLanes, x[j]);
    store(v + j * kLanes, log1p_positive(minimum(x[j] * per, largest)));
  }
}

void magnitudes(const float* re, const float* im, std::ptrdiff_t n_vectors, float scale, float* a, float* v) {
  constexpr int kBlock = 4;
  const Vec per = broadcast(1.0f / scale);
  std::ptrdiff_t j = 0;
  for (; j + kBlock <= n_vectors; j += kBlock)
    some_magnitudes<kBlock>(re + j * kLanes, im + j * kLanes, per, a + j * kLanes, v + j * kLanes);
  for (; j < n_vectors; ++j)
    some_magnitudes<1>(re + j * kLanes, im + j * kLanes, per, a + j * kLanes, v + j * kLanes);
}

// The sums of the lanes of each vector, in the order of the vectors.
static inline Vec sums_of(Vec* x) {
  for (int n = kLanes; n > 1; n /= 2) {
    for (int i = 0; i < n / 2; ++i)
      x[i] = real_parts(x[2 * i], x[2 * i + 1]) + imaginary_parts(x[2 * i], x[2 * i + 1]);
  }
  return x[0];
}

template <int groups>
static inline void correlate_groups(const float* W, std::ptrdiff_t n_vectors, const float* v, float* b) {
  Vec sum[kLanes] = {};
  const std::ptrdiff_t size = n_vectors * kGroup * kLanes;  // of a group
  for (std::ptrdiff_t j = 0; j < n_vectors; ++j) {
    const Vec x = load(v + j * kLanes);
    for (int g = 0; g < groups; ++g) {
      const float* w = W + g * size + j * kGroup * kLanes;
      for (int i = 0; i < kGroup; ++i) sum[g * kGroup + i] += x * load(w + i * kLanes);
    }
  }
  store(b, sums_of(sum));
}

void correlate(const float* W, std::ptrdiff_t n_vectors, std::ptrdiff_t n_groups, const float* v, float* b) {
  constexpr int kMost = kLanes / kGroup;  // groups whose sums fill a vector
  const std::ptrdiff_t size = n_vectors * kGroup * kLanes;
  for (; n_groups >= kMost; n_groups -= kMost, W += kMost * size, b += kLanes)
    correlate_groups<kMost>(W, n_vectors, v, b);
  if (n_groups == 3) correlate_groups < kMost<3 ? kMost : 3>(W, n_vectors, v, b);
  if (n_groups == 2) correlate_groups < kMost<2 ? kMost : 2>(W, n_vectors, v, b);
  if (n_groups == 1) correlate_groups<1>(W, n_vectors, v, b);
}

// Vectors of components whose products stay in registers.
constexpr int kTogether = 8;

// d[0 .. n) = G h for n vectors of components from the one at G and d on.
template <int n>
static inline void gram_product(const float* G, std::ptrdiff_t stride, std::ptrdiff_t K, const float* h,
                                float* d) {
  Vec sum[n] = {};
  for (std::ptrdiff_t k = 0; k < K; ++k) {
    const Vec x = broadcast(h[k]);
    for (int i = 0; i < n; ++i) sum[i] += x * load(G + k * stride + i * kLanes);
  }
  for (int i = 0; i < n; ++i) store(d + i * kLanes, sum[i]);
}

template <int n>
static inline void gram_rest(int n_left, const float* G, std::ptrdiff_t stride, std::ptrdiff_t K,
                             const float* h, float* d) {
  if constexpr (n > 0) {
    if (n_left == n) {
      gram_product<n>(G, stride, K, h, d);
    } else {
      gram_rest<n - 1>(n_left, G, stride, K, h, d);
    }
  }
}

void update(const float* G, std::ptrdiff_t K, const float* b, float least, int n_updates, float* h,
            float* d) {
  constexpr float kTiny = 1.17549435e-38f;
  const std::ptrdiff_t n_vectors = (K + kLanes - 1) / kLanes, stride = n_vectors * kLanes;
  for (std::ptrdiff_t k = 0; k < stride; k += kLanes) {
    const Vec low = least * load(b + k), x = load(h + k);
    store(h + k, x > low ? x : low);
  }
  for (int i = 0; i < n_updates; ++i) {
    std::ptrdiff_t j = 0;
    for (; j + kTogether <= n_vectors; j += kTogether)
      gram_product<kTogether>(G + j * kLanes, stride, K, h, d + j * kLanes);
    gram_rest<kTogether - 1>(static_cast<int>(n_vectors - j), G + j * kLanes, stride, K, h, d + j * kLanes);
    for (std::ptrdiff_t k = 0; k < stride; k += kLanes) {
      const Vec below = load(d + k);
      store(h + k, load(h + k) * load(b + k) / (below > kTiny ? below : broadcast(kTiny)));
    }
  }
}

// Vectors [j, j + n) of the bins.
template <int n, MaskDomain domain>
static inline void mask_bins(const FrameMask& frame, std::ptrdiff_t j) {
  // Four sums for a single vector: one alone would be a chain as long as the number of components.
  constexpr int kSums = n == 1 ? kGroup : 1;
  Vec whole[n][kSums] = {}, part[n] = {};
  const float* W = frame.W + j * kGroup * kLanes;
  const std::ptrdiff_t size = frame.n_vectors * kGroup * kLanes;
  for (std::ptrdiff_t g = 0; g < frame.n_groups; ++g) {
    for (int i = 0; i < kGroup; ++i) {
      const Vec x = broadcast(frame.h[g * kGroup + i]);
      for (int l = 0; l < n; ++l) whole[l][i % kSums] += x * load(W + g * size + (l * kGroup + i) * kLanes);
    }
  }
  for (std::ptrdiff_t s = 0; s < frame.n_selected; ++s) {
    const std::int32_t k = frame.selected[s];
    const Vec x = broadcast(frame.weighted[s]);
    for (int l = 0; l < n; ++l)
      part[l] += x * load(W + k / kGroup * size + (l * kGroup + k % kGroup) * kLanes);
  }
  const float per = 1.0f / frame.scale;
  for (int l = 0; l < n; ++l) {
    for (int i = 1; i < kSums; ++i) whole[l][0] += whole[l][i];
    const std::ptrdiff_t at = (j + l) * kLanes;
    Vec g = part[l] / (whole[l][0] + frame.eps);
    if (domain == MaskDomain::wiener) g = wiener(g);
    if (domain == MaskDomain::log) {
      const Vec a = minimum(load(frame.a + at) * per, broadcast(kLargestMagnitude));
      const Vec louder = expm1_positive(g * load(frame.v + at)) / a;
      g = a > Vec{} ? louder : g;
    }
    store(frame.re + at, load(frame.re + at) * g);
    store(frame.im + at, load(frame.im + at) * g);
  }
}

template <MaskDomain domain>
static inline void mask_all(const FrameMask& frame) {
  constexpr int kBlock = kLanes == 16 ? 8 : 4;
  std::ptrdiff_t j = 0;
  for (; j + kBlock <= frame.n_vectors; j += kBlock) mask_bins<kBlock, domain>(frame, j);
  for (; j < frame.n_vectors; ++j) mask_bins<1, domain>(frame, j);
}

void mask(const FrameMask& frame) {
  switch (frame.domain) {
    case MaskDomain::log:
      return mask_all<MaskDomain::log>(frame);
    case MaskDomain::magnitude:
      return mask_all<MaskDomain::magnitude>(frame);
    case MaskDomain::wiener:
      return mask_all<MaskDomain::wiener>(frame);
  }
}

float peak(const float* samples, std::ptrdiff_t n) {
  Vec most = {};
  std::ptrdiff_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec x = load(samples + i), positive = x < Vec{} ? -x : x;
    most = positive > most ? positive : most;
  }
  float result = 0;
  for (int lane = 0; lane < kLanes; ++lane) result = most[lane] > result ? most[lane] : result;
  for (; i < n; ++i) {
    const float positive = __builtin_fabsf(samples[i]);
    result = positive > result ? positive : result;
  }
  return result;
}

// out[i] = sums[i] / norms[i], or sums[i] where norms[i] is not a normal number.
void normalize(const float* sums, const float* norms, std::ptrdiff_t n, float* out) {
  constexpr float kTiny = 1.17549435e-38f;
  std::ptrdiff_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec x = load(sums + i), w = load(norms + i);
    store(out + i, w > kTiny ? x / w : x);
  }
  for (; i < n; ++i) out[i] = norms[i] > kTiny ? sums[i] / norms[i] : sums[i];
}

}  // namespace

extern const StreamKernels stream;
constinit const StreamKernels stream = {
    .spectrum = &spectrum,
    .synthesis = &synthesis,
    .magnitudes = &magnitudes,
    .correlate = &correlate,
    .update = &update,
    .mask = &mask,
    .peak = &peak,
    .normalize = &normalize,
};

}  // namespace l2i::kernels::L2I_ISA
