// The arguments of one call of the tensor-train op, checked, and what forward and backward share.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>
#include <vector>

#include "tt_group.h"

namespace embpress {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kMostScratch = int64_t{64} << 20;  // bytes that a thread keeps from call to call
constexpr double kWorthThreads = 1 << 19;            // floating-point operations; waking the threads takes about 5 µs

// A call of torch's own takes the better part of a microsecond, also where there is nothing to do.
inline Tensor in_one_piece(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

// --- arguments -------------------------------------------------------------------------------------------------------

struct Arguments {
  std::vector<Tensor> cores, caches;
  Tensor indices;
  std::optional<Tensor> offsets, weights;
  std::vector<int64_t> num_embeddings, padding_idx;
  int64_t num_cores;
  bool mean, include_last_offset;
};

template <class I>
void copy_offsets(const Tensor& offsets, bool include_last, int64_t total, std::vector<int64_t>& bounds) {
  const I* from = offsets.const_data_ptr<I>();
  bounds.assign(from, from + offsets.numel());
  if (!include_last) bounds.push_back(total);
}

inline Lookups lookups_of(const Arguments& a, int64_t tables, std::vector<Tensor>& keep) {
  const Tensor indices = in_one_piece(a.indices);
  keep.push_back(indices);
  Lookups l;
  l.tables = tables;
  l.total = indices.numel();
  STD_TORCH_CHECK(l.total < INT32_MAX, "tt_embedding_bag: more than 2^31 lookups in one call");
  if (indices.scalar_type() == ScalarType::Int)
    l.narrow = indices.const_data_ptr<int32_t>();
  else if (indices.scalar_type() == ScalarType::Long)
    l.wide = indices.const_data_ptr<int64_t>();
  else
    STD_TORCH_CHECK(false, "tt_embedding_bag: indices must be int32 or int64");
  if (!a.offsets) {
    STD_TORCH_CHECK(indices.dim() == 2 && indices.size(1) % tables == 0,
                    "tt_embedding_bag: indices without offsets must be (B, ", tables, " * L), got ", indices.dim(),
                    " dimensions and ", l.total, " ids");
    l.bags = indices.size(0);
    l.per_bag = indices.size(1) / tables;
    return l;
  }
  STD_TORCH_CHECK(indices.dim() == 1, "tt_embedding_bag: indices with offsets must be 1-D, got ", indices.dim(),
                  " dimensions");
  const Tensor offsets = in_one_piece(*a.offsets);
  STD_TORCH_CHECK(offsets.dim() == 1, "tt_embedding_bag: offsets must be 1-D, got ", offsets.dim(), " dimensions");
  if (offsets.scalar_type() == ScalarType::Int)
    copy_offsets<int32_t>(offsets, a.include_last_offset, l.total, l.bounds);
  else if (offsets.scalar_type() == ScalarType::Long)
    copy_offsets<int64_t>(offsets, a.include_last_offset, l.total, l.bounds);
  else
    STD_TORCH_CHECK(false, "tt_embedding_bag: offsets must be int32 or int64");
  const int64_t count = static_cast<int64_t>(l.bounds.size());
  STD_TORCH_CHECK(count > 0 && (count - 1) % tables == 0, "tt_embedding_bag: ", count, " bounds of bags do not fit ",
                  tables, " tables");
  l.bags = (count - 1) / tables;
  STD_TORCH_CHECK(l.bounds[0] == 0, "offsets must start at 0, got ", l.bounds[0]);
  STD_TORCH_CHECK(l.bounds[count - 1] == l.total, "the last offset must be the input's length ", l.total, ", got ",
                  l.bounds[count - 1]);
  bool single = tables == 1;  // one lookup a bag: the same as ids without offsets, and simpler
  for (int64_t i = 1; i < count; ++i) {
    STD_TORCH_CHECK(l.bounds[i] >= l.bounds[i - 1], "offsets must not decrease");
    single &= l.bounds[i] == i;
  }
  if (single) l.bounds.clear();
  return l;
}

// Three tensors a table: index (int32), ids (int64) and values; ones without elements for a table without a cache.
template <class T>
void take_cache(const Arguments& a, int64_t t, Table<T>& table, std::vector<Tensor>& keep) {
  STD_TORCH_CHECK(a.caches.size() == 3 * a.num_embeddings.size(),
                  "tt_embedding_bag: a cache is three tensors a table, got ", a.caches.size());
  if (a.caches[3 * t].numel() == 0) {
    STD_TORCH_CHECK(a.caches[3 * t + 2].numel() == 0, "tt_embedding_bag: the cache of table ", t,
                    " has values but no index");
    return;
  }
  for (int i = 0; i < 3; ++i) keep.push_back(in_one_piece(a.caches[3 * t + i]));
  const Tensor &index = keep[keep.size() - 3], &ids = keep[keep.size() - 2], &values = keep[keep.size() - 1];
  const int64_t places = index.numel();
  STD_TORCH_CHECK(index.scalar_type() == ScalarType::Int && ids.scalar_type() == ScalarType::Long &&
                      values.scalar_type() == a.cores[0].scalar_type() && values.dim() == 2 &&
                      values.size(0) == ids.numel() && values.size(1) == table.dim && (places & (places - 1)) == 0 &&
                      places > ids.numel(),
                  "tt_embedding_bag: the cache of table ", t, " does not fit together");
  table.cache = {index.const_data_ptr<int32_t>(), static_cast<uint64_t>(places) - 1, ids.const_data_ptr<int64_t>()};
  table.cache_values = values.const_data_ptr<T>();
  table.cached = ids.numel();
}

template <class T>
std::vector<Table<T>> tables_of(const Arguments& a, std::vector<Tensor>& keep) {
  const int64_t d = a.num_cores, count = static_cast<int64_t>(a.num_embeddings.size());
  STD_TORCH_CHECK(d >= 2 && d <= 4, "tt_embedding_bag: 2 to 4 cores, got ", d);
  STD_TORCH_CHECK(static_cast<int64_t>(a.cores.size()) == count * d, "tt_embedding_bag: ", count, " tables of ", d,
                  " cores, got ", a.cores.size(), " tensors");
  STD_TORCH_CHECK(a.padding_idx.empty() || static_cast<int64_t>(a.padding_idx.size()) == count, "tt_embedding_bag: ",
                  a.padding_idx.size(), " padding rows for ", count, " tables");
  std::vector<Table<T>> tables(count);
  for (int64_t t = 0; t < count; ++t) {
    Table<T>& table = tables[t];
    table.num_cores = static_cast<int>(d);
    table.num_embeddings = a.num_embeddings[t];
    table.padding_idx = a.padding_idx.empty() ? -1 : a.padding_idx[t];
    double held = 1;
    for (int k = 0; k < d; ++k) {
      const Tensor core = in_one_piece(a.cores[t * d + k]);
      STD_TORCH_CHECK(core.dim() == 4 && core.scalar_type() == a.cores[0].scalar_type(),
                      "tt_embedding_bag: cores must be (p, R, q, R') of one dtype");
      table.p[k] = core.size(0);
      table.q[k] = core.size(2);
      if (k == 0) table.rank[0] = core.size(1);
      STD_TORCH_CHECK(core.size(1) == table.rank[k], "tt_embedding_bag: core ", k, " of table ", t, " takes rank ",
                      core.size(1), " after rank ", table.rank[k]);
      table.rank[k + 1] = core.size(3);
      STD_TORCH_CHECK(core.numel() > 0, "tt_embedding_bag: core ", k, " of table ", t, " is empty");
      held *= static_cast<double>(table.p[k]);
      table.core[k] = core.const_data_ptr<T>();
      keep.push_back(core);
    }
    STD_TORCH_CHECK(table.rank[0] == 1 && table.rank[d] == 1, "tt_embedding_bag: the outer ranks of table ", t,
                    " must be 1");
    STD_TORCH_CHECK(held >= static_cast<double>(table.num_embeddings), "tt_embedding_bag: the cores of table ", t,
                    " hold ", held, " rows, not ", table.num_embeddings);
    table.complete();
    if (!a.caches.empty()) take_cache(a, t, table, keep);
    STD_TORCH_CHECK(table.dim == tables[0].dim, "tt_embedding_bag: tables of widths ", tables[0].dim, " and ",
                    table.dim);
  }
  return tables;
}

// --- one call --------------------------------------------------------------------------------------------------------

struct Task {
  int32_t table, group;
};

template <class T>
struct Call {
  std::vector<Tensor> keep;
  std::vector<Table<T>> tables;
  Lookups lookups;
  std::vector<TablePlan> plans;
  std::vector<RowMemory<T>> memory;
  std::vector<Task> groups;  // those with lookups
  const T* weights = nullptr;
  bool mean, worth_threads;
  double operations = 0;

  explicit Call(const Arguments& a) : mean(a.mean) {
    tables = tables_of<T>(a, keep);
    lookups = lookups_of(a, static_cast<int64_t>(tables.size()), keep);
    if (a.weights) {
      keep.push_back(in_one_piece(*a.weights));
      STD_TORCH_CHECK(keep.back().numel() == lookups.total, "tt_embedding_bag: ", keep.back().numel(), " weights for ",
                      lookups.total, " lookups");
      STD_TORCH_CHECK(keep.back().scalar_type() == a.cores[0].scalar_type(),
                      "tt_embedding_bag: the weights must have the cores' dtype");
      weights = keep.back().template const_data_ptr<T>();
    }
    for (size_t t = 0; t < tables.size(); ++t) {
      const Stage& s = tables[t].grouped;
      const double row =
          static_cast<double>(s.rows) * s.depth * s.columns() + static_cast<double>(tables[t].dim) * s.rank;
      operations += 2 * row * static_cast<double>(lookups.count(t));
    }
    worth_threads = operations > kWorthThreads;
    memory.resize(tables.size());
  }

  int64_t groups_of(size_t t) const { return tables[t].p[tables[t].grouped.core]; }

  int64_t plan_ints() const {
    int64_t ints = 0;
    for (size_t t = 0; t < tables.size(); ++t)
      ints += TablePlan::ints(lookups.count(t), tables[t].num_cores, groups_of(t), tables[t].cached > 0);
    return ints;
  }

  void lay_plan(int32_t* ints) {
    plans.resize(tables.size());
    for (size_t t = 0; t < tables.size(); ++t) {
      const bool cache = tables[t].cached > 0;
      plans[t].lay(ints, lookups.count(t), tables[t].num_cores, groups_of(t), cache);
      ints += TablePlan::ints(plans[t].size, tables[t].num_cores, groups_of(t), cache);
    }
  }

  // Sorts the lookups; the rows of each group are told apart when the group's turn comes.
  void make_plan() {
    std::vector<int64_t> wrong(tables.size(), -1);
    for_each_task(tables.size(), worth_threads && tables.size() > 1,
                  [&](int64_t t) { wrong[t] = sort_by_group(tables[t], lookups, t, plans[t]); });
    for (size_t t = 0; t < tables.size(); ++t)
      STD_TORCH_CHECK(wrong[t] < 0, "id ", lookups.id(t, wrong[t]), " is out of range: table ", t, " has ",
                      tables[t].num_embeddings, " rows, 0 to ", tables[t].num_embeddings - 1);
    list_groups();
  }

  void list_groups() {
    for (size_t t = 0; t < tables.size(); ++t)
      for (int64_t g = 0; g < groups_of(t); ++g)
        if (plans[t].start[g] < plans[t].start[g + 1])
          groups.push_back({static_cast<int32_t>(t), static_cast<int32_t>(g)});
  }

  template <class F>
  void for_each_group(F f) {
    for_each_task(groups.size(), worth_threads, [&](int64_t i) { f(groups[i].table, groups[i].group); });
  }

  // Room for `per_row(table)` elements for each row of each plan, handed out by `place(table, rows, memory, room)`.
  // It lies in a tensor, the last of `keep`, where it is to be kept after the call or is large.
  template <class Size, class Place>
  void allot(const Tensor& like, bool kept, Size per_row, Place place) {
    int64_t total = 0;
    for (size_t t = 0; t < tables.size(); ++t) total += plans[t].size * per_row(tables[t]);
    T* room;
    if (kept || total * static_cast<int64_t>(sizeof(T)) > kMostScratch) {
      keep.push_back(torch::stable::new_empty(like, {total}));
      room = keep.back().template mutable_data_ptr<T>();
    } else {
      Scratch::of_rows().reserve(Scratch::rounded<T>(total));
      room = Scratch::of_rows().template take<T>(total);
    }
    for (size_t t = 0; t < tables.size(); ++t) {
      place(tables[t], plans[t].size, memory[t], room);
      room += plans[t].size * per_row(tables[t]);
    }
  }

  // With four cores: the products of the first two cores, in a pass that groups by the second core's digit.
  std::vector<ByDigit> by_second;

  void sort_by_second() {
    by_second.resize(tables.size());
    for_each_task(tables.size(), worth_threads,
                  [&](int64_t t) { by_second[t].sort(plans[t], plans[t].digit[1], groups_of(t), tables[t].p[1]); });
  }

  template <class F>
  void for_each_second(F f) {
    std::vector<Task> tasks;
    for (size_t t = 0; t < tables.size(); ++t)
      for (int64_t i = 0; i < tables[t].p[1]; ++i) tasks.push_back({static_cast<int32_t>(t), static_cast<int32_t>(i)});
    for_each_task(tasks.size(), worth_threads, [&](int64_t i) {
      const ByDigit& rows = by_second[tasks[i].table];
      const int32_t digit = tasks[i].group;
      f(tasks[i].table, digit, rows.order.data() + rows.begin[digit], rows.begin[digit + 1] - rows.begin[digit]);
    });
  }

  void multiply_before() {
    for_each_second([&](int64_t t, int64_t digit, const int32_t* rows, int64_t count) {
      if (count) before_forward(tables[t], plans[t], rows, count, digit, memory[t].before);
    });
  }
};

// Elements that `store` keeps for each row of a table: the partial products before the last core.
template <class T>
int64_t stored_size(const Table<T>& table) {
  return table.has_last ? table.grouped.size() : 0;
}

}  // namespace embpress
