// Declaration of nmf.cpp for the table of one instruction set.
#pragma once

#include "table.h"

namespace l2i::kernels::L2I_ISA {

extern const NmfKernels nmf;

}  // namespace l2i::kernels::L2I_ISA
