// Declaration of log_mel.cpp for the table of one instruction set.
#pragma once

#include "table.h"

namespace l2i::kernels::L2I_ISA {

void mel_tile(const MelTile& tile);

}  // namespace l2i::kernels::L2I_ISA
