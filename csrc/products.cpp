#include "products.h"

namespace l2i {
namespace {

using kernels::kTileDepth;
using kernels::kTileRows;

constexpr std::ptrdiff_t kTileWords = kTileRows * kTileDepth / 2;

std::ptrdiff_t tiles(std::ptrdiff_t size, std::ptrdiff_t tile) { return (size + tile - 1) / tile; }

}  // namespace

std::ptrdiff_t packed_size(const Arithmetic& arithmetic, std::ptrdiff_t n_rows, std::ptrdiff_t lanes) {
  return arithmetic.n_terms * tiles(n_rows, kTileDepth) * kTileDepth / 2 * lanes;
}

void PanelPacker::layout(Slices& slices, const Arithmetic& arithmetic, std::ptrdiff_t n_rows,
                         std::ptrdiff_t lanes) {
  arithmetic_ = &arithmetic;
  words_ = slices.take_words(packed_size(arithmetic, n_rows, lanes));
}

Panel PanelPacker::operator()(const float* rows, std::ptrdiff_t stride, std::ptrdiff_t n_rows,
                              std::ptrdiff_t lanes) {
  if (arithmetic_->n_terms > 0)
    arithmetic_->bf16.pack_panel(rows, stride, n_rows, lanes, arithmetic_->n_terms, words_);
  return {rows, stride, words_};
}

void Factor::layout(Slices& slices, const Arithmetic& arithmetic, std::ptrdiff_t most_rows,
                    std::ptrdiff_t n_columns, bool with_product) {
  arithmetic_ = &arithmetic;
  n_columns_ = n_columns;
  const std::ptrdiff_t words = arithmetic.n_terms * kTileWords;
  rows_ = with_product ? slices.take_words(words * tiles(most_rows, kTileRows) * tiles(n_columns, kTileDepth))
                       : nullptr;
  columns_ = slices.take_words(words * tiles(n_columns, kTileRows) * tiles(most_rows, kTileDepth));
}

void Factor::set(const float* A, std::ptrdiff_t stride, std::ptrdiff_t n_rows) {
  A_ = A;
  stride_ = stride;
  n_rows_ = n_rows;
  if (arithmetic_->n_terms == 0) return;
  if (rows_ != nullptr)
    arithmetic_->bf16.pack_rows(A, stride, n_rows, n_columns_, arithmetic_->n_terms, rows_);
  arithmetic_->bf16.pack_columns(A, stride, n_rows, n_columns_, arithmetic_->n_terms, columns_);
}

void Factor::product(std::ptrdiff_t begin, std::ptrdiff_t n, const Panel& B, std::ptrdiff_t lanes,
                     float* C) const {
  const int n_terms = arithmetic_->n_terms;
  if (n_terms == 0) {
    arithmetic_->nmf.product(A_ + begin * stride_, stride_, B.data, n, n_columns_, lanes, C);
    return;
  }
  const std::ptrdiff_t stride = tiles(n_columns_, kTileDepth) * n_terms * kTileWords;
  arithmetic_->bf16.multiply(
      {rows_ + begin / kTileRows * stride, stride, B.packed, n_terms, n, n_columns_, lanes, false, C});
}

void Factor::accumulate(std::ptrdiff_t begin, std::ptrdiff_t n, const Panel& Q, std::ptrdiff_t lanes,
                        float* N) const {
  const int n_terms = arithmetic_->n_terms;
  if (n_terms == 0) {
    arithmetic_->nmf.accumulate(A_ + begin * stride_, stride_, Q.data, Q.stride, n, n_columns_, lanes, N);
    return;
  }
  const std::ptrdiff_t stride = tiles(n_rows_, kTileDepth) * n_terms * kTileWords;
  arithmetic_->bf16.multiply({columns_ + begin / kTileDepth * n_terms * kTileWords, stride, Q.packed, n_terms,
                              n_columns_, n, lanes, true, N});
}

}  // namespace l2i
