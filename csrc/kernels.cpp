#include "kernels.h"

namespace l2i {

const std::vector<const Kernels*>& compiled_kernels() {
  static const std::vector<const Kernels*> tables = {
      &kernels::scalar::table,
#if defined(L2I_X86_PATHS)
      &kernels::avx2::table,
      &kernels::avx512::table,
#endif
  };
  return tables;
}

}  // namespace l2i
