// embpress::tt_embedding_bag and its gradients on the CPU; schemas and meanings stand in kernels/ops.py.
//
// A call deduplicates the ids of every table, groups the distinct rows by the digit of the big core and multiplies group
// by group. Whatever threads do, each output and each slice of a gradient is written by one task in one order, so that
// results are the same bits in every run.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <atomic>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "tt_group.h"

namespace embpress {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kMostScratch = int64_t{64} << 20;  // bytes that a thread keeps from call to call
constexpr double kWorthThreads = 1 << 19;  // floating-point operations; waking the threads takes about 5 µs

// A call of torch's own takes the better part of a microsecond, also where there is nothing to do.
Tensor in_one_piece(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

// --- arguments --------------------------------------------------------------------------------------------------------

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

Lookups lookups_of(const Arguments& a, int64_t tables, std::vector<Tensor>& keep) {
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
    STD_TORCH_CHECK(indices.dim() == 2 && indices.size(1) % tables == 0, "tt_embedding_bag: indices without offsets must be (B, ",
                    tables, " * L), got ", indices.dim(), " dimensions and ", l.total, " ids");
    l.bags = indices.size(0);
    l.per_bag = indices.size(1) / tables;
    return l;
  }
  STD_TORCH_CHECK(indices.dim() == 1, "tt_embedding_bag: indices with offsets must be 1-D, got ", indices.dim(), " dimensions");
  const Tensor offsets = in_one_piece(*a.offsets);
  STD_TORCH_CHECK(offsets.dim() == 1, "tt_embedding_bag: offsets must be 1-D, got ", offsets.dim(), " dimensions");
  if (offsets.scalar_type() == ScalarType::Int)
    copy_offsets<int32_t>(offsets, a.include_last_offset, l.total, l.bounds);
  else if (offsets.scalar_type() == ScalarType::Long)
    copy_offsets<int64_t>(offsets, a.include_last_offset, l.total, l.bounds);
  else
    STD_TORCH_CHECK(false, "tt_embedding_bag: offsets must be int32 or int64");
  const int64_t count = static_cast<int64_t>(l.bounds.size());
  STD_TORCH_CHECK(count > 0 && (count - 1) % tables == 0, "tt_embedding_bag: ", count, " bounds of bags do not fit ", tables,
                  " tables");
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
  STD_TORCH_CHECK(a.caches.size() == 3 * a.num_embeddings.size(), "tt_embedding_bag: a cache is three tensors a table, got ",
                  a.caches.size());
  if (a.caches[3 * t].numel() == 0) {
    STD_TORCH_CHECK(a.caches[3 * t + 2].numel() == 0, "tt_embedding_bag: the cache of table ", t, " has values but no index");
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
  STD_TORCH_CHECK(static_cast<int64_t>(a.cores.size()) == count * d, "tt_embedding_bag: ", count, " tables of ", d, " cores, got ",
                  a.cores.size(), " tensors");
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
      STD_TORCH_CHECK(core.size(1) == table.rank[k], "tt_embedding_bag: core ", k, " of table ", t, " takes rank ", core.size(1),
                      " after rank ", table.rank[k]);
      table.rank[k + 1] = core.size(3);
      STD_TORCH_CHECK(core.numel() > 0, "tt_embedding_bag: core ", k, " of table ", t, " is empty");
      held *= static_cast<double>(table.p[k]);
      table.core[k] = core.const_data_ptr<T>();
      keep.push_back(core);
    }
    STD_TORCH_CHECK(table.rank[0] == 1 && table.rank[d] == 1, "tt_embedding_bag: the outer ranks of table ", t, " must be 1");
    STD_TORCH_CHECK(held >= static_cast<double>(table.num_embeddings), "tt_embedding_bag: the cores of table ", t, " hold ", held,
                    " rows, not ", table.num_embeddings);
    table.complete();
    if (!a.caches.empty()) take_cache(a, t, table, keep);
    STD_TORCH_CHECK(table.dim == tables[0].dim, "tt_embedding_bag: tables of widths ", tables[0].dim, " and ", table.dim);
  }
  return tables;
}

