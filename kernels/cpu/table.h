// The functions that every instruction set provides: plain pointers, sizes and strides.
#pragma once

#include <cstddef>
#include <cstdint>

namespace l2i::kernels {

constexpr int kMostLanes = 16;

// Tables of a real FFT of n points as a complex FFT of n / 2, n a power of two from 32 on.
//   gap       points between the quarters of the work space: neighbouring points go to all four, and places a
//             power of two apart share a few cache lines. 0 for short transforms
//   order     n / 2 positions: the place of point i before the first pass
//   twiddles  for each radix-4 pass of sub-transforms of s points, j = 0 .. s - 1:
//             (re, im) of w, w^2, w^3 for w = exp(-2 pi i j / 4s)
//   split     (re, im) of exp(-2 pi i k / n), k = 0 .. n / 4
struct FftTables {
  std::ptrdiff_t n, gap;
  const std::uint32_t* order;
  const float* twiddles;
  const float* split;
};

// What a mask m gives to a spectrum X as its gain: see gain.h.
enum class MaskDomain { log, magnitude, wiener };

// A tile of one or two vectors of frames, one in each lane, whose mask is computed. Strides are in floats.
struct MaskTile {
  const float* W;
  std::ptrdiff_t bin_stride, component_stride;
  std::ptrdiff_t n_bins, n_components;
  const float* h;         // activations, n_components x n_vectors * lanes
  const float* weighted;  // rows of the selected components times their weights, n_selected of them
  const std::int32_t* selected;
  std::ptrdiff_t n_selected;
  float eps;
  int n_vectors;
  bool wiener;   // give m^4 / (m^4 + (1 - m)^4) in place of m
  float* mask;   // result, n_bins x n_vectors * lanes
  float* whole;  // its denominator, for the gradient; may be null
  // The spectrum to be masked, n_frames rows; prefetched meanwhile.
  const float* X;
  std::ptrdiff_t X_stride;
  int n_frames;
};

// The operands of the gradient of a tile, beside those of its mask.
struct MaskGradientTile {
  MaskTile forward;  // mask and whole have been computed
  const float* X;    // n_frames rows of n_bins complex numbers
  std::ptrdiff_t X_stride;
  const float* dY;  // the same: gradient for the masked spectrum, by real and imaginary part
  std::ptrdiff_t dY_stride;
  const float* weights;  // n_components
  int n_frames;
  MaskDomain domain;
  float* work;  // n_bins x 2 n_vectors * lanes
  float* dh;    // for h, n_components x n_vectors * lanes
  float* dw;    // for the weights, n_components x lanes, yet to be summed over the lanes
};

// Rows of a spectrum to be multiplied with the gain of a mask; at most `lanes` frames.
struct ApplyTile {
  const float* X;  // frames of n_bins complex numbers
  std::ptrdiff_t X_stride;
  float* Y;  // the same for the result
  std::ptrdiff_t Y_stride;
  const float* mask;  // for each bin a vector of frames
  std::ptrdiff_t mask_stride;
  std::ptrdiff_t n_bins;
  int n_frames;
  bool log;  // the mask acts on log(1 + |X|), not on |X|
};

// A tile of at most `lanes` frames for log_mel. Band m sums counts[m] bins from starts[m] on, with its own
// run of `factors`.
struct MelTile {
  const float* magnitudes;  // for each bin a vector of frames
  float* out;               // n_frames rows of n_bands floats
  std::ptrdiff_t n_bands;
  const std::int32_t* starts;
  const std::int32_t* counts;
  const float* factors;
  int n_frames;
  float amin;
};

// Losses whose powers of the model need no logarithm, and all others.
enum class NmfLoss { euclidean, three_halves, kullback_leibler, half, itakura_saito, general };

// The summands of an update over the rows of a panel, from V and its model M = W H:
//   multiplicative  V M^(beta - 2) and M^(beta - 1)
//   newton          the first and the second derivative of the divergence with respect to M, the latter at
//                   least M^(beta - 2)
enum class NmfSummands { multiplicative, newton };

struct RatioTile {
  NmfSummands summands;
  NmfLoss loss;
  float beta;
  float floor;  // least value of the model where its powers are taken
  std::ptrdiff_t n_rows, lanes;
  const float* model;  // n_rows x lanes, as are
  float* up;           // the first summand, and
  float* down;         // the second; null if not needed
  const float* V;
  std::ptrdiff_t V_stride;
  const float* mask;  // weights of the entries of V, 0 for missing ones; may be null
  std::ptrdiff_t mask_stride;
  bool measured;           // return the divergence of these rows
  std::ptrdiff_t n_valid;  // lanes that count in it
};

// A panel of a Newton step, see newton_step.
struct NewtonPanel {
  std::ptrdiff_t K, lanes;
  const float* B;
  float* gradient;           // of the divergence with respect to B; overwritten
  float* curvature;          // diagonal of its Hessian; overwritten
  const float* correlation;  // K x K, shared by all lanes, with unit diagonal
  const float* damping;      // of each lane
  int n_sweeps;
  const bool* fixed;  // components to keep; may be null
  float* step;        // out: K x lanes
  float* slope;       // out: of the objective along the step, for each lane
};

// Weights of the penalties l1 sum(B) + l2 / 2 sum(B^2).
struct NmfPenalty {
  float l1, l2;
};

// nmf.cpp. A panel holds K or n_rows rows of `lanes` floats: whole vectors, at most `panel` floats.
struct NmfKernels {
  int panel;

