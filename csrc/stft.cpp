#include "stft.h"

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
  const std::lock_guard lock(mutex);
  std::shared_ptr<const FftPlan>& plan = plans[n];
  if (!plan) plan = std::make_shared<const FftPlan>(n);
  return plan;
}

FftPlan::FftPlan(std::ptrdiff_t n) : n_(n) {
  const auto points = static_cast<std::uint32_t>(n / 2);
  std::uint32_t log = 0;
  while ((1u << log) < points) ++log;
  first_radix_ = log % 2 == 0 ? 4 : 8;
  order_.resize(points);
  place(0, points, 0, 1);

  const auto push = [](std::vector<float>& table, double turns) {
    const double angle = -2.0 * std::numbers::pi * turns;
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

// The sub-transform of `size` points at `position` takes the points first, first + step, ...
void FftPlan::place(std::uint32_t position, std::uint32_t size, std::uint32_t first, std::uint32_t step) {
  if (size == first_radix_) {
    for (std::uint32_t i = 0; i < size; ++i) order_[first + i * step] = position + i;
    return;
  }
  for (std::uint32_t i = 0; i < 4; ++i) place(position + i * size / 4, size / 4, first + i * step, 4 * step);
}

void stft(const FftPlan& plan, const float* y, std::ptrdiff_t y_stride, std::ptrdiff_t n_samples,
          const float* window, const StftShape& shape, float* X) {
  thread_local Workspace workspace, edges;
  const FlushDenormals flush;
  const Kernels& kernels = current_kernels();
  const kernels::FftTables fft = plan.tables();
  const std::ptrdiff_t n_fft = fft.n, row = n_fft + 2;
  float* work = workspace.get(plan.work_size(kernels.lanes));
  std::vector<float> half(window, window + n_fft);
  for (float& value : half) value *= 0.5f;

  std::vector<const float*> frames(static_cast<std::size_t>(kernels.lanes));
  for (std::ptrdiff_t b = 0; b < shape.n_clips; ++b) {
    const float* clip = y + b * y_stride;
    for (std::ptrdiff_t t = 0; t < shape.n_frames; t += kernels.lanes) {
      const int n = static_cast<int>(std::min<std::ptrdiff_t>(kernels.lanes, shape.n_frames - t));
      for (int i = 0; i < n; ++i) {
        const std::ptrdiff_t first = (t + i) * shape.hop - shape.start;
        const std::ptrdiff_t from = std::clamp<std::ptrdiff_t>(first, 0, n_samples);
        const std::ptrdiff_t to = std::clamp<std::ptrdiff_t>(first + n_fft, from, n_samples);
        if (to - from == n_fft) {
          frames[static_cast<std::size_t>(i)] = clip + first;
        } else {  // reaches over an end: a copy with zeros around
          float* frame = edges.get(plan.work_size(kernels.lanes)) + i * n_fft;
          std::fill_n(frame, n_fft, 0.0f);
          std::copy(clip + from, clip + to, frame + std::min(from - first, n_fft));
          frames[static_cast<std::size_t>(i)] = frame;
        }
      }
      kernels.stft_tile(fft, frames.data(), n, half.data(), work, X + (b * shape.n_frames + t) * row, row);
    }
  }
}

void istft(const FftPlan& plan, const float* X, std::ptrdiff_t X_stride, const float* window,
           const StftShape& shape, float* y, std::ptrdiff_t length) {
  const FlushDenormals flush;
  const Kernels& kernels = current_kernels();
  const std::ptrdiff_t row = plan.tables().n + 2;
  Synthesis synthesis(kernels, plan, window, shape, length);
  for (std::ptrdiff_t b = 0; b < shape.n_clips; ++b) {
    synthesis.begin(y + b * length);
    for (std::ptrdiff_t t = 0; t < synthesis.n_frames(); t += kernels.lanes) {
      const auto n = static_cast<int>(std::min<std::ptrdiff_t>(kernels.lanes, synthesis.n_frames() - t));
      synthesis.add(X + b * X_stride + t * row, row, n);
    }
  }
}

Synthesis::Synthesis(const Kernels& kernels, const FftPlan& plan, const float* window, const StftShape& shape,
                     std::ptrdiff_t length)
    : kernels_(kernels),
      plan_(plan),
      n_fft_(plan.tables().n),
      hop_(shape.hop),
      start_(shape.start),
      length_(length),
      n_frames_(std::min(shape.n_frames, (shape.start + length + shape.hop - 1) / shape.hop)),
      end_(n_frames_ > 0 ? n_fft_ + hop_ * (n_frames_ - 1) : 0),
      window_(window, window + n_fft_),
      sums_(static_cast<std::size_t>((kernels.lanes - 1) * hop_ + std::max(n_fft_, hop_))) {
  for (float& value : window_) value /= static_cast<float>(n_fft_);
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
  // Whole periods, enough of them for long runs where the hop is short.
  steady_.resize(static_cast<std::size_t>(hop_ * std::max<std::ptrdiff_t>(1, 1024 / hop_)));
  for (std::size_t i = 0; i < steady_.size(); ++i) {
    const std::size_t phase = i % static_cast<std::size_t>(hop_);
    steady_[i] = phase < tail_.size() ? tail_[phase] : 1.0f;
  }
}

void Synthesis::begin(float* y) {
  y_ = y;
  position_ = 0;
  std::fill(sums_.begin(), sums_.end(), 0.0f);
  if (n_frames_ == 0) std::fill_n(y_, length_, 0.0f);
}

void Synthesis::add(const float* rows, std::ptrdiff_t row_stride, int n) {
  thread_local Workspace workspace;
  kernels_.istft_tile(plan_.tables(), rows, row_stride, n, window_.data(),
                      workspace.get(plan_.work_size(kernels_.lanes)), sums_.data(), hop_);
  const std::ptrdiff_t done = position_ + n * hop_;
  const bool last = done >= n_frames_ * hop_;
  const std::ptrdiff_t count = last ? end_ - position_ : n * hop_;
  write(count);
  if (last) {
    const std::ptrdiff_t written = std::clamp<std::ptrdiff_t>(end_ - start_, 0, length_);
    std::fill(y_ + written, y_ + length_, 0.0f);
    return;
  }
  const std::ptrdiff_t kept = std::max<std::ptrdiff_t>(n_fft_ - hop_, 0);
  std::copy_n(sums_.begin() + count, kept, sums_.begin());
  std::fill(sums_.begin() + kept, sums_.end(), 0.0f);
  position_ = done;
}

// Scales the first `count` sums and writes those that lie in the wanted samples.
void Synthesis::write(std::ptrdiff_t count) {
  const auto head = static_cast<std::ptrdiff_t>(head_.size()),
             tail = static_cast<std::ptrdiff_t>(tail_.size());
  const auto period = static_cast<std::ptrdiff_t>(steady_.size());
  std::ptrdiff_t p = std::max(position_, start_);
  const std::ptrdiff_t stop = std::min(position_ + count, start_ + length_);
  while (p < stop) {
    const float* scale;
    std::ptrdiff_t n;
    if (p < head) {
      scale = head_.data() + p;
      n = head - p;
    } else if (p >= end_ - tail) {
      scale = tail_.data() + (p - (end_ - tail));
      n = end_ - p;
    } else {
      scale = steady_.data() + p % period;
      n = std::min(period - p % period, end_ - tail - p);
    }
    n = std::min(n, stop - p);
    const float* from = sums_.data() + (p - position_);
    float* to = y_ + (p - start_);
    for (std::ptrdiff_t i = 0; i < n; ++i) to[i] = from[i] * scale[i];
    p += n;
  }
}

}  // namespace l2i
