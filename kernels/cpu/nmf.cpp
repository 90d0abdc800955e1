// Steps of non-negative matrix factorisation, V ~ W H, on panels.
//
// Both halves of an iteration are the same work with the roles swapped. A panel is a block of some rows r
// (bins, or frames), and up to kWidth vectors of lanes l (frames, or bins):
//
//   M[r, l] = sum_k A[r, k] B[k, l]        product      model, A = W and B = H, or A = H' and B = W'
//   Q[r, l] = V[r, l] M[r, l]^(beta - 2)   ratio        and M^(beta - 1) where the denominator needs it
//   N[k, l] += sum_r A[r, k] Q[r, l]       accumulate   numerator of the update of B
//   B[k, l] *= (N[k, l] / D[k, l])^gamma   update
//
// So only a few dozen rows of W H, of one panel, are held at a time, in the first-level cache.
//
// dtypes: float32. Precision: float32 sums of K terms in index order (product), of the rows of one call
// (accumulate: summed in registers first, then added to N); powers of the model are exact quotients and roots
// for beta = 2, 1.5, 1, 0.5, 0, otherwise exp(p log x), about |p log x| ulp. Cost: 2 K fused multiply-adds
// and one quotient per entry of V; product and accumulate keep kWidth * kHeight sums in registers.
#include "nmf.h"

#include "simd.h"
#include "vmath.h"

