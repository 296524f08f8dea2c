// embpress::recipe_lookup on the CPU; schema and meaning stand in kernels/ops/recipe_lookup.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "../common/errors.h"
#include "common/parallel.h"
#include "recipes/recipe.h"
#include "simd/kernels.h"

namespace embpress {
namespace {

constexpr int64_t kTask = 1 << 15;          // elements of a task's rows
constexpr int64_t kWorthThreads = 1 << 15;  // elements of all rows

// What a task puts its lookups down in.
struct Room {
  int64_t *x, *index;
  uint32_t* numbers;  // hashes, and where chunks start
  float **to, *scale;
  // those that no hot row answers, and those that one does
  int64_t *cold, *hot;
  float **cold_to, **hot_to, *cold_scale, *hot_scale;
  // whole rows, where they cannot be added up as they are made
  float* rows;
  float** row;
  // of cores
  int64_t* digits;
  float *products, *slices;
  // lookups in the order of a digit
  std::pair<int64_t, int64_t>* order;
  int64_t* sorted;
  float** sorted_to;

  Room(const Recipe& r, int64_t dim) {
    const int64_t block = r.block();
    Scratch& scratch = Scratch::mine();
    scratch.reserve(Scratch::rounded<std::pair<int64_t, int64_t>>(block) + 5 * Scratch::rounded<int64_t>(block) + Scratch::rounded<uint32_t>((r.chunks + 1) * block) +
                    5 * Scratch::rounded<float*>(block) + 3 * Scratch::rounded<float>(block) +
                    Scratch::rounded<float>(block * dim) + Scratch::rounded<int64_t>(r.cores * block) +
                    Scratch::rounded<float>(2 * r.widest) + Scratch::rounded<float>(r.cores * r.largest));
    order = scratch.take<std::pair<int64_t, int64_t>>(block);
    for (int64_t** piece : {&x, &index, &cold, &hot, &sorted}) *piece = scratch.take<int64_t>(block);
    numbers = scratch.take<uint32_t>((r.chunks + 1) * block);
    for (float*** piece : {&to, &cold_to, &hot_to, &row, &sorted_to}) *piece = scratch.take<float*>(block);
    for (float** piece : {&scale, &cold_scale, &hot_scale}) *piece = scratch.take<float>(block);
    rows = scratch.take<float>(block * dim);
    digits = scratch.take<int64_t>(r.cores * block);
    products = scratch.take<float>(2 * r.widest);
    slices = scratch.take<float>(r.cores * r.largest);
    for (int64_t i = 0; i < block; ++i) row[i] = rows + i * dim;
  }
};

void index_rows(const Copies& kernels, const TableRecipe& t, const PartRecipe& part, int64_t count, const int64_t* x,
                int64_t* index, uint32_t* numbers) {
  switch (part.rule) {
    case Rule::digit:
      if (part.stride == 1 && part.size >= t.rows)
        for (int64_t i = 0; i < count; ++i) index[i] = part.first + x[i];
      else
        kernels.digit_rows(count, x, part.stride, part.size, part.first, index);
      return;
    case Rule::hash:
      return kernels.hash_rows(count, x, part.coefficients, part.slots, part.first, numbers, index);
    case Rule::first:
      for (int64_t i = 0; i < count; ++i) index[i] = part.first + std::min(x[i], part.size - 1);
      return;
    case Rule::among:
      for (int64_t i = 0; i < count; ++i) {
        const int64_t place = part.known.place(x[i]);
        index[i] = part.first + (place < part.known.count ? place : part.size - 1);
      }
  }
}

// Puts lookups in the order of the slices that are the most work to decode, so that each of them is decoded once.
void sort_by_slice(const CoresView& v, Room& room, int64_t count, const int64_t*& x, float* const*& to) {
  int64_t behind = 1;
  constexpr int64_t most = int64_t{1} << 52;  // ids lie below it
  for (int64_t k = v.decoded + 1; k < v.count; ++k)
    behind = behind > most / v.core[k].digits ? most : behind * v.core[k].digits;
  for (int64_t i = 0; i < count; ++i) room.order[i] = {x[i] / behind % v.core[v.decoded].digits, i};
  std::sort(room.order, room.order + count);
  for (int64_t i = 0; i < count; ++i) {
    room.sorted[i] = x[room.order[i].second];
    room.sorted_to[i] = to[room.order[i].second];
  }
  x = room.sorted;
  to = room.sorted_to;
}

// Rows of ids that no hot row answers: set, or added to what is there, times `scale` where there are scales.
void make(const Copies& kernels, const TableRecipe& t, int64_t dim, Room& room, int64_t count, const int64_t* x,
          float* const* to, bool add, const float* scale) {
  const int64_t parts = static_cast<int64_t>(t.parts.size());
  const bool whole = add && (t.kind != Kind::parts || (t.combine == Combine::mult && parts > 1));
  float* const* into = whole ? room.row : to;
  if (t.kind == Kind::cores) {
    if (t.cores.decoded >= 0 && count > 2) {
      float* const* made = into;
      sort_by_slice(t.cores, room, count, x, made);
      into = made;
    }
    kernels.take_cores(t.cores, count, x, into, room.digits, room.products, room.slices);
  } else if (t.kind == Kind::chunks) {
    for (int64_t i = 0; i < count; ++i) room.index[i] = x[i] + t.row_offset;
    kernels.take_chunks(t.parts[0].store, t.robe, count, room.index, into, room.numbers);
  } else {
    for (int64_t j = 0; j < parts; ++j) {
      const PartRecipe& part = t.parts[j];
      index_rows(kernels, t, part, count, x, room.index, room.numbers);
      const bool chunk = t.combine == Combine::concat;
      const Into how = add && !whole                ? Into::add
                       : chunk || j == 0            ? Into::set
                       : t.combine == Combine::add  ? Into::add
                                                    : Into::multiply;
      kernels.take_rows(part.store, count, room.index, into, chunk ? j * part.store.width : 0, how,
                        whole ? nullptr : scale);
    }
  }
  if (!whole) return;
  for (int64_t i = 0; i < count; ++i) room.index[i] = i;
  StoreView made{};
  made.bits = 32;
  made.width = dim;
  made.memory = reinterpret_cast<const uint8_t*>(room.rows);
  made.row_bytes = dim * 4;
  kernels.take_rows(made, count, room.index, to, 0, Into::add, scale);
}

// Rows of the first `count` lookups of the room's.
void put(const Copies& kernels, const TableRecipe& t, int64_t dim, Room& room, int64_t count, bool add, bool scaled) {
  if (t.hot == Hot::none && t.padding < 0)
    return make(kernels, t, dim, room, count, room.x, room.to, add, scaled ? room.scale : nullptr);
  int64_t cold = 0, hot = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t id = room.x[i], held = t.hot_rows.size;
    if (id == t.padding) {
      if (!add) std::memset(room.to[i], 0, dim * sizeof(float));
      continue;
    }
    int64_t slot = held;
    if (t.hot == Hot::first) slot = std::min(id, held);
    if (t.hot == Hot::among) slot = t.hot_ids.place(id);
    if (slot < held) {
      room.hot[hot] = t.hot_rows.first + slot;
      room.hot_to[hot] = room.to[i];
      room.hot_scale[hot++] = room.scale[i];
    } else {
      room.cold[cold] = id;
      room.cold_to[cold] = room.to[i];
      room.cold_scale[cold++] = room.scale[i];
    }
  }
  if (hot)
    kernels.take_rows(t.hot_rows.store, hot, room.hot, room.hot_to, 0, add ? Into::add : Into::set,
                      add && scaled ? room.hot_scale : nullptr);
  if (cold) make(kernels, t, dim, room, cold, room.cold, room.cold_to, add, scaled ? room.cold_scale : nullptr);
}

struct Call {
  const Recipe& recipe;
  const Copies& kernels;
  int64_t dim, tables, samples;
  const float* weights;
  float* out;
  bool mean;
  std::atomic<bool> wrong{false};  // an id out of range: no error may leave a thread, so it is named behind all tasks

