// Which distinct rows a batch needs, grouped by the digit of the big core; everything else follows this order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../common/parallel.h"
#include "table.h"

namespace embpress {

// Where the ids of a call lie: `tables` tables of `bags` bags each.
//
// Without offsets ids are (bags, tables * per_bag); with offsets they are table after table. A position is a lookup's
// number within its table.
struct Lookups {
  const int32_t* narrow = nullptr;  // one of the two
  const int64_t* wide = nullptr;
  int64_t tables = 1, bags = 0, per_bag = 1, total = 0;
  std::vector<int64_t> bounds;  // tables * bags + 1, empty without offsets

  int64_t begin(int64_t t) const { return bounds.empty() ? t * bags * per_bag : bounds[t * bags]; }
  int64_t count(int64_t t) const { return begin(t + 1) - begin(t); }
  // where the lookup stands in the ids and in the weights
  int64_t at(int64_t t, int64_t position) const {
    if (!bounds.empty()) return bounds[t * bags] + position;
    if (per_bag == 1) return position * tables + t;
    return (position / per_bag * tables + t) * per_bag + position % per_bag;
  }
  int64_t id(int64_t t, int64_t position) const {
    const int64_t i = at(t, position);
    return narrow ? narrow[i] : wide[i];
  }
};

// The plan of one table, views of one int32 tensor. Distinct rows are numbered so that a group's rows follow each
// other, from `start[digit]` on; `rows[digit]` of them are used, the rest of the numbers up to `start[digit + 1]` is
// not.
struct TablePlan {
  int32_t* position;  // lookups, by row
  int32_t* first;     // row → its first entry in `position`
  int32_t* repeats;   // row → its number of lookups
  int32_t* digit[4];  // row → its digits
  int32_t* hit;       // lookup → its row of the cache or -1; null without a cache
  int32_t* start;     // (p + 1) of the grouped core
  int32_t* rows;      // (p)
  int64_t size;       // lookups, and room for so many rows

  static int64_t ints(int64_t size, int num_cores, int64_t groups, bool cache) {
    return size * (3 + num_cores + cache) + 2 * groups + 1;
  }