  void (*product)(const float* A, std::ptrdiff_t A_stride, const float* B, std::ptrdiff_t n_rows,
                  std::ptrdiff_t K, std::ptrdiff_t lanes, float* C);
  void (*accumulate)(const float* A, std::ptrdiff_t A_stride, const float* Q, std::ptrdiff_t Q_stride,
                     std::ptrdiff_t n_rows, std::ptrdiff_t K, std::ptrdiff_t lanes, float* N);
  double (*ratio)(const RatioTile& tile);
  void (*update_multiplicative)(float* B, const float* N, const float* D, std::ptrdiff_t size,
                                const NmfPenalty& penalty, float gamma, float floor);
  void (*update_coordinates)(float* B, const float* N, const float* G, std::ptrdiff_t K, std::ptrdiff_t lanes,
                             const NmfPenalty& penalty, const bool* fixed);
  void (*newton_step)(const NewtonPanel& panel, const NmfPenalty& penalty);
  void (*slope_after)(const RatioTile& tile, const float* change, float* slope);
  void (*take_step)(float* B, const float* step, const float* length, std::ptrdiff_t K, std::ptrdiff_t lanes);
  void (*to_panel)(const float* rows, std::ptrdiff_t stride, std::ptrdiff_t n_rows, std::ptrdiff_t n_columns,
                   std::ptrdiff_t lanes, float* panel);
  void (*from_panel)(const float* panel, std::ptrdiff_t lanes, std::ptrdiff_t n_rows,
                     std::ptrdiff_t n_columns, float* rows, std::ptrdiff_t stride);
  double (*dot)(const float* a, const float* b, std::ptrdiff_t size);
};

// Tiles of the factors of products in bfloat16, see bf16.cpp.
constexpr std::ptrdiff_t kTileRows = 16;
constexpr std::ptrdiff_t kTileDepth = 32;
constexpr int kMostTerms = 3;

// C = A B, or C += A B: n_rows x lanes, without gaps; A and B are packed.
struct Bf16Product {
  const std::uint32_t* A;
  std::ptrdiff_t A_stride;  // words from one row of tiles to the next
  const std::uint32_t* B;
  int n_terms;
  std::ptrdiff_t n_rows, depth, lanes;
  bool add;
  float* C;
};

// bf16.cpp. Values to be packed must not be negative. Sizes of packed matrices are those of whole tiles.
struct Bf16Kernels {
  // The left factor A (n_rows x n_columns), or its transpose.
  void (*pack_rows)(const float* A, std::ptrdiff_t stride, std::ptrdiff_t n_rows, std::ptrdiff_t n_columns,
                    int n_terms, std::uint32_t* out);
  void (*pack_columns)(const float* A, std::ptrdiff_t stride, std::ptrdiff_t n_rows, std::ptrdiff_t n_columns,
                       int n_terms, std::uint32_t* out);
  // The right factor: `depth` rows of `lanes` values, whole vectors.
  void (*pack_panel)(const float* B, std::ptrdiff_t stride, std::ptrdiff_t depth, std::ptrdiff_t lanes,
                     int n_terms, std::uint32_t* out);
  // A thread multiplies between begin and end, which acquire and release the tile registers.
  void (*begin)();
  void (*multiply)(const Bf16Product& product);
  void (*end)();
};

// Tables of the real FFT of a single frame of n samples, at least 2 lanes^2: see stream.cpp.
struct FrameFft {
  std::ptrdiff_t n;
  FftTables columns;      // of n / lanes real samples: as many complex points as the matrix has rows
  FftTables rows;         // of 2 lanes real samples
  const float* twiddles;  // row k: the real, then the imaginary parts of exp(-4 pi i k lane / n)
  const float* split_re;  // exp(-2 pi i k / n), k = 0 .. n / 4 - 1
  const float* split_im;

