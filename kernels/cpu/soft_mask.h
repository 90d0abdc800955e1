// Declarations of soft_mask.cpp for the table of one instruction set.
#pragma once

#include "table.h"

namespace l2i::kernels::L2I_ISA {

std::ptrdiff_t packed_size(std::ptrdiff_t n_bins, std::ptrdiff_t n_components);
void pack_dictionary(const float* W, std::ptrdiff_t bin_stride, std::ptrdiff_t component_stride,
                     std::ptrdiff_t n_bins, std::ptrdiff_t n_components, float* packed);
void mask_tile(const MaskTile& tile);

}  // namespace l2i::kernels::L2I_ISA
