// Declaration of stream.cpp for the table of one instruction set.
#pragma once

#include "table.h"

namespace l2i::kernels::L2I_ISA {

extern const StreamKernels stream;

}  // namespace l2i::kernels::L2I_ISA
