#include "kernels.h"

namespace l2i {
namespace {

#if defined(L2I_X86_PATHS)
Kernels with_bf16(const char* name, const kernels::Bf16Kernels& bf16) {
  Kernels table = kernels::avx512::table;
  table.name = name;
  table.bf16 = &bf16;
  return table;
}
#endif

}  // namespace

const std::vector<const Kernels*>& compiled_kernels() {
#if defined(L2I_X86_PATHS)
  static const Kernels avx512_bf16 = with_bf16("avx512_bf16", kernels::avx512_bf16::bf16);
  static const Kernels amx = with_bf16("amx", kernels::amx::bf16);
#endif
  static const std::vector<const Kernels*> tables = {
      &kernels::scalar::table,
#if defined(L2I_X86_PATHS)
      &kernels::avx2::table,   &kernels::avx512::table, &avx512_bf16, &amx,
#endif
  };
  return tables;
}

}  // namespace l2i
