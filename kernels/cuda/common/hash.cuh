// Universal hashes modulo the prime P = 2038074743, the numbers of kernels/reference.
#pragma once

#include "divide.cuh"

namespace embpress::cuda {

constexpr uint32_t kPrime = 2038074743;  // 2^31 - 109408905

__device__ __forceinline__ uint32_t modulo_prime(uint64_t n) { return static_cast<uint32_t>(n % kPrime); }

// (x a + b) mod P; x and a below 2^31, so that nothing overflows
__device__ __forceinline__ uint32_t hash_once(uint32_t x, int64_t a, uint64_t b) {
  return modulo_prime(static_cast<uint64_t>(x) * static_cast<uint32_t>(a) + b);
}

__device__ __forceinline__ uint32_t mix(uint32_t x) { return x ^ (x >> 15); }

// two rounds, below 2^31
__device__ __forceinline__ uint32_t hash_twice(uint32_t x, int64_t a, int64_t b, int64_t c, int64_t d) {
  return mix(hash_once(mix(hash_once(x, a, b)), c, d));
}

}  // namespace embpress::cuda
