// The backward of the tensor-train op: gradients of the grouped core, then of the cached rows and the outer cores.
#pragma once

#include <cstring>
#include <vector>

#include "../common/pool.h"
#include "call.h"

namespace embpress {

// The bag of each lookup and what its gradient is multiplied with, besides the weight.
template <class T>
struct Bags {
  std::vector<int32_t> bag;  // with offsets: lookup, table after table → bag
  std::vector<T> scale;      // mean: (tables * bags) one over the bag's number of lookups
};

template <class T>
Bags<T> bags_of(const Call<T>& call) {
  const Lookups& l = call.lookups;
  Bags<T> bags;
  if (!l.bounds.empty()) {
    bags.bag.resize(l.total);
    for (int64_t i = 0; i < l.tables * l.bags; ++i)
      std::fill(bags.bag.begin() + l.bounds[i], bags.bag.begin() + l.bounds[i + 1], static_cast<int32_t>(i % l.bags));
  }
  if (!call.mean) return bags;
  bags.scale.assign(l.tables * l.bags, T{0});
  for (size_t t = 0; t < call.tables.size(); ++t) {
    const TablePlan& plan = call.plans[t];
    const auto count = [&](int64_t position) {
      const int64_t bag = l.bounds.empty() ? position / l.per_bag : bags.bag[l.begin(t) + position];
      bags.scale[t * l.bags + bag] += T{1};
    };
    // padding is neither among the positions nor among the hits
    for (int64_t j = 0; j < plan.start[call.groups_of(t)]; ++j) count(plan.position[j]);
    for (int64_t j = 0; plan.hit && j < plan.size; ++j)
      if (plan.hit[j] >= 0) count(j);
  }
  for (T& scale : bags.scale) scale = scale > 0 ? T{1} / scale : T{0};
  return bags;
}

// The last cores whose slices are each met by several lookups, transposed once; the tensors hold their memory.
template <class T>
std::vector<Tensor> transpose_last_cores(Call<T>& call, const Tensor& like) {
  constexpr int64_t kSlices = 16;
  std::vector<Tensor> turned;
  std::vector<Task> tasks;
  int64_t numbers = 0;
  for (size_t t = 0; t < call.tables.size(); ++t) {
    const Table<T>& table = call.tables[t];
    const int64_t slices = table.p[table.num_cores - 1];
    if (!table.has_last || call.plans[t].size < 2 * slices) continue;
    turned.push_back(torch::stable::new_empty(like, {slices * table.last_size()}));
    numbers += slices * table.last_size();
    call.memory[t].last_t = turned.back().template const_data_ptr<T>();
    for (int64_t first = 0; first < slices; first += kSlices)
      tasks.push_back({static_cast<int32_t>(t), static_cast<int32_t>(first)});
  }
  for_each_task(tasks.size(), call.worth_threads && numbers > kMany, [&](int64_t i) {
    const Table<T>& table = call.tables[tasks[i].table];
    const int64_t end = std::min<int64_t>(table.p[table.num_cores - 1], tasks[i].group + kSlices);
    for (int64_t digit = tasks[i].group; digit < end; ++digit)
      transpose_last(table, digit, const_cast<T*>(call.memory[tasks[i].table].last_t) + digit * table.last_size());
  });
  return turned;
}

template <class T>
void backward(const Arguments& a, const Tensor& grad_out, const Tensor& plan, const Tensor& partials,
              std::vector<Tensor>& grads, Tensor& weight_grad, std::vector<Tensor>& cache_grads) {
  Call<T> call(a);
  const int64_t tables = call.lookups.tables, bags = call.lookups.bags, dim = call.tables[0].dim;
  const Tensor grad_kept = in_one_piece(grad_out);
  const T* grad = grad_kept.template const_data_ptr<T>();
  STD_TORCH_CHECK(grad_kept.numel() == bags * tables * dim && plan.numel() == call.plan_ints(),
                  "tt_embedding_bag_backward: the gradient or the plan is not that of these lookups");
  call.lay_plan(const_cast<int32_t*>(plan.const_data_ptr<int32_t>()));  // it is only read
  call.list_groups();
  for (size_t i = 0; i < a.cores.size(); ++i) {
    grads.push_back(pooled_empty<T>(a.cores[i]));
    call.tables[i / a.num_cores].grad[i % a.num_cores] = grads[i].template mutable_data_ptr<T>();
  }
  for (size_t i = 0; i < a.caches.size() / 3; ++i) {
    cache_grads.push_back(torch::stable::new_empty(a.cores[0], a.caches[3 * i + 2].sizes()));
    call.tables[i].cache_grad = cache_grads[i].template mutable_data_ptr<T>();
  }
  T* d_weights = nullptr;
  if (a.weights) {
    weight_grad = torch::stable::new_zeros(a.cores[0], a.weights->sizes());
    d_weights = weight_grad.template mutable_data_ptr<T>();
  }
  const Bags<T> bags_info = bags_of(call);
  const Tensor& like = a.cores[0];
  const bool has_last = call.tables[0].has_last;
  if (partials.numel()) {
    T* room = const_cast<T*>(partials.const_data_ptr<T>());  // it is only read
    for (int64_t t = 0; t < tables; ++t) {
      call.memory[t].partial = room;
      room += call.plans[t].size * stored_size(call.tables[t]);
    }
  }
  const bool has_before = call.tables[0].has_before;
  call.allot(
      like, false,
      [](const Table<T>& t) { return t.first_size() + t.last_size() + (t.has_before ? 2 * t.before.size() : 0); },
      [](const Table<T>& t, int64_t rows, RowMemory<T>& m, T* room) {
        m.d_first = room;
        m.d_last = room += rows * t.first_size();
        room += rows * t.last_size();
        if (!t.has_before) return;
        m.before = room;
        m.d_before = room + rows * t.before.size();
      });
  const std::vector<Tensor> turned = transpose_last_cores(call, like);
  if (has_before) {
    call.sort_by_second();
    call.multiply_before();
  }
  // f(gradient of the lookup's bag, what it is multiplied with, where the lookup's weight stands)
  const auto of_lookup = [&](int64_t t, int64_t position, auto f) {
    const int64_t bag =
        bags_info.bag.empty() ? position / call.lookups.per_bag : bags_info.bag[call.lookups.begin(t) + position];
    const T scale = bags_info.scale.empty() ? T{1} : bags_info.scale[t * bags + bag];
    f(grad + (bag * tables + t) * dim, scale, call.lookups.at(t, position));
  };
  // the grouped core; slices without lookups are zero
  std::vector<Task> all;
  for (int64_t t = 0; t < tables; ++t)
    for (int64_t g = 0; g < call.groups_of(t); ++g) all.push_back({static_cast<int32_t>(t), static_cast<int32_t>(g)});
  for_each_task(all.size(), call.worth_threads, [&](int64_t task) {
    const int64_t t = all[task].table, g = all[task].group;
    const Table<T>& table = call.tables[t];
    const TablePlan& p = call.plans[t];
    const int64_t slice = table.slice(table.grouped.core);
    if (p.start[g] == p.start[g + 1]) {
      std::memset(table.grad[table.grouped.core] + g * slice, 0, slice * sizeof(T));
      return;
    }
    const auto each_lookup = [&](int64_t row, auto f) {
      for (int32_t i = p.first[row]; i < p.first[row] + p.repeats[row]; ++i) of_lookup(t, p.position[i], f);
    };
    group_backward(
        table, p, g, call.memory[t], d_weights != nullptr,
        [&](int64_t row, T* d_out) {
          bool first = true;
          each_lookup(row, [&](const T* from, T scale, int64_t at) {
            if (call.weights) scale *= call.weights[at];
            if (first && scale == T{1})
              std::memcpy(d_out, from, dim * sizeof(T));
            else
              (first ? table.kernels->scale : table.kernels->add_scaled)(dim, scale, from, d_out);
            first = false;
          });
        },
        [&](int64_t row, const T* values) {
          each_lookup(row, [&](const T* from, T scale, int64_t at) {
            d_weights[at] = scale * table.kernels->dot(dim, from, values);
          });
        });
  });
  if (has_before)
    call.for_each_second([&](int64_t t, int64_t digit, const int32_t* rows, int64_t count) {
      const int64_t slice = call.tables[t].slice(1);
      if (count)
        before_backward(call.tables[t], call.plans[t], rows, count, digit, call.memory[t]);
      else
        std::memset(call.tables[t].grad[1] + digit * slice, 0, slice * sizeof(T));
    });
  for (int64_t t = 0; t < tables; ++t) {
    const Table<T>& table = call.tables[t];
    if (!table.cached) continue;
    ByDigit hits;
    hits.sort_hits(call.plans[t], table.cached);
    constexpr int64_t kRows = 64;
    for_each_task((table.cached + kRows - 1) / kRows, call.worth_threads, [&](int64_t task) {
      for (int64_t row = task * kRows; row < std::min(table.cached, (task + 1) * kRows); ++row) {
        T* to = table.cache_grad + row * dim;
        std::memset(to, 0, dim * sizeof(T));
        for (int32_t i = hits.begin[row]; i < hits.begin[row + 1]; ++i)
          of_lookup(t, hits.order[i], [&](const T* from, T scale, int64_t at) {
            table.kernels->add_scaled(dim, call.weights ? scale * call.weights[at] : scale, from, to);
            if (d_weights) d_weights[at] = scale * table.kernels->dot(dim, from, table.cache_values + row * dim);
          });
      }
    });
  }
  // the outer cores: sums over the rows with one digit
  const int64_t ends = has_last ? 2 : 1;
  std::vector<ByDigit> sorted(tables * ends);
  const auto end_core = [&](int64_t i) { return i % ends ? static_cast<int>(a.num_cores) - 1 : 0; };
  for_each_task(tables * ends, call.many, [&](int64_t i) {
    const int64_t t = i / ends;
    sorted[i].sort(call.plans[t], call.plans[t].digit[end_core(i)], call.groups_of(t), call.tables[t].p[end_core(i)]);
  });
  constexpr int64_t kDigits = 8;
  std::vector<Task> blocks;
  for (int64_t i = 0; i < tables * ends; ++i)
    for (int64_t digit = 0; digit < call.tables[i / ends].p[end_core(i)]; digit += kDigits)
      blocks.push_back({static_cast<int32_t>(i), static_cast<int32_t>(digit)});
  for_each_task(blocks.size(), call.worth_threads, [&](int64_t task) {
    const int64_t i = blocks[task].table, t = i / ends;
    const Table<T>& table = call.tables[t];
    for (int64_t digit = blocks[task].group; digit < std::min(table.p[end_core(i)], blocks[task].group + kDigits);
         ++digit)
      if (i % ends)
        last_gradient(table, sorted[i], digit, call.memory[t].d_last);
      else
        first_gradient(table, sorted[i], digit, call.memory[t].d_first);
  });
}

}  // namespace embpress
