// Many streams advanced together: their frames are analysed in tiles, so that W is read once for a tile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "stream.h"

namespace l2i {

// Work space for streams of one plan, which may also be pushed one by one, or by other pools, in between.
// push may be called by one thread at a time; it neither allocates nor locks.
//
// A stream's output does not depend, to the bit, on the other streams, their order or the sizes of blocks. It
// agrees with that of a stream pushed alone up to rounding, since sums run in another order.
class StreamPool {
 public:
  // A stream and its arguments, as in Stream::push, or, with `ends`, as in Stream::finish.
  struct Part {
    Stream* stream;
    const float* samples;
    std::ptrdiff_t n;
    float* out;
    std::ptrdiff_t until;
    bool ends;
    std::ptrdiff_t done = 0;  // result: samples taken
    // For the pool's own use.
    bool pending = false;  // its frame is in the tile
    bool over = false;     // nothing more to take
  };

  explicit StreamPool(std::shared_ptr<const StreamPlan> plan);

  // Takes each stream at most once; all must have this plan.
  void push(std::span<Part> parts);

 private:
  bool advance(Part& part);
  void analyse();

  int lanes() const { return plan_->kernels_.lanes; }
  // Of the frames [first, first + lanes) in the tile.
  kernels::PoolFrames frames(int first);
  void transform();
  void update();
  void synthesize();

  std::shared_ptr<const StreamPlan> plan_;
  std::shared_ptr<const FftPlan> fft_;

  static constexpr int kVectors = 2;  // of lanes in a tile
  Part* tile_[kVectors * kernels::kMostLanes];
  int n_ = 0;  // frames in the tile
  Poll poll_;
  std::ptrdiff_t width_ = 0;  // of its rows: whole vectors

  StreamPlan::Floats W_;
  StreamPlan::Floats work_, per_, X_, a_, v_, mask_, mel_;
  StreamPlan::Floats rows_, b_, h_, other_, least_, weights_, weighted_;
  std::vector<std::int32_t> selected_;
};

}  // namespace l2i
