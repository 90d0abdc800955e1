// Streams: decode the selected components of a live signal, hop by hop.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "interrupt.h"
#include "kernels.h"
#include "log_mel.h"
#include "stft.h"

namespace l2i {

// The tables that all streams of one model share; immutable.
class StreamPlan {
 public:
  struct Settings {
    std::ptrdiff_t hop;
    int n_updates;
    kernels::MaskDomain domain;
    float eps;
    float lift;  // share of W' v that is added to activations that a mask brings along
  };

  // W: n_bins rows of n_components. window: n_fft values, n_fft = 2 (n_bins - 1) supported by FftPlan.
  // bands may be null, in which case samples are kept instead of mel magnitudes. Copies its arguments.
  StreamPlan(const float* W, std::ptrdiff_t bin_stride, std::ptrdiff_t component_stride, std::ptrdiff_t K,
             const float* window, std::ptrdiff_t n_fft, const MelBands* bands, const Settings& settings);

  // The approximate time of a frame in nanoseconds.
  double cost() const;

 private:
  friend class Stream;
  friend class StreamPool;

  // Floats aligned for the widest vectors.
  class Floats {
   public:
    explicit Floats(std::ptrdiff_t size);
    float* data() { return memory_.get(static_cast<std::size_t>(size_)); }
    const float* data() const { return const_cast<Floats*>(this)->data(); }

   private:
    Workspace memory_;
    std::ptrdiff_t size_;
  };

  static std::ptrdiff_t whole(std::ptrdiff_t n, std::ptrdiff_t unit) { return (n + unit - 1) / unit * unit; }

  const Kernels& kernels_;
  const Kernels& fft_kernels_;  // the widest that can transform a single frame of this length
  Settings settings_;
  std::ptrdiff_t n_fft_, n_bins_, K_;
  std::ptrdiff_t bins_, components_;  // rounded up to whole vectors
  FftPlan columns_, rows_;
  Floats twiddles_, split_;
  Floats W_, gram_;
  std::vector<float> analysis_, synthesis_, squares_;
  std::ptrdiff_t n_windows_;  // windows that reach a sample
  std::vector<float> norms_;  // sums of their squares over a hop
  std::vector<std::int32_t> starts_, counts_;
  std::vector<float> factors_;

  float entry(std::ptrdiff_t f, std::ptrdiff_t k) const { return W_.data()[packed(f, k)]; }  // of W
  std::ptrdiff_t packed(std::ptrdiff_t f, std::ptrdiff_t k) const;
  kernels::FrameFft fft() const;
  double update_cost() const;  // the approximate time of one update of a frame in nanoseconds
  // Runs update(n) for all updates of a frame, and polls where they last.
  template <typename Update>
  void update_in_steps(const Update& update) const {
    const int most = static_cast<int>(std::clamp(1e6 / update_cost(), 1.0, 1e6));
    Poll poll(update_cost());
    for (int left = settings_.n_updates;;) {
      const int n = std::min(left, most);
      update(n);
      left -= n;
      if (left == 0) return;
      poll(n);
    }
  }
  // Sums of squares of the windows that began `first` to `last` hops earlier.
  void sum_squares(std::ptrdiff_t first, std::ptrdiff_t last, float* norms) const;
};

// One signal. push and finish may be called by one thread at a time, publish by one other, and columns, hops
// and activations by any. push neither allocates nor locks.
//
// Frame t is centred on sample t * hop, with zeros before the first sample, as in decode. The output lags
// behind the input by latency() = n_fft samples.
//
// Calls that last poll (interrupt.h). One that is ended early has taken the samples up to a frame, and the
// stream goes on from there.
class Stream {
 public:
  static constexpr int kFade = 4;  // hops over which old weights fade to new ones

  // Keeps columns of the newest `history` frames.
  Stream(std::shared_ptr<const StreamPlan> plan, std::ptrdiff_t history);

