#include "nmf.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "interrupt.h"
#include "products.h"
#include "threads.h"
#include "workspace.h"

namespace l2i {
namespace {

using kernels::NmfKernels;
using kernels::NmfLoss;
using kernels::RatioTile;

// The least value of the model where its powers are taken, and of a denominator in place of zero, as in
// scikit-learn.
constexpr float kFloor = 1.1920929e-7f;
constexpr std::ptrdiff_t kRows = 96;          // rows of a panel whose model is held at a time
constexpr std::ptrdiff_t kTilePanels = 2;     // panels of frames that are added to the sums for W together
constexpr std::ptrdiff_t kTilesInFloat = 16;  // tiles summed in float32 before they go to float64
constexpr std::ptrdiff_t kFramesPerTask = 192;
constexpr double kMultiplyAdd = 0.05;  // its approximate time in nanoseconds

constexpr int kNewtonSweeps = 2;
constexpr float kMoreDamping = 2.5f, kLessDamping = 0.6f, kLeastDamping = 0.7f;

NmfLoss loss_of(float beta) {
  if (beta == 2) return NmfLoss::euclidean;
  if (beta == 1.5f) return NmfLoss::three_halves;
  if (beta == 1) return NmfLoss::kullback_leibler;
  if (beta == 0.5f) return NmfLoss::half;
  if (beta == 0) return NmfLoss::itakura_saito;
  return NmfLoss::general;
}

// Exponent that makes the multiplicative step monotone (Fevotte and Idier, 2011, table 2).
float exponent_of(float beta) {
  if (beta < 1) return 1 / (2 - beta);
  return beta <= 2 ? 1.0f : 1 / (beta - 1);
}

std::ptrdiff_t round_up(std::ptrdiff_t n, std::ptrdiff_t step) { return (n + step - 1) / step * step; }

// The columns of a matrix in panels: all but the last are `panel` lanes wide, the last as narrow as possible.
struct Panels {
  std::ptrdiff_t n_columns, panel, lanes_of_a_vector;

  std::ptrdiff_t count() const { return (n_columns + panel - 1) / panel; }
  std::ptrdiff_t begin(std::ptrdiff_t p) const { return p * panel; }
  std::ptrdiff_t valid(std::ptrdiff_t p) const { return std::min(panel, n_columns - begin(p)); }
  std::ptrdiff_t lanes(std::ptrdiff_t p) const { return round_up(valid(p), lanes_of_a_vector); }
  std::ptrdiff_t padded() const { return round_up(n_columns, lanes_of_a_vector); }  // of a row, in all panels
};

// Columns [begin, begin + valid) of some rows, readable up to `lanes`: in place, or copied at the edge.
struct Window {
  const float* data;
  std::ptrdiff_t stride;
};
Window window(const float* rows, std::ptrdiff_t stride, std::ptrdiff_t n_rows, std::ptrdiff_t begin,
              std::ptrdiff_t valid, std::ptrdiff_t lanes, float* edge) {
  if (valid == lanes) return {rows + begin, stride};
  for (std::ptrdiff_t r = 0; r < n_rows; ++r) {
    std::copy_n(rows + r * stride + begin, valid, edge + r * lanes);
    std::fill_n(edge + r * lanes + valid, lanes - valid, 0.0f);
  }
  return {edge, lanes};
}

// C[j, k] = G[j, k] / root(G[j, j] G[k, k]) in place; rows and columns without a diagonal become zero.
void to_correlation(float* gram, std::ptrdiff_t K) {
  std::vector<float> scale(static_cast<std::size_t>(K));
  for (std::ptrdiff_t k = 0; k < K; ++k)
    scale[k] = gram[k * K + k] > 0 ? 1 / std::sqrt(gram[k * K + k]) : 0.0f;
  for (std::ptrdiff_t j = 0; j < K; ++j) {
    for (std::ptrdiff_t k = 0; k < K; ++k) gram[j * K + k] *= scale[j] * scale[k];
    if (scale[j] > 0) gram[j * K + j] = 1;
  }
}

// Read by all threads of a pass: the dictionary in panels of bins, and everything that depends on it alone.
class Shared {
 public:
  Shared(const Kernels& kernels, const NmfProblem& problem, const NmfUpdate& update, Workspace& workspace)
      : nmf(*kernels.nmf),
        arithmetic{nmf, *kernels.bf16, update.n_terms},
        bins{problem.n_bins, nmf.panel, kernels.lanes},
        components{problem.n_components, nmf.panel, kernels.lanes},
        loss(loss_of(problem.beta)),
        newton(update.method == NmfMethod::newton),
        denominator(newton ? NmfDenominator::full : denominator_of(problem.beta, problem.mask != nullptr)) {
    layout(nullptr);
    layout(workspace.get(size_));
    const std::ptrdiff_t F = problem.n_bins, K = problem.n_components;
    W.set(problem.W, K, F);
    for (std::ptrdiff_t p = 0; p < bins.count(); ++p) {
      const std::ptrdiff_t begin = bins.begin(p), lanes = bins.lanes(p);
      nmf.to_panel(problem.W + begin * K, K, bins.valid(p), K, lanes, W_ + begin * K);
      if (arithmetic.n_terms > 0)
        kernels.bf16->pack_panel(W_ + begin * K, lanes, K, lanes, arithmetic.n_terms, words_ + words_of(p));
    }
    if (newton) {
      std::transform(problem.W, problem.W + F * K, squares_, [](float w) { return w * w; });
      squares.set(squares_, K, F);
      for (std::ptrdiff_t f = 0; f < F; ++f) {
        for (std::ptrdiff_t k = 0; k < K; ++k)
          weighted_[f * K + k] = update.bin_weights[f] * problem.W[f * K + k];
      }
      take_gram(problem.W, weighted_, F);
      to_correlation(gram_, K);
    } else if (denominator == NmfDenominator::gram) {
      take_gram(problem.W, problem.W, F);
      gram.set(gram_, K, K);
    }
    if (newton || denominator == NmfDenominator::sums) {
      for (std::ptrdiff_t k = 0; k < K; ++k) {
        double sum = 0;
        for (std::ptrdiff_t f = 0; f < F; ++f) sum += static_cast<double>(problem.W[f * K + k]);
        column_sums_[k] = static_cast<float>(sum);
      }
    }
  }

