// Memory that a thread keeps between calls, so that no call pays for fresh pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace l2i {

// Grows to the largest size requested; aligned for the widest vectors. Its content is undefined.
class Workspace {
 public:
  float* get(std::size_t size);
  double* get_doubles(std::size_t size) { return reinterpret_cast<double*>(get(2 * size)); }

 private:
  struct Free {
    void operator()(float* p) const;
  };
  std::unique_ptr<float, Free> memory_;
  std::size_t size_ = 0;
};

// Hands out parts of one workspace, each on its own cache lines. With null memory it only counts.
class Slices {
 public:
  explicit Slices(float* memory) : next_(memory) {}
  float* take(std::ptrdiff_t size) {
    const std::ptrdiff_t rounded = (size + 15) / 16 * 16;
    float* const taken = next_;
    if (next_ != nullptr) next_ += rounded;
    total_ += rounded;
    return taken;
  }
  std::uint32_t* take_words(std::ptrdiff_t size) { return reinterpret_cast<std::uint32_t*>(take(size)); }
  std::size_t total() const { return static_cast<std::size_t>(total_); }

 private:
  float* next_;
  std::ptrdiff_t total_ = 0;
};

// Flushes denormals to zero in the current thread for its lifetime, then restores the mode.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  unsigned long long mode_;
};

}  // namespace l2i
