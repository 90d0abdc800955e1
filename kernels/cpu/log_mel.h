// Declarations of log_mel.cpp for the table of one instruction set.
#pragma once

#include "table.h"

namespace l2i::kernels::L2I_ISA {

void magnitude_tile(const float* X, std::ptrdiff_t X_stride, std::ptrdiff_t n_bins, int n_frames, bool exact,
                    float* magnitudes);
bool mel_tile(const MelTile& tile);
void mel_sums_tile(const MelTile& tile);

}  // namespace l2i::kernels::L2I_ISA
