// See ceilings.cpp.
#pragma once

#include "table.h"

namespace l2i::kernels::L2I_ISA {

extern const CeilingKernels ceilings;

}  // namespace l2i::kernels::L2I_ISA
