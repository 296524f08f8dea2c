// Lookups of one id a table: what ops that answer `ids (N, T)` read of their arguments.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <vector>

#include "../../common/errors.h"
#include "../../common/id_arguments.h"

namespace embpress {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Lookup i is of table i mod T. Where the rows of the tables lie is `row_offsets`.
struct IdLookups {
  Tensor keep;
  const void* ids;
  bool wide;  // int64 rather than int32
  int64_t samples, tables, count;
  const int64_t *rows, *row_offsets;

  // Calls f with a pointer to the ids.
  template <class F>
  void by_width(F f) const {
    if (wide)
      f(static_cast<const int64_t*>(ids));
    else
      f(static_cast<const int32_t*>(ids));
  }

  // to[i] = the row of lookup `begin` + i among those of all tables.
  void rows_at(int64_t begin, int64_t size, int64_t* to) const {
    by_width([&](const auto* id) {
      int64_t t = begin % tables;
      for (int64_t i = 0; i < size; ++i) {
        to[i] = id[begin + i] + row_offsets[t];
        if (++t == tables) t = 0;
      }
    });
  }
};

// Refuses the first id that is out of range.
template <class I>
void check_range(const IdLookups& l, const I* id) {
  uint64_t wrong = 0;
  for (int64_t i = 0; i < l.count; i += l.tables)
    for (int64_t t = 0; t < l.tables; ++t)
      wrong |= static_cast<uint64_t>(static_cast<int64_t>(id[i + t])) >= static_cast<uint64_t>(l.rows[t]);
  if (!wrong) return;
  for (int64_t i = 0; i < l.count; ++i)
    if (id[i] < 0 || id[i] >= l.rows[i % l.tables]) refuse_id(id[i], i % l.tables, l.rows[i % l.tables]);
}

// Reads the lookups of an op; `checked`: an id out of range is refused here.
inline IdLookups read_id_lookups(const Tensor& ids, const Tensor& row_offsets, const Tensor& rows, const char* op,
                            bool checked = true) {
  STD_TORCH_CHECK(ids.dim() == 2, op, ": ids must be (N, T), got ", ids.dim(), " dimensions");
  const ScalarType type = ids.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Int || type == ScalarType::Long, op, ": ids must be int32 or int64");
  STD_TORCH_CHECK(row_offsets.numel() == ids.size(1) && rows.numel() == ids.size(1), op, ": ", row_offsets.numel(),
                  " row offsets and ", rows.numel(), " numbers of rows of ", ids.size(1), " tables");
  IdLookups l{in_one_piece(ids),
            nullptr,
            type == ScalarType::Long,
            ids.size(0),
            ids.size(1),
            ids.numel(),
            list_of_longs(rows, "rows"),
            list_of_longs(row_offsets, "row_offsets")};
  l.ids = l.keep.const_data_ptr();
  if (checked) l.by_width([&](const auto* id) { check_range(l, id); });
  return l;
}

}  // namespace embpress
