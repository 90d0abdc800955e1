// The features of this processor, and the compiled instruction set that the engine uses.
#pragma once

#include <string>
#include <vector>

namespace l2i {

struct CpuFeatures {
  bool avx2 = false;         // AVX2 and FMA, registers saved by the operating system
  bool avx512 = false;       // AVX-512 F, DQ, BW and VL
  bool avx512_bf16 = false;  // these and products of bfloat16
  bool amx = false;          // these and AMX tiles of bfloat16, granted by the operating system
};

CpuFeatures detect_cpu();

// Names of the instruction sets, narrowest first: all that are compiled in, and those that run here.
std::vector<std::string> compiled_paths();
std::vector<std::string> supported_paths();

// The path in use. The first call chooses it: the value of the environment variable L2I_CPU if set, otherwise
// the widest path that runs here. Throws std::invalid_argument for a path that is unknown or does not run
// here.
std::string current_path();
void use_path(const std::string& name);

}  // namespace l2i
