#include "stream.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstring>
#include <limits>
#include <numbers>
#include <stdexcept>

namespace l2i {
namespace {

constexpr std::ptrdiff_t kUnknown = std::numeric_limits<std::ptrdiff_t>::max();

// The widest path, up to the one in use, whose lanes are few enough for a frame of n samples.
const Kernels& kernels_for_frame(const Kernels& current, std::ptrdiff_t n) {
  const Kernels* best = compiled_kernels().front();
  for (const Kernels* one : compiled_kernels()) {
    if (one->lanes <= current.lanes && 2 * one->lanes * one->lanes <= n) best = one;
  }
  return *best;
}

// A float that one thread writes while others read it.
void put(float& to, float x) { std::atomic_ref<float>(to).store(x, std::memory_order_relaxed); }
float get(float& from) { return std::atomic_ref<float>(from).load(std::memory_order_relaxed); }

}  // namespace

StreamPlan::Floats::Floats(std::ptrdiff_t size) : size_(std::max<std::ptrdiff_t>(size, 1)) {
  std::fill_n(data(), size_, 0.0f);
}

StreamPlan::StreamPlan(const float* W, std::ptrdiff_t bin_stride, std::ptrdiff_t component_stride,
                       std::ptrdiff_t K, const float* window, std::ptrdiff_t n_fft, const MelBands* bands,
                       const Settings& settings)
    : kernels_(current_kernels()),
      fft_kernels_(kernels_for_frame(kernels_, n_fft)),
      settings_(settings),
      n_fft_(n_fft),
      n_bins_(n_fft / 2 + 1),
      K_(K),
      bins_(whole(n_bins_, kernels_.lanes)),
      components_(whole(K, std::max(kernels_.lanes, kernels::kStreamGroup))),
      columns_(n_fft / fft_kernels_.lanes),
      rows_(2 * fft_kernels_.lanes),
      twiddles_(n_fft),
      split_(n_fft / 2),
      W_(whole(K, kernels::kStreamGroup) * bins_),
      gram_(K * components_),
      analysis_(scaled(window, n_fft, 0.5f)),
      synthesis_(scaled(window, n_fft, 1.0f / static_cast<float>(n_fft))),
      squares_(window, window + n_fft),
      n_windows_((n_fft + settings.hop - 1) / settings.hop),
      norms_(static_cast<std::size_t>(settings.hop)) {
  for (float& w : squares_) w *= w;
  sum_squares(0, n_windows_ - 1, norms_.data());

  const auto twiddle = [](double fraction) { return std::polar(1.0, -2.0 * std::numbers::pi * fraction); };
  const std::ptrdiff_t lanes = fft_kernels_.lanes, points = n_fft / 2;
  for (std::ptrdiff_t k = 0; k < points / lanes; ++k) {
    for (std::ptrdiff_t lane = 0; lane < lanes; ++lane) {
      const auto w = twiddle(static_cast<double>(k * lane) / static_cast<double>(points));
      twiddles_.data()[2 * lanes * k + lane] = static_cast<float>(w.real());
      twiddles_.data()[2 * lanes * k + lanes + lane] = static_cast<float>(w.imag());
    }
  }
  for (std::ptrdiff_t k = 0; k < points / 2; ++k) {
    const auto w = twiddle(static_cast<double>(k) / static_cast<double>(n_fft));
    split_.data()[k] = static_cast<float>(w.real());
    split_.data()[points / 2 + k] = static_cast<float>(w.imag());
  }

  const auto entry = [&](std::ptrdiff_t f, std::ptrdiff_t k) {
    return W[f * bin_stride + k * component_stride];
  };
  for (std::ptrdiff_t k = 0; k < K; ++k) {
    for (std::ptrdiff_t f = 0; f < n_bins_; ++f) W_.data()[packed(f, k)] = entry(f, k);
    for (std::ptrdiff_t j = 0; j <= k; ++j) {
      double sum = 0;
      for (std::ptrdiff_t f = 0; f < n_bins_; ++f)
        sum += static_cast<double>(entry(f, k)) * static_cast<double>(entry(f, j));
      gram_.data()[k * components_ + j] = gram_.data()[j * components_ + k] = static_cast<float>(sum);
    }
  }
  if (bands != nullptr) {
    starts_.assign(bands->starts, bands->starts + bands->n_bands);
    counts_.assign(bands->counts, bands->counts + bands->n_bands);
    std::ptrdiff_t n_factors = 0;
    for (const std::int32_t count : counts_) n_factors += count;
    factors_.assign(bands->factors, bands->factors + n_factors);
  }
}

std::ptrdiff_t StreamPlan::packed(std::ptrdiff_t f, std::ptrdiff_t k) const {
  const std::ptrdiff_t group = kernels::kStreamGroup, width = kernels_.lanes;
  const std::ptrdiff_t vector = (k / group * (bins_ / width) + f / width) * group + k % group;
  return vector * width + f % width;
}

void StreamPlan::sum_squares(std::ptrdiff_t first, std::ptrdiff_t last, float* norms) const {
  const std::ptrdiff_t hop = settings_.hop;
  std::fill_n(norms, hop, 0.0f);
  for (std::ptrdiff_t r = last; r >= first; --r) {
    const std::ptrdiff_t n = std::min(hop, n_fft_ - r * hop);
    for (std::ptrdiff_t i = 0; i < n; ++i) norms[i] += squares_[r * hop + i];
  }
}

double StreamPlan::update_cost() const {
  constexpr double kMultiplyAdd = 0.05;
  return kMultiplyAdd * static_cast<double>(K_ * components_);
}

double StreamPlan::cost() const {
  return static_cast<double>(n_fft_) + 0.1 * static_cast<double>(n_bins_ * K_) +
         settings_.n_updates * update_cost();
}

kernels::FrameFft StreamPlan::fft() const {
  return {n_fft_,           columns_.tables(), rows_.tables(),
          twiddles_.data(), split_.data(),     split_.data() + n_fft_ / 4};
}

Stream::Stream(std::shared_ptr<const StreamPlan> plan, std::ptrdiff_t history)
    : plan_(std::move(plan)),
      input_(plan_->n_fft_),
      sums_(plan_->n_fft_),
      norms_(plan_->settings_.hop),
      ready_(std::max(plan_->settings_.hop, plan_->n_fft_ / 2)),
      work_(kernels::FrameFft::work_size(plan_->n_fft_)),
      re_(plan_->bins_),
      im_(plan_->bins_),
      a_(plan_->bins_),
      v_(plan_->bins_),
      b_(plan_->components_),
      h_(plan_->components_),
      d_(plan_->components_),
      mel_(column_size()),
      selected_(static_cast<std::size_t>(plan_->K_)),
      weighted_(static_cast<std::size_t>(plan_->K_)),
      history_(history),
      ring_(static_cast<std::size_t>(history_ * column_size())),
      shown_(static_cast<std::size_t>(plan_->K_)) {
  const auto K = static_cast<std::size_t>(plan_->K_);
  const Mask all = {std::vector<float>(K, 1.0f), std::vector<float>(K), 1.0f, false};
  current_ = masks_[0] = masks_[1] = masks_[2] = all;
  reset();
}

void Stream::reset() {
  const std::ptrdiff_t n_fft = plan_->n_fft_;
  std::fill_n(input_.data(), n_fft, 0.0f);
  std::fill_n(sums_.data(), n_fft, 0.0f);
  std::fill_n(h_.data(), plan_->components_, 0.0f);
  for (float& h : shown_) put(h, 0.0f);
  // Frame 0 is centred on the first sample: the first half of the frame is zero, and half a frame of samples
  // completes it.
  room_ = n_fft / 2;
  const std::ptrdiff_t capacity = std::max(plan_->settings_.hop, n_fft / 2);
  std::fill_n(ready_.data(), capacity, 0.0f);
  ready_at_ = capacity - n_fft / 2;
  taken_ = 0;
  position_ = -n_fft / 2;
  peak_ = 0;
  n_frames_ = kUnknown;
  ended_ = false;
  fading_ = 0;
  if (between_.load(std::memory_order_relaxed) & kFresh)
    front_ = between_.exchange(front_, std::memory_order_acq_rel) & ~kFresh;
  current_ = masks_[front_];
  hops_.store(0, std::memory_order_release);
}

std::ptrdiff_t Stream::frames_in(std::ptrdiff_t n, bool last) const {
  const std::ptrdiff_t hop = plan_->settings_.hop, done = hops_.load(std::memory_order_relaxed);
  if (last) return 1 + (taken_ + n) / hop - done;
  return n < room_ ? 0 : 1 + (n - room_) / hop;
}

std::ptrdiff_t Stream::push(const float* samples, std::ptrdiff_t n, float* out, std::ptrdiff_t until,
                            const float* H, std::ptrdiff_t frame_stride, std::ptrdiff_t component_stride) {
  const FlushDenormals flush;
  Given given = {H, frame_stride, component_stride, 0};
  return advance(samples, n, out, until, given);
}

std::ptrdiff_t Stream::finish(std::ptrdiff_t n, float* out, std::ptrdiff_t until, const float* H,
                              std::ptrdiff_t frame_stride, std::ptrdiff_t component_stride) {
  const FlushDenormals flush;
  begin_tail();
  Given given = {H, frame_stride, component_stride, 0};
  const std::ptrdiff_t written = advance(nullptr, n, out, until, given);
  end_tail();
  return written;
}

void Stream::begin_tail() {
  if (ended_) return;
  ended_ = true;
  left_ = latency();
  n_frames_ = 1 + taken_ / plan_->settings_.hop;
}

void Stream::end_tail() {
  if (left_ == 0) reset();
}

std::ptrdiff_t Stream::advance(const float* samples, std::ptrdiff_t n, float* out, std::ptrdiff_t until,
                               Given& given) {
  std::ptrdiff_t done = 0;
  Poll poll(plan_->cost());
  while (done < n) {
    done += take(samples == nullptr ? nullptr : samples + done, n - done, out + done);
    if (!complete()) break;
    const bool inside = in_signal();
    if (inside) analyse(given);
    drain();
    poll(1);
    if (inside && hops() == until) break;
  }
  return done;
}

std::ptrdiff_t Stream::take(const float* samples, std::ptrdiff_t n, float* out) {
  const std::ptrdiff_t m = std::min(n, room_);
  float* const to = input_.data() + plan_->n_fft_ - room_;
  if (samples != nullptr) {
    std::memcpy(to, samples, static_cast<std::size_t>(m) * sizeof(float));
    if (history_ > 0) peak_ = std::max(peak_, plan_->kernels_.stream->peak(samples, m));
    taken_ += m;
  } else {
    std::fill_n(to, m, 0.0f);
    left_ -= m;
  }
  // Enough samples are ready: a frame contributes to the output only after the sample that completes it.
  std::memcpy(out, ready_.data() + ready_at_, static_cast<std::size_t>(m) * sizeof(float));
  ready_at_ += m;
  room_ -= m;
  return m;
}

void Stream::analyse(Given& given) {
  const StreamPlan& plan = *plan_;
  const kernels::StreamKernels& kernels = *plan.kernels_.stream;
  const kernels::StreamKernels& transforms = *plan.fft_kernels_.stream;
  const kernels::FrameFft fft = plan.fft();
  const std::ptrdiff_t n_vectors = plan.bins_ / plan.kernels_.lanes;
  const std::ptrdiff_t n_groups = StreamPlan::whole(plan.K_, kernels::kStreamGroup) / kernels::kStreamGroup;
  float *const re = re_.data(), *const im = im_.data(), *const h = h_.data();

  fade();
  transforms.spectrum(fft, input_.data(), plan.analysis_.data(), work_.data(), re, im);
  kernels.magnitudes(re, im, n_vectors, current_.scale, a_.data(), v_.data());
  if (history_ > 0) {
    if (!plan.starts_.empty()) sum_bands(a_.data(), mel_.data());
    keep_column(plan.starts_.empty() ? newest() : mel_.data());
  }
  if (given.H != nullptr) {
    const float* const row = given.H + given.next++ * given.frame_stride;
    for (std::ptrdiff_t k = 0; k < plan.K_; ++k) h[k] = row[k * given.component_stride];
  } else {
    kernels.correlate(plan.W_.data(), n_vectors, n_groups, v_.data(), b_.data());
    float least = begin_updates(b_.data(), 1, h);
    plan.update_in_steps([&](int n_updates) {
      kernels.update(plan.gram_.data(), plan.K_, b_.data(), least, n_updates, h, d_.data());
      least = 0;
    });
  }
  show_activations();
  std::ptrdiff_t n_selected = 0;
  for (std::ptrdiff_t k = 0; k < plan.K_; ++k) {
    if (current_.weights[k] == 0) continue;
    selected_[n_selected] = static_cast<std::int32_t>(k);
    weighted_[n_selected++] = current_.weights[k] * h[k];
  }
  if (n_selected > 0) {
    kernels.mask({plan.W_.data(), n_vectors, n_groups, h, selected_.data(), weighted_.data(), n_selected,
                  plan.settings_.eps, current_.scale, plan.settings_.domain, a_.data(), v_.data(), re, im});
    transforms.synthesis(fft, re, im, plan.synthesis_.data(), work_.data(), sums_.data());
  }
}

void Stream::show_activations() {
  const float* const h = h_.data();
  float* const shown = shown_.data();
  for (std::ptrdiff_t k = 0; k < plan_->K_; ++k) put(shown[k], h[k]);
}

// Completes a frame: the next hop of the sums becomes ready, and the buffers advance by a hop.
void Stream::drain() {
  const std::ptrdiff_t hop = plan_->settings_.hop, n_fft = plan_->n_fft_;
  float* const sums = sums_.data();
  ready_at_ = std::max(hop, n_fft / 2) - hop;
  float* const ready = ready_.data() + ready_at_;
  // Frames before the first and after the last one are missing.
  const std::ptrdiff_t t = (position_ + n_fft / 2) / hop, windows = plan_->n_windows_;
  const std::ptrdiff_t newest = std::max<std::ptrdiff_t>(0, t - n_frames_ + 1);
  const std::ptrdiff_t oldest = std::min(t, windows - 1);
  const bool all = newest == 0 && oldest == windows - 1;
  if (!all) plan_->sum_squares(newest, oldest, norms_.data());
  const float* const norms = all ? plan_->norms_.data() : norms_.data();
  plan_->kernels_.stream->normalize(sums, norms, hop, ready);
  if (position_ < 0) std::fill_n(ready, std::min(hop, -position_), 0.0f);  // before the signal
  position_ += hop;
  const auto kept = static_cast<std::size_t>(n_fft - hop) * sizeof(float);
  std::memmove(sums, sums + hop, kept);
  std::fill_n(sums + n_fft - hop, hop, 0.0f);
  std::memmove(input_.data(), input_.data() + hop, kept);
  room_ = hop;
  if (in_signal()) hops_.store(hops_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

void Stream::fade() {
  if (between_.load(std::memory_order_relaxed) & kFresh) {
    front_ = between_.exchange(front_, std::memory_order_acq_rel) & ~kFresh;
    fading_ = hops_.load(std::memory_order_relaxed) == 0 ? 1 : kFade;
    // The output is still silent, so it cannot jump.
    const auto& now = current_.weights;
    if (std::all_of(now.begin(), now.end(), [](float w) { return w == 0; }))
      current_.scale = masks_[front_].scale;
    if (!current_.has_start) current_.start = masks_[front_].start;
    current_.has_start = masks_[front_].has_start;
  }
  if (fading_ == 0) return;
  const Mask& next = masks_[front_];
  const float share = 1.0f / static_cast<float>(fading_--);
  if (share == 1.0f) {
    current_ = next;
    return;
  }
  for (std::size_t k = 0; k < next.weights.size(); ++k)
    current_.weights[k] += share * (next.weights[k] - current_.weights[k]);
  for (std::size_t k = 0; k < next.start.size(); ++k)
    current_.start[k] += share * (next.start[k] - current_.start[k]);
  current_.scale *= std::pow(next.scale / current_.scale, share);
}

// Sets the activations that a frame's updates start from, given W' v; returns their least value relative to
// it.
float Stream::begin_updates(const float* b, std::ptrdiff_t stride, float* h) const {
  if (current_.has_start) {
    const float lift = plan_->settings_.lift;
    for (std::ptrdiff_t k = 0; k < plan_->K_; ++k) h[k] = current_.start[k] + lift * b[k * stride];
    return 0.0f;
  }
  return 1e-3f;  // so that a component that has faded out can return
}

void Stream::publish(const float* weights, float scale, const float* start) {
  std::copy_n(weights, plan_->K_, masks_[back_].weights.begin());
  if (start != nullptr) std::copy_n(start, plan_->K_, masks_[back_].start.begin());
  masks_[back_].has_start = start != nullptr;
  masks_[back_].scale = scale;
  back_ = between_.exchange(back_ | kFresh, std::memory_order_acq_rel) & ~kFresh;
}

void Stream::sum_bands(const float* magnitudes, float* mel) const {
  const float* factor = plan_->factors_.data();
  for (std::size_t m = 0; m < plan_->starts_.size(); ++m) {
    const float* bins = magnitudes + plan_->starts_[m];
    float sum = 0;
    for (std::int32_t i = 0; i < plan_->counts_[m]; ++i) sum += bins[i] * *factor++;
    mel[m] = sum;
  }
}

void Stream::keep_column(const float* values) {
  const std::ptrdiff_t size = column_size();
  float* const column = ring_.data() + hops_.load(std::memory_order_relaxed) % history_ * size;
  // A reader of any value written below also sees that the previous frame is complete: see columns.
  std::atomic_thread_fence(std::memory_order_release);
  for (std::ptrdiff_t m = 0; m < size - 1; ++m) put(column[m], values[m]);
  put(column[size - 1], peak_);
  peak_ = 0;
}

bool Stream::columns(std::ptrdiff_t first, std::ptrdiff_t n, float* out) const {
  const std::ptrdiff_t size = column_size();
  // The column of the frame that is being analysed may be half written.
  const auto kept = [&] {
    const std::ptrdiff_t now = hops();
    return first >= 0 && first <= now - n && first > now - history_;
  };
  if (!kept()) return false;
  for (std::ptrdiff_t t = first; t < first + n; ++t) {
    float* const column = ring_.data() + t % history_ * size;
    for (std::ptrdiff_t m = 0; m < size; ++m) *out++ = get(column[m]);
  }
  std::atomic_thread_fence(std::memory_order_acquire);
  return kept();
}

void Stream::activations(float* h) const {
  for (float& x : shown_) *h++ = get(x);
}

}  // namespace l2i
