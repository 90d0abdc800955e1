#pragma once

#include "table.h"

namespace l2i::kernels::L2I_ISA {

extern const NmfKernels nmf;

}  // namespace l2i::kernels::L2I_ISA
