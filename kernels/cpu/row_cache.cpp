// embpress::cache_index, cache_find and count_ids on the CPU; schemas and meanings stand in kernels/ops/row_cache.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>

#include "../common/errors.h"
#include "../common/id_arguments.h"
#include "common/id_table.h"

namespace embpress {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Tensor cache_index(Tensor ids, int64_t slots) {
  const int64_t* id = list_of_longs(ids, "ids");
  const int64_t rows = ids.numel();
  STD_TORCH_CHECK(rows < slots, "cache_index: ", rows, " rows need more than ", slots, " slots");
  const uint64_t mask = mask_of(slots);
  Tensor index = torch::stable::new_empty(ids, {slots}, ScalarType::Int);
  int32_t* to = index.mutable_data_ptr<int32_t>();
  std::fill(to, to + slots, -1);
  for (int64_t row = 0; row < rows; ++row) {
    if (id[row] < 0) continue;  // an empty row
    uint64_t at = first_slot(id[row], mask);
    while (to[at] >= 0) at = (at + 1) & mask;
    to[at] = static_cast<int32_t>(row);
  }
  return index;
}

Tensor cache_find(Tensor index, Tensor ids, Tensor wanted) {
  STD_TORCH_CHECK(index.scalar_type() == ScalarType::Int && index.is_contiguous(), "index must be contiguous int32");
  const CacheIndex cache{index.const_data_ptr<int32_t>(), mask_of(index.numel()), list_of_longs(ids, "ids"),
                         ids.numel()};
  const Tensor flat = in_one_piece(wanted);
  const int64_t* id = longs(flat, "wanted");
  Tensor rows = torch::stable::new_empty(flat, flat.sizes(), ScalarType::Int);
  int32_t* to = rows.mutable_data_ptr<int32_t>();
  for (int64_t i = 0; i < flat.numel(); ++i)
    if ((to[i] = cache.find(id[i])) == CacheIndex::kCorrupt) refuse_cache(-1);
  return rows;
}

// Returns how many slots were taken, or -1 where a search meets no free one: one in eight is free in a sound table.
template <class I>
int64_t count(int64_t* key, uint64_t* number, uint64_t mask, int64_t room, const I* id, int64_t ids) {
  int64_t added = 0;
  for (int64_t i = 0; i < ids; ++i) {
    uint64_t at = first_slot(id[i], mask), probes = 0;
    while (key[at] >= 0 && key[at] != id[i]) {
      at = (at + 1) & mask;
      if (++probes > mask) return -1;
    }
    if (key[at] < 0) {
      if (added == room || id[i] < 0) continue;
      key[at] = id[i];
      ++added;
    }
    ++number[at];
  }
  return added;
}

void count_ids(Tensor keys, Tensor counts, Tensor used, Tensor ids) {
  const uint64_t mask = check_counts(keys, counts, used);
  const Tensor flat = in_one_piece(ids);
  int64_t* taken = used.mutable_data_ptr<int64_t>();
  const int64_t slots = keys.numel();
  if (*taken < 0 || *taken > slots) refuse_counts(*taken, slots);
  const int64_t room = std::max<int64_t>(0, max_taken(slots) - *taken);
  int64_t* key = keys.mutable_data_ptr<int64_t>();
  uint64_t* number = reinterpret_cast<uint64_t*>(counts.mutable_data_ptr<int64_t>());
  const int64_t added = flat.scalar_type() == ScalarType::Int
                            ? count(key, number, mask, room, flat.const_data_ptr<int32_t>(), flat.numel())
                            : count(key, number, mask, room, longs(flat, "ids"), flat.numel());
  if (added < 0) refuse_counts(*taken, slots);
  *taken += added;
}

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) {
  m.impl("cache_index", TORCH_BOX(&embpress::cache_index));
  m.impl("cache_find", TORCH_BOX(&embpress::cache_find));
  m.impl("count_ids", TORCH_BOX(&embpress::count_ids));
}
