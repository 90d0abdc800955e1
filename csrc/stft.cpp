#include "stft.h"

#include <pthread.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <numbers>

namespace l2i {

bool FftPlan::supports(std::ptrdiff_t n) { return n >= kSmallest && n <= kLargest && (n & (n - 1)) == 0; }

std::shared_ptr<const FftPlan> FftPlan::of(std::ptrdiff_t n) {
  static std::mutex mutex;
  static std::map<std::ptrdiff_t, std::shared_ptr<const FftPlan>> plans;
  // A forked child must find the mutex free, and the plans whole.
  constexpr auto acquire = [] { mutex.lock(); };
  constexpr auto release = [] { mutex.unlock(); };
  static const int registered = pthread_atfork(acquire, release, release);
  static_cast<void>(registered);
  const std::lock_guard lock(mutex);
  std::shared_ptr<const FftPlan>& plan = plans[n];
  if (!plan) plan = std::make_shared<const FftPlan>(n);
  return plan;
}

FftPlan::FftPlan(std::ptrdiff_t n) : n_(n), gap_(n >= 256 ? 8 : 0) {
  const auto points = static_cast<std::uint32_t>(n / 2);
  std::uint32_t log = 0;
  while ((1u << log) < points) ++log;
  first_radix_ = log % 2 == 0 ? 4 : 8;
  order_.resize(points);
  place(0, points, static_cast<std::uint32_t>(gap_), 0, 1);

  const auto push = [](std::vector<float>& table, double fraction) {
    const double angle = -2.0 * std::numbers::pi * fraction;
    table.push_back(static_cast<float>(std::cos(angle)));
    table.push_back(static_cast<float>(std::sin(angle)));
  };
  for (std::uint32_t s = first_radix_; s < points; s *= 4) {
    for (std::uint32_t j = 0; j < s; ++j) {
      for (std::uint32_t power = 1; power <= 3; ++power)
        push(twiddles_, static_cast<double>(power * j) / (4.0 * s));
    }
  }
  for (std::ptrdiff_t k = 0; k <= n / 4; ++k) push(split_, static_cast<double>(k) / static_cast<double>(n));
}

// The sub-transform of `size` points at `position` takes the points first, first + step, ...; its quarters
// are `gap` points apart.
void FftPlan::place(std::uint32_t position, std::uint32_t size, std::uint32_t gap, std::uint32_t first,
                    std::uint32_t step) {
  if (size == first_radix_) {
    for (std::uint32_t i = 0; i < size; ++i) order_[first + i * step] = position + i;
    return;
  }
  for (std::uint32_t i = 0; i < 4; ++i)
    place(position + i * (size / 4 + gap), size / 4, 0, first + i * step, 4 * step);
}

std::vector<float> scaled(const float* window, std::ptrdiff_t n, float factor) {
  std::vector<float> values(window, window + n);
  for (float& value : values) value *= factor;
  return values;
}

const float* const* FrameReader::at(std::ptrdiff_t t, int n) {
  thread_local Workspace edges;
  for (int i = 0; i < n; ++i) {
    const std::ptrdiff_t first = (t + i) * hop_ - start_;
    const std::ptrdiff_t from = std::clamp<std::ptrdiff_t>(first, 0, n_samples_);
    const std::ptrdiff_t to = std::clamp<std::ptrdiff_t>(first + n_fft_, from, n_samples_);
    if (to - from == n_fft_) {
      frames_[i] = y_ + first;
    } else {  // extends past an end: a copy padded with zeros
      float* frame = edges.get(static_cast<std::size_t>(kernels::kMostLanes * n_fft_)) + i * n_fft_;
      std::fill_n(frame, n_fft_, 0.0f);
      std::copy(y_ + from, y_ + to, frame + std::min(from - first, n_fft_));
      frames_[i] = frame;
    }
  }
  return frames_;
}

void stft(const FftPlan& plan, const float* y, std::ptrdiff_t y_stride, std::ptrdiff_t n_samples,
          const float* window, const StftShape& shape, float* X) {
  const Kernels& kernels = current_kernels();
  const std::ptrdiff_t n_fft = plan.tables().n, row = n_fft + 2;
  const std::vector<float> half = scaled(window, n_fft, 0.5f);
  parallel_frames(shape.n_clips, shape.n_frames, kernels.lanes, plan.cost(),
                  [&](std::ptrdiff_t b, std::ptrdiff_t first, std::ptrdiff_t last, Poll& poll) {
                    thread_local Workspace workspace;
                    const FlushDenormals flush;
                    float* const work = workspace.get(plan.work_size(kernels.lanes));
                    FrameReader frames(y + b * y_stride, n_samples, n_fft, shape.hop, shape.start);
                    for (std::ptrdiff_t t = first; t < last; t += kernels.lanes) {
                      const auto n = static_cast<int>(std::min<std::ptrdiff_t>(kernels.lanes, last - t));
                      kernels.stft_tile(plan.tables(), frames.at(t, n), n, half.data(), work,
                                        X + (b * shape.n_frames + t) * row, row, nullptr);
                      poll(n);
                    }
                  });
}

void istft(const FftPlan& plan, const float* X, std::ptrdiff_t X_stride, const float* window,
           const StftShape& shape, float* y, std::ptrdiff_t length) {
  const Kernels& kernels = current_kernels();
  const std::ptrdiff_t row = plan.tables().n + 2;
  const Synthesis synthesis(plan, window, shape, length);
  if (synthesis.n_frames() == 0) std::fill_n(y, shape.n_clips * length, 0.0f);
  parallel_frames(shape.n_clips, synthesis.n_frames(), kernels.lanes, plan.cost(),
                  [&](std::ptrdiff_t b, std::ptrdiff_t first, std::ptrdiff_t last, Poll& poll) {
                    thread_local Workspace workspace;
                    const FlushDenormals flush;
                    float* const work = workspace.get(plan.work_size(kernels.lanes));
                    OverlapAdd tile(synthesis, y + b * length, first, last, kernels.lanes);
                    for (; tile.n() > 0; tile.next()) {
                      kernels.istft_tile(plan.tables(), X + b * X_stride + tile.t() * row, row, tile.n(),
                                         synthesis.window(), work, tile.sums(), synthesis.hop());
                      poll(tile.n());
                    }
                  });
}

Synthesis::Synthesis(const FftPlan& plan, const float* window, const StftShape& shape, std::ptrdiff_t length)
    : plan_(plan),
      n_fft_(plan.tables().n),
      // A longer hop would leave out the same frames.
      hop_(std::min(shape.hop, std::max<std::ptrdiff_t>(shape.start + length, 1))),
      start_(shape.start),
      length_(length),
      n_frames_(std::min(shape.n_frames, (shape.start + length + hop_ - 1) / hop_)),
      end_(n_frames_ > 0 ? n_fft_ + hop_ * (n_frames_ - 1) : 0),
      window_(scaled(window, n_fft_, 1.0f / static_cast<float>(n_fft_))) {
  sum_windows(window);
}

void Synthesis::sum_windows(const float* window) {
  std::vector<double> square(static_cast<std::size_t>(n_fft_));
  std::transform(window, window + n_fft_, square.begin(), [](double w) { return w * w; });
  const auto scale = [](double sum) { return static_cast<float>(sum > FLT_MIN ? 1.0 / sum : 1.0); };

  if (end_ < 2 * n_fft_) {  // some frames reach both ends: sum them all
    std::vector<double> sum(static_cast<std::size_t>(end_));
    for (std::ptrdiff_t t = 0; t < n_frames_; ++t) {
      for (std::ptrdiff_t n = 0; n < n_fft_; ++n) sum[t * hop_ + n] += square[n];
    }
    head_.resize(sum.size());
    std::transform(sum.begin(), sum.end(), head_.begin(), scale);
    return;
  }
  std::vector<double> rising = square, falling = square;
  for (std::ptrdiff_t n = hop_; n < n_fft_; ++n) rising[n] += rising[n - hop_];
  for (std::ptrdiff_t n = n_fft_ - hop_ - 1; n >= 0; --n) falling[n] += falling[n + hop_];
  head_.resize(square.size());
  tail_.resize(square.size());
  std::transform(rising.begin(), rising.end(), head_.begin(), scale);
  std::transform(falling.begin(), falling.end(), tail_.begin(), scale);
  // Whole periods, several of them if the hop is short, so that runs are long.
  steady_.resize(static_cast<std::size_t>(hop_ * std::max<std::ptrdiff_t>(1, 1024 / hop_)));
  for (std::ptrdiff_t i = 0; i < std::ssize(steady_); ++i)
    steady_[i] = i >= hop_ ? steady_[i - hop_] : i < std::ssize(tail_) ? tail_[i] : 1.0f;
}

void Synthesis::normalize(std::ptrdiff_t first, std::ptrdiff_t n, const float* from, float* to) const {
  const auto head = static_cast<std::ptrdiff_t>(head_.size()),
             tail = static_cast<std::ptrdiff_t>(tail_.size());
  const auto period = static_cast<std::ptrdiff_t>(steady_.size());
  const Kernels& kernels = current_kernels();
  for (std::ptrdiff_t p = first + start_, stop = p + n; p < stop;) {
    const float* scale;
    std::ptrdiff_t count;
    if (p < head) {
      scale = head_.data() + p;
      count = head - p;
    } else if (p >= end_ - tail) {
      scale = tail_.data() + (p - (end_ - tail));
      count = end_ - p;
    } else {
      scale = steady_.data() + p % period;
      count = std::min(period - p % period, end_ - tail - p);
    }
    count = std::min(count, stop - p);
    kernels.scale(from, scale, count, to);
    from += count;
    to += count;
    p += count;
  }
}

OverlapAdd::OverlapAdd(const Synthesis& synthesis, float* y, std::ptrdiff_t first, std::ptrdiff_t last,
                       int most)
    : synthesis_(synthesis),
      y_(y),
      first_(first),
      last_(last),
      t_(std::max<std::ptrdiff_t>(0, first - (synthesis.n_fft_ - 1) / synthesis.hop_)),
      most_(static_cast<int>(std::min<std::ptrdiff_t>(most, std::max<std::ptrdiff_t>(last - t_, 1)))),
      size_((most_ - 1) * synthesis.hop_ + std::max(synthesis.n_fft_, synthesis.hop_)) {
  thread_local Workspace workspace;
  sums_ = workspace.get(static_cast<std::size_t>(size_));
  std::fill_n(sums_, size_, 0.0f);
  n_ = static_cast<int>(std::min<std::ptrdiff_t>(most_, last_ - t_));
}

void OverlapAdd::next() {
  const Synthesis& s = synthesis_;
  const std::ptrdiff_t position = t_ * s.hop_;
  t_ += n_;
  const bool ends = t_ == s.n_frames_;  // the clip, not just this part of it
  const std::ptrdiff_t count = ends ? s.end_ - position : n_ * s.hop_;
  const std::ptrdiff_t from =
      std::clamp<std::ptrdiff_t>(std::max(position, first_ * s.hop_) - s.start_, 0, s.length_);
  const std::ptrdiff_t to = std::clamp<std::ptrdiff_t>(position + count - s.start_, from, s.length_);
  s.normalize(from, to - from, sums_ + (from + s.start_ - position), y_ + from);
  if (ends) std::fill(y_ + to, y_ + s.length_, 0.0f);
  n_ = static_cast<int>(std::min<std::ptrdiff_t>(most_, last_ - t_));
  if (n_ == 0) return;
  const std::ptrdiff_t kept = std::max<std::ptrdiff_t>(s.n_fft_ - s.hop_, 0);
  std::copy_n(sums_ + count, kept, sums_);
  std::fill(sums_ + kept, sums_ + size_, 0.0f);
}

Rows synthesis_gradient(const Synthesis& synthesis, const float* dy, std::ptrdiff_t t, int n) {
  thread_local Workspace workspace;
  const Kernels& kernels = current_kernels();
  const FftPlan& plan = synthesis.plan();
  const std::ptrdiff_t n_fft = plan.tables().n, hop = synthesis.hop(), row = n_fft + 16;  // whole cache lines
  const std::ptrdiff_t span = (n - 1) * hop + n_fft;
  const std::size_t work_size = plan.work_size(kernels.lanes);
  float* const work = workspace.get(work_size + static_cast<std::size_t>(n * row + span));
  float* const rows = work + work_size;
  float* const samples = rows + n * row;

  const std::ptrdiff_t first = t * hop - synthesis.start();
  const std::ptrdiff_t from = std::clamp<std::ptrdiff_t>(first, 0, synthesis.silent_from());
  const std::ptrdiff_t to = std::clamp<std::ptrdiff_t>(first + span, from, synthesis.silent_from());
  std::fill_n(samples, span, 0.0f);
  synthesis.normalize(from, to - from, dy + from, samples + std::min(from - first, span));

  const float* frames[kernels::kMostLanes];
  for (int i = 0; i < n; i += kernels.lanes) {
    const int count = std::min(kernels.lanes, n - i);
    for (int j = 0; j < count; ++j) frames[j] = samples + (i + j) * hop;
    kernels.stft_tile(plan.tables(), frames, count, synthesis.window(), work, rows + i * row, row, nullptr);
  }
  // The inverse transform counts all bins twice except the first and the last, whose imaginary parts it
  // ignores.
  for (int i = 0; i < n; ++i) {
    for (float* const bin : {rows + i * row, rows + i * row + n_fft}) {
      bin[0] *= 0.5f;
      bin[1] = 0.0f;
    }
  }
  return {rows, row};
}

}  // namespace l2i
