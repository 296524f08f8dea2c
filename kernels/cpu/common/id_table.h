// Open-addressing hash tables of row ids: the next free slot after the hash (Knuth's multiplicative), a power of two of
// slots. kernels/reference computes the same ones.
#pragma once

#include <cstdint>

namespace embpress {

inline uint64_t first_slot(int64_t id, uint64_t mask) {
  return (static_cast<uint64_t>(id) * 0x9E3779B97F4A7C15u >> 32) & mask;
}

// The rows that a cache holds: `index` has their numbers in the slots of their ids, -1 elsewhere.
struct CacheIndex {
  const int32_t* index = nullptr;
  uint64_t mask = 0;
  const int64_t* ids = nullptr;

  // the cached row's number, or -1
  int32_t find(int64_t id) const {
    for (uint64_t at = first_slot(id, mask);; at = (at + 1) & mask) {
      const int32_t row = index[at];
      if (row < 0 || ids[row] == id) return row;
    }
  }
};

}  // namespace embpress
