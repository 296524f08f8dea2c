// The arguments of one call of the tensor-train op, checked, and what forward and backward share.
#pragma once

#include <vector>

#include "../../common/errors.h"
#include "../../common/tt_arguments.h"
#include "group.h"

namespace embpress {

constexpr int64_t kMaxScratch = int64_t{64} << 20;  // bytes that a thread keeps from call to call
constexpr double kWorthThreads = 1 << 19;           // floating-point operations; waking the threads takes about 5 µs
constexpr int64_t kMany = 1 << 14;                  // numbers to sort or copy; to wake threads that sleep takes longer

template <class I>
void copy_offsets(const Tensor& offsets, bool include_last, int64_t total, std::vector<int64_t>& bounds) {
  const I* from = offsets.const_data_ptr<I>();
  bounds.assign(from, from + offsets.numel());
  if (!include_last) bounds.push_back(total);
}

// The lookups of checked arguments; what is wrong with the offsets themselves is found here.
inline Lookups read_lookups(const Arguments& a, std::vector<Tensor>& keep) {
  const LookupShape shape = lookups_of(a);
  const Tensor indices = in_one_piece(a.indices);
  keep.push_back(indices);
  Lookups l;
  l.tables = shape.tables;
  l.total = shape.total;
  l.bags = shape.bags;
  if (shape.wide)
    l.wide = indices.const_data_ptr<int64_t>();
  else
    l.narrow = indices.const_data_ptr<int32_t>();
  if (!a.offsets) {
    l.per_bag = shape.per_bag;
    return l;
  }
  const Tensor offsets = in_one_piece(*a.offsets);
  if (shape.wide_offsets)
    copy_offsets<int64_t>(offsets, a.include_last_offset, l.total, l.bounds);
  else
    copy_offsets<int32_t>(offsets, a.include_last_offset, l.total, l.bounds);
  const int64_t count = shape.bounds;
  bool single = l.tables == 1;  // one lookup a bag: the same as ids without offsets, and simpler
  bool decrease = false;
  for (int64_t i = 1; i < count; ++i) {
    decrease |= l.bounds[i] < l.bounds[i - 1];
    single &= l.bounds[i] == i;
  }
  check_offsets(l.bounds[0], l.bounds[count - 1], l.total, decrease);
  if (single) l.bounds.clear();
  return l;
}

template <class T>
void take_cache(const Arguments& a, int64_t t, Table<T>& table, std::vector<Tensor>& keep) {
  for (int i = 0; i < 3; ++i) keep.push_back(in_one_piece(a.caches[3 * t + i]));
  const Tensor &index = keep[keep.size() - 3], &ids = keep[keep.size() - 2], &values = keep[keep.size() - 1];
  table.cache = {index.const_data_ptr<int32_t>(), static_cast<uint64_t>(index.numel()) - 1,
                 ids.const_data_ptr<int64_t>(), ids.numel()};
  table.cache_values = values.const_data_ptr<T>();
  table.cached = ids.numel();
}

template <class T>
std::vector<Table<T>> tables_of(const Arguments& a, std::vector<Tensor>& keep) {
  std::vector<Table<T>> tables;
  for (const TableShape& shape : shapes_of(a)) {
    const int64_t t = static_cast<int64_t>(tables.size());
    tables.emplace_back();
    Table<T>& table = tables.back();
    static_cast<TableShape&>(table) = shape;
    for (int k = 0; k < shape.num_cores; ++k) {
      keep.push_back(in_one_piece(a.cores[t * shape.num_cores + k]));
      table.core[k] = keep.back().const_data_ptr<T>();
    }
    table.complete();
    if (has_cache(a, t, table.dim)) take_cache(a, t, table, keep);
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
  bool mean, worth_threads, many;  // `many`: lookups enough to be sorted on threads
  double operations = 0;

  explicit Call(const Arguments& a) : mean(a.mean) {
    tables = tables_of<T>(a, keep);
    lookups = read_lookups(a, keep);
    if (a.weights) {
      keep.push_back(in_one_piece(*a.weights));
      weights = keep.back().template const_data_ptr<T>();
    }
    for (size_t t = 0; t < tables.size(); ++t) {
      const Stage& s = tables[t].grouped;
      const double row =
          static_cast<double>(s.rows) * s.depth * s.columns() + static_cast<double>(tables[t].dim) * s.rank;
      operations += 2 * row * static_cast<double>(lookups.count(t));
    }
    worth_threads = operations > kWorthThreads;
    many = worth_threads && lookups.total > kMany;
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
    for_each_task(tables.size(), many,
                  [&](int64_t t) { wrong[t] = sort_by_group(tables[t], lookups, t, plans[t]); });
    for (size_t t = 0; t < tables.size(); ++t) {
      if (wrong[t] < 0) continue;
      const int64_t id = lookups.id(t, wrong[t]);
      if (id >= 0 && id < tables[t].num_embeddings) refuse_cache(t);
      refuse_id(id, t, tables[t].num_embeddings);
    }
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
    if (kept || total * static_cast<int64_t>(sizeof(T)) > kMaxScratch) {
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
    for_each_task(tables.size(), many,
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