  void lay(int32_t* memory, int64_t lookups, int num_cores, int64_t groups, bool cache) {
    size = lookups;
    position = memory;
    first = position + size;
    repeats = first + size;
    for (int k = 0; k < num_cores; ++k) digit[k] = repeats + (k + 1) * size;
    hit = cache ? repeats + (num_cores + 1) * size : nullptr;
    start = repeats + (num_cores + 1 + cache) * size;
    rows = start + groups + 1;
  }
};

// Sorts the lookups of a table by group, stably, into a plan of zeros; lookups of the padding row and of cached rows
// are left out. Returns the first position whose id is out of range or shows that the cache is corrupt, or -1.
template <class T>
int64_t sort_by_group(const Table<T>& table, const Lookups& lookups, int64_t t, TablePlan& plan) {
  const int64_t groups = table.p[table.grouped.core];
  int32_t* group_of = plan.repeats;  // free until rows are told apart
  for (int64_t j = 0; j < plan.size; ++j) {
    const int64_t id = lookups.id(t, j);
    if (id < 0 || id >= table.num_embeddings) return j;
    group_of[j] = -1;
    if (plan.hit) plan.hit[j] = -1;
    if (id == table.padding_idx) continue;
    if (plan.hit) {
      const int32_t hit = plan.hit[j] = table.cache.find(id);
      if (hit == CacheIndex::kCorrupt) return j;
      if (hit >= 0) continue;
    }
    group_of[j] = static_cast<int32_t>(table.grouped_digit(id));
    ++plan.start[group_of[j] + 1];
  }
  for (int64_t g = 0; g < groups; ++g) plan.start[g + 1] += plan.start[g];
  for (int64_t j = 0; j < plan.size; ++j)
    if (group_of[j] >= 0) plan.position[plan.start[group_of[j]]++] = static_cast<int32_t>(j);
  // each start has moved to its group's end
  for (int64_t g = groups; g > 0; --g) plan.start[g] = plan.start[g - 1];
  plan.start[0] = 0;
  return -1;
}

// Tells the distinct rows of one group apart, in the order of their first lookups.
template <class T>
void find_rows(const Table<T>& table, const Lookups& lookups, int64_t t, TablePlan& plan, int64_t group) {
  const int64_t begin = plan.start[group], count = plan.start[group + 1] - begin;
  int32_t* position = plan.position + begin;
  int64_t slots = 16;
  while (slots < 2 * count) slots *= 2;
  Scratch& scratch = Scratch::mine();
  scratch.reserve(Scratch::rounded<int64_t>(count) + 2 * Scratch::rounded<int32_t>(count) +
                  Scratch::rounded<int32_t>(slots));
  int64_t* ids = scratch.take<int64_t>(count);
  int32_t* row_of = scratch.take<int32_t>(count);
  int32_t* sorted = scratch.take<int32_t>(count);
  int32_t* slot = scratch.take<int32_t>(slots);
  std::memset(slot, 0, slots * sizeof(int32_t));  // holds row + 1
  int32_t* repeats = plan.repeats + begin;
  int32_t rows = 0;
  for (int64_t j = 0; j < count; ++j) {
    const int64_t id = lookups.id(t, position[j]);
    uint64_t at = first_slot(id, slots - 1);
    while (slot[at] && ids[slot[at] - 1] != id) at = (at + 1) & (slots - 1);
    if (!slot[at]) {
      ids[rows] = id;
      repeats[rows] = 0;
      slot[at] = ++rows;
    }
    row_of[j] = slot[at] - 1;
    ++repeats[row_of[j]];
  }
  plan.rows[group] = rows;
  int32_t* first = plan.first + begin;
  int32_t next = static_cast<int32_t>(begin);
  int32_t digits[4];
  for (int32_t r = 0; r < rows; ++r) {
    first[r] = next;
    next += repeats[r];
    table.digits(ids[r], digits);
    for (int k = 0; k < table.num_cores; ++k) plan.digit[k][begin + r] = digits[k];
  }
  if (rows == count) return;
  for (int64_t j = 0; j < count; ++j) sorted[first[row_of[j]]++ - begin] = position[j];
  for (int32_t r = 0; r < rows; ++r) first[r] -= repeats[r];
  std::memcpy(position, sorted, count * sizeof(int32_t));
}

// The used rows of a table by their digit of one core: `order[begin[digit] … begin[digit + 1])`.
struct ByDigit {
  std::vector<int32_t> order, begin;

  void sort(const TablePlan& plan, const int32_t* digit, int64_t groups, int64_t digits) {
    begin.assign(digits + 1, 0);
    for (int64_t g = 0; g < groups; ++g)
      for (int32_t r = plan.start[g]; r < plan.start[g] + plan.rows[g]; ++r) ++begin[digit[r] + 1];
    for (int64_t i = 0; i < digits; ++i) begin[i + 1] += begin[i];
    order.resize(begin[digits]);
    for (int64_t g = 0; g < groups; ++g)
      for (int32_t r = plan.start[g]; r < plan.start[g] + plan.rows[g]; ++r) order[begin[digit[r]]++] = r;
    for (int64_t i = digits; i > 0; --i) begin[i] = begin[i - 1];
    begin[0] = 0;
  }

  // The lookups that hit a cache, by its rows.
  void sort_hits(const TablePlan& plan, int64_t cached) {
    begin.assign(cached + 1, 0);
    for (int64_t j = 0; j < plan.size; ++j)
      if (plan.hit[j] >= 0) ++begin[plan.hit[j] + 1];
    for (int64_t i = 0; i < cached; ++i) begin[i + 1] += begin[i];
    order.resize(begin[cached]);
    for (int64_t j = 0; j < plan.size; ++j)
      if (plan.hit[j] >= 0) order[begin[plan.hit[j]]++] = static_cast<int32_t>(j);
    for (int64_t i = cached; i > 0; --i) begin[i] = begin[i - 1];
    begin[0] = 0;
  }
};

}  // namespace embpress
