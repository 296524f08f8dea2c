// embpress::update_rows on the CPU; schema and meaning stand in kernels/ops/update_rows.py.
//
// Each task owns rows of the parameter: it finds the gradients that are theirs, row by row, and changes each row once.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <optional>

#include "../common/errors.h"
#include "../common/id_arguments.h"
#include "common/owned.h"
#include "common/parallel.h"
#include "common/update_all.h"
#include "simd/kernels.h"

namespace embpress {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kWorthThreads = 1 << 14;  // numbers of gradients

struct Update {
  UpdateShape shape;
  int64_t count;
  const int64_t* rows;  // null: all of them
  bool ascending;       // each row comes once, the lower ones first
  Owned owned;
};

// Gradients of the rows that a task owns, chained in their order: `first` and `last` by row found, `next` by gradient.
template <class T>
void update_owned(const Update& u, const T* grads, T* total, T* parameter) {
  int64_t mine = 0;
  for (int64_t i = 0; i < u.count; ++i) mine += u.owned.has(u.rows[i]);
  if (!mine) return;
  int64_t slots = 16;
  while (slots < 2 * mine) slots *= 2;
  Scratch& scratch = Scratch::mine();
  scratch.reserve(Scratch::rounded<int32_t>(slots) + 2 * Scratch::rounded<int32_t>(mine) +
                  Scratch::rounded<int64_t>(mine) + Scratch::rounded<int32_t>(u.count) +
                  Scratch::rounded<int32_t>(mine) + Scratch::rounded<T>(u.shape.width));
  int32_t *table = scratch.take<int32_t>(slots), *first = scratch.take<int32_t>(mine),
          *last = scratch.take<int32_t>(mine);
  int64_t* row_of = scratch.take<int64_t>(mine);
  int32_t *next = scratch.take<int32_t>(u.count), *order = scratch.take<int32_t>(mine);
  T* sum = scratch.take<T>(u.shape.width);
  std::fill(table, table + slots, -1);
  const uint64_t mask = slots - 1;
  int32_t found = 0;
  for (int64_t i = 0; i < u.count; ++i) {
    const int64_t row = u.rows[i];
    if (!u.owned.has(row)) continue;
    uint64_t slot = (static_cast<uint64_t>(row) * 0x9E3779B97F4A7C15ull >> 32) & mask;
    while (table[slot] >= 0 && row_of[table[slot]] != row) slot = (slot + 1) & mask;
    const int32_t at = static_cast<int32_t>(i);
    next[at] = -1;
    if (table[slot] < 0) {
      table[slot] = found;
      row_of[found] = row;
      first[found] = last[found] = at;
      ++found;
    } else {
      int32_t& end = last[table[slot]];
      next[end] = at;
      end = at;
    }
  }
  const Kernels<T>& kernels = best<T>(u.shape.width);
  const int64_t width = u.shape.width, apart = u.shape.rowwise ? 1 : width;
  for (int32_t k = 0; k < found; ++k) {
    if (k + 8 < found) {
      __builtin_prefetch(parameter + row_of[k + 8] * width, 1);
      if (total) __builtin_prefetch(total + row_of[k + 8] * apart, 1);
    }
    int64_t count = 0;
    for (int32_t i = first[k]; i >= 0; i = next[i]) order[count++] = i;
    kernels.update_row(u.shape, count, order, grads, total ? total + row_of[k] * apart : nullptr,
                       parameter + row_of[k] * width, sum);
  }
}

// Rows of which each comes once: shared out as they are, without a search for the others of a row.
template <class T>
void update_ascending(const Update& u, const T* grads, T* total, T* parameter) {
  constexpr int64_t run = 128, ahead = 8;
  const Kernels<T>& kernels = best<T>(u.shape.width);
  const int64_t width = u.shape.width, apart = u.shape.rowwise ? 1 : width;
  for_each_task((u.count + run - 1) / run, u.count * width > kWorthThreads, [&](int64_t task) {
    const int64_t end = std::min(u.count, (task + 1) * run);
    for (int64_t i = task * run; i < end; ++i) {
      if (i + ahead < end)
        for (int64_t c = 0; c < width; c += 64 / static_cast<int64_t>(sizeof(T))) {
          __builtin_prefetch(parameter + u.rows[i + ahead] * width + c, 1);
          if (total && !u.shape.rowwise) __builtin_prefetch(total + u.rows[i + ahead] * width + c, 1);
        }
      const int32_t own = 0;
      kernels.update_row(u.shape, 1, &own, grads + i * width, total ? total + u.rows[i] * apart : nullptr,
                         parameter + u.rows[i] * width, nullptr);
    }
  });
}

template <class T>
void update(Update u, int64_t held, const Tensor& grads, const std::optional<Tensor>& total, const Tensor& parameter) {
  const T* from = grads.const_data_ptr<T>();
  T *sums = total ? total->mutable_data_ptr<T>() : nullptr, *to = parameter.mutable_data_ptr<T>();
  if (!u.rows) {
    update_all<T>({{u.shape, held, from, sums, to}});
    return;
  }
  if (u.ascending) {
    update_ascending(u, from, sums, to);
    return;
  }
  const bool worth_it = u.count * u.shape.width > kWorthThreads;
  const int64_t tasks = worth_it ? torch::stable::get_num_threads() : 1;
  u.owned = shared_out(held, u.shape.width * sizeof(T), tasks);
  for_each_task(tasks, worth_it, [&](int64_t task) {
    Update own = u;
    own.owned.task = static_cast<uint32_t>(task);
    update_owned(own, from, sums, to);
  });
}

void update_rows(Tensor parameter, std::optional<Tensor> total, std::optional<Tensor> rows, Tensor grads,
                 double learning_rate, double eps) {
  const ScalarType type = parameter.scalar_type();
  STD_TORCH_CHECK(parameter.dim() == 2 && grads.dim() == 2 && grads.size(1) == parameter.size(1) &&
                      grads.scalar_type() == type && grads.size(0) == (rows ? rows->numel() : parameter.size(0)),
                  "update_rows: grads must be (M, ", parameter.dim() == 2 ? parameter.size(1) : 0,
                  ") of the parameter's type, one for each row");
  const int64_t n = parameter.size(0), width = parameter.size(1), count = grads.size(0);
  STD_TORCH_CHECK(!total || (total->scalar_type() == type && total->size(0) == n &&
                             (total->dim() == 1 || (total->dim() == 2 && total->size(1) == width))),
                  "update_rows: total must be (n, D) or (n,) of the parameter's type");
  std::optional<Tensor> flat;
  const int64_t* row = nullptr;
  bool ascending = true;
  if (rows) {
    STD_TORCH_CHECK(count < INT32_MAX, "update_rows: more than 2^31 rows in one call");
    STD_TORCH_CHECK(rows->scalar_type() == ScalarType::Long || rows->scalar_type() == ScalarType::Int,
                    "update_rows: rows must be int32 or int64");
    flat = in_one_piece(rows->scalar_type() == ScalarType::Int ? torch::stable::to(*rows, ScalarType::Long) : *rows);
    row = list_of_longs(*flat, "rows");
    for (int64_t i = 0; i < count; ++i) {
      if (static_cast<uint64_t>(row[i]) >= static_cast<uint64_t>(n)) refuse_id(row[i], 0, n);
      ascending &= i == 0 || row[i] > row[i - 1];
    }
  }
  if (count == 0 || width == 0) return;
  const Update u{{width, learning_rate, eps, total && total->dim() == 1}, count, row, ascending, {}};
  const ScalarType wide = type == ScalarType::Double ? type : ScalarType::Float;
  const Tensor values = widened(parameter, wide), from = widened(grads, wide);
  std::optional<Tensor> sums;
  if (total) sums = widened(*total, wide);
  if (wide == ScalarType::Double)
    update<double>(u, n, from, sums, values);
  else
    update<float>(u, n, from, sums, values);
  if (type != wide || !parameter.is_contiguous()) torch::stable::copy_(parameter, values);
  if (total && (type != wide || !total->is_contiguous())) torch::stable::copy_(*total, *sums);
}

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) { m.impl("update_rows", TORCH_BOX(&embpress::update_rows)); }
