// Declarations of soft_mask.cpp for the table of one instruction set.
#pragma once

#include "table.h"

namespace l2i::kernels::L2I_ISA {

void gather(const float* H, std::ptrdiff_t frame_stride, std::ptrdiff_t component_stride, int n_frames,
            std::ptrdiff_t n_components, int n_vectors, float* h);
void mask_tile(const MaskTile& tile);
void apply_tile(const ApplyTile& tile);
void mask_gradient_tile(const MaskGradientTile& tile);

}  // namespace l2i::kernels::L2I_ISA
