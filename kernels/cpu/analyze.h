// Declaration of analyze.cpp for the table of one instruction set.
#pragma once

#include "table.h"

namespace l2i::kernels::L2I_ISA {

void log1p_tile(const float* magnitudes, std::ptrdiff_t n_bins, int n_frames, float* V);

}  // namespace l2i::kernels::L2I_ISA
