// Memory that a thread keeps from call to call, so that no call pays for fresh pages.
#pragma once

#include <cstddef>
#include <memory>

namespace l2i {

// Grows to the largest size asked for; aligned for the widest vectors. What it holds is undefined.
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

// Flushes denormals to zero in this thread while it lives, and restores the mode.
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
