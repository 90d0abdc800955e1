// The threads of a block, which run a program in phases: together on a GPU, one after another on the CPU.
//
// A block program is a sequence of phases that all threads run, with a barrier after each. Within a phase no
// thread may read what another one writes. On the CPU the threads take turns in any order that the caller
// chooses, so that a missing barrier shows as a difference between two orders.
#pragma once

#ifdef __CUDACC__
#define L2I_DEVICE __device__ __forceinline__
#define L2I_BOTH __host__ __device__ constexpr
#define L2I_PRAGMA(text) _Pragma(#text)
#define L2I_UNROLL L2I_PRAGMA(unroll)
#define L2I_UNROLL_BY(n) L2I_PRAGMA(unroll n)
#else
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>
#define L2I_DEVICE inline
#define L2I_BOTH constexpr
#define L2I_UNROLL
#define L2I_UNROLL_BY(n)
#endif

namespace l2i::cuda {

#ifdef __CUDACC__

// Values that each thread keeps from one phase to the next, in registers.
template <typename T>
struct Locals {
  T value;
  L2I_DEVICE T& operator[](int) { return value; }
};

class Team {
 public:
  L2I_DEVICE int size() const { return static_cast<int>(blockDim.x); }

  template <typename T>
  L2I_DEVICE Locals<T> locals() const {
    return {};
  }

  // One phase: body(thread).
  template <typename Body>
  L2I_DEVICE void each(const Body& body) const {
    body(static_cast<int>(threadIdx.x));
    __syncthreads();
  }

  // One phase: body(i) for i in [0, n), neighbouring i in neighbouring threads.
  template <typename Body>
  L2I_DEVICE void over(int n, const Body& body) const {
    for (int i = static_cast<int>(threadIdx.x); i < n; i += size()) body(i);
    __syncthreads();
  }
};

#else

template <typename T>
class Locals {
 public:
  explicit Locals(int n) : values_(static_cast<std::size_t>(n)) {}
  T& operator[](int thread) { return values_[static_cast<std::size_t>(thread)]; }

 private:
  std::vector<T> values_;
};

class Team {
 public:
  // order: the threads 0 .. n - 1 in the order in which they take turns.
  explicit Team(std::vector<int> order) : order_(std::move(order)) {}

  int size() const { return static_cast<int>(order_.size()); }

  template <typename T>
  Locals<T> locals() const {
    return Locals<T>(size());
  }

  template <typename Body>
  void each(const Body& body) const {
    for (const int thread : order_) body(thread);
  }

  template <typename Body>
  void over(int n, const Body& body) const {
    for (const int thread : order_) {
      for (int i = thread; i < n; i += size()) body(i);
    }
  }

 private:
  std::vector<int> order_;
};

#endif

struct alignas(8) Complex {
  float r, i;
};

// n floats, aligned so that up to four of them are loaded at once.
template <int n>
struct alignas(n < 4 ? 4 * n : 16) Vec {
  float x[n];
};

// Loads values that no block writes, through the read-only path of the first-level cache.
template <int n>
L2I_DEVICE Vec<n> load(const float* from) {
#ifdef __CUDACC__
  Vec<n> v;
  if constexpr (n == 4) {
    const float4 x = __ldg(reinterpret_cast<const float4*>(from));
    v.x[0] = x.x, v.x[1] = x.y, v.x[2] = x.z, v.x[3] = x.w;
  } else {
    static_assert(n == 1);
    v.x[0] = __ldg(from);
  }
  return v;
#else
  return *reinterpret_cast<const Vec<n>*>(from);
#endif
}

L2I_DEVICE float load(const float* from) { return load<1>(from).x[0]; }

L2I_DEVICE Complex load(const Complex* from) {
#ifdef __CUDACC__
  const float2 x = __ldg(reinterpret_cast<const float2*>(from));
  return {x.x, x.y};
#else
  return *from;
#endif
}

// n floats of shared memory.
template <int n>
L2I_DEVICE Vec<n> shared(const float* from) {
  return *reinterpret_cast<const Vec<n>*>(from);
}

}  // namespace l2i::cuda