  static constexpr std::ptrdiff_t work_size(std::ptrdiff_t n) { return 3 * n + 2 * kMostLanes; }
};

// Components that are packed together in a stream's dictionary.
constexpr int kStreamGroup = 4;
// A frame of a stream to be masked. n_vectors vectors of bins, n_groups groups of components.
struct FrameMask {
  const float* W;
  std::ptrdiff_t n_vectors, n_groups;
  const float* h;  // zero after the last component
  const std::int32_t* selected;
  const float* weighted;  // h times the weights of the selected components
  std::ptrdiff_t n_selected;
  float eps, scale;
  MaskDomain domain;
  const float* a;  // |X| and log(1 + |X| / scale)
  const float* v;
  float* re;  // X, to be multiplied with the gain
  float* im;
};

// stream.cpp. Arrays of bins or components are padded with zeros to whole vectors.
struct StreamKernels {
  void (*spectrum)(const FrameFft& fft, const float* frame, const float* window, float* work, float* re,
                   float* im);
  void (*synthesis)(const FrameFft& fft, const float* re, const float* im, const float* window, float* work,
                    float* sums);
  void (*magnitudes)(const float* re, const float* im, std::ptrdiff_t n_vectors, float scale, float* a,
                     float* v);
  void (*correlate)(const float* W, std::ptrdiff_t n_vectors, std::ptrdiff_t n_groups, const float* v,
                    float* b);
  // G: K rows, each of whole vectors. Activations start from at least `least` times b.
  void (*update)(const float* G, std::ptrdiff_t K, const float* b, float least, int n_updates, float* h,
                 float* d);
  void (*mask)(const FrameMask& frame);
  float (*peak)(const float* samples, std::ptrdiff_t n);  // the largest magnitude
  void (*normalize)(const float* sums, const float* norms, std::ptrdiff_t n, float* out);
};

// One frame of each of at most `lanes` streams.
struct PoolFrames {
  FftTables fft;
  int n_frames;
  const float* per;      // `lanes` times 1 / scale
  float* work;           // n x lanes
  float* X;              // for each bin a vector of real, then one of imaginary parts
  float* a;              // |X|, for each bin a vector
  float* v;              // log(1 + |X| / scale), for each bin a vector, `width` floats apart
  std::ptrdiff_t width;  // those of the mask, too
};

// stream_pool.cpp. Windows are scaled as for stft_tile and istft_tile.
struct StreamPoolKernels {
  void (*spectra)(const PoolFrames& tile, const float* const* frames, const float* window);
  // h, b and `other`, the work space: K x n_vectors * lanes, with one or two vectors. G as in StreamKernels.
  void (*update)(const float* G, std::ptrdiff_t K, int n_vectors, const float* b, const float* least,
                 int n_updates, float* h, float* other);
  // Adds to the sums of each lane; lanes with null sums are skipped.
  void (*synthesis)(const PoolFrames& tile, const float* mask, bool log, const float* window,
                    float* const* sums);
};

// ceilings.cpp
struct CeilingKernels {
  int flops_per_round;  // of multiply_adds
  float (*multiply_adds)(std::ptrdiff_t n_rounds, float factor, float term);
  float (*read)(const float* x, std::ptrdiff_t size);  // a multiple of 8 * kMostLanes
};

struct Kernels {
  const char* name;  // "scalar", "avx2", "avx512", "avx512_bf16", "amx"
  int lanes;         // frames in a tile: floats in a vector register

