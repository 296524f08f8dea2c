// Lookups in several tables at once: which table and which row each one means, in range or not.
#pragma once

#include "divide.cuh"

namespace embpress::cuda {

// Ids (N, T) of T tables whose rows start at `row_offsets`; lookup i = n T + t.
struct Lookups {
  Integers ids;
  const int64_t* row_offsets;
  const int64_t* rows;
  int64_t count;
  Divisor tables;

  __device__ __forceinline__ uint32_t table(int64_t i) const { return tables.remainder_of(i); }

  // The id of lookup i in table t, -1 where it is out of range: such a lookup is a row of zeros without gradient.
  __device__ __forceinline__ int64_t id(int64_t i, uint32_t t) const {
    const int64_t id = ids[i];
    return id >= 0 && id < rows[t] ? id : -1;
  }

  // The row of lookup i among the rows of all tables, or -1.
  __device__ __forceinline__ int64_t row(int64_t i) const {
    const uint32_t t = table(i);
    const int64_t inside = id(i, t);
    return inside < 0 ? -1 : row_offsets[t] + inside;
  }
};

// 16 bytes of elements, or one element.
template <class T, int V>
struct alignas(V * sizeof(T)) Pack {
  T v[V];
};
template <class T>
constexpr int kPack = 16 / sizeof(T);

// First position of a key in a sorted array that is not below `key`.
static __device__ __forceinline__ int64_t lower_bound(const uint32_t* keys, int64_t n, uint64_t key) {
  int64_t low = 0;
  while (n > 0) {
    const int64_t half = n / 2;
    if (keys[low + half] < key) {
      low += half + 1;
      n -= half + 1;
    } else {
      n = half;
    }
  }
  return low;
}

}  // namespace embpress::cuda
