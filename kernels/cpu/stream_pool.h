// Declaration of stream_pool.cpp for the table of one instruction set.
#pragma once

#include "table.h"

namespace l2i::kernels::L2I_ISA {

extern const StreamPoolKernels stream_pool;

}  // namespace l2i::kernels::L2I_ISA
