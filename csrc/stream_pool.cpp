#include "stream_pool.h"

#include <algorithm>

namespace l2i {
namespace {

constexpr std::ptrdiff_t kBins = 64;  // rows of W that are read together, from the first-level cache

}  // namespace

StreamPool::StreamPool(std::shared_ptr<const StreamPlan> plan)
    : plan_(std::move(plan)),
      fft_(FftPlan::of(plan_->n_fft_)),
      poll_(plan_->cost()),
      W_(plan_->n_bins_ * plan_->K_),
      work_(static_cast<std::ptrdiff_t>(fft_->work_size(lanes()))),
      per_(kVectors * lanes()),
      X_(plan_->n_bins_ * 2 * kVectors * lanes()),
      a_(plan_->n_bins_ * kVectors * lanes()),
      v_(plan_->n_bins_ * kVectors * lanes()),
      mask_(plan_->n_bins_ * kVectors * lanes()),
      mel_(static_cast<std::ptrdiff_t>(plan_->starts_.size()) * lanes()),
      rows_(plan_->K_ * kVectors * lanes()),
      b_(plan_->K_ * kVectors * lanes()),
      h_(plan_->K_ * kVectors * lanes()),
      other_(plan_->K_ * kVectors * lanes()),
      least_(kVectors * lanes()),
      weights_(plan_->K_ * kVectors * lanes()),
      weighted_(plan_->K_ * kVectors * lanes()),
      selected_(static_cast<std::size_t>(plan_->K_)) {
  for (std::ptrdiff_t f = 0; f < plan_->n_bins_; ++f) {
    for (std::ptrdiff_t k = 0; k < plan_->K_; ++k) W_.data()[f * plan_->K_ + k] = plan_->entry(f, k);
  }
}

void StreamPool::push(std::span<Part> parts) {
  const FlushDenormals flush;
  n_ = 0;
  for (Part& part : parts) {
    part.over = part.n == 0;
    if (part.ends) part.stream->begin_tail();
  }
  for (bool busy = true; busy;) {
    busy = false;
    for (Part& part : parts) busy |= advance(part);
  }
  analyse();
  for (Part& part : parts) {
    if (part.ends) part.stream->end_tail();
  }
}

// Advances a stream to its next frame, which joins the tile. Returns false if nothing was left to do.
bool StreamPool::advance(Part& part) {
  if (part.over) return false;
  if (part.pending) analyse();
  Stream& stream = *part.stream;
  part.done +=
      stream.take(part.ends ? nullptr : part.samples + part.done, part.n - part.done, part.out + part.done);
  part.over = part.done == part.n;
  if (!stream.complete()) return true;
  if (!stream.in_signal()) {
    stream.drain();
    return true;
  }
  part.over |= stream.hops() + 1 == part.until;
  part.pending = true;
  tile_[n_++] = &part;
  if (n_ == kVectors * lanes()) analyse();
  return true;
}

void StreamPool::analyse() {
  if (n_ == 0) return;
  width_ = n_ > lanes() ? kVectors * lanes() : lanes();
  transform();
  update();
  synthesize();
  for (int i = 0; i < n_; ++i) {
    tile_[i]->stream->drain();
    tile_[i]->pending = false;
  }
  poll_(n_);
  n_ = 0;
}

kernels::PoolFrames StreamPool::frames(int first) {
  const std::ptrdiff_t before = first * plan_->n_bins_;
  return {fft_->tables(),         std::min(lanes(), n_ - first),
          per_.data() + first,    work_.data(),
          X_.data() + 2 * before, a_.data() + before,
          v_.data() + first,      width_};
}

void StreamPool::transform() {
  const StreamPlan& plan = *plan_;
  const float* inputs[kVectors * kernels::kMostLanes];
  std::fill_n(per_.data(), width_, 1.0f);
  for (int i = 0; i < n_; ++i) {
    Stream& stream = *tile_[i]->stream;
    stream.fade();
    per_.data()[i] = 1.0f / stream.current_.scale;
    inputs[i] = stream.input_.data();
  }
  const auto n_bands = static_cast<std::ptrdiff_t>(plan.starts_.size());
  for (int first = 0; first < n_; first += lanes()) {
    const kernels::PoolFrames tile = frames(first);
    plan.kernels_.stream_pool->spectra(tile, inputs + first, plan.analysis_.data());
    const auto some = std::span(tile_ + first, static_cast<std::size_t>(tile.n_frames));
    if (std::none_of(some.begin(), some.end(), [](const Part* p) { return p->stream->history_ > 0; }))
      continue;
    if (n_bands > 0) {
      plan.kernels_.mel_sums_tile({tile.a, mel_.data(), n_bands, plan.starts_.data(), plan.counts_.data(),
                                   plan.factors_.data(), tile.n_frames, 0.0f});
    }
    for (int i = 0; i < tile.n_frames; ++i) {
      Stream& stream = *some[i]->stream;
      if (stream.history_ > 0) stream.keep_column(n_bands > 0 ? mel_.data() + i * n_bands : stream.newest());
    }
  }
}

void StreamPool::update() {
  const StreamPlan& plan = *plan_;
  const kernels::NmfKernels& nmf = *plan.kernels_.nmf;
  const std::ptrdiff_t K = plan.K_;
  const int n_vectors = static_cast<int>(width_ / lanes());
  std::fill_n(b_.data(), K * width_, 0.0f);
  for (std::ptrdiff_t f = 0; f < plan.n_bins_; f += kBins) {
    nmf.accumulate(W_.data() + f * K, K, v_.data() + f * width_, width_, std::min(kBins, plan.n_bins_ - f), K,
                   width_, b_.data());
  }
  std::fill_n(least_.data(), width_, 0.0f);
  for (int i = 0; i < n_; ++i) {
    Stream& stream = *tile_[i]->stream;
    least_.data()[i] = stream.begin_updates(b_.data() + i, width_, stream.h_.data());
    std::copy_n(stream.h_.data(), K, rows_.data() + i * K);
  }
  nmf.to_panel(rows_.data(), K, n_, K, width_, h_.data());
  plan.update_in_steps([&](int n_updates) {
    plan.kernels_.stream_pool->update(plan.gram_.data(), K, n_vectors, b_.data(), least_.data(), n_updates,
                                      h_.data(), other_.data());
    std::fill_n(least_.data(), width_, 0.0f);
  });
  nmf.from_panel(h_.data(), width_, n_, K, rows_.data(), K);
  for (int i = 0; i < n_; ++i) {
    std::copy_n(rows_.data() + i * K, K, tile_[i]->stream->h_.data());
    tile_[i]->stream->show_activations();
  }
}

void StreamPool::synthesize() {
  const StreamPlan& plan = *plan_;
  const std::ptrdiff_t K = plan.K_;
  float* sums[kVectors * kernels::kMostLanes];
  for (int i = 0; i < n_; ++i) {
    Stream& stream = *tile_[i]->stream;
    const std::vector<float>& weights = stream.current_.weights;
    std::copy_n(weights.data(), K, rows_.data() + i * K);
    const bool silent = std::all_of(weights.begin(), weights.end(), [](float w) { return w == 0; });
    sums[i] = silent ? nullptr : stream.sums_.data();
  }
  plan.kernels_.nmf->to_panel(rows_.data(), K, n_, K, width_, weights_.data());
  // Components that no stream has selected are skipped; those that only others have selected add zero.
  std::ptrdiff_t n_selected = 0;
  for (std::ptrdiff_t k = 0; k < K; ++k) {
    const float* const weights = weights_.data() + k * width_;
    if (std::all_of(weights, weights + width_, [](float w) { return w == 0; })) continue;
    float* const weighted = weighted_.data() + n_selected * width_;
    const float* const h = h_.data() + k * width_;
    for (std::ptrdiff_t i = 0; i < width_; ++i) weighted[i] = weights[i] == 0 ? 0.0f : weights[i] * h[i];
    selected_[n_selected++] = static_cast<std::int32_t>(k);
  }
  if (n_selected == 0) return;
  plan.kernels_.mask_tile({
      .W = W_.data(),
      .bin_stride = K,
      .component_stride = 1,
      .n_bins = plan.n_bins_,
      .n_components = K,
      .h = h_.data(),
      .weighted = weighted_.data(),
      .selected = selected_.data(),
      .n_selected = n_selected,
      .eps = plan.settings_.eps,
      .n_vectors = static_cast<int>(width_ / lanes()),
      .wiener = plan.settings_.domain == kernels::MaskDomain::wiener,
      .mask = mask_.data(),
      .whole = nullptr,
      .X = nullptr,
      .X_stride = 0,
      .n_frames = 0,
  });
  for (int first = 0; first < n_; first += lanes()) {
    plan.kernels_.stream_pool->synthesis(frames(first), mask_.data() + first,
                                         plan.settings_.domain == kernels::MaskDomain::log,
                                         plan.synthesis_.data(), sums + first);
  }
}

}  // namespace l2i
