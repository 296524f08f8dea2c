// Division by numbers that a whole launch shares, by multiplication (Lemire, Kaser and Kurz 2019, "Faster remainder by
// direct computation").
#pragma once

#include "elements.cuh"

namespace embpress::cuda {

struct Divisor {
  uint32_t by;
  uint64_t magic;  // 2^64 / by, rounded up; 0 stands for 2^64

  __host__ __device__ explicit Divisor(uint32_t by) : by(by), magic(~uint64_t{0} / by + 1) {}

  __device__ __forceinline__ uint32_t quotient(uint32_t n) const {
    return by == 1 ? n : static_cast<uint32_t>(__umul64hi(magic, n));
  }
  __device__ __forceinline__ uint32_t remainder(uint32_t n) const {
    return static_cast<uint32_t>(__umul64hi(magic * n, by));
  }
  // of a number that rarely has more than 32 bits
  __device__ __forceinline__ uint32_t remainder_of(int64_t n) const {
    return n >> 32 ? static_cast<uint32_t>(n % by) : remainder(static_cast<uint32_t>(n));
  }
};

// n mod d for numbers that commonly fit into 32 bits, where division takes a fraction of the time
__device__ __forceinline__ uint64_t quotient(uint64_t n, uint64_t d) {
  return (n | d) >> 32 ? n / d : static_cast<uint32_t>(n) / static_cast<uint32_t>(d);
}
__device__ __forceinline__ uint64_t remainder(uint64_t n, uint64_t d) {
  return (n | d) >> 32 ? n % d : static_cast<uint32_t>(n) % static_cast<uint32_t>(d);
}

}  // namespace embpress::cuda
