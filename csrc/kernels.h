// The table of kernels: one entry per compiled instruction set, all with the same functions.
#pragma once

#include <vector>

#include "cpu/table.h"

namespace l2i {

using kernels::Kernels;

// Narrowest first; the first one runs on every processor of the architecture.
const std::vector<const Kernels*>& compiled_kernels();

// The table of the path in use (see cpu.h).
const Kernels& current_kernels();

}  // namespace l2i