  // Components by bins.
  Panel W_panel(std::ptrdiff_t p) const {
    return {W_ + bins.begin(p) * components.n_columns, bins.lanes(p), words_ + words_of(p)};
  }
  // W' W; for newton, the correlations of the columns of W with its bins weighted.
  const float* gram_rows() const { return gram_; }
  kernels::NmfSummands summands() const {
    return newton ? kernels::NmfSummands::newton : kernels::NmfSummands::multiplicative;
  }
  const float* column_sums() const { return column_sums_; }

  // The sums over frames for the update of W are stored by panel, component and lane: the numerator, the
  // denominator, and the weighted Gram matrix.
  std::ptrdiff_t n_numerator() const { return components.n_columns * bins.padded(); }
  std::ptrdiff_t n_denominator() const {
    if (denominator == NmfDenominator::gram) return n_gram();
    return denominator == NmfDenominator::sums ? components.padded() : n_numerator();
  }
  std::ptrdiff_t n_sums() const { return n_numerator() + n_denominator() + (newton ? n_gram() : 0); }

  const NmfKernels& nmf;
  const Arithmetic arithmetic;
  const Panels bins, components;
  const NmfLoss loss;
  const bool newton;
  const NmfDenominator denominator;
  Factor W, squares, gram;  // W, its squares (for newton) and W' W

 private:
  std::ptrdiff_t words_of(std::ptrdiff_t p) const {
    return p * packed_size(arithmetic, components.n_columns, bins.panel);
  }

  void layout(float* memory) {
    Slices slices(memory);
    const std::ptrdiff_t K = components.n_columns;
    const bool by_gram = denominator == NmfDenominator::gram;
    W.layout(slices, arithmetic, bins.n_columns, K, !by_gram);
    W_ = slices.take(K * bins.padded());
    words_ = slices.take_words(words_of(bins.count()));
    if (by_gram) gram.layout(slices, arithmetic, K, K, false);
    if (newton || by_gram) {
      gram_ = slices.take(K * K);
      panel_ = slices.take(K * nmf.panel);
      edge_ = slices.take(bins.n_columns * nmf.panel);
    }
    if (newton) {
      squares.layout(slices, arithmetic, bins.n_columns, K, false);
      squares_ = slices.take(bins.n_columns * K);
      weighted_ = slices.take(bins.n_columns * K);
    }
    if (newton || denominator == NmfDenominator::sums) column_sums_ = slices.take(K);
    size_ = slices.total();
  }

