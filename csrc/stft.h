// Short-time Fourier transform and its inverse over batches, tile by tile.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels.h"
#include "threads.h"
#include "workspace.h"

namespace l2i {

// Tables of the real FFT of one length; immutable and shared by all threads.
class FftPlan {
 public:
  static constexpr std::ptrdiff_t kSmallest = 32, kLargest = 65536;

  static bool supports(std::ptrdiff_t n);                      // powers of two between the two
  static std::shared_ptr<const FftPlan> of(std::ptrdiff_t n);  // made once for each length

  explicit FftPlan(std::ptrdiff_t n);
  kernels::FftTables tables() const { return {n_, gap_, order_.data(), twiddles_.data(), split_.data()}; }
  // About what one transform takes, in nanoseconds.
  double cost() const { return 0.5 * static_cast<double>(n_); }
  std::size_t work_size(int lanes) const {
    return static_cast<std::size_t>(n_ + 6 * gap_) * static_cast<std::size_t>(lanes);
  }

 private:
  void place(std::uint32_t position, std::uint32_t size, std::uint32_t gap, std::uint32_t first,
             std::uint32_t step);

  std::ptrdiff_t n_, gap_;
  std::uint32_t first_radix_;
  std::vector<std::uint32_t> order_;
  std::vector<float> twiddles_, split_;
};

struct StftShape {
  std::ptrdiff_t n_clips, n_frames;
  std::ptrdiff_t hop;
  std::ptrdiff_t start;  // samples of padding before the signal: frame t begins at t * hop - start
};

// A window times a factor: the kernels leave the transforms' constants to it.
std::vector<float> scaled(const float* window, std::ptrdiff_t n, float factor);

// Where the frames of a clip begin; those that reach over an end are copied, with zeros around. The memory is
// the calling thread's: one at a time.
class FrameReader {
 public:
  FrameReader(const float* y, std::ptrdiff_t n_samples, std::ptrdiff_t n_fft, std::ptrdiff_t hop,
              std::ptrdiff_t start)
      : y_(y), n_samples_(n_samples), n_fft_(n_fft), hop_(hop), start_(start) {}
  // Frames [t, t + n), at most as many as there are lanes.
  const float* const* at(std::ptrdiff_t t, int n);

 private:
  const float* y_;
  std::ptrdiff_t n_samples_, n_fft_, hop_, start_;
  const float* frames_[kernels::kMostLanes];
};

// y: n_clips rows of n_samples, y_stride floats apart. window: n_fft values.
// X: n_clips x n_frames rows of n_fft / 2 + 1 complex numbers, contiguous.
void stft(const FftPlan& plan, const float* y, std::ptrdiff_t y_stride, std::ptrdiff_t n_samples,
          const float* window, const StftShape& shape, float* X);

// X: clips X_stride floats apart, each of n_frames contiguous rows. y: n_clips x length, contiguous.
void istft(const FftPlan& plan, const float* X, std::ptrdiff_t X_stride, const float* window,
           const StftShape& shape, float* y, std::ptrdiff_t length);

// What the synthesis half of an inverse transform needs for all clips alike; immutable and shared by threads.
class Synthesis {
 public:
  Synthesis(const FftPlan& plan, const float* window, const StftShape& shape, std::ptrdiff_t length);

  // Frames that reach the wanted samples; later ones are not needed.
  std::ptrdiff_t n_frames() const { return n_frames_; }
  const FftPlan& plan() const { return plan_; }
  const float* window() const { return window_.data(); }  // over n_fft, as the kernels want it
  std::ptrdiff_t hop() const { return hop_; }
  std::ptrdiff_t start() const { return start_; }
  std::ptrdiff_t length() const { return length_; }

  // Samples from this one on are zero whatever the spectrum is.
  std::ptrdiff_t silent_from() const { return std::clamp<std::ptrdiff_t>(end_ - start_, 0, length_); }

  // to[i] = from[i] over the sum of squared windows at sample first + i (over 1 where that is zero).
  void normalize(std::ptrdiff_t first, std::ptrdiff_t n, const float* from, float* to) const;

 private:
  void sum_windows(const float* window);

  const FftPlan& plan_;
  std::ptrdiff_t n_fft_, hop_, start_, length_, n_frames_;
  std::ptrdiff_t end_;  // padded positions that any frame reaches
  std::vector<float> window_;
  // 1 / sum of squared windows (1 where that is zero): positions below head_.size(), then steady_ over and
  // over, then the last tail_.size() before end_.
  std::vector<float> head_, steady_, tail_;

  friend class OverlapAdd;
};

// Adds the windowed frames of one clip, or of a part of it, tile by tile, and writes each sample as soon as
// no later frame can reach it. Its memory does not grow with the clip. A part begins with the frames before
// it that reach into it: its samples have the same bits as those of the whole.
//
//   for (OverlapAdd tile(...); tile.n() > 0; tile.next()) add tile.n() frames from tile.t() on to tile.sums()
class OverlapAdd {
 public:
  // The samples that begin with frames [first, last) of a clip y (from sample 0 on for the first frame, up to
  // the last one for the last), by tiles of at most `most` frames. The memory is the calling thread's: one at
  // a time.
  OverlapAdd(const Synthesis& synthesis, float* y, std::ptrdiff_t first, std::ptrdiff_t last, int most);

  std::ptrdiff_t t() const { return t_; }
  int n() const { return n_; }
  float* sums() const { return sums_; }
  void next();

 private:
  const Synthesis& synthesis_;
  float* y_;
  std::ptrdiff_t first_, last_, t_;
  int most_, n_ = 0;
  std::ptrdiff_t size_;  // of sums_, the first of which is at padded position t_ hop
  float* sums_;
};

struct Rows {
  const float* data;
  std::ptrdiff_t stride;
};

// The adjoint of an inverse transform: gradients (by real and imaginary part) of the spectrum rows [t, t + n)
// of one clip, for the gradient dy of its samples: a forward transform of dy over the sum of squared windows.
// The rows are the calling thread's memory, good until its next call.
Rows synthesis_gradient(const Synthesis& synthesis, const float* dy, std::ptrdiff_t t, int n);

// Runs task(clip, first, last) for parts of n_clips x n_frames frames that together make all; `cost` is about
// what a frame takes, in nanoseconds. Parts begin at multiples of `step`.
template <typename F>
void parallel_frames(std::ptrdiff_t n_clips, std::ptrdiff_t n_frames, std::ptrdiff_t step, double cost,
                     const F& task) {
  const std::ptrdiff_t steps = (n_frames + step - 1) / step;
  parallel_parts(
      n_clips * steps, cost * static_cast<double>(step), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        while (begin < end) {
          const std::ptrdiff_t clip = begin / steps, stop = std::min(end, (clip + 1) * steps);
          task(clip, (begin - clip * steps) * step, std::min((stop - clip * steps) * step, n_frames));
          begin = stop;
        }
      });
}

}  // namespace l2i
