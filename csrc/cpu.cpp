#include "cpu.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>

#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace l2i {
namespace {

#if defined(__x86_64__)
// The register files that the operating system saves (XCR0).
std::uint64_t saved_state() {
  std::uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

// Linux grants the tile registers only to processes that request them.
bool tiles_granted() {
#if defined(__linux__)
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}
#endif

bool runs_here(const CpuFeatures& cpu, const std::string& name) {
  if (name == "amx") return cpu.amx;
  if (name == "avx512_bf16") return cpu.avx512_bf16;
  if (name == "avx512") return cpu.avx512;
  if (name == "avx2") return cpu.avx2;
  return true;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

const Kernels* find_path(const std::string& name, const std::string& what) {
  for (const Kernels* kernels : compiled_kernels()) {
    if (name != kernels->name) continue;
    if (runs_here(detect_cpu(), name)) return kernels;
    throw std::invalid_argument(what + " is '" + name + "', but this processor supports only " +
                                joined(supported_paths()));
  }
  throw std::invalid_argument(what + " is '" + name + "', but must be one of " + joined(compiled_paths()));
}

const Kernels* first_choice() {
  const char* forced = std::getenv("L2I_CPU");
  return forced != nullptr && *forced != '\0' ? find_path(forced, "L2I_CPU")
                                              : find_path(supported_paths().back(), "the CPU path");
}

std::atomic<const Kernels*> chosen{nullptr};

}  // namespace

CpuFeatures detect_cpu() {
  CpuFeatures cpu;
#if defined(__x86_64__)
  std::uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return cpu;
  const bool fma = c & bit_FMA;
  const std::uint64_t saved = saved_state();
  const bool ymm = (saved & 0x6) == 0x6;
  const bool zmm = (saved & 0xe6) == 0xe6;
  const bool tiles = (saved & 0x60000) == 0x60000;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return cpu;
  cpu.avx2 = ymm && fma && (b & bit_AVX2);
  cpu.avx512 =
      cpu.avx2 && zmm && (b & bit_AVX512F) && (b & bit_AVX512DQ) && (b & bit_AVX512BW) && (b & bit_AVX512VL);
  const bool amx = tiles && (d & (1u << 24)) && (d & (1u << 22));
  cpu.avx512_bf16 = cpu.avx512 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 5));
  cpu.amx = cpu.avx512_bf16 && amx && tiles_granted();
#endif
  return cpu;
}

std::vector<std::string> compiled_paths() {
  std::vector<std::string> names;
  for (const Kernels* kernels : compiled_kernels()) names.emplace_back(kernels->name);
  return names;
}

std::vector<std::string> supported_paths() {
  const CpuFeatures cpu = detect_cpu();
  std::vector<std::string> names;
  for (const std::string& name : compiled_paths()) {
    if (runs_here(cpu, name)) names.push_back(name);
  }
  return names;
}

const Kernels& current_kernels() {
  const Kernels* kernels = chosen.load(std::memory_order_acquire);
  if (kernels == nullptr) {
    kernels = first_choice();
    chosen.store(kernels, std::memory_order_release);
  }
  return *kernels;
}

std::string current_path() { return current_kernels().name; }

void use_path(const std::string& name) {
  chosen.store(find_path(name, "the CPU path"), std::memory_order_release);
}

}  // namespace l2i