  // gram_ = left' right, for matrices of n rows.
  void take_gram(const float* left, const float* right, std::ptrdiff_t n) {
    const std::ptrdiff_t K = components.n_columns;
    Poll poll(kMultiplyAdd);
    for (std::ptrdiff_t p = 0; p < components.count(); ++p) {
      const std::ptrdiff_t lanes = components.lanes(p), valid = components.valid(p), k = components.begin(p);
      const Window w = window(right, K, n, k, valid, lanes, edge_);
      std::fill_n(panel_, K * lanes, 0.0f);
      for (std::ptrdiff_t f = 0; f < n; f += kRows) {
        nmf.accumulate(left + f * K, K, w.data + f * w.stride, w.stride, std::min(kRows, n - f), K, lanes,
                       panel_);
      }
      for (std::ptrdiff_t j = 0; j < K; ++j) std::copy_n(panel_ + j * lanes, valid, gram_ + j * K + k);
      poll(n * K * lanes);
    }
  }

  std::ptrdiff_t n_gram() const { return components.n_columns * components.padded(); }

  std::size_t size_ = 0;
  float *squares_ = nullptr, *weighted_ = nullptr;
  std::uint32_t* words_ = nullptr;
  float *W_ = nullptr, *gram_ = nullptr, *panel_ = nullptr, *edge_ = nullptr, *column_sums_ = nullptr;
};

// The work of one thread on a run of frames, one tile after another.
class Worker {
 public:
  // sums: where those for W are added, laid out as in Shared; or null.
  Worker(const Shared& shared, const NmfProblem& problem, const NmfUpdate& update, bool measure, double* sums,
         Workspace& workspace)
      : s_(shared), p_(problem), update_(update), measure_(measure), sums_(sums) {
    layout(nullptr);
    layout(workspace.get(size_));
    if (floats_ != nullptr) std::fill_n(floats_, s_.n_sums(), 0.0f);
  }

  void run(std::ptrdiff_t begin, std::ptrdiff_t end) {
    const Multiplying multiplying(s_.arithmetic);
    const std::ptrdiff_t tile = kTilePanels * s_.nmf.panel;
    std::ptrdiff_t pending = 0;
    for (std::ptrdiff_t t = begin; t < end; t += tile) {
      const std::ptrdiff_t tile_end = std::min(t + tile, end);
      for (std::ptrdiff_t u = t; u < tile_end; u += s_.nmf.panel) {
        update_frames(u, std::min(u + s_.nmf.panel, tile_end));
      }
      if (sums_ == nullptr) continue;
      gather(t, tile_end - t);
      poll_(2 * (tile_end - t) * p_.n_bins * p_.n_components);
      if (++pending == kTilesInFloat || tile_end == end) {
        flush();
        pending = 0;
      }
    }
  }

  double divergence() const { return divergence_; }

 private:
  void layout(float* memory) {
    Slices slices(memory);
    const std::ptrdiff_t L = s_.nmf.panel, K = p_.n_components;
    const std::ptrdiff_t tile = kTilePanels * L;
    V_ = slices.take(p_.n_bins * L);
    if (p_.mask != nullptr) mask_ = slices.take(p_.n_bins * L);
    H_ = slices.take(K * L);
    N_ = slices.take(K * L);
    D_ = slices.take(K * L);
    H_panel_.layout(slices, s_.arithmetic, K, L);
    panel_.layout(slices, s_.arithmetic, std::max(kRows, tile), L);
    if (sums_ != nullptr) {
      rows_.layout(slices, s_.arithmetic, tile, K, s_.denominator != NmfDenominator::gram);
      if (s_.newton) squares_rows_.layout(slices, s_.arithmetic, tile, K, false);
    }
    if (s_.newton) {
      model_ = slices.take(p_.n_bins * L);
      step_ = slices.take(K * L);
      lanes_ = slices.take(4 * L);
      squares_ = slices.take(tile * K);
      weighted_ = slices.take(tile * K);
    }
    up_ = slices.take(kRows * L);
    if (s_.denominator == NmfDenominator::full) down_ = slices.take(kRows * L);
    edge_ = slices.take(tile * L);
    if (p_.mask != nullptr) mask_edge_ = slices.take(tile * L);
    if (sums_ != nullptr) floats_ = slices.take(s_.n_sums());
    size_ = slices.total();
  }

