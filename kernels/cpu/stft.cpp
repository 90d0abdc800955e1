// Windowed real FFT of a tile of frames, and its inverse with overlap-add; one frame in each lane.
//
//   forward   X[t, f] = sum_n window[n] y[t, n] exp(-2 pi i f n / N),  f = 0 .. N/2
//   inverse   sums[t hop + n] += window[n] / N  Re(sum_f c_f X[t, f] exp(2 pi i f n / N)),
//             c_0 = c_{N/2} = 1, else 2; the imaginary parts of X[t, 0] and X[t, N/2] are not read
//
// The N real samples of a frame are N/2 complex points z[m] = y[2m] + i y[2m+1]. Their FFT decimates in time
// with radix-4 passes after a first pass of radix 4 or 8 (by the parity of log2 N), depth first, so that each
// quarter stays in the first-level cache until it is done. The split into the real transform's bins uses
// X[k] = E + w^k O and X[N/2 - k] = conj(E - w^k O). Since a lane is a frame, no pass moves data between
// lanes; squares of lanes x lanes values are transposed while loading and while storing. The inverse is the
// forward transform with real and imaginary parts exchanged.
//
// dtypes: float32 samples and window, complex64 spectra as (re, im) pairs, frame-major.
// Precision: float32 throughout; twiddle factors rounded once from float64. Relative L2 error about 1.5e-7.
// Cost: about 2.1 N log2 N flops per frame; 8 N bytes of work space per lane, read and written once per pass.
// Callers scale the window: by 1/2 for the forward transform (the halves of E and O), by 1/N for the inverse
// (these halves times 2/N).
#include "stft.h"

#include "fft.h"
#include "gain.h"
#include "magnitude.h"
#include "simd.h"

