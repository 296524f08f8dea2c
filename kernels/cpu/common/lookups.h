// Lookups of one id a table: what ops that answer `ids (N, T)` read of their arguments.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
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

  // to[i] = the row of lookup `begin` + i among those of all tables. Returns whether all ids are in range.
  bool rows_at(int64_t begin, int64_t size, int64_t* to) const {
    uint64_t wrong = 0;  // its sign: whether an id is negative, or no less than the number of rows
    by_width([&](const auto* id) {
      const auto put = [&](int64_t i, int64_t rows_of, int64_t offset) {
        const uint64_t each = static_cast<uint64_t>(static_cast<int64_t>(id[begin + i]));
        wrong |= each | (static_cast<uint64_t>(rows_of) - 1 - each);
        to[i] = static_cast<int64_t>(each + static_cast<uint64_t>(offset));
      };
      if (tables == 1) {
        const int64_t rows_of = rows[0], offset = row_offsets[0];
        for (int64_t i = 0; i < size; ++i) put(i, rows_of, offset);
        return;
      }
      int64_t t = begin % tables;
      for (int64_t i = 0; i < size; t = 0) {
        const int64_t run = std::min(size - i, tables - t);
        for (int64_t k = 0; k < run; ++k) put(i + k, rows[t + k], row_offsets[t + k]);
        i += run;
      }
    });
    return static_cast<int64_t>(wrong) >= 0;
  }

  // Names the first id that is out of range.
  void refuse() const {
    by_width([&](const auto* id) {
      for (int64_t i = 0; i < count; ++i)
        if (id[i] < 0 || id[i] >= rows[i % tables]) refuse_id(id[i], i % tables, rows[i % tables]);
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
  if (wrong) l.refuse();
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
  for (int64_t t = 0; t < l.tables; ++t) STD_TORCH_CHECK(l.rows[t] >= 0, op, ": a table of less than no rows");
  l.ids = l.keep.const_data_ptr();
  if (checked) l.by_width([&](const auto* id) { check_range(l, id); });
  return l;
}

}  // namespace embpress
