// Tables as tensor trains and the lookups in them, as the kernels see them.
//
// Core k of a table is (p_k, R_k, q_k, R_{k+1}), so that the slice of a row digit is a matrix (R_k, q_k R_{k+1}). A row
// is the chain of its slices' products: a product (rows, q_k R_{k+1}) is at once the (rows q_k, R_{k+1}) of the next
// one.
#pragma once

#include "../common/elements.cuh"
#include "../common/id_table.cuh"

namespace embpress::cuda {

constexpr int kTTCores = 4;

struct TTTable {
  const void* core[kTTCores];
  void* grad[kTTCores];
  const void* cache_values;
  void* cache_grad;
  CacheIndex cache;  // its index is null where there is no cache
  int64_t num_embeddings, padding_idx;
  int32_t p[kTTCores], q[kTTCores], rank[kTTCores + 1];
  int32_t first_group, first_cached;  // numbers among the groups and the cached rows of all tables
  int32_t first_end[3];               // see TTEnds
  int32_t num_cores, cached;

  // Lookups are grouped by this core's digit: with 2 cores the last one's, else the last one's but one.
  __host__ __device__ int grouped() const { return num_cores == 2 ? 1 : num_cores - 2; }
  __host__ __device__ bool has_last() const { return num_cores > 2; }

  __host__ __device__ int slice(int k) const { return rank[k] * q[k] * rank[k + 1]; }

  // rows of the product before core k, for one lookup
  __host__ __device__ int rows(int k) const {
    int rows = 1;
    for (int j = 0; j < k; ++j) rows *= q[j];
    return rows;
  }

  __host__ __device__ int columns(int k) const { return q[k] * rank[k + 1]; }

  // rows of the table that differ in the digits behind core k
  __host__ __device__ int64_t below(int k) const {
    int64_t below = 1;
    for (int j = k + 1; j < num_cores; ++j) below *= p[j];
    return below;
  }

  template <class T>
  __device__ const T* slice_at(int k, int digit) const {
    return static_cast<const T*>(core[k]) + static_cast<int64_t>(digit) * slice(k);
  }
};

// Digits of row `id`, the most significant first.
__device__ inline void tt_digits(const TTTable& table, int64_t id, int* digit) {
  for (int k = table.num_cores - 1; k > 0; --k) {
    const int64_t rest = id / table.p[k];
    digit[k] = static_cast<int>(id - rest * table.p[k]);
    id = rest;
  }
  digit[0] = static_cast<int>(id);
}

// As many tables as fit into a kernel's arguments; a kernel lays them down in memory for the others to read.
constexpr int kTablesAtOnce = 12;
struct TTTableBlock {
  TTTable table[kTablesAtOnce];
};
static_assert(sizeof(TTTableBlock) <= 3584, "arguments of a kernel take 4 kB");

static __global__ void tt_write_tables(TTTableBlock block, TTTable* to, int count) {
  const int t = threadIdx.x;
  if (t < count) to[t] = block.table[t];
}

// Lookup i counts table after table, bag after bag; `position` is where it stands in the indices. Bag numbers count all
// tables' bags: table t, bag b is t * bags + b.
struct TTLookups {
  Integers ids, offsets;
  bool has_offsets;
  int64_t tables, bags, per_bag, total, bounds_given;
  const void* weights;  // of the parameters' type, or null
  bool mean;

  // The first lookup of a bag; whatever stands in the offsets, it is one of the lookups or their end.
  __device__ int64_t begin(int64_t bag) const {
    if (!has_offsets) return bag * per_bag;
    if (bag >= bounds_given) return total;
    const int64_t at = offsets[bag];
    return at < 0 ? 0 : at > total ? total : at;
  }

  __device__ int64_t position(int64_t i) const {
    if (has_offsets) return i;
    const int64_t bag = i / per_bag, t = bag / bags;
    return (bag - t * bags) * tables * per_bag + t * per_bag + (i - bag * per_bag);
  }

  // where a bag lies in the output (bags, tables)
  __device__ int64_t out_row(int64_t bag) const {
    const int64_t t = bag / bags;
    return (bag - t * bags) * tables + t;
  }

  // the bag of a lookup, -1 where offsets that are wrong leave it without one
  __device__ int64_t bag_of(int64_t i) const {
    if (!has_offsets) return i / per_bag;
    int64_t low = 0, high = tables * bags;  // the first bag that starts behind i
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (begin(middle) <= i)
        low = middle + 1;
      else
        high = middle;
    }
    return low - 1;
  }

  template <class T>
  __device__ Compute<T> weight(int64_t i) const {
    return weights ? widen(static_cast<const T*>(weights)[position(i)]) : Compute<T>{1};
  }
};

// What a lookup wants: a row of the cores, a row of the cache, or nothing (padding, or an id out of range).
struct TTWanted {
  int64_t id;
  int32_t cached;  // the cache's row, or -1
  bool nothing;
};

__device__ inline TTWanted tt_wanted(const TTTable& table, const TTLookups& lookups, int64_t i) {
  const int64_t id = lookups.ids[lookups.position(i)];
  const bool nothing = id < 0 || id >= table.num_embeddings || id == table.padding_idx;
  return {id, nothing || !table.cache.index ? -1 : table.cache.find(id), nothing};
}

// The number of the last element of `starts`, an ascending array of n, that is no larger than `value`.
template <class I>
__device__ inline int64_t last_start(const I* starts, int64_t n, int64_t value) {
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (static_cast<int64_t>(starts[middle]) <= value)
      low = middle + 1;
    else
      high = middle;
  }
  return low - 1;
}

}  // namespace embpress::cuda