  std::ptrdiff_t latency() const { return plan_->n_fft_; }
  std::ptrdiff_t n_components() const { return plan_->K_; }
  const StreamPlan& plan() const { return *plan_; }
  std::ptrdiff_t column_size() const {
    const auto n_bands = static_cast<std::ptrdiff_t>(plan_->starts_.size());
    return (n_bands > 0 ? n_bands : plan_->settings_.hop) + 1;
  }
  // Frames analysed since the signal began.
  std::ptrdiff_t hops() const { return hops_.load(std::memory_order_acquire); }
  // Frames that n more samples complete; all remaining frames if they are the last.
  std::ptrdiff_t frames_in(std::ptrdiff_t n, bool last) const;
  // Samples still due after the last input.
  std::ptrdiff_t left() const { return ended_ ? left_ : latency(); }

  // Takes up to n samples, writes as many, and returns their number; stops after the frame that makes hops()
  // equal to `until`. H: activations of the frames to be completed, in place of updates; or null.
  std::ptrdiff_t push(const float* samples, std::ptrdiff_t n, float* out, std::ptrdiff_t until,
                      const float* H, std::ptrdiff_t frame_stride, std::ptrdiff_t component_stride);
  // The same for the left() samples after the last input; once all are written, a new signal begins.
  std::ptrdiff_t finish(std::ptrdiff_t n, float* out, std::ptrdiff_t until, const float* H,
                        std::ptrdiff_t frame_stride, std::ptrdiff_t component_stride);
  // Begins a new signal, with the weights that were published last from its first frame on.
  void reset();

  // Sets weights (K) and scale for the following frames, to which the stream fades from the current ones. The
  // updates of each frame start from `start` (K), or, if that is null, from the activations of the frame
  // before.
  void publish(const float* weights, float scale, const float* start);
  // Mel magnitudes of frames [first, first + n), or, without bands, their new samples, and the peaks of
  // those: n rows of column_size(). Returns false unless all of these frames are kept.
  bool columns(std::ptrdiff_t first, std::ptrdiff_t n, float* out) const;
  // Activations of the newest frame (K).
  void activations(float* h) const;

 private:
  struct Mask {
    std::vector<float> weights, start;
    float scale;
    bool has_start;
  };
  struct Given {
    const float* H;
    std::ptrdiff_t frame_stride, component_stride, next;
  };

  friend class StreamPool;

  std::ptrdiff_t advance(const float* samples, std::ptrdiff_t n, float* out, std::ptrdiff_t until,
                         Given& given);
  // The steps of advance: take samples (zeros if `samples` is null) up to the end of the next frame, then, if
  // it is complete, analyse and drain it.
  std::ptrdiff_t take(const float* samples, std::ptrdiff_t n, float* out);
  bool complete() const { return room_ == 0; }
  bool in_signal() const { return hops_.load(std::memory_order_relaxed) < n_frames_; }
  void analyse(Given& given);
  void drain();

  void begin_tail();
  void end_tail();

  void fade();
  float begin_updates(const float* b, std::ptrdiff_t stride, float* h) const;
  void sum_bands(const float* magnitudes, float* mel) const;
  // The samples that are new in a frame: the last hop.
  const float* newest() const { return input_.data() + plan_->n_fft_ - plan_->settings_.hop; }
  void keep_column(const float* values);
  void show_activations();

  std::shared_ptr<const StreamPlan> plan_;
  std::atomic<std::ptrdiff_t> hops_{0};
  std::ptrdiff_t taken_ = 0;     // samples
  std::ptrdiff_t room_ = 0;      // samples until the next frame is complete
  std::ptrdiff_t position_ = 0;  // sample at which sums_ begins
  std::ptrdiff_t n_frames_;      // of the signal, once its end is known
  std::ptrdiff_t left_ = 0;
  bool ended_ = false;

  StreamPlan::Floats input_, sums_, norms_, ready_;
  std::ptrdiff_t ready_at_ = 0;
  StreamPlan::Floats work_, re_, im_, a_, v_, b_, h_, d_, mel_;
  float peak_ = 0;

  Mask current_;
  std::vector<std::int32_t> selected_;
  std::vector<float> weighted_;
  int fading_ = 0;  // remaining hops
  // Of three masks one belongs to the publisher, one to the stream, and one lies between them: `between_` is
  // its index, plus kFresh until the stream takes it.
  static constexpr int kFresh = 4;
  Mask masks_[3];
  int front_ = 0, back_ = 1;
  std::atomic<int> between_{2};

  std::ptrdiff_t history_;
  mutable std::vector<float> ring_, shown_;  // read by other threads through atomic_ref
};

}  // namespace l2i
