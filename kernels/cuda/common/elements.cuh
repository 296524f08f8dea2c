// What every kernel needs: element types and the float that sums of them are taken in, shared memory, indices.
#pragma once

#include <cstdint>

#ifdef EMBPRESS_CUDA_ON_CPU
#include "cuda_on_cpu.h"
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(cuda_on_cpu::state().shared.data())
#else
#define DYNAMIC_SHARED(type, name)                                 \
  extern __shared__ __align__(16) unsigned char embpress_shared[]; \
  type* name = reinterpret_cast<type*>(embpress_shared)
#endif

namespace embpress::cuda {

// The upper half of a float, rounded to even; the same 16 bits as torch.bfloat16.
struct BFloat16 {
  uint16_t bits;
};

// What parameters of type T are computed with.
template <class T>
struct ComputeOf {
  using type = T;
};
template <>
struct ComputeOf<BFloat16> {
  using type = float;
};
template <class T>
using Compute = typename ComputeOf<T>::type;

__device__ __forceinline__ float widen(float v) { return v; }
__device__ __forceinline__ double widen(double v) { return v; }
__device__ __forceinline__ float widen(BFloat16 v) {
  union {
    uint32_t bits;
    float value;
  } u;
  u.bits = static_cast<uint32_t>(v.bits) << 16;
  return u.value;
}

template <class T>
__device__ __forceinline__ T narrow(Compute<T> v);
template <>
__device__ __forceinline__ float narrow<float>(float v) {
  return v;
}
template <>
__device__ __forceinline__ double narrow<double>(double v) {
  return v;
}
template <>
__device__ __forceinline__ BFloat16 narrow<BFloat16>(float v) {
  union {
    float value;
    uint32_t bits;
  } u;
  u.value = v;
  if ((u.bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u.bits >> 16) | 0x40u)};  // NaN stays one
  return {static_cast<uint16_t>((u.bits + 0x7fffu + ((u.bits >> 16) & 1u)) >> 16)};
}

__device__ __forceinline__ int64_t global_thread() {
  return blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
}
__device__ __forceinline__ int64_t global_threads() { return gridDim.x * static_cast<int64_t>(blockDim.x); }

// ids or offsets, int32 or int64 as they are
struct Integers {
  const void* data;
  bool wide;

  __device__ int64_t operator[](int64_t i) const {
    return wide ? static_cast<const int64_t*>(data)[i] : static_cast<int64_t>(static_cast<const int32_t*>(data)[i]);
  }
};

}  // namespace embpress::cuda
