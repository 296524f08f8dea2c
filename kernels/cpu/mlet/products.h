// Rows that are products of pooled inner rows and a projection, forward and backward, for lookups and bags alike.
//
// Inner rows of a block of samples are gathered and multiplied by their table's projection while they lie in the cache.
// `Source` is what is looked up in `tables` tables by `samples` samples each, `count` lookups in all: `out(t, b)` is the
// number of the answer to sample b of table t, `apart` from one sample to the next; `gather(t, b, samples, first,
// columns, from, k, to)` makes so many columns of the inner rows of samples, summed where they are bags;
// `for_each(f)` calls f(lookup, row, answer, scale) in the order of the lookups; `plain` says that lookups are answers.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

#include "../common/lookups.h"
#include "../common/owned.h"
#include "../common/parallel.h"
#include "../common/pool.h"
#include "../common/row_groups.h"
#include "../simd/kernels.h"

namespace embpress {

constexpr int64_t kSamples = 128;          // samples of one table that are multiplied at a time
constexpr double kWorthThreads = 1 << 18;  // multiplications

// The sizes of a call, and whether its tables lie in what there is.
struct ProductShape {
  int64_t tables, samples, k, dim, held;
  const int64_t *rows, *row_offsets;

  ProductShape(const Tensor& table, const Tensor& projections, int64_t tables, int64_t samples, const int64_t* rows,
               const int64_t* row_offsets)
      : tables(tables), samples(samples), rows(rows), row_offsets(row_offsets) {
    STD_TORCH_CHECK(table.dim() == 2 && projections.dim() == 3 && projections.size(0) == tables &&
                        projections.size(1) == table.size(1) && projections.scalar_type() == table.scalar_type(),
                    "mlet_lookup: projections must be (T, k, D) of the table's type");
    k = table.size(1);
    dim = projections.size(2);
    held = table.size(0);
    for (int64_t t = 0; t < tables; ++t)
      STD_TORCH_CHECK(row_offsets[t] >= 0 && row_offsets[t] <= held - rows[t], "mlet_lookup: table ", t,
                      " has rows beyond the ", held, " there are");
  }

  bool worth_it() const { return static_cast<double>(samples) * tables * k * dim > kWorthThreads; }

