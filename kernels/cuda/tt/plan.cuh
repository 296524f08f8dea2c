// The order in which the grouped kernels work: distinct rows, sorted by the digit of their grouped core.
//
// The key of a lookup is its group (table and digit) and, in the bits below, the other digits of its row. Rows of the
// cache are groups of their own behind all others, and lookups that want nothing come last.
#pragma once

#include "../common/tile_product.cuh"
#include "table.cuh"

namespace embpress::cuda {

constexpr int kSegment = 128;  // rows of a group that one block works on

struct TTPlan {
  uint64_t* row_key;       // rows: of the lookups' number at most
  int32_t* sorted;         // lookups, sorted by key
  int32_t* bag;            // of each lookup as (bag, table) of the output, -1 where there is none
  int32_t* row_of;         // the row of each lookup, -1 where it wants nothing
  int32_t* group_start;    // groups + cached + 1: rows
  int32_t* segment_start;  // groups + 1: blocks of at most kSegment rows
  int64_t total;           // lookups
  int32_t groups, cached;
  int32_t rest_bits;
  Math math;

  // memory, in int32; an even number, since keys of 64 bits lie first and plans may be stacked (torch.func.vmap)
  static int64_t ints(int64_t total, int64_t groups, int64_t cached) {
    const int64_t all = 5 * total + (groups + cached + 1) + (groups + 1);
    return all + all % 2;
  }

  __host__ __device__ int32_t nothing() const { return groups + cached; }
  __device__ int32_t group(uint64_t key) const { return static_cast<int32_t>(key >> rest_bits); }
  __device__ int64_t rest(uint64_t key) const { return static_cast<int64_t>(key & ((uint64_t{1} << rest_bits) - 1)); }
  __device__ int32_t num_rows() const { return group_start[groups + cached]; }
};

__device__ inline uint64_t tt_key(const TTTable& table, const TTPlan& plan, int64_t id) {
  const int g = table.grouped();
  const int64_t below = table.below(g), above = id / below;
  const int64_t digit = above % table.p[g], rest = above / table.p[g] * below + id % below;
  return (static_cast<uint64_t>(table.first_group + digit) << plan.rest_bits) | static_cast<uint64_t>(rest);
}

// The table and the digits of a row that is not a cached one.
struct TTRow {
  int32_t table;
  int digit[kTTCores];
};

__device__ inline TTRow tt_row(const TTTable* tables, int64_t num_tables, const TTPlan& plan, uint64_t key) {
  const int32_t group = plan.group(key);
  int32_t t = 0;
  while (t + 1 < num_tables && tables[t + 1].first_group <= group) ++t;
  TTRow row{t, {}};
  const TTTable& table = tables[t];
  const int g = table.grouped();
  int64_t rest = plan.rest(key);
  for (int k = table.num_cores - 1; k >= 0; --k) {
    if (k == g) {
      row.digit[k] = group - table.first_group;
      continue;
    }
    row.digit[k] = static_cast<int>(rest % table.p[k]);
    rest /= table.p[k];
  }
  return row;
}

static __global__ void tt_plan_keys(const TTTable* tables, TTLookups lookups, TTPlan plan, uint64_t* keys,
                                    int32_t* order) {
  const int64_t i = global_thread();
  if (i >= plan.total) return;
  const int64_t bag = lookups.bag_of(i);
  uint64_t key = static_cast<uint64_t>(plan.nothing()) << plan.rest_bits;
  if (bag >= 0) {
    const TTTable& table = tables[bag / lookups.bags];
    const TTWanted wanted = tt_wanted(table, lookups, i);
    if (wanted.cached >= 0)
      key = static_cast<uint64_t>(plan.groups + table.first_cached + wanted.cached) << plan.rest_bits;
    else if (!wanted.nothing)
      key = tt_key(table, plan, wanted.id);
  }
  keys[i] = key;
  order[i] = static_cast<int32_t>(i);
  plan.bag[i] = bag < 0 ? -1 : static_cast<int32_t>(lookups.out_row(bag));
}

// begins[j] = whether sorted lookup j is the first of its row
static __global__ void tt_plan_begins(TTPlan plan, const uint64_t* keys, int32_t* begins) {
  const int64_t j = global_thread();
  if (j >= plan.total) return;
  begins[j] = plan.group(keys[j]) < plan.nothing() && (j == 0 || keys[j] != keys[j - 1]);
}

// running: the sums of `begins`
static __global__ void tt_plan_rows(TTPlan plan, const uint64_t* keys, const int32_t* running) {
  const int64_t j = global_thread();
  if (j >= plan.total) return;
  const bool wants = plan.group(keys[j]) < plan.nothing();
  const int32_t row = running[j] - 1;
  plan.row_of[plan.sorted[j]] = wants ? row : -1;
  if (wants && (j == 0 || keys[j] != keys[j - 1])) plan.row_key[row] = keys[j];
}

static __global__ void tt_plan_groups(TTPlan plan, const int32_t* running) {
  const int64_t g = global_thread();
  if (g > plan.nothing()) return;
  int32_t low = 0, high = running[plan.total - 1];  // the first row of group g or of one behind it
  while (low < high) {
    const int32_t middle = (low + high) / 2;
    if (plan.group(plan.row_key[middle]) < g)
      low = middle + 1;
    else
      high = middle;
  }
  plan.group_start[g] = low;
}

// counts[g] = blocks of at most `max_elements` elements that the range from start[g] to start[g + 1] takes
static __global__ void tt_count_segments(const int32_t* start, int64_t groups, int max_elements, int32_t* counts) {
  const int64_t g = global_thread();
  if (g < groups) counts[g] = (start[g + 1] - start[g] + max_elements - 1) / max_elements;
}

// One segment of one group: block b of those that `segment_start` numbers.
struct TTSegment {
  int32_t group, begin, end;
  bool only;  // the group has no other

  __device__ static TTSegment of(const int32_t* segment_start, const int32_t* start, int64_t groups, int max_elements,
                                 int64_t block) {
    if (block >= segment_start[groups]) return {-1, 0, 0, false};
    // empty groups start where the next one does, and the last of equal starts is the one that is not empty
    const auto group = static_cast<int32_t>(last_start(segment_start, groups, block));
    const int32_t begin = start[group] + static_cast<int32_t>(block - segment_start[group]) * max_elements;
    const int32_t end = begin + max_elements < start[group + 1] ? begin + max_elements : start[group + 1];
    return {group, begin, end, segment_start[group + 1] - segment_start[group] == 1};
  }
};

// scale (bags, tables) = one over the number of its lookups that want something
template <class C>
__global__ void tt_bag_scale(TTLookups lookups, TTPlan plan, C* scale) {
  const int64_t bag = global_thread();
  if (bag >= lookups.tables * lookups.bags) return;
  int64_t found = 0;
  const int64_t end = lookups.begin(bag + 1);
  for (int64_t i = lookups.begin(bag); i < end; ++i) found += plan.row_of[i] >= 0;
  scale[lookups.out_row(bag)] = found > 1 ? C{1} / static_cast<C>(found) : C{1};
}

}  // namespace embpress::cuda
