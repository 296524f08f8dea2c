// embpress::tt_embedding_bag and its gradients on the CPU; schemas and meanings stand in kernels/ops/tt_embedding_bag.py.
//
// A call deduplicates the ids of every table, groups the distinct rows by the digit of the big core and multiplies
// group by group. Whatever threads do, each output and each slice of a gradient is written by one task in one order, so
// that results are the same bits in every run.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>
#include <tuple>
#include <vector>

#include "common/pool.h"
#include "tt/call.h"

namespace embpress {
namespace {

// --- forward ---------------------------------------------------------------------------------------------------------

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

// --- backward --------------------------------------------------------------------------------------------------------

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
  for (size_t t = 0; t < call.tables.size(); ++t) {
    const Table<T>& table = call.tables[t];
    const int64_t slices = table.p[table.num_cores - 1];
    if (!table.has_last || call.plans[t].size < 2 * slices) continue;
    turned.push_back(torch::stable::new_empty(like, {slices * table.last_size()}));
    call.memory[t].last_t = turned.back().template const_data_ptr<T>();
    for (int64_t first = 0; first < slices; first += kSlices)
      tasks.push_back({static_cast<int32_t>(t), static_cast<int32_t>(first)});
  }
  for_each_task(tasks.size(), call.worth_threads, [&](int64_t i) {
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
  for_each_task(tables * ends, call.worth_threads, [&](int64_t i) {
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

// --- ops -------------------------------------------------------------------------------------------------------------

template <class F>
auto by_dtype(const std::vector<Tensor>& cores, F f) {
  STD_TORCH_CHECK(!cores.empty(), "tt_embedding_bag: no tables");
  const ScalarType type = cores[0].scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double,
                  "tt_embedding_bag: the cores must be float32 or float64");
  return type == ScalarType::Float ? f(float{}) : f(double{});
}

using Ints = std::vector<int64_t>;

// The last argument says how a GPU multiplies.

Tensor tt_embedding_bag(std::vector<Tensor> cores, std::vector<Tensor> caches, Tensor indices,
                        std::optional<Tensor> offsets, std::optional<Tensor> weights, Ints num_embeddings,
                        Ints padding_idx, int64_t num_cores, bool mean, bool include_last_offset, int64_t) {
  const Arguments a{std::move(cores),          std::move(caches),      indices,   offsets, weights,
                    std::move(num_embeddings), std::move(padding_idx), num_cores, mean,    include_last_offset};
  return by_dtype(a.cores, [&](auto zero) { return forward<decltype(zero)>(a, false, nullptr); });
}

std::tuple<Tensor, Tensor, Tensor> tt_embedding_bag_train(std::vector<Tensor> cores, std::vector<Tensor> caches,
                                                          Tensor indices, std::optional<Tensor> offsets,
                                                          std::optional<Tensor> weights, Ints num_embeddings,
                                                          Ints padding_idx, int64_t num_cores, bool mean,
                                                          bool include_last_offset, bool store, int64_t) {
  const Arguments a{std::move(cores),          std::move(caches),      indices,   offsets, weights,
                    std::move(num_embeddings), std::move(padding_idx), num_cores, mean,    include_last_offset};
  return by_dtype(a.cores, [&](auto zero) {
    Kept kept;
    Tensor out = forward<decltype(zero)>(a, store, &kept);
    if (!kept.partials) kept.partials = torch::stable::new_empty(out, {0});
    return std::make_tuple(out, *kept.plan, *kept.partials);
  });
}

std::tuple<std::vector<Tensor>, Tensor, std::vector<Tensor>> tt_embedding_bag_backward(
    Tensor grad, std::vector<Tensor> cores, std::vector<Tensor> caches, Tensor indices, std::optional<Tensor> offsets,
    std::optional<Tensor> weights, Tensor plan, Tensor partials, Ints num_embeddings, Ints padding_idx,
    int64_t num_cores, bool mean, bool include_last_offset, int64_t) {
  const Arguments a{std::move(cores),          std::move(caches),      indices,   offsets, weights,
                    std::move(num_embeddings), std::move(padding_idx), num_cores, mean,    include_last_offset};
  std::vector<Tensor> grads, cache_grads;
  Tensor weight_grad = torch::stable::new_empty(a.cores[0], {0});
  by_dtype(a.cores, [&](auto zero) {
    backward<decltype(zero)>(a, grad, plan, partials, grads, weight_grad, cache_grads);
    return 0;
  });
  return {grads, weight_grad, cache_grads};
}

int64_t scratch_bytes() { return Scratch::held() + Pool::one().held(); }

// Returns what is still held: memory in use, and what threads free when they run next.
int64_t release_scratch() {
  ++Scratch::age();
  Pool::one().trim();
  return scratch_bytes();
}

int64_t cpu_isa() { return static_cast<int64_t>(isa()); }

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_FRAGMENT(embpress, m) {
  m.def("cpu_isa() -> int");
  m.def("scratch_bytes() -> int");
  m.def("release_scratch() -> int");
}

STABLE_TORCH_LIBRARY_IMPL(embpress, CompositeExplicitAutograd, m) {
  m.impl("cpu_isa", TORCH_BOX(&embpress::cpu_isa));
  m.impl("scratch_bytes", TORCH_BOX(&embpress::scratch_bytes));
  m.impl("release_scratch", TORCH_BOX(&embpress::release_scratch));
}

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) {
  m.impl("tt_embedding_bag", TORCH_BOX(&embpress::tt_embedding_bag));
  m.impl("tt_embedding_bag_train", TORCH_BOX(&embpress::tt_embedding_bag_train));
  m.impl("tt_embedding_bag_backward", TORCH_BOX(&embpress::tt_embedding_bag_backward));
}