namespace l2i::kernels::L2I_ISA {
namespace {

constexpr int kWidth = 3;
constexpr int kHeight = kLanes == 16 ? 8 : 4;  // 24 sums of 32 registers, 12 of 16
constexpr float kLargest = 3.402823466e38f;
constexpr float kSmallest = 1.17549435e-38f;  // the smallest normal number

// C[0 .. height)[lanes] = A[height, K] B
template <int width, int height>
void product_block(const float* A, std::ptrdiff_t A_stride, const float* B, std::ptrdiff_t K, float* C) {
  Vec sum[height][width];
  for (int j = 0; j < height; ++j) {
    for (int i = 0; i < width; ++i) sum[j][i] = Vec{};
  }
  for (std::ptrdiff_t k = 0; k < K; ++k) {
    Vec b[width];
    for (int i = 0; i < width; ++i) b[i] = load(B + (k * width + i) * kLanes);
    for (int j = 0; j < height; ++j) {
      const Vec a = broadcast(A[j * A_stride + k]);
      for (int i = 0; i < width; ++i) sum[j][i] += a * b[i];
    }
  }
  for (int j = 0; j < height; ++j) {
    for (int i = 0; i < width; ++i) store(C + (j * width + i) * kLanes, sum[j][i]);
  }
}

// N[0 .. height)[lanes] += A[n_rows, height]' Q
template <int width, int height>
void accumulate_block(const float* A, std::ptrdiff_t A_stride, const float* Q, std::ptrdiff_t Q_stride,
                      std::ptrdiff_t n_rows, float* N) {
  Vec sum[height][width];
  for (int j = 0; j < height; ++j) {
    for (int i = 0; i < width; ++i) sum[j][i] = Vec{};
  }
  for (std::ptrdiff_t r = 0; r < n_rows; ++r) {
    Vec q[width];
    for (int i = 0; i < width; ++i) q[i] = load(Q + r * Q_stride + i * kLanes);
    for (int j = 0; j < height; ++j) {
      const Vec a = broadcast(A[r * A_stride + j]);
      for (int i = 0; i < width; ++i) sum[j][i] += a * q[i];
    }
  }
  for (int j = 0; j < height; ++j) {
    for (int i = 0; i < width; ++i) {
      float* const n = N + (j * width + i) * kLanes;
      store(n, load(n) + sum[j][i]);
    }
  }
}

template <int width, int height>
void product_rows(const float* A, std::ptrdiff_t A_stride, const float* B, std::ptrdiff_t n_rows,
                  std::ptrdiff_t K, float* C) {
  std::ptrdiff_t r = 0;
  for (; r + height <= n_rows; r += height) {
    product_block<width, height>(A + r * A_stride, A_stride, B, K, C + r * width * kLanes);
  }
  if constexpr (height > 1) {
    if (r < n_rows) {
      product_rows<width, height / 2>(A + r * A_stride, A_stride, B, n_rows - r, K, C + r * width * kLanes);
    }
  }
}

template <int width, int height>
void accumulate_rows(const float* A, std::ptrdiff_t A_stride, const float* Q, std::ptrdiff_t Q_stride,
                     std::ptrdiff_t n_rows, std::ptrdiff_t K, float* N) {
  std::ptrdiff_t k = 0;
  for (; k + height <= K; k += height) {
    accumulate_block<width, height>(A + k, A_stride, Q, Q_stride, n_rows, N + k * width * kLanes);
  }
  if constexpr (height > 1) {
    if (k < K) {
      accumulate_rows<width, height / 2>(A + k, A_stride, Q, Q_stride, n_rows, K - k, N + k * width * kLanes);
    }
  }
}

void product(const float* A, std::ptrdiff_t A_stride, const float* B, std::ptrdiff_t n_rows, std::ptrdiff_t K,
             std::ptrdiff_t lanes, float* C) {
  switch (lanes / kLanes) {
    case 1:
      return product_rows<1, kHeight>(A, A_stride, B, n_rows, K, C);
    case 2:
      return product_rows<2, kHeight>(A, A_stride, B, n_rows, K, C);
    default:
      return product_rows<3, kHeight>(A, A_stride, B, n_rows, K, C);
  }
}

void accumulate(const float* A, std::ptrdiff_t A_stride, const float* Q, std::ptrdiff_t Q_stride,
                std::ptrdiff_t n_rows, std::ptrdiff_t K, std::ptrdiff_t lanes, float* N) {
  switch (lanes / kLanes) {
    case 1:
      return accumulate_rows<1, kHeight>(A, A_stride, Q, Q_stride, n_rows, K, N);
    case 2:
      return accumulate_rows<2, kHeight>(A, A_stride, Q, Q_stride, n_rows, K, N);
    default:
      return accumulate_rows<3, kHeight>(A, A_stride, Q, Q_stride, n_rows, K, N);
  }
}

inline Vec maximum(Vec a, Vec b) { return a > b ? a : b; }

// x^p for normal positive x.
inline Vec power(Vec x, float p) { return exp_bounded(log_positive(x) * p); }

// m^(beta - 2) and m^(beta - 1) for the model m > 0.
template <NmfLoss loss>
inline void powers(Vec m, float beta, Vec& up, Vec& down) {
  if constexpr (loss == NmfLoss::euclidean) {
    up = broadcast(1.0f);
    down = m;
  } else if constexpr (loss == NmfLoss::three_halves) {
    down = square_root(m);
    up = 1.0f / down;
  } else if constexpr (loss == NmfLoss::kullback_leibler) {
    up = 1.0f / m;
    down = broadcast(1.0f);
  } else if constexpr (loss == NmfLoss::half) {
    const Vec inverse = 1.0f / m;
    down = square_root(inverse);
    up = inverse * down;
  } else if constexpr (loss == NmfLoss::itakura_saito) {
    down = 1.0f / m;
    up = down * down;
  } else {
    up = power(m, beta - 2);
    down = up * m;
  }
}

// d D(v | m) / dm, from the powers of the model.
template <NmfLoss loss>
inline Vec first_derivative(Vec v, Vec m, Vec up, Vec down) {
  if constexpr (loss == NmfLoss::euclidean) return m - v;
  if constexpr (loss == NmfLoss::kullback_leibler) return 1.0f - v * up;
  return down - v * up;
}

// Both derivatives, the second one at least m^(beta - 2), its mean where the model is right: below that the
// divergence is not convex (beta < 1), or too flat for a step.
template <NmfLoss loss>
inline void derivatives(Vec v, Vec m, float beta, Vec& up, Vec& down) {
  const Vec first = first_derivative<loss>(v, m, up, down);
  if constexpr (loss == NmfLoss::euclidean) {
    down = broadcast(1.0f);
  } else if constexpr (loss == NmfLoss::kullback_leibler) {
    down = maximum(v, m) * up * up;
  } else {
    down = maximum((beta - 1) * m + (2 - beta) * v, m) * up / m;
  }
  up = first;
}

// Terms of the divergence. The model m was at least `floor` when its powers were taken; `model` is its value
// before that.
template <NmfLoss loss>
inline Vec divergence(Vec v, Vec m, Vec model, Vec down, float beta, float floor) {
  const Vec zero{};
  if constexpr (loss == NmfLoss::euclidean) {
    return 0.5f * (v - model) * (v - model);
  } else if constexpr (loss == NmfLoss::kullback_leibler) {
    const Vec safe = maximum(v, broadcast(kSmallest));
    const Vec log_ratio = log_positive(safe) - log_positive(m);
    return (v > zero ? v * log_ratio : zero) - v + model;
  } else if constexpr (loss == NmfLoss::itakura_saito) {
    const Vec safe = maximum(v, broadcast(floor));
    return safe * down - (log_positive(safe) - log_positive(m)) - 1.0f;
  } else {
    // If no power is negative, tiny values count as they are: many frames may be silent.
    const Vec least = broadcast(beta > 0 ? kSmallest : floor);
    const Vec raised = power(maximum(v, least), beta);
    const Vec first = beta > 0 ? (v > zero ? raised : zero) : raised;
    const Vec second = beta > 0 ? power(maximum(model, least), beta) : m * down;
    return (first + (beta - 1) * second - beta * v * down) * (1 / (beta * (beta - 1)));
  }
}

template <NmfLoss loss, NmfSummands summands, bool masked, bool measured>
double ratio_rows(const RatioTile& tile) {
  const Vec floor = broadcast(tile.floor);
  const int width = static_cast<int>(tile.lanes / kLanes);
  double total = 0;
  IntVec valid[kWidth];
  for (int i = 0; i < width; ++i) {
    for (int lane = 0; lane < kLanes; ++lane) valid[i][lane] = i * kLanes + lane < tile.n_valid ? -1 : 0;
  }
  for (std::ptrdiff_t r = 0; r < tile.n_rows; ++r) {
    Vec sum{};
    for (int i = 0; i < width; ++i) {
      const std::ptrdiff_t at = r * tile.lanes + i * kLanes;
      const Vec model = load(tile.model + at);
      const Vec m = maximum(model, floor);
      Vec v = load(tile.V + r * tile.V_stride + i * kLanes);
      Vec weight{};
      if constexpr (masked) {
        weight = load(tile.mask + r * tile.mask_stride + i * kLanes);
        v = weight > Vec{} ? v : Vec{};  // missing entries may be NaN
      }
      Vec up, down;
      powers<loss>(m, tile.beta, up, down);
      if constexpr (measured) {
        Vec d = divergence<loss>(v, m, model, down, tile.beta, tile.floor);
        if constexpr (masked) d = weight > Vec{} ? d * weight : Vec{};
        sum += reinterpret_cast<Vec>(reinterpret_cast<IntVec>(d) & valid[i]);
      }
      if constexpr (summands == NmfSummands::newton) {
        derivatives<loss>(v, m, tile.beta, up, down);
      } else if constexpr (loss == NmfLoss::kullback_leibler) {
        up = v / m;
      } else {
        up = v * up;
      }
      if constexpr (masked) {
        up = up * weight;
        down = down * weight;
      }
      store(tile.up + at, up);
      if (tile.down != nullptr) store(tile.down + at, down);
    }
    if constexpr (measured) {
      float row = 0;
      for (int lane = 0; lane < kLanes; ++lane) row += sum[lane];
      total += row;
    }
  }
  return total;
}

template <NmfLoss loss, NmfSummands summands>
double ratio_for(const RatioTile& tile) {
  if (tile.mask != nullptr) {
    return tile.measured ? ratio_rows<loss, summands, true, true>(tile)
                         : ratio_rows<loss, summands, true, false>(tile);
  }
  return tile.measured ? ratio_rows<loss, summands, false, true>(tile)
                       : ratio_rows<loss, summands, false, false>(tile);
}

template <NmfLoss loss>
double ratio_of(const RatioTile& tile) {
  return tile.summands == NmfSummands::newton ? ratio_for<loss, NmfSummands::newton>(tile)
                                              : ratio_for<loss, NmfSummands::multiplicative>(tile);
}

double ratio(const RatioTile& tile) {
  switch (tile.loss) {
    case NmfLoss::euclidean:
      return ratio_of<NmfLoss::euclidean>(tile);
    case NmfLoss::three_halves:
      return ratio_of<NmfLoss::three_halves>(tile);
    case NmfLoss::kullback_leibler:
      return ratio_of<NmfLoss::kullback_leibler>(tile);
    case NmfLoss::half:
      return ratio_of<NmfLoss::half>(tile);
    case NmfLoss::itakura_saito:
      return ratio_of<NmfLoss::itakura_saito>(tile);
    default:
      return ratio_of<NmfLoss::general>(tile);
  }
}

// Multiplicative update of B[k, l] (Fevotte and Idier, 2011, section 4; the penalties as in scikit-learn).
void update_multiplicative(float* B, const float* N, const float* D, std::ptrdiff_t size,
                           const NmfPenalty& penalty, float gamma, float floor) {
  for (std::ptrdiff_t i = 0; i < size; i += kLanes) {
    const Vec b = load(B + i);
    Vec d = load(D + i) + penalty.l1 + penalty.l2 * b;
    d = d == Vec{} ? broadcast(floor) : d;
    Vec step = load(N + i) / d;
    if (gamma == 0.5f) {
      step = square_root(minimum(step, broadcast(kLargest)));
    } else if (gamma != 1) {
      step = step > broadcast(kSmallest) ? power(minimum(step, broadcast(kLargest)), gamma) : Vec{};
    }
    store(B + i, minimum(b * step, broadcast(kLargest)));
  }
}

// sum = row[0 .. n) times the first n rows of a panel, in independent chains.
constexpr int kChains = 4;
template <int width>
inline void sum_products(const float* row, const float* panel, std::ptrdiff_t n, Vec (&sum)[kChains][width]) {
  for (int c = 0; c < kChains; ++c) {
    for (int i = 0; i < width; ++i) sum[c][i] = Vec{};
  }
  std::ptrdiff_t j = 0;
  for (; j + kChains <= n; j += kChains) {
    for (int c = 0; c < kChains; ++c) {
      const Vec x = broadcast(row[j + c]);
      for (int i = 0; i < width; ++i) sum[c][i] += x * load(panel + ((j + c) * width + i) * kLanes);
    }
  }
  for (; j < n; ++j) {
    const Vec x = broadcast(row[j]);
    for (int i = 0; i < width; ++i) sum[0][i] += x * load(panel + (j * width + i) * kLanes);
  }
}

// One sweep of coordinate descent: sets B[k, :], for one k after the other, to the minimum of the Euclidean
// objective with all else fixed, from the Gram matrix G = A' A and N = A' V (Cichocki and Phan, 2009,
// algorithm 2: HALS).
template <int width>
void update_hals(float* B, const float* N, const float* G, std::ptrdiff_t K, const NmfPenalty& penalty,
                 const bool* fixed) {
  for (std::ptrdiff_t k = 0; k < K; ++k) {
    const float curvature = G[k * K + k] + penalty.l2;
    if (!(curvature > 0) || (fixed != nullptr && fixed[k])) continue;
    Vec sum[kChains][width];
    sum_products<width>(G + k * K, B, K, sum);
    const Vec inverse = broadcast(1 / curvature);
    for (int i = 0; i < width; ++i) {
      float* const b = B + (k * width + i) * kLanes;
      const Vec gradient = ((sum[0][i] + sum[1][i]) + (sum[2][i] + sum[3][i])) -
                           load(N + (k * width + i) * kLanes) + penalty.l1 + penalty.l2 * load(b);
      store(b, maximum(load(b) - gradient * inverse, Vec{}));
    }
  }
}

void update_coordinates(float* B, const float* N, const float* G, std::ptrdiff_t K, std::ptrdiff_t lanes,
                        const NmfPenalty& penalty, const bool* fixed) {
  switch (lanes / kLanes) {
    case 1:
      return update_hals<1>(B, N, G, K, penalty, fixed);
    case 2:
      return update_hals<2>(B, N, G, K, penalty, fixed);
    default:
      return update_hals<3>(B, N, G, K, penalty, fixed);
  }
}

// A step for each lane of B from a model of the objective with the Hessian damping S C S, where S is the root
// of the diagonal of the lane's own Hessian and C the correlations that all lanes share. Sweeps of coordinate
// descent minimise it under B + step >= 0, in the variables S B, in which the diagonal is 1.
template <int width>
void newton_lanes(const NewtonPanel& p, const NmfPenalty& penalty) {
  Vec damping[width], slope[width];
  for (int i = 0; i < width; ++i) {
    damping[i] = load(p.damping + i * kLanes);
    slope[i] = Vec{};
  }
  for (std::ptrdiff_t k = 0; k < p.K; ++k) {
    const bool stays = p.fixed != nullptr && p.fixed[k];
    for (int i = 0; i < width; ++i) {
      const std::ptrdiff_t at = (k * width + i) * kLanes;
      const Vec b = load(p.B + at), d = load(p.curvature + at) + penalty.l2;
      const Vec root = square_root(minimum(d, broadcast(kLargest)));
      const Vec usable = !stays && p.correlation[k * p.K + k] > 0 ? root : Vec{};
      const Vec g = load(p.gradient + at) + penalty.l1 + penalty.l2 * b;
      store(p.curvature + at, usable > broadcast(1e-10f) ? usable : Vec{});
      store(p.gradient + at, usable > broadcast(1e-10f) ? g / usable : Vec{});
      store(p.step + at, Vec{});
    }
  }
  for (int sweep = 0; sweep < p.n_sweeps; ++sweep) {
    for (std::ptrdiff_t k = 0; k < p.K; ++k) {
      Vec sum[kChains][width];
      sum_products<width>(p.correlation + k * p.K, p.step, sweep == 0 ? k : p.K, sum);
      for (int i = 0; i < width; ++i) {
        const std::ptrdiff_t at = (k * width + i) * kLanes;
        const Vec root = load(p.curvature + at), least = -root * load(p.B + at);
        const Vec moved = load(p.step + at) - load(p.gradient + at) / damping[i] -
                          ((sum[0][i] + sum[1][i]) + (sum[2][i] + sum[3][i]));
        store(p.step + at, root > Vec{} ? maximum(least, moved) : Vec{});
      }
    }
  }
  for (std::ptrdiff_t k = 0; k < p.K; ++k) {
    for (int i = 0; i < width; ++i) {
      const std::ptrdiff_t at = (k * width + i) * kLanes;
      const Vec root = load(p.curvature + at), step = load(p.step + at);
      slope[i] += load(p.gradient + at) * step;
      store(p.step + at, root > Vec{} ? step / root : Vec{});
    }
  }
  for (int i = 0; i < width; ++i) store(p.slope + i * kLanes, slope[i]);
}

void newton_step(const NewtonPanel& panel, const NmfPenalty& penalty) {
  switch (panel.lanes / kLanes) {
    case 1:
      return newton_lanes<1>(panel, penalty);
    case 2:
      return newton_lanes<2>(panel, penalty);
    default:
      return newton_lanes<3>(panel, penalty);
  }
}

// Adds the slope of the divergence along `change`, at the model plus `change`, to slope[l].
template <NmfLoss loss, bool masked>
void slope_rows(const RatioTile& tile, const float* change, float* slope) {
  const int width = static_cast<int>(tile.lanes / kLanes);
  for (int i = 0; i < width; ++i) {
    Vec sum = load(slope + i * kLanes);
    for (std::ptrdiff_t r = 0; r < tile.n_rows; ++r) {
      const std::ptrdiff_t at = r * tile.lanes + i * kLanes;
      const Vec by = load(change + at);
      const Vec m = maximum(load(tile.model + at) + by, broadcast(tile.floor));
      Vec v = load(tile.V + r * tile.V_stride + i * kLanes);
      Vec up, down;
      powers<loss>(m, tile.beta, up, down);
      if constexpr (masked) {
        const Vec weight = load(tile.mask + r * tile.mask_stride + i * kLanes);
        v = weight > Vec{} ? v : Vec{};
        sum += weight * first_derivative<loss>(v, m, up, down) * by;
      } else {
        sum += first_derivative<loss>(v, m, up, down) * by;
      }
    }
    store(slope + i * kLanes, sum);
  }
}

template <NmfLoss loss>
void slope_of(const RatioTile& tile, const float* change, float* slope) {
  if (tile.mask != nullptr) return slope_rows<loss, true>(tile, change, slope);
  slope_rows<loss, false>(tile, change, slope);
}

void slope_after(const RatioTile& tile, const float* change, float* slope) {
  switch (tile.loss) {
    case NmfLoss::euclidean:
      return slope_of<NmfLoss::euclidean>(tile, change, slope);
    case NmfLoss::three_halves:
      return slope_of<NmfLoss::three_halves>(tile, change, slope);
    case NmfLoss::kullback_leibler:
      return slope_of<NmfLoss::kullback_leibler>(tile, change, slope);
    case NmfLoss::half:
      return slope_of<NmfLoss::half>(tile, change, slope);
    case NmfLoss::itakura_saito:
      return slope_of<NmfLoss::itakura_saito>(tile, change, slope);
    default:
      return slope_of<NmfLoss::general>(tile, change, slope);
  }
}

// B += length step, lane by lane, clipped at zero.
void take_step(float* B, const float* step, const float* length, std::ptrdiff_t K, std::ptrdiff_t lanes) {
  for (std::ptrdiff_t k = 0; k < K; ++k) {
    for (std::ptrdiff_t l = 0; l < lanes; l += kLanes) {
      const std::ptrdiff_t at = k * lanes + l;
      store(B + at, maximum(load(B + at) + load(length + l) * load(step + at), Vec{}));
    }
  }
}

// panel[c, l] = rows[l, c] for l < n_rows, zero for the other lanes.
void to_panel(const float* rows, std::ptrdiff_t stride, std::ptrdiff_t n_rows, std::ptrdiff_t n_columns,
              std::ptrdiff_t lanes, float* panel) {
  for (std::ptrdiff_t l = 0; l < lanes; l += kLanes) {
    std::ptrdiff_t c = 0;
    if (l + kLanes <= n_rows) {
      for (; c + kLanes <= n_columns; c += kLanes) {
        Vec v[kLanes];
        for (int j = 0; j < kLanes; ++j) v[j] = load(rows + (l + j) * stride + c);
        transpose(v);
        for (int j = 0; j < kLanes; ++j) store(panel + (c + j) * lanes + l, v[j]);
      }
    }
    for (; c < n_columns; ++c) {
      for (int j = 0; j < kLanes; ++j)
        panel[c * lanes + l + j] = l + j < n_rows ? rows[(l + j) * stride + c] : 0.0f;
    }
  }
}

// rows[l, c] = panel[c, l] for l < n_rows.
void from_panel(const float* panel, std::ptrdiff_t lanes, std::ptrdiff_t n_rows, std::ptrdiff_t n_columns,
                float* rows, std::ptrdiff_t stride) {
  for (std::ptrdiff_t l = 0; l < n_rows; l += kLanes) {
    std::ptrdiff_t c = 0;
    if (l + kLanes <= n_rows) {
      for (; c + kLanes <= n_columns; c += kLanes) {
        Vec v[kLanes];
        for (int j = 0; j < kLanes; ++j) v[j] = load(panel + (c + j) * lanes + l);
        transpose(v);
        for (int j = 0; j < kLanes; ++j) store(rows + (l + j) * stride + c, v[j]);
      }
    }
    for (; c < n_columns; ++c) {
      for (int j = 0; j < kLanes && l + j < n_rows; ++j)
        rows[(l + j) * stride + c] = panel[c * lanes + l + j];
    }
  }
}

// Sums up to kRun products in float32, and these sums in float64.
double dot(const float* a, const float* b, std::ptrdiff_t size) {
  constexpr std::ptrdiff_t kRun = 64 * kChains * kLanes;
  double total = 0;
  for (std::ptrdiff_t start = 0; start < size; start += kRun) {
    const std::ptrdiff_t end = start + kRun < size ? start + kRun : size;
    Vec sum[kChains] = {};
    std::ptrdiff_t i = start;
    for (; i + kChains * kLanes <= end; i += kChains * kLanes) {
      for (int c = 0; c < kChains; ++c) sum[c] += load(a + i + c * kLanes) * load(b + i + c * kLanes);
    }
    for (; i + kLanes <= end; i += kLanes) sum[0] += load(a + i) * load(b + i);
    for (; i < end; ++i) total += static_cast<double>(a[i]) * b[i];
    const Vec all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    for (int lane = 0; lane < kLanes; ++lane) total += all[lane];
  }
  return total;
}

}  // namespace

constinit const NmfKernels nmf = {
    .panel = kWidth * kLanes,
    .product = &product,
    .accumulate = &accumulate,
    .ratio = &ratio,
    .update_multiplicative = &update_multiplicative,
    .update_coordinates = &update_coordinates,
    .newton_step = &newton_step,
    .slope_after = &slope_after,
    .take_step = &take_step,
    .to_panel = &to_panel,
    .from_panel = &from_panel,
    .dot = &dot,
};

}  // namespace l2i::kernels::L2I_ISA