// --- one call ---------------------------------------------------------------------------------------------------------

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
      STD_TORCH_CHECK(keep.back().numel() == lookups.total, "tt_embedding_bag: ", keep.back().numel(), " weights for ", lookups.total,
                      " lookups");
      STD_TORCH_CHECK(keep.back().scalar_type() == a.cores[0].scalar_type(),
                      "tt_embedding_bag: the weights must have the cores' dtype");
      weights = keep.back().template const_data_ptr<T>();
    }
    for (size_t t = 0; t < tables.size(); ++t) {
      const Stage& s = tables[t].grouped;
      const double row = static_cast<double>(s.rows) * s.depth * s.columns() + static_cast<double>(tables[t].dim) * s.rank;
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
      STD_TORCH_CHECK(wrong[t] < 0, "id ", lookups.id(t, wrong[t]), " is out of range: table ", t, " has ", tables[t].num_embeddings,
                      " rows, 0 to ", tables[t].num_embeddings - 1);
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
      Scratch::of_rows().reserve(total * sizeof(T));
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
    for_each_task(tables.size(), worth_threads, [&](int64_t t) {
      by_second[t].sort(plans[t], plans[t].digit[1], groups_of(t), tables[t].p[1]);
    });
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

// --- forward ----------------------------------------------------------------------------------------------------------

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
    Scratch::of_plan().reserve(ints * sizeof(int32_t));
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
    call.allot(like, true, stored_size<T>, [](const Table<T>&, int64_t, RowMemory<T>& m, T* room) { m.partial = room; });
    kept->partials = call.keep.back();
    if (!call.tables[0].has_last)
      for (RowMemory<T>& m : call.memory) m.partial = nullptr;
  }
  const auto sink_group = [&](int64_t t, int64_t g) {
    const TablePlan& plan = call.plans[t];
    const int64_t base = call.lookups.begin(t);
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
    call.allot(like, false, [](const Table<T>& table) { return table.before.size(); },
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

// --- backward ---------------------------------------------------------------------------------------------------------

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
    grads.push_back(torch::stable::new_empty(a.cores[i], a.cores[i].sizes()));
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
      like, false, [](const Table<T>& t) { return t.first_size() + t.last_size() + (t.has_before ? 2 * t.before.size() : 0); },
      [](const Table<T>& t, int64_t rows, RowMemory<T>& m, T* room) {
        m.d_first = room;
        m.d_last = room += rows * t.first_size();
        room += rows * t.last_size();
        if (!t.has_before) return;
        m.before = room;
        m.d_before = room + rows * t.before.size();
      });
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
    for (int64_t digit = blocks[task].group; digit < std::min(table.p[end_core(i)], blocks[task].group + kDigits); ++digit)
      if (i % ends)
        last_gradient(table, sorted[i], digit, call.memory[t].d_last);
      else
        first_gradient(table, sorted[i], digit, call.memory[t].d_first);
  });
}

// --- ops --------------------------------------------------------------------------------------------------------------

template <class F>
auto by_dtype(const std::vector<Tensor>& cores, F f) {
  STD_TORCH_CHECK(!cores.empty(), "tt_embedding_bag: no tables");
  const ScalarType type = cores[0].scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double,
                  "tt_embedding_bag: the cores must be float32 or float64");
  return type == ScalarType::Float ? f(float{}) : f(double{});
}

using Ints = std::vector<int64_t>;

Tensor tt_embedding_bag(std::vector<Tensor> cores, std::vector<Tensor> caches, Tensor indices, std::optional<Tensor> offsets,
                        std::optional<Tensor> weights, Ints num_embeddings, Ints padding_idx, int64_t num_cores, bool mean,
                        bool include_last_offset) {
  const Arguments a{std::move(cores), std::move(caches), indices,   offsets, weights, std::move(num_embeddings), std::move(padding_idx),
                    num_cores,        mean,      include_last_offset};
  return by_dtype(a.cores, [&](auto zero) { return forward<decltype(zero)>(a, false, nullptr); });
}

std::tuple<Tensor, Tensor, Tensor> tt_embedding_bag_train(std::vector<Tensor> cores, std::vector<Tensor> caches, Tensor indices,
                                                          std::optional<Tensor> offsets, std::optional<Tensor> weights,
                                                          Ints num_embeddings, Ints padding_idx, int64_t num_cores,
                                                          bool mean, bool include_last_offset, bool store) {
  const Arguments a{std::move(cores), std::move(caches), indices,   offsets, weights, std::move(num_embeddings), std::move(padding_idx),
                    num_cores,        mean,      include_last_offset};
  return by_dtype(a.cores, [&](auto zero) {
    Kept kept;
    Tensor out = forward<decltype(zero)>(a, store, &kept);
    if (!kept.partials) kept.partials = torch::stable::new_empty(out, {0});
    return std::make_tuple(out, *kept.plan, *kept.partials);
  });
}

std::tuple<std::vector<Tensor>, Tensor, std::vector<Tensor>> tt_embedding_bag_backward(
    Tensor grad, std::vector<Tensor> cores, std::vector<Tensor> caches, Tensor indices, std::optional<Tensor> offsets, std::optional<Tensor> weights,
    Tensor plan, Tensor partials, Ints num_embeddings, Ints padding_idx, int64_t num_cores, bool mean,
    bool include_last_offset) {
  const Arguments a{std::move(cores), std::move(caches), indices,   offsets, weights, std::move(num_embeddings), std::move(padding_idx),
                    num_cores,        mean,      include_last_offset};
  std::vector<Tensor> grads, cache_grads;
  Tensor weight_grad = torch::stable::new_empty(a.cores[0], {0});
  by_dtype(a.cores, [&](auto zero) {
    backward<decltype(zero)>(a, grad, plan, partials, grads, weight_grad, cache_grads);
    return 0;
  });
  return {grads, weight_grad, cache_grads};
}

int64_t scratch_bytes() { return Scratch::held(); }

int64_t cpu_isa() { return static_cast<int64_t>(isa()); }

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_FRAGMENT(embpress, m) {
  m.def("cpu_isa() -> int");
  m.def("scratch_bytes() -> int");
}

STABLE_TORCH_LIBRARY_IMPL(embpress, CompositeExplicitAutograd, m) {
  m.impl("cpu_isa", TORCH_BOX(&embpress::cpu_isa));
  m.impl("scratch_bytes", TORCH_BOX(&embpress::scratch_bytes));
}

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) {
  m.impl("tt_embedding_bag", TORCH_BOX(&embpress::tt_embedding_bag));
  m.impl("tt_embedding_bag_train", TORCH_BOX(&embpress::tt_embedding_bag_train));
  m.impl("tt_embedding_bag_backward", TORCH_BOX(&embpress::tt_embedding_bag_backward));
}
