// Short-time Fourier transform and its inverse over batches, tile by tile.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "interrupt.h"
#include "kernels.h"
#include "threads.h"
#include "workspace.h"

namespace l2i {

// Tables of the real FFT of one length; immutable and shared by all threads.
class FftPlan {
 public:
  static constexpr std::ptrdiff_t kSmallest = 32, kLargest = 65536;

  static bool supports(std::ptrdiff_t n);                      // powers of two in this range
  static std::shared_ptr<const FftPlan> of(std::ptrdiff_t n);  // made once for each length

  explicit FftPlan(std::ptrdiff_t n);
  kernels::FftTables tables() const { return {n_, gap_, order_.data(), twiddles_.data(), split_.data()}; }
  // The approximate time of one transform, in nanoseconds.
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

// A window times a factor: it carries the transforms' constants for the kernels.
std::vector<float> scaled(const float* window, std::ptrdiff_t n, float factor);

// Pointers to the frames of a clip; frames that extend past an end are copied, padded with zeros. The memory
// belongs to the calling thread, which may use one reader at a time.
class FrameReader {
 public:
  FrameReader(const float* y, std::ptrdiff_t n_samples, std::ptrdiff_t n_fft, std::ptrdiff_t hop,
              std::ptrdiff_t start)
      : y_(y), n_samples_(n_samples), n_fft_(n_fft), hop_(hop), start_(start) {}
  // Frames [t, t + n), at most one for each lane.
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

// The window and the normalisation of an inverse transform, the same for all clips; immutable and shared by
// threads.
class Synthesis {
 public:
  Synthesis(const FftPlan& plan, const float* window, const StftShape& shape, std::ptrdiff_t length);

  // Frames that reach the requested samples; later ones are not needed.
  std::ptrdiff_t n_frames() const { return n_frames_; }
  const FftPlan& plan() const { return plan_; }
  const float* window() const { return window_.data(); }  // divided by n_fft, as the kernels expect it
  std::ptrdiff_t hop() const { return hop_; }
  std::ptrdiff_t start() const { return start_; }
  std::ptrdiff_t length() const { return length_; }

  // Samples from this one on are zero for any spectrum.
  std::ptrdiff_t silent_from() const { return std::clamp<std::ptrdiff_t>(end_ - start_, 0, length_); }

  // to[i] = from[i] divided by the sum of squared windows at sample first + i (by 1 where that is zero).
  void normalize(std::ptrdiff_t first, std::ptrdiff_t n, const float* from, float* to) const;

 private:
  void sum_windows(const float* window);

  const FftPlan& plan_;
  std::ptrdiff_t n_fft_, hop_, start_, length_, n_frames_;
  std::ptrdiff_t end_;  // number of padded positions that frames reach
  std::vector<float> window_;
  // 1 / sum of squared windows (1 where that is zero): positions below head_.size(), then steady_ repeatedly,
  // then the last tail_.size() before end_.
  std::vector<float> head_, steady_, tail_;

  friend class OverlapAdd;
};

// Adds the windowed frames of one clip, or of a part of it, tile by tile, and writes each sample as soon as
// no later frame can reach it. Memory use does not grow with the clip. A part starts with the earlier frames
// that reach into it, so its samples have the same bits as those of the whole clip.
//
//   for (OverlapAdd tile(...); tile.n() > 0; tile.next()) add tile.n() frames from tile.t() on to tile.sums()
class OverlapAdd {
 public:
  // The samples from the start of frame `first` to that of frame `last` of a clip y (from sample 0 if `first`
  // is 0, to the last sample if `last` is the end), in tiles of at most `most` frames. The memory belongs to
  // the calling thread, which may use one object at a time.
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
  std::ptrdiff_t size_;  // of sums_, which begins at padded position t_ * hop
  float* sums_;
};

struct Rows {
  const float* data;
  std::ptrdiff_t stride;
};

// The adjoint of an inverse transform. For the gradient dy of one clip's samples, returns the gradients of
// its spectrum rows [t, t + n), by real and imaginary part: a forward transform of dy divided by the sum of
// squared windows. The rows lie in the calling thread's memory and are valid until its next call.
Rows synthesis_gradient(const Synthesis& synthesis, const float* dy, std::ptrdiff_t t, int n);

// Runs task(clip, first, last, poll) for parts that together cover n_clips x n_frames frames; `cost` is the
// approximate time of a frame in nanoseconds. Parts begin at multiples of `step`. Tasks call poll(n) after
// each n frames.
template <typename F>
void parallel_frames(std::ptrdiff_t n_clips, std::ptrdiff_t n_frames, std::ptrdiff_t step, double cost,
                     const F& task) {
  const std::ptrdiff_t steps = (n_frames + step - 1) / step;
  parallel_parts(
      n_clips * steps, cost * static_cast<double>(step), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        Poll poll(cost);
        while (begin < end) {
          const std::ptrdiff_t clip = begin / steps, stop = std::min(end, (clip + 1) * steps);
          task(clip, (begin - clip * steps) * step, std::min((stop - clip * steps) * step, n_frames), poll);
          begin = stop;
        }
      });
}

}  // namespace l2i
