// The hash tables behind TT-Rec's cache: building an index, asking it, counting ids.
#pragma once

#include "common/id_table.cuh"

namespace embpress::cuda {

// index: all -1 at first. As if the rows entered one after another, whatever order the threads run in: in each slot
// the lowest row stays and the other one moves on, and -1 read as unsigned is above every row.
static __global__ void cache_index_kernel(const int64_t* ids, int64_t rows, uint32_t* index, uint64_t mask) {
  const int64_t row = global_thread();
  if (row >= rows || ids[row] < 0) return;
  uint32_t mine = static_cast<uint32_t>(row);
  for (uint64_t at = first_slot(ids[row], mask);; at = (at + 1) & mask) {
    const uint32_t there = atomicMin(index + at, mine);
    if (there == 0xffffffffu) return;
    if (there > mine) mine = there;
  }
}

static __global__ void cache_find_kernel(CacheIndex cache, const int64_t* wanted, int64_t count, int32_t* rows) {
  const int64_t i = global_thread();
  if (i < count) rows[i] = cache.find(wanted[i]);
}

// Counts are exact; which slot an id gets, and which ids find room at last, depends on the order of the threads.
static __global__ void count_ids_kernel(unsigned long long* keys, unsigned long long* counts, unsigned long long* used,
                                        Integers ids, int64_t number, uint64_t mask, uint64_t max_used) {
  constexpr unsigned long long kFree = ~0ull;
  const int64_t i = global_thread();
  if (i >= number) return;
  const int64_t id = ids[i];
  if (id < 0) return;
  const auto key = static_cast<unsigned long long>(id);
  uint64_t at = first_slot(id, mask);
  for (uint64_t passed = 0; passed <= mask;) {  // a table without a free slot is no sound one: not counted
    const unsigned long long there = *static_cast<volatile unsigned long long*>(keys + at);
    if (there == key) {
      atomicAdd(counts + at, 1ull);
      return;
    }
    if (there != kFree) {
      at = (at + 1) & mask;
      ++passed;
      continue;
    }
    if (atomicAdd(used, 1ull) >= max_used) {  // one slot in eight stays free, so that searches end soon
      atomicAdd(used, ~0ull);
      return;
    }
    if (atomicCAS(keys + at, kFree, key) != kFree) atomicAdd(used, ~0ull);  // taken meanwhile: look again
  }
}

}  // namespace embpress::cuda
