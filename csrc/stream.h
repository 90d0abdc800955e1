// Streams: a live signal in, what some components hold of it out, hop by hop.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels.h"
#include "log_mel.h"
#include "stft.h"

namespace l2i {

// What all streams of one model share; immutable.
class StreamPlan {
 public:
  struct Settings {
    std::ptrdiff_t hop;
    int n_updates;
    bool log;
    float eps;
  };

  // W: n_bins rows of n_components. window: n_fft values, n_fft = 2 (n_bins - 1) supported by FftPlan.
  // bands may be null: then no mel magnitudes are kept. Copies all it is given.
  StreamPlan(const float* W, std::ptrdiff_t bin_stride, std::ptrdiff_t component_stride, std::ptrdiff_t K,
             const float* window, std::ptrdiff_t n_fft, const MelBands* bands, const Settings& settings);

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
  std::ptrdiff_t bins_, components_;  // filled up to whole vectors
  FftPlan columns_, rows_;
  Floats twiddles_, split_;
  Floats W_, gram_;
  std::vector<float> analysis_, synthesis_, squares_;
  std::ptrdiff_t n_windows_;  // that reach a sample
  std::vector<float> norms_;  // sums of their squares over a hop
  std::vector<std::int32_t> starts_, counts_;
  std::vector<float> factors_;

  float entry(std::ptrdiff_t f, std::ptrdiff_t k) const { return W_.data()[packed(f, k)]; }  // of W
  std::ptrdiff_t packed(std::ptrdiff_t f, std::ptrdiff_t k) const;
  kernels::FrameFft fft() const;
  // Sums of squares of the windows that began `first` to `last` hops before.
  void sum_squares(std::ptrdiff_t first, std::ptrdiff_t last, float* norms) const;
};

// One signal. Calls of push and finish belong to one thread at a time; publish to one other; columns, hops
// and activations to any. push neither allocates nor locks.
//
// Frame t is centred on sample t hop, with zeros before the first sample, as in decode. Samples come out
// latency() = n_fft after they went in.
class Stream {
 public:
  static constexpr int kFade = 4;  // hops from the old to new weights

  // Columns of the newest `history` frames are kept where the plan has bands.
  Stream(std::shared_ptr<const StreamPlan> plan, std::ptrdiff_t history);

  std::ptrdiff_t latency() const { return plan_->n_fft_; }
  std::ptrdiff_t n_components() const { return plan_->K_; }
  const StreamPlan& plan() const { return *plan_; }
  std::ptrdiff_t column_size() const { return static_cast<std::ptrdiff_t>(plan_->starts_.size()) + 1; }
  // Frames analysed since the signal began.
  std::ptrdiff_t hops() const { return hops_.load(std::memory_order_acquire); }
  // Frames that n more samples complete; all that are left if they are the last.
  std::ptrdiff_t frames_in(std::ptrdiff_t n, bool last) const;
  // Samples that still have to come out after the last one went in.
  std::ptrdiff_t left() const { return ended_ ? left_ : latency(); }

  // Takes up to n samples and writes as many. Stops after the frame that makes `until` of them; returns how
  // many samples were taken. H: where not null, activations of the frames to be completed, instead of
  // updates.
  std::ptrdiff_t push(const float* samples, std::ptrdiff_t n, float* out, std::ptrdiff_t until,
                      const float* H, std::ptrdiff_t frame_stride, std::ptrdiff_t component_stride);
  // The same for the left() samples behind the last one; when all are out, a new signal begins.
  std::ptrdiff_t finish(std::ptrdiff_t n, float* out, std::ptrdiff_t until, const float* H,
                        std::ptrdiff_t frame_stride, std::ptrdiff_t component_stride);
  // Begins a new signal, with the weights that were published last from its first frame on.
  void reset();

  // Weights (K) and scale for the frames to come; the stream fades over from those it has. The updates of
  // each frame begin with `start` (K), or, where that is null, with the activations of the frame before.
  void publish(const float* weights, float scale, const float* start);
  // Mel magnitudes of frames [first, first + n) and the peak of the samples that each brought, n rows of
  // column_size(). False where they are not all there (any more).
  bool columns(std::ptrdiff_t first, std::ptrdiff_t n, float* out) const;
  // Of the newest frame (K).
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
  // Its steps: samples in and out up to the next frame, zeros where `samples` is null, and what happens to
  // that frame.
  std::ptrdiff_t take(const float* samples, std::ptrdiff_t n, float* out);
  bool complete() const { return room_ == 0; }
  bool in_signal() const { return hops_.load(std::memory_order_relaxed) < n_frames_; }
  void analyse(Given& given);
  void drain();

  void begin_tail();
  void count_tail(std::ptrdiff_t written);

  void fade();
  float begin_updates(float* h) const;
  void sum_bands(const float* magnitudes, float* mel) const;
  void keep_column(const float* mel);
  void show_activations();

  std::shared_ptr<const StreamPlan> plan_;
  std::atomic<std::ptrdiff_t> hops_{0};
  std::ptrdiff_t taken_ = 0;     // samples
  std::ptrdiff_t room_ = 0;      // samples until the next frame is complete
  std::ptrdiff_t position_ = 0;  // the sample that sums_ begins with
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
  int fading_ = 0;  // hops to go
  // Of three masks one belongs to the publisher, one to the stream, and one lies between them: `between_` is
  // its index, plus kFresh where the stream has not seen it.
  static constexpr int kFresh = 4;
  Mask masks_[3];
  int front_ = 0, back_ = 1;
  std::atomic<int> between_{2};

  std::ptrdiff_t history_;
  mutable std::vector<float> ring_, shown_;  // read by other threads through atomic_ref
};

}  // namespace l2i
