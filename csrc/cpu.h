// What this processor offers, and which of the compiled instruction sets the engine uses.
#pragma once

#include <string>
#include <vector>

namespace l2i {

struct CpuFeatures {
  bool avx2 = false;         // AVX2 and FMA, registers saved by the operating system
  bool avx512 = false;       // AVX-512 F, DQ, BW and VL
  bool avx512_bf16 = false;  // these and products of bfloat16
  bool amx = false;          // these and AMX tiles of bfloat16, which the operating system lets us use
};

CpuFeatures detect_cpu();

// Names of the instruction sets, narrowest first: all that were compiled in, and those that also run here.
std::vector<std::string> compiled_paths();
std::vector<std::string> supported_paths();

// The path in use. The first call chooses: the environment variable L2I_CPU where it is set, otherwise the
// widest one that runs here. Throws std::invalid_argument for a path that is unknown or does not run here.
std::string current_path();
void use_path(const std::string& name);

}  // namespace l2i