  // One id a bag: ids (samples, columns).
  template <class I>
  void single(const I* ids, int64_t columns) {
    const int64_t each = std::clamp<int64_t>(kTask / std::max<int64_t>(1, tables * dim), 1, recipe.block());
    for_each_task((samples + each - 1) / each, samples * tables * dim > kWorthThreads, [&](int64_t task) {
      Room room(recipe, dim);
      const int64_t begin = task * each, count = std::min(each, samples - begin);
      for (int64_t t = 0; t < tables; ++t) {
        const TableRecipe& table = recipe.tables[t];
        const I* id = ids + begin * columns + table.column;
        float* to = out + (begin * tables + t) * dim;
        for (int64_t i = 0; i < count; ++i) {
          room.x[i] = id[i * columns];
          room.to[i] = to + i * tables * dim;
        }
        if (weights)
          for (int64_t i = 0; i < count; ++i) {
            room.scale[i] = weights[(begin + i) * columns + table.column];
            std::memset(room.to[i], 0, dim * sizeof(float));
          }
        if (!in_range(t, count, room.x)) return;
        put(kernels, table, dim, room, count, weights != nullptr, weights != nullptr);
      }
    });
    for (int64_t i = 0; wrong && i < samples; ++i)
      for (int64_t t = 0; t < tables; ++t) check_id(t, ids[i * columns + recipe.tables[t].column]);
  }