  // Updates H for the frames [begin, end), at most a panel.
  void update_frames(std::ptrdiff_t begin, std::ptrdiff_t end) {
    if (update_.n_updates == 0 && !(measure_ && s_.denominator == NmfDenominator::gram)) return;
    const std::ptrdiff_t n = end - begin, K = p_.n_components, F = p_.n_bins;
    const std::ptrdiff_t lanes = round_up(n, s_.bins.lanes_of_a_vector), size = K * lanes;
    float* const H = p_.H + begin * p_.H_stride;
    s_.nmf.to_panel(p_.V + begin * p_.V_stride, p_.V_stride, n, F, lanes, V_);
    if (p_.mask != nullptr)
      s_.nmf.to_panel(p_.mask + begin * p_.mask_stride, p_.mask_stride, n, F, lanes, mask_);
    s_.nmf.to_panel(H, p_.H_stride, n, K, lanes, H_);

    if (s_.denominator == NmfDenominator::gram) {
      std::fill_n(N_, size, 0.0f);
      for (std::ptrdiff_t f = 0; f < F; f += kRows) {
        const std::ptrdiff_t rows = std::min(kRows, F - f);
        s_.W.accumulate(f, rows, panel_(V_ + f * lanes, lanes, rows, lanes), lanes, N_);
      }
      poll_(F * size);
      for (int i = 0; i < update_.n_updates; ++i) {
        step_with_gram(H_, lanes);
        poll_(K * size);
      }
      if (measure_) {
        if (s_.arithmetic.n_terms == 1) {  // too coarse for the residual of V: again in float32
          std::fill_n(N_, size, 0.0f);
          for (std::ptrdiff_t f = 0; f < F; f += kRows)
            s_.nmf.accumulate(p_.W + f * K, K, V_ + f * lanes, lanes, std::min(kRows, F - f), K, lanes, N_);
        }
        divergence_ += 0.5 * s_.nmf.dot(V_, V_, F * lanes) - s_.nmf.dot(N_, H_, size);
        std::fill_n(D_, size, 0.0f);
        s_.nmf.accumulate(s_.gram_rows(), K, H_, lanes, K, K, lanes, D_);
        divergence_ += 0.5 * s_.nmf.dot(D_, H_, size);
      }
    } else if (s_.newton) {
      for (int i = 0; i < update_.n_updates; ++i) {
        newton_step(update_.damping + begin, n, lanes);
        poll_((4 * F + 2 * K) * size);
      }
    } else {
      for (int i = 0; i < update_.n_updates; ++i) {
        products_with_model(lanes);
        s_.nmf.update_multiplicative(H_, N_, D_, size, update_.penalty, exponent_of(p_.beta), kFloor);
        poll_(3 * F * size);
      }
    }
    if (update_.n_updates > 0) s_.nmf.from_panel(H_, lanes, n, K, H, p_.H_stride);
  }

  void step_with_gram(float* B, std::ptrdiff_t lanes) {
    const std::ptrdiff_t K = p_.n_components;
    if (update_.method == NmfMethod::coordinates) {
      s_.nmf.update_coordinates(B, N_, s_.gram_rows(), K, lanes, update_.penalty, nullptr);
      return;
    }
    std::fill_n(D_, K * lanes, 0.0f);
    s_.gram.accumulate(0, K, H_panel_(B, lanes, K, lanes), lanes, D_);
    s_.nmf.update_multiplicative(B, N_, D_, K * lanes, update_.penalty, 1, kFloor);
  }

  // N = W' up and D = W' down (for newton, with the squares of W) of the panel of frames. With the model M =
  // W H, up and down are V M^(beta - 2) and M^(beta - 1), or the derivatives of the divergence with respect
  // to M.
  void products_with_model(std::ptrdiff_t lanes) {
    const std::ptrdiff_t K = p_.n_components, F = p_.n_bins;
    std::fill_n(N_, K * lanes, 0.0f);
    if (down_ != nullptr) {
      std::fill_n(D_, K * lanes, 0.0f);
    } else {
      for (std::ptrdiff_t k = 0; k < K; ++k) std::fill_n(D_ + k * lanes, lanes, s_.column_sums()[k]);
    }
    const Panel H = H_panel_(H_, lanes, K, lanes);
    const Factor& denominator = s_.newton ? s_.squares : s_.W;
    for (std::ptrdiff_t f = 0; f < F; f += kRows) {
      const std::ptrdiff_t n = std::min(kRows, F - f);
      float* const model = s_.newton ? model_ + f * lanes : up_;
      s_.W.product(f, n, H, lanes, model);
      s_.nmf.ratio(frames_tile(f, n, lanes, model));
      s_.W.accumulate(f, n, panel_(up_, lanes, n, lanes), lanes, N_);
      if (down_ != nullptr) denominator.accumulate(f, n, panel_(down_, lanes, n, lanes), lanes, D_);
    }
  }