namespace l2i::kernels::L2I_ISA {
namespace {

constexpr int kBins = kLanes / 2;  // complex numbers in a vector, bins that are transposed together

// The number of blocks of kBins bins of a row that are loaded or stored at a time: rows may be aligned so
// that few of them fit the first-level cache together.
constexpr std::ptrdiff_t kBlocks = 4;
static inline std::ptrdiff_t blocks(std::ptrdiff_t points) {
  return points / 2 / kBins < kBlocks ? points / 2 / kBins : kBlocks;
}

// Writes the rows of one half of a transposed block.
template <int half>
static inline void put_rows(const Vec* v, int n_rows, float* out, std::ptrdiff_t stride) {
  Vec row[kLanes / 2];
  transpose_half<half>(v, row);
  for (int i = 0; i < kLanes / 2; ++i) {
    if (row_of(half, i) < n_rows) store(out + row_of(half, i) * stride, row[i]);
  }
}

// Writes the magnitudes of n bins, whose real and imaginary parts alternate.
template <int n>
static inline void put_magnitudes(const Vec* v, float* out) {
  Vec a[n];
  magnitudes_of<n, 2>(v, v + 1, a);
  for (int i = 0; i < n; ++i) store(out + i * kLanes, a[i]);
}

}  // namespace

void stft_tile(const FftTables& fft, const float* const* frames, int n_frames, const float* window,
               float* work, float* out, std::ptrdiff_t out_stride, float* magnitudes) {
  const std::ptrdiff_t points = fft.n / 2;
  transform_frames(fft, frames, n_frames, window, work);

  const std::ptrdiff_t n_blocks = blocks(points);
  Vec low[kBlocks][kLanes], high[kBlocks][kLanes];
  for (std::ptrdiff_t k0 = 0; k0 < points / 2; k0 += n_blocks * kBins) {
    for (std::ptrdiff_t j = 0; j < n_blocks; ++j) {
      for (int i = 0; i < kBins; ++i) {
        const std::ptrdiff_t k = k0 + j * kBins + i;
        const Complex a = get(work, placed(fft, k)), b = get(work, placed(fft, (points - k) & (points - 1)));
        const Complex even = {a.r + b.r, a.i - b.i};
        const Complex odd = times(minus_i({a.r - b.r, a.i + b.i}), fft.split[2 * k], fft.split[2 * k + 1]);
        low[j][2 * i] = even.r + odd.r;
        low[j][2 * i + 1] = even.i + odd.i;
        high[j][kLanes - 2 - 2 * i] = even.r - odd.r;
        high[j][kLanes - 1 - 2 * i] = odd.i - even.i;
      }
      if (magnitudes != nullptr) {
        put_magnitudes<kBins>(low[j], magnitudes + (k0 + j * kBins) * kLanes);
        put_magnitudes<kBins>(high[j], magnitudes + (points - k0 - (j + 1) * kBins + 1) * kLanes);
      }
    }
    for (std::ptrdiff_t j = 0; j < n_blocks; ++j) {
      put_rows<0>(low[j], n_frames, out + 2 * (k0 + j * kBins), out_stride);
      put_rows<0>(high[j], n_frames, out + 2 * (points - k0 - (j + 1) * kBins + 1), out_stride);
    }
    for (std::ptrdiff_t j = 0; j < n_blocks; ++j) {
      put_rows<1>(low[j], n_frames, out + 2 * (k0 + j * kBins), out_stride);
      put_rows<1>(high[j], n_frames, out + 2 * (points - k0 - (j + 1) * kBins + 1), out_stride);
    }
  }
  const float* real = re(work, placed(fft, points / 2));
  const float* imaginary = im(work, placed(fft, points / 2));
  for (int t = 0; t < n_frames; ++t) {
    out[t * out_stride + points] = 2 * real[t];
    out[t * out_stride + points + 1] = -2 * imaginary[t];
  }
  if (magnitudes != nullptr) {
    const Vec middle[2] = {2 * load(real), 2 * load(imaginary)};
    put_magnitudes<1>(middle, magnitudes + points / 2 * kLanes);
  }
}

namespace {

// Changes n bins of a tile from f on, vectors of their real and imaginary parts alternating, before they are
// transformed: not at all, or by a mask.
struct Unchanged {
  template <int n>
  void apply(Vec*, std::ptrdiff_t) {}
};

// The mask acts on magnitudes, or on their logarithms: on those of `roots`, or on exact ones.
enum class Gain { linear, rough, exact };

template <Gain gain>
struct Masked {
  template <int n>
  void apply(Vec* v, std::ptrdiff_t f) {
    Vec m[n], a[n], g[n];
    for (int i = 0; i < n; ++i) m[i] = load(mask + (f + i) * stride);
    if constexpr (gain == Gain::rough) roots<n, 2>(v, v + 1, a, most);
    if constexpr (gain == Gain::exact) magnitudes_of<n, 2, false>(v, v + 1, a);
    if constexpr (gain != Gain::linear) gains<n>(m, a, g);
    for (int i = 0; i < n; ++i) {
      const Vec x = gain == Gain::linear ? m[i] : g[i];
      v[2 * i] = rounded(v[2 * i] * x);  // as soft_mask would store it
      v[2 * i + 1] = rounded(v[2 * i + 1] * x);
    }
  }

