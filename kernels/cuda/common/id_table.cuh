// Open-addressing hash tables of row ids on the GPU: the slots that kernels/cpu/common/id_table.h computes.
#pragma once

#include "elements.cuh"

namespace embpress::cuda {

__device__ __forceinline__ uint64_t first_slot(int64_t id, uint64_t mask) {
  return (static_cast<uint64_t>(id) * 0x9E3779B97F4A7C15u >> 32) & mask;
}

// The rows that a cache holds: `index` has their numbers in the slots of their ids, -1 elsewhere.
struct CacheIndex {
  const int32_t* index;
  const int64_t* ids;
  uint64_t mask;
  int64_t rows;

  // The cached row's number, or -1. Whatever the index holds, the search ends and reads nothing else.
  __device__ int32_t find(int64_t id) const {
    uint64_t at = first_slot(id, mask);
    for (uint64_t probes = 0; probes <= mask; ++probes, at = (at + 1) & mask) {
      const int32_t row = index[at];
      if (row < 0 || row >= rows) return -1;
      if (ids[row] == id) return row;
    }
    return -1;
  }
};

}  // namespace embpress::cuda