  RatioTile frames_tile(std::ptrdiff_t f, std::ptrdiff_t n, std::ptrdiff_t lanes, const float* model) const {
    return {s_.summands(),  s_.loss, p_.beta,
            kFloor,         n,       lanes,
            model,          up_,     down_,
            V_ + f * lanes, lanes,   mask_ == nullptr ? nullptr : mask_ + f * lanes,
            lanes,          false,   lanes};
  }

  // Takes a step for each frame of the panel, shortened if the slope at its end requires it, and adapts the
  // damping for the next step.
  void newton_step(float* damping, std::ptrdiff_t n, std::ptrdiff_t lanes) {
    const std::ptrdiff_t K = p_.n_components, F = p_.n_bins, L = s_.nmf.panel;
    float *const damped = lanes_, *const before = lanes_ + L, *const after = lanes_ + 2 * L,
                 *const length = lanes_ + 3 * L;
    products_with_model(lanes);
    std::fill_n(damped, lanes, 1.0f);
    std::copy_n(damping, n, damped);
    s_.nmf.newton_step({K, lanes, H_, N_, D_, s_.gram_rows(), damped, kNewtonSweeps, nullptr, step_, before},
                       update_.penalty);
    std::fill_n(after, lanes, 0.0f);
    for (std::ptrdiff_t f = 0; f < F; f += kRows) {
      const std::ptrdiff_t rows = std::min(kRows, F - f);
      s_.nmf.product(p_.W + f * K, K, step_, rows, K, lanes, up_);
      s_.nmf.slope_after(frames_tile(f, rows, lanes, model_ + f * lanes), up_, after);
    }
    const auto [l1, l2] = update_.penalty;
    if (l1 != 0 || l2 != 0) {
      for (std::ptrdiff_t i = 0; i < K * lanes; ++i)
        after[i % lanes] += (l1 + l2 * (H_[i] + step_[i])) * step_[i];
    }
    for (std::ptrdiff_t l = 0; l < lanes; ++l) {
      // Uphill at the end, more steeply than downhill at the start: stop at the root of the secant.
      const bool too_far = after[l] > -before[l];
      length[l] = too_far ? before[l] / std::min(before[l] - after[l], -1e-30f) : 1.0f;
      if (l < n)
        damping[l] = too_far ? kMoreDamping * damping[l] : std::max(kLessDamping * damping[l], kLeastDamping);
    }
    s_.nmf.take_step(H_, step_, length, K, lanes);
  }

  // Adds the frames [begin, begin + n) to the sums for W.
  void gather(std::ptrdiff_t begin, std::ptrdiff_t n) {
    const std::ptrdiff_t K = p_.n_components;
    const float* const H = p_.H + begin * p_.H_stride;
    const float* const V = p_.V + begin * p_.V_stride;
    const bool gram = s_.denominator == NmfDenominator::gram;
    float* numerator = floats_;
    float* denominator = floats_ + s_.n_numerator();
    rows_.set(H, p_.H_stride, n);
    if (s_.newton) {
      square_and_weigh(H, n);
      squares_rows_.set(squares_, K, n);
    }
    const Factor& factor = s_.newton ? squares_rows_ : rows_;
    for (std::ptrdiff_t p = 0; p < s_.bins.count(); ++p) {
      const std::ptrdiff_t lanes = s_.bins.lanes(p), valid = s_.bins.valid(p), f = s_.bins.begin(p);
      const Window v = window(V, p_.V_stride, n, f, valid, lanes, edge_);
      Window mask{nullptr, 0};
      if (mask_ != nullptr)
        mask = window(p_.mask + begin * p_.mask_stride, p_.mask_stride, n, f, valid, lanes, mask_edge_);
      for (std::ptrdiff_t t = 0; t < n; t += kRows) {
        const std::ptrdiff_t rows = std::min(kRows, n - t);
        if (gram) {
          rows_.accumulate(t, rows, panel_(v.data + t * v.stride, v.stride, rows, lanes), lanes, numerator);
          continue;
        }
        rows_.product(t, rows, s_.W_panel(p), lanes, up_);
        divergence_ += s_.nmf.ratio({s_.summands(), s_.loss, p_.beta, kFloor, rows, lanes, up_, up_, down_,
                                     v.data + t * v.stride, v.stride,
                                     mask.data == nullptr ? nullptr : mask.data + t * mask.stride,
                                     mask.stride, measure_, valid});
        rows_.accumulate(t, rows, panel_(up_, lanes, rows, lanes), lanes, numerator);
        if (down_ != nullptr)
          factor.accumulate(t, rows, panel_(down_, lanes, rows, lanes), lanes, denominator);
      }
      numerator += K * lanes;
      if (down_ != nullptr) denominator += K * lanes;
    }
    if (down_ != nullptr && !s_.newton) return;
    const float one = 1;
    for (std::ptrdiff_t p = 0; p < s_.components.count(); ++p) {
      const std::ptrdiff_t lanes = s_.components.lanes(p), valid = s_.components.valid(p),
                           k = s_.components.begin(p);
      const Window h = s_.newton ? window(weighted_, K, n, k, valid, lanes, edge_)
                                 : window(H, p_.H_stride, n, k, valid, lanes, edge_);
      if (gram || s_.newton) {
        rows_.accumulate(0, n, panel_(h.data, h.stride, n, lanes), lanes, denominator);
        denominator += K * lanes;
      } else {
        s_.nmf.accumulate(&one, 0, h.data, h.stride, n, 1, lanes, denominator);
        denominator += lanes;
      }
    }
  }

