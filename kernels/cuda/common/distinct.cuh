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

// 1 where a sorted key is the first of its row, else 0: their running sums number the rows, from 1 on.
static __global__ void first_of_row_kernel(const uint32_t* keys, int64_t count, uint32_t limit, int32_t* first) {
  const int64_t e = global_thread();
  if (e < count) first[e] = keys[e] < limit && (e == 0 || keys[e - 1] != keys[e]);
}

// The distinct rows, ascending, and which of them each sorted key's is, kNone for none.
static __global__ void number_rows_kernel(const uint32_t* keys, int64_t count, uint32_t limit, const int32_t* sums,
                                          uint32_t* rows, uint32_t* numbers) {
  const int64_t e = global_thread();
  if (e >= count) return;
  const uint32_t number = static_cast<uint32_t>(sums[e]) - 1;
  numbers[e] = keys[e] < limit ? number : kNone;
  if (keys[e] < limit && (e == 0 || keys[e - 1] != keys[e])) rows[number] = keys[e];
}

// The distinct rows of each table: from `ranges[2 t]` to `ranges[2 t + 1]`.
static __global__ void table_ranges_kernel(const uint32_t* rows, const int32_t* total, Lookups lookups,
                                           uint32_t* ranges) {
  const int64_t t = global_thread();
  if (t >= lookups.tables.by) return;
  const int64_t begin = lookups.row_offsets[t], end = begin + lookups.rows[t];
  ranges[2 * t] = static_cast<uint32_t>(lower_bound(rows, *total, begin));
  ranges[2 * t + 1] = static_cast<uint32_t>(lower_bound(rows, *total, end));
}

}  // namespace embpress::cuda
