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
  static constexpr int32_t kCorrupt = -2;

  const int32_t* index = nullptr;
  uint64_t mask = 0;
  const int64_t* ids = nullptr;
  int64_t rows = 0;

  // The cached row's number or -1, and kCorrupt where the index turns out to be no index of these ids. Whatever it
  // holds, the search ends and reads nothing else.
  int32_t find(int64_t id) const {
    uint64_t at = first_slot(id, mask);
    for (uint64_t probes = 0; probes <= mask; ++probes, at = (at + 1) & mask) {
      const int32_t row = index[at];
      if (row < 0) return -1;
      if (row >= rows) return kCorrupt;
      if (ids[row] == id) return row;
    }
    return kCorrupt;  // a sound index has a free slot
  }
};

}  // namespace embpress