  // f(table, first sample, samples) for each block of samples of each table.
  template <class F>
  void for_each_block(F f) const {
    for_each_task((samples + kSamples - 1) / kSamples * tables, worth_it(), [&](int64_t task) {
      const int64_t t = task % tables, begin = task / tables * kSamples;
      f(t, begin, std::min(kSamples, samples - begin));
    });
  }
};

// A row of another type, in the type that is computed with.
template <class T, class N>
inline void widen(int64_t n, const N* from, T* to) {
  if constexpr (sizeof(T) == sizeof(N))
    std::memcpy(to, from, n * sizeof(T));
  else
    for (int64_t c = 0; c < n; ++c) to[c] = static_cast<T>(from[c]);
}

// f(T, N) with a value of the type that is computed with and one of the table's own.
template <class F>
auto by_types(ScalarType type, F f) {
  switch (type) {
    case ScalarType::Float:
      return f(float{}, float{});
    case ScalarType::Double:
      return f(double{}, double{});
    case ScalarType::Half:
      return f(float{}, torch::headeronly::Half{});
    default:
      STD_TORCH_CHECK(type == ScalarType::BFloat16, "mlet_lookup: the table must be float16, bfloat16, float32 or float64");
      return f(float{}, torch::headeronly::BFloat16{});
  }
}

// In the type that is computed with, and in one piece.
inline Tensor computed_with(const Tensor& t, ScalarType type) {
  const ScalarType wide = type == ScalarType::Double ? type : ScalarType::Float;
  return in_one_piece(t.scalar_type() == wide ? t : torch::stable::to(t, wide));
}

inline int64_t padded(int64_t width, int64_t lanes) { return (width + lanes - 1) / lanes * lanes; }

// C (m, n) = A (m, depth) B (depth, n), where n may be any number: `b` has its rows `padded` apart and zeros behind
// them, and so has `c` in `room` where they do not lie in `to` as they are.
template <class T>
void multiply(const Kernels<T>& kernels, int64_t m, int64_t n, int64_t depth, const T* a, int64_t lda, const T* b,
              T* to, int64_t ldc, T* room) {
  const int64_t wide = padded(n, kernels.lanes);
  if (wide == n) {
    kernels.gemm(m, n, depth, a, lda, 1, b, wide, to, ldc, false);
    return;
  }
  kernels.gemm(m, wide, depth, a, lda, 1, b, wide, room, wide, false);
  for (int64_t i = 0; i < m; ++i) std::memcpy(to + i * ldc, room + i * wide, n * sizeof(T));
}

// The matrices (T, rows, columns), or their transposes, with rows `padded` to the vector; `from` itself where it fits.
template <class T>
const T* laid_out(const T* from, int64_t tables, int64_t rows, int64_t columns, int64_t lanes, bool transposed,
                  std::vector<T>& room) {
  const int64_t out_rows = transposed ? columns : rows, out_columns = transposed ? rows : columns;
  const int64_t wide = padded(out_columns, lanes);
  if (!transposed && wide == columns) return from;
  room.assign(tables * out_rows * wide, T{});
  for (int64_t t = 0; t < tables; ++t)
    for (int64_t i = 0; i < out_rows; ++i)
      for (int64_t j = 0; j < out_columns; ++j)
        room[(t * out_rows + i) * wide + j] =
            from[t * rows * columns + (transposed ? j * columns + i : i * columns + j)];
  return room.data();
}

// The answers, of the given sizes, in the type that is computed with.
template <class T, class N, class Source>
Tensor products(const ProductShape& s, const Source& source, const Tensor& table, const Tensor& projections,
                const std::vector<int64_t>& sizes) {
  Tensor out = torch::stable::new_empty(projections, sizes);
  T* to = out.mutable_data_ptr<T>();
  const N* from = static_cast<const N*>(table.const_data_ptr());
  const Kernels<T>& kernels = best<T>(s.dim);
  const int64_t wide = padded(s.dim, kernels.lanes);
  std::vector<T> room;
  const T* right = laid_out(projections.const_data_ptr<T>(), s.tables, s.k, s.dim, kernels.lanes, false, room);
  s.for_each_block([&](int64_t t, int64_t begin, int64_t count) {
    Scratch& scratch = Scratch::mine();
    scratch.reserve(Scratch::rounded<T>(kSamples * s.k) + Scratch::rounded<T>(kSamples * wide) +
                    Scratch::rounded<T>(s.k));
    T *inner = scratch.take<T>(kSamples * s.k), *made = scratch.take<T>(kSamples * wide), *row = scratch.take<T>(s.k);
    source.gather(t, begin, count, 0, s.k, from, s.k, inner, row);
    multiply(kernels, count, s.dim, s.k, inner, s.k, right + t * s.k * wide, to + source.out(t, begin) * s.dim,
             source.apart * s.dim, made);
  });
  return out;
}

// What flows into the inner rows of the answers: (answers, k).
template <class T, class Source>
Tensor inner_gradient(const ProductShape& s, const Source& source, const Tensor& grad, const Tensor& projections) {
  const Kernels<T>& kernels = best<T>(s.k);
  const int64_t wide = padded(s.k, kernels.lanes);
  std::vector<T> transposed;
  const T* right = laid_out(projections.const_data_ptr<T>(), s.tables, s.k, s.dim, kernels.lanes, true, transposed);
  const T* flow = grad.const_data_ptr<T>();
  Tensor out = pooled_empty<T>(grad, {s.samples * s.tables, s.k});
  T* inner = out.mutable_data_ptr<T>();
  s.for_each_block([&](int64_t t, int64_t begin, int64_t count) {
    Scratch& scratch = Scratch::mine();
    scratch.reserve(Scratch::rounded<T>(kSamples * wide));
    const int64_t first = source.out(t, begin);
    multiply(kernels, count, s.k, s.dim, flow + first * s.dim, source.apart * s.dim, right + t * s.dim * wide,
             inner + first * s.k, source.apart * s.k, scratch.take<T>(kSamples * wide));
  });
  return out;
}

// The gradient of the inner table, dense: each task owns rows and goes through all lookups.
template <class T, class Source>
Tensor table_gradient(const ProductShape& s, const Source& source, const Tensor& inner_grad) {
  Tensor out = pooled_empty<T>(inner_grad, {s.held, s.k});
  T* sum = out.mutable_data_ptr<T>();
  const T* inner = inner_grad.const_data_ptr<T>();
  const Kernels<T>& kernels = best<T>(s.k);
  zero(sum, s.held * s.k);
  const int64_t tasks = s.worth_it() ? torch::stable::get_num_threads() : 1;
  const Owned each = shared_out(s.held, s.k * sizeof(T), tasks);
  for_each_task(tasks, s.worth_it(), [&](int64_t task) {
    Owned owned = each;
    owned.task = static_cast<uint32_t>(task);
    source.template for_each<T>([&](int64_t, int64_t row, int64_t answer, T scale) {
      if (owned.has(row)) kernels.add_scaled(s.k, scale, inner + answer * s.k, sum + row * s.k);
    });
  });
  return out;
}

// The same as the distinct rows that are looked up and theirs: what flows into lookups of a row is summed before it is
// multiplied, so that there is a product for each of the rows.
template <class T, class Source>
std::tuple<Tensor, Tensor> table_gradient_rows(const ProductShape& s, const Source& source, const Tensor& grad,
                                               const Tensor& projections) {
  for (int64_t t = 0; t + 1 < s.tables; ++t)
    STD_TORCH_CHECK(s.row_offsets[t] + s.rows[t] <= s.row_offsets[t + 1],
                    "mlet_lookup: the rows of table ", t + 1,
                    " must lie behind those of the table before");
  const int64_t count = source.count;
  const T* flow = grad.const_data_ptr<T>();
  Scratch& whole = Scratch::of_rows();
  whole.reserve(Scratch::rounded<int64_t>(count) + Scratch::rounded<int32_t>(count) + Scratch::rounded<T>(count) +
                Scratch::rounded<T>(count * s.dim));
  int64_t* row_of = whole.take<int64_t>(count);
  int32_t* answer_of = whole.take<int32_t>(count);
  T *scale_of = whole.take<T>(count), *sums = whole.take<T>(count * s.dim);
  source.template for_each<T>([&](int64_t i, int64_t row, int64_t answer, T scale) {
    row_of[i] = row;
    answer_of[i] = static_cast<int32_t>(answer);
    scale_of[i] = scale;
  });
  const RowGroups groups = grouped_by_row(count, s.held, grad, [&](int64_t i) { return row_of[i]; });
  Tensor values = pooled_empty<T>(grad, {groups.groups, s.k}, true);
  T* to = values.mutable_data_ptr<T>();
  const Kernels<T>&narrow = best<T>(s.dim), &kernels = best<T>(s.k);
  const int64_t wide = padded(s.k, kernels.lanes), *found = groups.rows.template const_data_ptr<int64_t>();
  std::vector<T> transposed;
  const T* right = laid_out(projections.const_data_ptr<T>(), s.tables, s.k, s.dim, kernels.lanes, true, transposed);
  // blocks of rows, cut where a table ends
  std::vector<int64_t> begins, table_of;
  for (int64_t g = 0, t = 0; g < groups.groups;) {
    while (found[g] >= s.row_offsets[t] + s.rows[t]) ++t;
    const int64_t end = std::lower_bound(found + g, found + groups.groups, s.row_offsets[t] + s.rows[t]) - found;
    for (; g < end; g = std::min(end, g + kSamples)) {
      begins.push_back(g);
      table_of.push_back(t);
    }
  }
  begins.push_back(groups.groups);
  for_each_task(static_cast<int64_t>(table_of.size()), s.worth_it(), [&](int64_t task) {
    Scratch& scratch = Scratch::mine();
    scratch.reserve(Scratch::rounded<T>(kSamples * wide));
    const int64_t begin = begins[task], size = begins[task + 1] - begin;
    for (int64_t g = begin; g < begin + size; ++g) {
      T* own = sums + g * s.dim;
      const int64_t lookups = groups.starts[g + 1] - groups.starts[g];
      const int32_t* order = groups.order + groups.starts[g];
      if (Source::plain) {
        narrow.sum_rows(s.dim, lookups, order, flow, s.dim, own);
        continue;
      }
      std::fill(own, own + s.dim, T{0});
      for (int64_t i = 0; i < lookups; ++i)
        narrow.add_scaled(s.dim, scale_of[order[i]], flow + answer_of[order[i]] * s.dim, own);
    }
    multiply(kernels, size, s.k, s.dim, sums + begin * s.dim, s.dim, right + table_of[task] * s.dim * wide,
             to + begin * s.k, s.k, scratch.take<T>(kSamples * wide));
  });
  return {groups.rows, values};
}

// The gradient of the projections: rows of each are shared out, every one a sum over all samples in their order.
template <class T, class N, class Source>
Tensor projection_gradient(const ProductShape& s, const Source& source, const Tensor& grad, const Tensor& table) {
  Tensor out = torch::stable::new_empty(grad, {s.tables, s.k, s.dim});
  T* projected = out.mutable_data_ptr<T>();
  const T* flow = grad.const_data_ptr<T>();
  const N* from = static_cast<const N*>(table.const_data_ptr());
  const Kernels<T>& kernels = best<T>(s.dim);
  const int64_t wide = padded(s.dim, kernels.lanes), tables = s.tables;
  const int64_t tasks = s.worth_it() ? torch::stable::get_num_threads() : 1;
  const int64_t shares = std::max<int64_t>(1, std::min<int64_t>(s.k, (2 * tasks + tables - 1) / std::max<int64_t>(1, tables)));
  for_each_task(tables * shares, s.worth_it(), [&](int64_t task) {
    const int64_t t = task / shares, share = task % shares;
    const int64_t first = s.k * share / shares, count = s.k * (share + 1) / shares - first;
    Scratch& scratch = Scratch::mine();
    scratch.reserve(Scratch::rounded<T>(kSamples * count) + Scratch::rounded<T>(kSamples * wide) +
                    Scratch::rounded<T>(count * wide) + Scratch::rounded<T>(s.k));
    T *left = scratch.take<T>(kSamples * count), *rows = scratch.take<T>(kSamples * wide),
      *c = scratch.take<T>(count * wide), *row = scratch.take<T>(s.k);
    std::fill(c, c + count * wide, T{});
    if (wide > s.dim) std::fill(rows, rows + kSamples * wide, T{});
    for (int64_t begin = 0; begin < s.samples; begin += kSamples) {
      const int64_t size = std::min(kSamples, s.samples - begin);
      source.gather(t, begin, size, first, count, from, s.k, left, row);
      for (int64_t i = 0; i < size; ++i)
        std::memcpy(rows + i * wide, flow + source.out(t, begin + i) * s.dim, s.dim * sizeof(T));
      kernels.gemm(count, wide, size, left, 1, count, rows, wide, c, wide, true);
    }
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(projected + (t * s.k + first + i) * s.dim, c + i * wide, s.dim * sizeof(T));
  });
  return out;
}

}  // namespace embpress
