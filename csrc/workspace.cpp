#include "workspace.h"

#include <new>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace l2i {
namespace {

constexpr std::align_val_t kAlignment{64};

#if defined(__x86_64__)
constexpr unsigned kFlush = 0x8040;  // flush to zero, denormals are zero
#elif defined(__aarch64__)
constexpr unsigned long long kFlush = 1ull << 24;
#endif

}  // namespace

float* Workspace::get(std::size_t size) {
  if (size > size_) {
    memory_.reset();
    size_ = 0;
    memory_.reset(static_cast<float*>(::operator new(size * sizeof(float), kAlignment)));
    size_ = size;
  }
  return memory_.get();
}

void Workspace::Free::operator()(float* p) const { ::operator delete(p, kAlignment); }

FlushDenormals::FlushDenormals() {
#if defined(__x86_64__)
  mode_ = _mm_getcsr();
  _mm_setcsr(static_cast<unsigned>(mode_) | kFlush);
#elif defined(__aarch64__)
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode_));
  __asm__ volatile("msr fpcr, %0" : : "r"(mode_ | kFlush));
#else
  mode_ = 0;
#endif
}

FlushDenormals::~FlushDenormals() {
#if defined(__x86_64__)
  _mm_setcsr(static_cast<unsigned>(mode_));
#elif defined(__aarch64__)
  __asm__ volatile("msr fpcr, %0" : : "r"(mode_));
#endif
}

}  // namespace l2i
