// What EMBPRESS_CHECK=1 finds: the first id out of range, and offsets that make no bags.
#pragma once

#include "table.cuh"

namespace embpress::cuda {

struct TTWrong {
  unsigned long long lookup;            // the first one whose id is out of range; none: above all
  long long id, table, num_embeddings;  // what it is
  unsigned long long decreasing;        // offsets that are smaller than the one before
  long long first_offset, last_offset;
};

static __global__ void tt_check_offsets(TTLookups lookups, int64_t bounds, TTWrong* wrong) {
  const int64_t k = global_thread();
  if (k >= bounds) return;
  const auto bound = [&](int64_t j) { return j < lookups.bounds_given ? lookups.offsets[j] : lookups.total; };
  if (k == 0) wrong->first_offset = bound(0);
  if (k == bounds - 1) wrong->last_offset = bound(k);
  if (k > 0 && bound(k) < bound(k - 1)) atomicAdd(&wrong->decreasing, 1ull);
}

static __global__ void tt_check_ids(const TTTable* tables, TTLookups lookups, TTWrong* wrong) {
  const int64_t i = global_thread();
  if (i >= lookups.total) return;
  const int64_t bag = lookups.bag_of(i), id = lookups.ids[lookups.position(i)];
  if (bag >= 0 && (id < 0 || id >= tables[bag / lookups.bags].num_embeddings))
    atomicMin(&wrong->lookup, static_cast<unsigned long long>(i));
}

static __global__ void tt_name_wrong(const TTTable* tables, TTLookups lookups, TTWrong* wrong) {
  const int64_t i = static_cast<int64_t>(wrong->lookup);
  if (i < 0 || i >= lookups.total) return;
  wrong->table = lookups.bag_of(i) / lookups.bags;
  wrong->id = lookups.ids[lookups.position(i)];
  wrong->num_embeddings = tables[wrong->table].num_embeddings;
}

}  // namespace embpress::cuda
