// The forward of the tensor-train op: rows group by group, then bags of them.
#pragma once

#include <cstring>
#include <optional>
#include <vector>

#include "call.h"

namespace embpress {

// What the backward wants to find again; empty for a forward that has none.
struct Kept {
  std::optional<Tensor> plan, partials;
};

// `kept` null: nothing is kept.
template <class T>
Tensor forward(const Arguments& a, bool store, Kept* kept) {
  Call<T> call(a);
  const Tensor& like = a.cores[0];
  const int64_t tables = call.lookups.tables, bags = call.lookups.bags, dim = call.tables[0].dim;
  const Tensor result = torch::stable::new_empty(like, {bags, tables, dim});
  T* out = result.template mutable_data_ptr<T>();
  const int64_t ints = call.plan_ints();
  if (kept) {
    kept->plan = torch::stable::new_zeros(like, {ints}, ScalarType::Int);
    call.lay_plan(kept->plan->template mutable_data_ptr<int32_t>());
  } else {
    Scratch::of_plan().reserve(Scratch::rounded<int32_t>(ints));
    int32_t* plan = Scratch::of_plan().template take<int32_t>(ints);
    std::memset(plan, 0, ints * sizeof(int32_t));
    call.lay_plan(plan);
  }
  call.make_plan();
  bool padded = false;
  for (const Table<T>& table : call.tables) padded |= table.padding_idx >= 0;
  // one lookup a bag and nothing to scale: rows go to the output at once
  const bool direct = call.lookups.bounds.empty() && call.lookups.per_bag == 1 && !call.weights && !padded;
  T* rows = nullptr;
  if (!direct) {
    call.keep.push_back(torch::stable::new_empty(like, {call.lookups.total * dim}));
    rows = call.keep.back().template mutable_data_ptr<T>();
  }
  std::vector<int32_t> row_of(direct ? 0 : call.lookups.total, -1);  // lookup, table after table → row
  if (store) {
    call.allot(like, true, stored_size<T>,
               [](const Table<T>&, int64_t, RowMemory<T>& m, T* room) { m.partial = room; });
    kept->partials = call.keep.back();
    if (!call.tables[0].has_last)
      for (RowMemory<T>& m : call.memory) m.partial = nullptr;
  }
  const auto sink_group = [&](int64_t t, int64_t g) {
    const TablePlan& plan = call.plans[t];
    const int64_t base = call.lookups.begin(t);
    // bags lie anywhere in the output: their lines are on the way while the group is multiplied
    for (int32_t i = plan.start[g]; direct && i < plan.start[g + 1]; ++i)
      for (int64_t j = 0; j < dim; j += 64 / sizeof(T))
        __builtin_prefetch(out + (plan.position[i] * tables + t) * dim + j, 1);
    group_forward(call.tables[t], plan, g, call.memory[t], [&](int64_t row, const T* values) {
      const int32_t* position = plan.position + plan.first[row];
      for (int32_t i = 0; i < plan.repeats[row]; ++i) {
        if (direct)
          std::memcpy(out + (position[i] * tables + t) * dim, values, dim * sizeof(T));
        else
          row_of[base + position[i]] = static_cast<int32_t>(row);
      }
      if (!direct) std::memcpy(rows + (base + row) * dim, values, dim * sizeof(T));
    });
  };
  if (call.tables[0].has_before) {
    call.for_each_group([&](int64_t t, int64_t g) { find_rows(call.tables[t], call.lookups, t, call.plans[t], g); });
    call.allot(
        like, false, [](const Table<T>& table) { return table.before.size(); },
        [](const Table<T>&, int64_t, RowMemory<T>& m, T* room) { m.before = room; });
    call.sort_by_second();
    call.multiply_before();
    call.for_each_group(sink_group);
  } else {
    call.for_each_group([&](int64_t t, int64_t g) {
      find_rows(call.tables[t], call.lookups, t, call.plans[t], g);
      sink_group(t, g);
    });
  }
  constexpr int64_t kBags = 64;
  const int64_t blocks = (bags + kBags - 1) / kBags;
  if (direct) {
    bool cached = false;
    for (const Table<T>& table : call.tables) cached |= table.cached > 0;
    if (!cached) return result;
    for_each_task(call.lookups.tables * blocks, call.worth_threads, [&](int64_t task) {
      const int64_t t = task / blocks;
      if (!call.plans[t].hit) return;
      for (int64_t b = task % blocks * kBags; b < std::min(bags, (task % blocks + 1) * kBags); ++b)
        if (const int32_t row = call.plans[t].hit[b]; row >= 0)
          std::memcpy(out + (b * tables + t) * dim, call.tables[t].cache_values + row * dim, dim * sizeof(T));
    });
    return result;
  }
  for_each_task(tables * blocks, call.worth_threads, [&](int64_t task) {
    const int64_t t = task / blocks, base = call.lookups.begin(t);
    const Kernels<T>& kernels = *call.tables[t].kernels;
    for (int64_t b = task % blocks * kBags; b < std::min(bags, (task % blocks + 1) * kBags); ++b) {
      const bool fixed = call.lookups.bounds.empty();
      const int64_t begin = fixed ? b * call.lookups.per_bag : call.lookups.bounds[t * bags + b] - base;
      const int64_t end = fixed ? begin + call.lookups.per_bag : call.lookups.bounds[t * bags + b + 1] - base;
      T* to = out + (b * tables + t) * dim;
      std::memset(to, 0, dim * sizeof(T));
      int64_t found = 0;
      for (int64_t j = begin; j < end; ++j) {
        const T* from = rows + (base + row_of[base + j]) * dim;
        if (row_of[base + j] < 0) {
          if (!call.plans[t].hit || call.plans[t].hit[j] < 0) continue;  // padding
          from = call.tables[t].cache_values + call.plans[t].hit[j] * dim;
        }
        ++found;
        kernels.add_scaled(dim, call.weights ? call.weights[call.lookups.at(t, j)] : T{1}, from, to);
      }
      if (call.mean && found > 1)
        for (int64_t i = 0; i < dim; ++i) to[i] /= static_cast<T>(found);
    }
  });
  return result;
}

}  // namespace embpress
