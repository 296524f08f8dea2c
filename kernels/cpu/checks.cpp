// embpress::check_ids and check_offsets on the CPU; schemas and meanings stand in kernels/ops/checks.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <optional>

#include "../common/errors.h"
#include "../common/id_arguments.h"

namespace embpress {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Calls f with a pointer to the elements, int32 or int64, which lie one after another.
template <class F>
void by_width(const Tensor& t, const char* name, F f) {
  if (t.scalar_type() == ScalarType::Int)
    f(t.const_data_ptr<int32_t>());
  else
    f(longs(t, name));
}

// Lookups in `tables` tables of `rows` rows: lookup i is one in table `of[i]`, or in table i mod `tables` without `of`.
struct Rows {
  const int64_t* rows;
  const int64_t* row_offsets;  // or null
  const int64_t* of;           // or null
  int64_t tables;

  int64_t table(int64_t i) const { return of ? of[i] : i % tables; }
};

// Ids that are out of range may overflow here, before they are refused.
inline int64_t row(int64_t id, int64_t offset) {
  return static_cast<int64_t>(static_cast<uint64_t>(id) + static_cast<uint64_t>(offset));
}
inline bool outside(int64_t id, int64_t rows) { return static_cast<uint64_t>(id) >= static_cast<uint64_t>(rows); }

// to[i] = the row of lookup i. Returns whether an id or a table was out of range; no branches, so that it is one pass
// of vectors.
template <class I>
bool number_rows(const Rows& r, const I* id, int64_t count, int64_t* to) {
  bool wrong = false;
  if (r.of) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t t = r.of[i];
      if (t < 0 || t >= r.tables) return true;
      wrong |= outside(id[i], r.rows[t]);
      to[i] = row(id[i], r.row_offsets ? r.row_offsets[t] : 0);
    }
    return wrong;
  }
  if (r.tables == 1) {
    const int64_t rows = r.rows[0], offset = r.row_offsets ? r.row_offsets[0] : 0;
    for (int64_t i = 0; i < count; ++i) {
      wrong |= outside(id[i], rows);
      to[i] = row(id[i], offset);
    }
    return wrong;
  }
  for (int64_t i = 0; i < count; i += r.tables)
    for (int64_t t = 0; t < r.tables; ++t) {
      wrong |= outside(id[i + t], r.rows[t]);
      to[i + t] = row(id[i + t], r.row_offsets ? r.row_offsets[t] : 0);
    }
  return wrong;
}

template <class I>
void name_wrong(const Rows& r, const I* id, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t t = r.table(i);
    STD_TORCH_CHECK(t >= 0 && t < r.tables, "check_ids: tables must be numbers below ", r.tables, ", got ", t);
    if (id[i] < 0 || id[i] >= r.rows[t]) refuse_id(id[i], t, r.rows[t]);
  }
}

Tensor checked_ids(Tensor ids, Tensor rows, std::optional<Tensor> row_offsets, std::optional<Tensor> tables) {
  const Tensor flat = in_one_piece(ids);
  const int64_t count = flat.numel();
  Rows r{longs(rows, "rows"), nullptr, nullptr, rows.numel()};
  STD_TORCH_CHECK(r.tables > 0 && std::all_of(r.rows, r.rows + r.tables, [](int64_t n) { return n >= 0; }),
                  "check_ids: no tables, or one of less than no rows");
  if (row_offsets) {
    r.row_offsets = longs(*row_offsets, "row_offsets");
    STD_TORCH_CHECK(row_offsets->numel() == r.tables, "check_ids: ", row_offsets->numel(), " row offsets of ", r.tables,
                    " tables");
  }
  if (tables) {
    r.of = longs(*tables, "tables");
    STD_TORCH_CHECK(tables->numel() == count, "check_ids: tables of ", tables->numel(), " ids, there are ", count);
  } else {
    STD_TORCH_CHECK(r.tables == 1 || (ids.dim() > 0 && ids.size(ids.dim() - 1) == r.tables),
                    "check_ids: ids must be (..., ", r.tables, ")");
  }
  Tensor out = torch::stable::new_empty(ids, ids.sizes(), ScalarType::Long);
  int64_t* to = out.mutable_data_ptr<int64_t>();
  by_width(flat, "ids", [&](const auto* id) {
    if (number_rows(r, id, count, to)) name_wrong(r, id, count);
  });
  return out;
}

Tensor checked_offsets(Tensor offsets, int64_t size, bool include_last_offset) {
  STD_TORCH_CHECK(offsets.dim() == 1, "check_offsets: offsets must be 1-D, got ", offsets.dim(), " dimensions");
  const Tensor flat = in_one_piece(offsets);
  const int64_t count = flat.numel(), bounds = count + (include_last_offset ? 0 : 1);
  STD_TORCH_CHECK(bounds > 0, "check_offsets: no last offset");
  Tensor out = torch::stable::new_empty(offsets, {bounds}, ScalarType::Long);
  int64_t* to = out.mutable_data_ptr<int64_t>();
  by_width(flat, "offsets", [&](const auto* from) { std::copy(from, from + count, to); });
  if (!include_last_offset) to[count] = size;
  bool decrease = false;
  for (int64_t i = 1; i < bounds; ++i) decrease |= to[i] < to[i - 1];
  check_offsets(to[0], to[bounds - 1], size, decrease);
  return out;
}

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) {
  m.impl("check_ids", TORCH_BOX(&embpress::checked_ids));
  m.impl("check_offsets", TORCH_BOX(&embpress::checked_offsets));
}
