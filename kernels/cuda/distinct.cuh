// The distinct rows that a batch of lookups takes, found by sorting: each is then read or updated once.
#pragma once

#include "lookups.cuh"

namespace embpress::cuda {

constexpr uint32_t kNone = 0xffffffffu;

// One key a lookup: the row it takes; `limit` where the id is out of range.
static __global__ void row_keys_kernel(Lookups lookups, uint32_t limit, uint32_t* keys, uint32_t* numbers) {
  const int64_t i = global_thread();
  if (i >= lookups.count) return;
  const int64_t row = lookups.row(i);
  keys[i] = row < 0 ? limit : static_cast<uint32_t>(row);
  numbers[i] = static_cast<uint32_t>(i);
}

// Sum of the values of the threads before this one in the block, and of all; `shared` has room for one a warp.
__device__ __forceinline__ uint32_t sum_before(uint32_t value, uint32_t* shared, uint32_t& all) {
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  uint32_t sum = value;
  for (unsigned by = 1; by < 32; by *= 2) {
    const uint32_t other = __shfl_up_sync(0xffffffffu, sum, by);
    if (lane >= by) sum += other;
  }
  if (lane == 31) shared[warp] = sum;
  __syncthreads();
  uint32_t before = sum - value;
  all = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) {
    if (w < warp) before += shared[w];
    all += shared[w];
  }
  __syncthreads();
  return before;
}

// Whether a sorted key is the first of its row.
__device__ __forceinline__ bool is_first(const uint32_t* keys, int64_t e, int64_t count, uint32_t limit) {
  return e < count && keys[e] < limit && (e == 0 || keys[e - 1] != keys[e]);
}

// How many rows begin in each block of sorted keys.
static __global__ void count_rows_kernel(const uint32_t* keys, int64_t count, uint32_t limit, uint32_t* counts) {
  DYNAMIC_SHARED(uint32_t, shared);
  uint32_t all;
  sum_before(is_first(keys, global_thread(), count, limit), shared, all);
  if (threadIdx.x == 0) counts[blockIdx.x] = all;
}

// Replaces the counts by sums of those before; counts[blocks] becomes the sum of all. One block.
static __global__ void sum_counts_kernel(uint32_t* counts, int64_t blocks) {
  DYNAMIC_SHARED(uint32_t, shared);
  uint32_t carry = 0;
  for (int64_t first = 0; first < blocks; first += blockDim.x) {
    const int64_t b = first + threadIdx.x;
    uint32_t all;
    const uint32_t before = sum_before(b < blocks ? counts[b] : 0, shared, all);
    if (b < blocks) counts[b] = carry + before;
    carry += all;
  }
  if (threadIdx.x == 0) counts[blocks] = carry;
}

// Numbers the rows, ascending: `rows[u]`, and the number of each sorted key's row, kNone for none.
static __global__ void number_rows_kernel(const uint32_t* keys, int64_t count, uint32_t limit, const uint32_t* counts,
                                          uint32_t* rows, uint32_t* numbers) {
  DYNAMIC_SHARED(uint32_t, shared);
  const int64_t e = global_thread();
  const bool first = is_first(keys, e, count, limit);
  uint32_t all;
  const uint32_t number = counts[blockIdx.x] + sum_before(first, shared, all);
  if (first) rows[number] = keys[e];
  if (e < count) numbers[e] = keys[e] >= limit ? kNone : first ? number : number - 1;
}

// The distinct rows of each table: from `ranges[2 t]` to `ranges[2 t + 1]`.
static __global__ void table_ranges_kernel(const uint32_t* rows, const uint32_t* total, Lookups lookups,
                                           uint32_t* ranges) {
  const int64_t t = global_thread();
  if (t >= lookups.tables.by) return;
  const int64_t begin = lookups.first[t], end = begin + lookups.rows[t];
  ranges[2 * t] = static_cast<uint32_t>(lower_bound(rows, *total, begin));
  ranges[2 * t + 1] = static_cast<uint32_t>(lower_bound(rows, *total, end));
}

}  // namespace embpress::cuda
