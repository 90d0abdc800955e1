// Declaration of bf16.cpp for the table of one instruction set.
#pragma once

#include "table.h"

namespace l2i::kernels::L2I_ISA {

extern const Bf16Kernels bf16;

}  // namespace l2i::kernels::L2I_ISA
