// One instruction set's table of kernels.
#include "table.h"

#include "analyze.h"
#include "bf16.h"
#include "ceilings.h"
#include "log_mel.h"
#include "nmf.h"
#include "simd.h"
#include "soft_mask.h"
#include "stft.h"
#include "stream.h"
#include "stream_pool.h"

#define L2I_TEXT_(x) #x
#define L2I_TEXT(x) L2I_TEXT_(x)

namespace l2i::kernels::L2I_ISA {
namespace {

bool in_range(const float* x, std::ptrdiff_t size, float low, float high) {
  constexpr int kStep = 4;
  IntVec bad[kStep] = {};
  std::ptrdiff_t i = 0;
  for (; i + kStep * kLanes <= size; i += kStep * kLanes) {
    for (int j = 0; j < kStep; ++j) {
      const Vec v = load(x + i + j * kLanes);
      bad[j] |= ~((v >= low) & (v <= high));
    }
  }
  for (int j = 1; j < kStep; ++j) bad[0] |= bad[j];
  bool outside = any(bad[0]);
  for (; i < size; ++i) outside |= !(x[i] >= low && x[i] <= high);
  return !outside;
}

}  // namespace

extern const Kernels table;
constinit const Kernels table = {
    .name = L2I_TEXT(L2I_ISA),
    .lanes = kLanes,
    .in_range = &in_range,
    .stft_tile = &stft_tile,
    .istft_tile = &istft_tile,
    .decode_tile = &decode_tile,
    .scale = &scale,
    .gather = &gather,
    .mask_tile = &mask_tile,
    .apply_tile = &apply_tile,
    .mask_gradient_tile = &mask_gradient_tile,
    .magnitude_tile = &magnitude_tile,
    .mel_tile = &mel_tile,
    .mel_sums_tile = &mel_sums_tile,
    .log1p_tile = &log1p_tile,
    .nmf = &nmf,
    .bf16 = &bf16,
    .stream = &stream,
    .stream_pool = &stream_pool,
    .ceilings = &ceilings,
};

}  // namespace l2i::kernels::L2I_ISA