  // Whether all values are from `low` to `high`; false for NaN.
  bool (*in_range)(const float* x, std::ptrdiff_t size, float low, float high);

  // stft.cpp
  // magnitudes: |X|, for each bin a vector of frames; may be null.
  void (*stft_tile)(const FftTables& fft, const float* const* frames, int n_frames, const float* window,
                    float* work, float* out, std::ptrdiff_t out_stride, float* magnitudes);
  void (*istft_tile)(const FftTables& fft, const float* rows, std::ptrdiff_t row_stride, int n_frames,
                     const float* window, float* work, float* sums, std::ptrdiff_t hop);

  // The same for rows to which a mask (n_bins vectors of frames, mask_stride apart) is applied first.
  void (*decode_tile)(const FftTables& fft, const float* rows, std::ptrdiff_t row_stride, int n_frames,
                      const float* mask, std::ptrdiff_t mask_stride, bool log, const float* window,
                      float* work, float* sums, std::ptrdiff_t hop);

  // to[i] = from[i] factors[i]
  void (*scale)(const float* from, const float* factors, std::ptrdiff_t n, float* to);

  // soft_mask.cpp
  // h: the activations of a tile, n_components x n_vectors * lanes, zero beyond n_frames.
  void (*gather)(const float* H, std::ptrdiff_t frame_stride, std::ptrdiff_t component_stride, int n_frames,
                 std::ptrdiff_t n_components, int n_vectors, float* h);
  void (*mask_tile)(const MaskTile& tile);
  void (*apply_tile)(const ApplyTile& tile);
  void (*mask_gradient_tile)(const MaskGradientTile& tile);

  // log_mel.cpp
  // |X| of rows of n_bins complex numbers: for each bin a vector of frames. Unless `exact`, they are rough
  // below 1e-15, and infinite above 1.8e19.
  void (*magnitude_tile)(const float* X, std::ptrdiff_t X_stride, std::ptrdiff_t n_bins, int n_frames,
                         bool exact, float* magnitudes);
  // Returns whether inexact magnitudes were enough.
  bool (*mel_tile)(const MelTile& tile);
  void (*mel_sums_tile)(const MelTile& tile);  // the sums themselves, not in decibels

  // analyze.cpp
  // n_frames rows of n_bins floats, log(1 + |X|).
  void (*log1p_tile)(const float* magnitudes, std::ptrdiff_t n_bins, int n_frames, float* V);

  const NmfKernels* nmf;
  const Bf16Kernels* bf16;
  const StreamKernels* stream;
  const StreamPoolKernels* stream_pool;
  const CeilingKernels* ceilings;
};

namespace scalar {
extern const Kernels table;
}
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
// Only the bfloat16 products differ; all other kernels of these paths are those of avx512.
namespace avx512_bf16 {
extern const Bf16Kernels bf16;
}
namespace amx {
extern const Bf16Kernels bf16;
}

}  // namespace l2i::kernels
