// float products on tensor cores, in tf32 (10 bits of mantissa) or split into two tf32 numbers each.
#pragma once

#include "elements.cuh"

namespace embpress::cuda {

// How float is multiplied; the numbers are those of the op's argument.
enum class Math : int32_t { kFloat = 0, kTF32 = 1, kSplitTF32 = 2 };

// The nearest number with 10 bits of mantissa, as the bits of a float.
__device__ __forceinline__ uint32_t to_tf32(float v) {
#ifdef EMBPRESS_CUDA_ON_CPU
  uint32_t bits;
  std::memcpy(&bits, &v, 4);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & ~0x1fffu;
#else
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(v));
  return bits;
#endif
}

__device__ __forceinline__ float of_bits(uint32_t bits) {
#ifdef EMBPRESS_CUDA_ON_CPU
  float v;
  std::memcpy(&v, &bits, 4);
  return v;
#else
  return __uint_as_float(bits);
#endif
}

// A float as one tf32 number, or as two whose sum has 21 bits of its mantissa.
template <bool SPLIT>
struct TF32Pair {
  uint32_t large, small;

  TF32Pair() = default;
  __device__ __forceinline__ explicit TF32Pair(float v) : large(to_tf32(v)) {
    small = SPLIT ? to_tf32(v - of_bits(large)) : 0;
  }
};

// sum (16 x 8) += a (16 x 8) b (8 x 8), spread over the lanes of a warp as mma.m16n8k8 has it: with g = lane / 4 and
// t = lane % 4 a lane holds a(g, t), a(g + 8, t), a(g, t + 4), a(g + 8, t + 4); b(t, g), b(t + 4, g); and
// sum(g, 2 t), sum(g, 2 t + 1), sum(g + 8, 2 t), sum(g + 8, 2 t + 1).
__device__ __forceinline__ void mma_tf32(float* sum, const uint32_t* a, const uint32_t* b) {
#ifdef EMBPRESS_CUDA_ON_CPU
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  for (int k = 0; k < 8; ++k) {
    const int high = k / 4, holder = k % 4;
    float left[2], right[2];
    for (int e = 0; e < 2; ++e) left[e] = of_bits(__shfl_sync(0xffffffffu, a[2 * high + e], g * 4 + holder));
    for (int e = 0; e < 2; ++e) right[e] = of_bits(__shfl_sync(0xffffffffu, b[high], (2 * t + e) * 4 + holder));
    for (int e = 0; e < 4; ++e) sum[e] += left[e / 2] * right[e % 2];
  }
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

template <bool SPLIT>
__device__ __forceinline__ void multiply_add(float* sum, const TF32Pair<SPLIT>* a, const TF32Pair<SPLIT>* b) {
  uint32_t a_large[4], b_large[2];
  for (int e = 0; e < 4; ++e) a_large[e] = a[e].large;
  for (int e = 0; e < 2; ++e) b_large[e] = b[e].large;
  if constexpr (SPLIT) {  // the small terms first; small times small is below the last bit
    uint32_t a_small[4], b_small[2];
    for (int e = 0; e < 4; ++e) a_small[e] = a[e].small;
    for (int e = 0; e < 2; ++e) b_small[e] = b[e].small;
    mma_tf32(sum, a_small, b_large);
    mma_tf32(sum, a_large, b_small);
  }
  mma_tf32(sum, a_large, b_large);
}

}  // namespace embpress::cuda
