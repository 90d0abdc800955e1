// One instruction set's table; compiled once for each, with L2I_ISA naming its namespace.
#include "table.h"

#define L2I_TEXT_(x) #x
#define L2I_TEXT(x) L2I_TEXT_(x)

namespace l2i::kernels::L2I_ISA {

extern const Kernels table;
constexpr Kernels table = {
    L2I_TEXT(L2I_ISA),
    L2I_LANES,
};

}  // namespace l2i::kernels::L2I_ISA