  // Bags, table after table: bag b of table t is ids[offsets[t * samples + b]] and so on.
  template <class I>
  void bags(const I* ids, const int64_t* offsets, int64_t size) {
    const int64_t count = tables * samples, block = recipe.block();
    const int64_t lookups = std::max<int64_t>(1, count ? size / count : 1);
    const int64_t each = std::clamp<int64_t>(kTask / (lookups * dim), 1, 1024);
    for_each_task((count + each - 1) / each, std::max(size, count) * dim > kWorthThreads, [&](int64_t task) {
      Room room(recipe, dim);
      for (int64_t bag = task * each, last = std::min(count, bag + each); bag < last;) {
        // bags of one table, until the room is full; a long one by itself
        const int64_t t = bag / samples, end = std::min(last, (t + 1) * samples);
        const TableRecipe& table = recipe.tables[t];
        int64_t filled = 0;
        const auto flush = [&] {
          if (in_range(t, filled, room.x)) put(kernels, table, dim, room, filled, true, weights != nullptr);
          filled = 0;
        };
        const int64_t first = bag;
        for (; bag < end; ++bag) {
          float* to = row_of(bag);
          std::memset(to, 0, dim * sizeof(float));
          for (int64_t l = offsets[bag]; l < offsets[bag + 1]; ++l) {
            room.x[filled] = ids[l];
            room.to[filled] = to;
            room.scale[filled] = weights ? weights[l] : 1.0f;
            if (++filled == block) flush();
          }
        }
        flush();
        for (int64_t b = first; mean && b < end; ++b)
          divide(table, ids + offsets[b], offsets[b + 1] - offsets[b], row_of(b));
      }
    });
    for (int64_t bag = 0; wrong && bag < count; ++bag)
      for (int64_t l = offsets[bag]; l < offsets[bag + 1]; ++l) check_id(bag / samples, ids[l]);
  }

 private:
  float* row_of(int64_t bag) const { return out + (bag % samples * tables + bag / samples) * dim; }

  template <class I>
  void divide(const TableRecipe& table, const I* id, int64_t count, float* row) const {
    int64_t kept = count;
    if (table.padding >= 0) kept -= std::count_if(id, id + count, [&](I i) { return i == table.padding; });
    if (kept <= 1) return;
    for (int64_t c = 0; c < dim; ++c) row[c] /= static_cast<float>(kept);
  }

  bool in_range(int64_t t, int64_t count, const int64_t* x) {
    const uint64_t rows = recipe.tables[t].rows;
    uint64_t outside = 0;
    for (int64_t i = 0; i < count; ++i) outside |= static_cast<uint64_t>(x[i]) >= rows;
    if (outside) wrong = true;
    return !outside;
  }

  void check_id(int64_t t, int64_t id) const {
    const int64_t rows = recipe.tables[t].rows;
    if (static_cast<uint64_t>(id) >= static_cast<uint64_t>(rows)) refuse_id(id, t, rows);
  }
};

void check_bounds(const int64_t* offsets, int64_t count, int64_t size) {
  bool decrease = false;
  for (int64_t b = 0; b < count; ++b) decrease |= offsets[b + 1] < offsets[b];
  check_offsets(offsets[0], offsets[count], size, decrease);
}

Tensor recipe_lookup(Tensor ids, std::optional<Tensor> offsets, std::optional<Tensor> weights,
                     std::vector<Tensor> arrays, Tensor numbers, int64_t tables, int64_t dim, bool mean) {
  const Recipe recipe(numbers, arrays, tables, dim);
  const ScalarType type = ids.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Int || type == ScalarType::Long, "recipe_lookup: ids must be int32 or int64");
  STD_TORCH_CHECK(ids.dim() == (offsets ? 1 : 2), "recipe_lookup: ids must be (B, F), or (N,) with offsets, got ",
                  ids.dim(), " dimensions");
  int64_t columns = 1, samples = 0;
  const int64_t* bounds = nullptr;
  Tensor kept;
  if (offsets) {
    kept = in_one_piece(*offsets);
    bounds = list_of_longs(kept, "offsets");
    STD_TORCH_CHECK(kept.numel() >= 1 && (kept.numel() - 1) % tables == 0, "recipe_lookup: ", kept.numel(),
                    " offsets are not those of ", tables, " tables and the end");
    samples = (kept.numel() - 1) / tables;
    check_bounds(bounds, kept.numel() - 1, ids.numel());
  } else {
    samples = ids.size(0);
    columns = ids.size(1);
    for (const TableRecipe& table : recipe.tables)
      STD_TORCH_CHECK(table.column < columns, "recipe_lookup: there is no column ", table.column, " of ", columns);
  }
  if (weights) {
    bool alike = weights->dim() == ids.dim();
    for (int64_t d = 0; alike && d < ids.dim(); ++d) alike = weights->size(d) == ids.size(d);
    STD_TORCH_CHECK(weights->scalar_type() == ScalarType::Float && alike && !mean,
                    "recipe_lookup: weights must be float32, one an id, and go with sums");
    weights = in_one_piece(*weights);
  }
  const Tensor whole = in_one_piece(ids);
  Tensor out = torch::stable::new_empty(whole, {samples, tables, dim}, ScalarType::Float);
  if (samples == 0) return out;
  Call call{recipe, copies(), dim, tables, samples, weights ? weights->const_data_ptr<float>() : nullptr,
                  out.mutable_data_ptr<float>(), mean};
  const auto answer = [&](const auto* id) {
    if (bounds)
      call.bags(id, bounds, whole.numel());
    else
      call.single(id, columns);
  };
  if (type == ScalarType::Int)
    answer(static_cast<const int32_t*>(whole.const_data_ptr()));
  else
    answer(static_cast<const int64_t*>(whole.const_data_ptr()));
  return out;
}

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) { m.impl("recipe_lookup", TORCH_BOX(&embpress::recipe_lookup)); }