  const float* mask;
  std::ptrdiff_t stride;
  IntVec most = {};  // of `roots`
};

// Loads frames, changes them, and puts their points where the transform expects them; returns the change, by
// value, so that its state stays in registers.
template <typename Change>
static inline Change load_bins(const FftTables& fft, const float* rows, std::ptrdiff_t row_stride,
                               int n_frames, Change change, float* work) {
  const std::ptrdiff_t points = fft.n / 2;
  const float* row[kLanes];
  for (int t = 0; t < kLanes; ++t) row[t] = rows + (t < n_frames ? t : n_frames - 1) * row_stride;

  const std::ptrdiff_t n_blocks = blocks(points);
  Vec low[kBlocks][kLanes], high[kBlocks][kLanes];
  for (std::ptrdiff_t k0 = 0; k0 < points / 2; k0 += n_blocks * kBins) {
    for (int t = 0; t < kLanes; ++t) {
      for (std::ptrdiff_t j = 0; j < n_blocks; ++j) low[j][t] = load(row[t] + 2 * (k0 + j * kBins));
      for (std::ptrdiff_t j = n_blocks; j-- > 0;)
        high[j][t] = load(row[t] + 2 * (points - k0 - (j + 1) * kBins + 1));
      for (std::ptrdiff_t j = n_blocks; j < 2 * n_blocks; ++j) {  // the next blocks, which may be far away
        __builtin_prefetch(row[t] + 2 * (k0 + j * kBins), 0, 2);
        __builtin_prefetch(row[t] + 2 * (points - k0 - j * kBins), 0, 2);
      }
    }
    for (std::ptrdiff_t j = 0; j < n_blocks; ++j) {
      const std::ptrdiff_t first = k0 + j * kBins;
      transpose(low[j]);
      transpose(high[j]);
      change.template apply<kBins>(low[j], first);
      change.template apply<kBins>(high[j], points - first - kBins + 1);
      if (first == 0) low[j][1] = high[j][kLanes - 1] = Vec{};
      for (int i = 0; i < kBins; ++i) {
        const std::ptrdiff_t k = first + i;
        const Complex a = {low[j][2 * i], low[j][2 * i + 1]};
        const Complex b = {high[j][kLanes - 2 - 2 * i], high[j][kLanes - 1 - 2 * i]};
        const Complex even = {a.r + b.r, a.i - b.i};
        const Complex odd = times({a.r - b.r, a.i + b.i}, fft.split[2 * k], -fft.split[2 * k + 1]);
        // Z[k] = E + i O and Z[N/2 - k] = conj(E) + i conj(O), stored with their parts exchanged.
        put(work, fft.order[k], {even.i + odd.r, even.r - odd.i});
        if (k != 0) put(work, fft.order[points - k], {odd.r - even.i, even.r + odd.i});
      }
    }
  }
  Vec middle[2] = {};
  for (int t = 0; t < kLanes; ++t) {
    middle[0][t] = row[t][points];
    middle[1][t] = row[t][points + 1];
  }
  change.template apply<1>(middle, points / 2);
  put(work, fft.order[points / 2], {-2 * middle[1], 2 * middle[0]});
  return change;
}

static inline void inverse(const FftTables& fft, int n_frames, const float* window, float* work, float* sums,
                           std::ptrdiff_t hop) {
  transform(fft, work);
  float* to[kLanes];
  for (int t = 0; t < n_frames; ++t) to[t] = sums + t * hop;
  add_frames(fft, work, n_frames, window, to);
}

}  // namespace

void istft_tile(const FftTables& fft, const float* rows, std::ptrdiff_t row_stride, int n_frames,
                const float* window, float* work, float* sums, std::ptrdiff_t hop) {
  load_bins(fft, rows, row_stride, n_frames, Unchanged{}, work);
  inverse(fft, n_frames, window, work, sums, hop);
}

void decode_tile(const FftTables& fft, const float* rows, std::ptrdiff_t row_stride, int n_frames,
                 const float* mask, std::ptrdiff_t mask_stride, bool log, const float* window, float* work,
                 float* sums, std::ptrdiff_t hop) {
  if (log) {
    const Masked<Gain::rough> rough{mask, mask_stride};
    if (any(load_bins(fft, rows, row_stride, n_frames, rough, work).most > kLargestBits)) [[unlikely]]
      load_bins(fft, rows, row_stride, n_frames, Masked<Gain::exact>{mask, mask_stride}, work);
  } else {
    load_bins(fft, rows, row_stride, n_frames, Masked<Gain::linear>{mask, mask_stride}, work);
  }
  inverse(fft, n_frames, window, work, sums, hop);
}

void scale(const float* from, const float* factors, std::ptrdiff_t n, float* to) {
  std::ptrdiff_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, load(from + i) * load(factors + i));
  for (; i < n; ++i) to[i] = from[i] * factors[i];
}

}  // namespace l2i::kernels::L2I_ISA
