// Short-time Fourier transform and its inverse over batches, tile by tile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels.h"
#include "workspace.h"

namespace l2i {

// Tables of the real FFT of one length; immutable and shared by all threads.
class FftPlan {
 public:
  static constexpr std::ptrdiff_t kSmallest = 32, kLargest = 65536;

  static bool supports(std::ptrdiff_t n);                      // powers of two between the two
  static std::shared_ptr<const FftPlan> of(std::ptrdiff_t n);  // made once for each length

  explicit FftPlan(std::ptrdiff_t n);
  kernels::FftTables tables() const { return {n_, order_.data(), twiddles_.data(), split_.data()}; }
  std::size_t work_size(int lanes) const {
    return static_cast<std::size_t>(n_) * static_cast<std::size_t>(lanes);
  }

 private:
  void place(std::uint32_t position, std::uint32_t size, std::uint32_t first, std::uint32_t step);

  std::ptrdiff_t n_;
  std::uint32_t first_radix_;
  std::vector<std::uint32_t> order_;
  std::vector<float> twiddles_, split_;
};

struct StftShape {
  std::ptrdiff_t n_clips, n_frames;
  std::ptrdiff_t hop;
  std::ptrdiff_t start;  // samples of padding before the signal: frame t begins at t * hop - start
};

// y: n_clips rows of n_samples, y_stride floats apart. window: n_fft values.
// X: n_clips x n_frames rows of n_fft / 2 + 1 complex numbers, contiguous.
void stft(const FftPlan& plan, const float* y, std::ptrdiff_t y_stride, std::ptrdiff_t n_samples,
          const float* window, const StftShape& shape, float* X);

// X: clips X_stride floats apart, each of n_frames contiguous rows. y: n_clips x length, contiguous.
void istft(const FftPlan& plan, const float* X, std::ptrdiff_t X_stride, const float* window,
           const StftShape& shape, float* y, std::ptrdiff_t length);

// The synthesis half of an inverse transform: takes tiles of spectrum rows in order, adds their windowed
// frames and writes each sample as soon as no later frame can reach it. Its memory does not grow with the
// clip.
class Synthesis {
 public:
  Synthesis(const Kernels& kernels, const FftPlan& plan, const float* window, const StftShape& shape,
            std::ptrdiff_t length);

  // Frames that reach the wanted samples; later ones need not be given.
  std::ptrdiff_t n_frames() const { return n_frames_; }
  // Begins a clip whose samples go to y[0 .. length).
  void begin(float* y);
  // Adds the next n rows (at most kernels.lanes; fewer only in the last tile).
  void add(const float* rows, std::ptrdiff_t row_stride, int n);

 private:
  void sum_windows(const float* window);
  void write(std::ptrdiff_t count);

  const Kernels& kernels_;
  const FftPlan& plan_;
  std::ptrdiff_t n_fft_, hop_, start_, length_, n_frames_;
  std::ptrdiff_t end_;           // padded positions that any frame reaches
  std::ptrdiff_t position_ = 0;  // padded position of sums_[0]
  float* y_ = nullptr;
  std::vector<float> window_, sums_;
  // 1 / sum of squared windows (1 where that is zero): positions below head_.size(), then steady_ over and
  // over, then the last tail_.size() before end_.
  std::vector<float> head_, steady_, tail_;
};

}  // namespace l2i
