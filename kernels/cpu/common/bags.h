// Bags of ids of several tables: what ops that pool `ids (N,)` by `offsets (T B + 1,)` read of their arguments.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cstdint>
#include <optional>

#include "../../common/errors.h"
#include "../../common/id_arguments.h"
#include "parallel.h"

namespace embpress {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Bag b of table t is the lookups from offsets[n] to offsets[n + 1], n = t * each + b. Where the rows of the tables lie
// is `row_offsets`.
struct IdBags {
  Tensor keep_ids, keep_offsets;
  std::optional<Tensor> weights;  // (count) in one piece, of the type that is computed with
  const void* ids;
  bool wide;  // int64 rather than int32
  bool mean;
  int64_t count, tables, bags, each;  // lookups, tables, bags of all, bags of one table
  const int64_t *offsets, *rows, *row_offsets;

  // Calls f with a pointer to the ids.
  template <class F>
  auto by_width(F f) const {
    return wide ? f(static_cast<const int64_t*>(ids)) : f(static_cast<const int32_t*>(ids));
  }

  int64_t table(int64_t bag) const { return bag / each; }
  int64_t begin(int64_t bag) const { return offsets[bag]; }
  int64_t size(int64_t bag) const { return offsets[bag + 1] - offsets[bag]; }

  // One for each lookup, or null.
  template <class T>
  const T* weight() const {
    return weights ? weights->const_data_ptr<T>() : nullptr;
  }

  // What each row of a bag counts for, beside its weight.
  template <class T>
  T share(int64_t bag) const {
    return mean && size(bag) > 1 ? T{1} / static_cast<T>(size(bag)) : T{1};
  }

  // Calls f(bag, table, first lookup, lookups) for the lookups from `first` to `last`, as pieces of bags in their order, at most
  // `most` lookups each; an empty bag has none.
  template <class F>
  void for_each_piece(int64_t first, int64_t last, int64_t most, F f) const {
    if (first >= last) return;
    int64_t bag = std::upper_bound(offsets, offsets + bags + 1, first) - offsets - 1;
    for (; first < last; ++bag)
      for (const int64_t end = std::min(last, offsets[bag + 1]); first < end;) {
        const int64_t n = std::min(most, end - first);
        f(bag, table(bag), first, n);
        first += n;
      }
  }

  // f(first bag, last bag) for tasks of whole bags, each of about `lookups` of them or more.
  template <class F>
  void for_each_run(int64_t lookups, bool worth_it, F f) const {
    if (bags == 0) return;
    const int64_t mean_size = std::max<int64_t>(1, count / bags), run = std::max<int64_t>(1, lookups / mean_size);
    for_each_task((bags + run - 1) / run, worth_it,
                  [&](int64_t task) { f(task * run, std::min(bags, (task + 1) * run)); });
  }
};

// Refuses offsets that make no bags, and the first id that is out of range.
template <class I>
void check_bags(const IdBags& b, const I* id) {
  bool decrease = false;
  for (int64_t n = 0; n < b.bags; ++n) decrease |= b.offsets[n + 1] < b.offsets[n];
  check_offsets(b.offsets[0], b.offsets[b.bags], b.count, decrease);
  for (int64_t t = 0; t < b.tables; ++t) {
    const int64_t end = b.offsets[(t + 1) * b.each];
    const uint64_t rows = static_cast<uint64_t>(b.rows[t]);
    bool wrong = false;
    for (int64_t i = b.offsets[t * b.each]; i < end; ++i)
      wrong |= static_cast<uint64_t>(static_cast<int64_t>(id[i])) >= rows;
    if (!wrong) continue;
    for (int64_t i = b.offsets[t * b.each]; i < end; ++i)
      if (id[i] < 0 || id[i] >= b.rows[t]) refuse_id(id[i], t, b.rows[t]);
  }
}

// Reads and checks the bags of an op. `type` is what it computes with, and what the weights are converted to.
inline IdBags read_id_bags(const Tensor& ids, const Tensor& offsets, const std::optional<Tensor>& weights,
                           const Tensor& row_offsets, const Tensor& rows, bool mean, ScalarType type, const char* op) {
  STD_TORCH_CHECK(ids.dim() == 1, op, ": ids must be (N,), got ", ids.dim(), " dimensions");
  const ScalarType of_ids = ids.scalar_type();
  STD_TORCH_CHECK(of_ids == ScalarType::Int || of_ids == ScalarType::Long, op, ": ids must be int32 or int64");
  const int64_t tables = rows.numel(), bags = offsets.numel() - 1;
  STD_TORCH_CHECK(tables > 0 && row_offsets.numel() == tables, op, ": ", row_offsets.numel(), " row offsets and ",
                  tables, " numbers of rows");
  STD_TORCH_CHECK(offsets.scalar_type() == ScalarType::Long && offsets.dim() == 1 && bags >= 0 && bags % tables == 0,
                  op, ": offsets must be int64, those of the bags of ", tables, " tables and the end");
  IdBags b{in_one_piece(ids),
           in_one_piece(offsets),
           std::nullopt,
           nullptr,
           of_ids == ScalarType::Long,
           mean,
           ids.numel(),
           tables,
           bags,
           bags / tables,
           nullptr,
           list_of_longs(rows, "rows"),
           list_of_longs(row_offsets, "row_offsets")};
  b.ids = b.keep_ids.const_data_ptr();
  b.offsets = b.keep_offsets.const_data_ptr<int64_t>();
  STD_TORCH_CHECK(bags < INT32_MAX, op, ": more than 2^31 bags in one call");
  for (int64_t t = 0; t < tables; ++t) STD_TORCH_CHECK(b.rows[t] >= 0, op, ": a table of less than no rows");
  if (weights) {
    STD_TORCH_CHECK(!mean, op, ": weights go with sums");
    STD_TORCH_CHECK(weights->dim() == 1 && weights->numel() == b.count, op, ": weights must be (", b.count,
                    ",), got ", weights->numel(), " of them");
    b.weights = in_one_piece(weights->scalar_type() == type ? *weights : torch::stable::to(*weights, type));
  }
  b.by_width([&](const auto* id) { check_bags(b, id); });
  return b;
}

}  // namespace embpress