  // The squares of H, and H weighted by frame for the Hessian that all bins share.
  void square_and_weigh(const float* H, std::ptrdiff_t n) {
    const std::ptrdiff_t K = p_.n_components;
    for (std::ptrdiff_t t = 0; t < n; ++t) {
      const float* const h = H + t * p_.H_stride;
      const double mean = s_.nmf.dot(h, s_.column_sums(), K) / static_cast<double>(p_.n_bins);
      const float weight = std::pow(std::max(static_cast<float>(mean), update_.least_mean), p_.beta - 2);
      for (std::ptrdiff_t k = 0; k < K; ++k) {
        squares_[t * K + k] = h[k] * h[k];
        weighted_[t * K + k] = weight * h[k];
      }
    }
  }

  void flush() {
    for (std::ptrdiff_t i = 0; i < s_.n_sums(); ++i) sums_[i] += static_cast<double>(floats_[i]);
    std::fill_n(floats_, s_.n_sums(), 0.0f);
  }

  const Shared& s_;
  const NmfProblem& p_;
  const NmfUpdate& update_;
  const bool measure_;
  double* const sums_;
  std::size_t size_ = 0;
  PanelPacker H_panel_, panel_;
  Factor rows_, squares_rows_;  // H and its squares
  float *model_ = nullptr, *step_ = nullptr, *lanes_ = nullptr, *squares_ = nullptr, *weighted_ = nullptr;
  float *V_ = nullptr, *mask_ = nullptr, *H_ = nullptr, *N_ = nullptr, *D_ = nullptr;
  float *up_ = nullptr, *down_ = nullptr, *edge_ = nullptr, *mask_edge_ = nullptr, *floats_ = nullptr;
  double divergence_ = 0;
  Poll poll_{kMultiplyAdd};
};

// The frames of a task, in whole panels; the split depends only on the sizes and the number of threads.
struct Run {
  std::ptrdiff_t begin, end;
};
Run run_of(int task, int n_tasks, std::ptrdiff_t n_frames, std::ptrdiff_t panel) {
  const std::ptrdiff_t n_panels = (n_frames + panel - 1) / panel;
  return {std::min(n_panels * task / n_tasks * panel, n_frames),
          std::min(n_panels * (task + 1) / n_tasks * panel, n_frames)};
}
int tasks_for(std::ptrdiff_t n_frames) {
  constexpr int kTasksPerThread = 4;  // so that a delayed thread runs fewer of them
  const int n_threads = num_threads();
  const auto worthwhile = std::max<std::ptrdiff_t>(n_frames / kFramesPerTask, 1);
  if (n_threads == 1 || worthwhile <= n_threads) {
    return static_cast<int>(std::min<std::ptrdiff_t>(worthwhile, n_threads));
  }
  const auto n_tasks = std::min<std::ptrdiff_t>(worthwhile, kTasksPerThread * n_threads);
  return static_cast<int>(n_tasks - n_tasks % n_threads);  // the same number for each thread
}

// The divergence of the frames [begin, begin + n) from their model. model, v_edge, mask_edge: work space, n
// rows of a panel each.
double measure_rows(const Shared& shared, const NmfProblem& p, std::ptrdiff_t begin, std::ptrdiff_t n,
                    float* model, float* v_edge, float* mask_edge) {
  double total = 0;
  for (std::ptrdiff_t panel = 0; panel < shared.bins.count(); ++panel) {
    const std::ptrdiff_t lanes = shared.bins.lanes(panel), valid = shared.bins.valid(panel),
                         f = shared.bins.begin(panel);
    const Window v = window(p.V + begin * p.V_stride, p.V_stride, n, f, valid, lanes, v_edge);
    Window mask{nullptr, 0};
    if (p.mask != nullptr)
      mask = window(p.mask + begin * p.mask_stride, p.mask_stride, n, f, valid, lanes, mask_edge);
    shared.nmf.product(p.H + begin * p.H_stride, p.H_stride, shared.W_panel(panel).data, n, p.n_components,
                       lanes, model);
    total += shared.nmf.ratio({kernels::NmfSummands::multiplicative, shared.loss, p.beta, kFloor, n, lanes,
                               model, model, nullptr, v.data, v.stride, mask.data, mask.stride, true, valid});
  }
  return total;
}

float to_float(double x) { return static_cast<float>(x); }

// panel[k, l] = rows[l, k], zero for the lanes beyond n_rows.
void to_float_panel(const double* rows, std::ptrdiff_t K, std::ptrdiff_t n_rows, std::ptrdiff_t lanes,
                    float* panel) {
  for (std::ptrdiff_t k = 0; k < K; ++k) {
    for (std::ptrdiff_t l = 0; l < lanes; ++l)
      panel[k * lanes + l] = l < n_rows ? to_float(rows[l * K + k]) : 0.0f;
  }
}

// Restores the fixed components in the panel.
void restore(const float* rows, std::ptrdiff_t K, std::ptrdiff_t n_rows, std::ptrdiff_t lanes,
             const bool* fixed, float* panel) {
  for (std::ptrdiff_t k = 0; fixed != nullptr && k < K; ++k) {
    for (std::ptrdiff_t l = 0; fixed[k] && l < n_rows; ++l) panel[k * lanes + l] = rows[l * K + k];
  }
}

// rows[c, k] = sums in panels of columns: panel, component, lane.
void from_sums(const double* sums, const Panels& columns, std::ptrdiff_t K, double* rows) {
  for (std::ptrdiff_t p = 0; p < columns.count(); ++p) {
    const std::ptrdiff_t lanes = columns.lanes(p);
    for (std::ptrdiff_t l = 0; l < columns.valid(p); ++l) {
      double* const row = rows + (columns.begin(p) + l) * K;
      for (std::ptrdiff_t k = 0; k < K; ++k) row[k] = sums[k * lanes + l];
    }
    sums += K * lanes;
  }
}

}  // namespace

NmfDenominator denominator_of(float beta, bool masked) {
  if (masked) return NmfDenominator::full;
  if (beta == 2) return NmfDenominator::gram;
  return beta == 1 ? NmfDenominator::sums : NmfDenominator::full;
}

double nmf_pass(const NmfProblem& problem, const NmfUpdate& update, const std::optional<NmfSums>& sums,
                bool measure) {
  thread_local Workspace dictionary, parts;
  const FlushDenormals flush;
  const Shared shared(current_kernels(), problem, update, dictionary);
  const int n_tasks = tasks_for(problem.n_frames);
  const std::ptrdiff_t n_sums = sums ? shared.n_sums() : 0;
  double* const part = parts.get_doubles(static_cast<std::size_t>(n_tasks * n_sums));
  std::fill_n(part, n_tasks * n_sums, 0.0);
  std::vector<double> divergences(static_cast<std::size_t>(n_tasks));
  parallel(n_tasks, [&](int task) {
    thread_local Workspace workspace;
    const FlushDenormals flush_here;
    Worker worker(shared, problem, update, measure, sums ? part + task * n_sums : nullptr, workspace);
    const Run run = run_of(task, n_tasks, problem.n_frames, shared.nmf.panel);
    worker.run(run.begin, run.end);
    divergences[static_cast<std::size_t>(task)] = worker.divergence();
  });
  if (sums) {
    for (int task = 1; task < n_tasks; ++task) {
      for (std::ptrdiff_t i = 0; i < n_sums; ++i) part[i] += part[task * n_sums + i];
    }
    const std::ptrdiff_t K = problem.n_components;
    const double* const denominator = part + shared.n_numerator();
    from_sums(part, shared.bins, K, sums->numerator);
    switch (shared.denominator) {
      case NmfDenominator::gram:
        from_sums(denominator, shared.components, K, sums->denominator);
        break;
      case NmfDenominator::sums:
        std::copy_n(denominator, K, sums->denominator);
        break;
      case NmfDenominator::full:
        from_sums(denominator, shared.bins, K, sums->denominator);
    }
    if (shared.newton) from_sums(denominator + shared.n_denominator(), shared.components, K, sums->gram);
  }
  return std::accumulate(divergences.begin(), divergences.end(), 0.0);
}

double nmf_divergence(const NmfProblem& problem) {
  thread_local Workspace dictionary;
  const FlushDenormals flush;
  const Shared shared(current_kernels(), problem, {}, dictionary);
  const int n_tasks = tasks_for(problem.n_frames);
  std::vector<double> divergences(static_cast<std::size_t>(n_tasks));
  parallel(n_tasks, [&](int task) {
    thread_local Workspace workspace;
    const FlushDenormals flush_here;
    const std::ptrdiff_t block = kRows * shared.nmf.panel;
    float* const model = workspace.get(static_cast<std::size_t>(3 * block));
    const Run run = run_of(task, n_tasks, problem.n_frames, shared.nmf.panel);
    double total = 0;
    Poll poll(kMultiplyAdd);
    for (std::ptrdiff_t t = run.begin; t < run.end; t += kRows) {
      const std::ptrdiff_t n = std::min(kRows, run.end - t);
      total += measure_rows(shared, problem, t, n, model, model + block, model + 2 * block);
      poll(n * problem.n_bins * problem.n_components);
    }
    divergences[static_cast<std::size_t>(task)] = total;
  });
  return std::accumulate(divergences.begin(), divergences.end(), 0.0);
}

void nmf_update(float* W, std::ptrdiff_t n_rows, std::ptrdiff_t n_components, float beta, const NmfSums& sums,
                NmfDenominator denominator, const NmfUpdate& update, const bool* fixed) {
  thread_local Workspace workspace;
  const FlushDenormals flush;
  const Kernels& kernels = current_kernels();
  const NmfKernels& nmf = *kernels.nmf;
  const std::ptrdiff_t K = n_components, size = K * nmf.panel;
  float* const B = workspace.get(static_cast<std::size_t>(4 * size + K * K + 2 * nmf.panel));
  float *const N = B + size, *const D = N + size, *const step = D + size, *const gram = step + size;
  float *const lane = gram + K * K, *const slope = lane + nmf.panel;
  const bool newton = update.method == NmfMethod::newton;
  const bool has_gram = denominator == NmfDenominator::gram && !newton;
  if (has_gram) std::transform(sums.denominator, sums.denominator + K * K, gram, to_float);
  if (newton) {
    std::transform(sums.gram, sums.gram + K * K, gram, to_float);
    to_correlation(gram, K);
  }

  const Panels rows{n_rows, nmf.panel, kernels.lanes};
  Poll poll(kMultiplyAdd);
  for (std::ptrdiff_t p = 0; p < rows.count(); ++p) {
    const std::ptrdiff_t lanes = rows.lanes(p), valid = rows.valid(p), begin = rows.begin(p);
    float* const panel_rows = W + begin * K;
    nmf.to_panel(panel_rows, K, valid, K, lanes, B);
    to_float_panel(sums.numerator + begin * K, K, valid, lanes, N);
    if (denominator == NmfDenominator::full || newton)
      to_float_panel(sums.denominator + begin * K, K, valid, lanes, D);
    if (newton) {
      std::fill_n(lane, lanes, *update.damping);
      nmf.newton_step({K, lanes, B, N, D, gram, lane, kNewtonSweeps, fixed, step, slope}, update.penalty);
      std::fill_n(lane, lanes, 1.0f);
      nmf.take_step(B, step, lane, K, lanes);
    }
    for (int i = 0; i < update.n_updates && !newton; ++i) {
      poll(K * K * lanes);
      if (update.method == NmfMethod::coordinates) {
        nmf.update_coordinates(B, N, gram, K, lanes, update.penalty, fixed);
        continue;
      }
      if (has_gram) {
        std::fill_n(D, K * lanes, 0.0f);
        nmf.accumulate(gram, K, B, lanes, K, K, lanes, D);
      } else if (denominator == NmfDenominator::sums) {
        for (std::ptrdiff_t k = 0; k < K; ++k)
          std::fill_n(D + k * lanes, lanes, to_float(sums.denominator[k]));
      }
      nmf.update_multiplicative(B, N, D, K * lanes, update.penalty, exponent_of(beta), kFloor);
      restore(panel_rows, K, valid, lanes, fixed, B);
    }
    nmf.from_panel(B, lanes, valid, K, panel_rows, K);
  }
}

}  // namespace l2i
