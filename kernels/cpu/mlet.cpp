// embpress::mlet_lookup and its gradients on the CPU; schemas and meanings stand in kernels/ops/mlet.py.
//
// Inner rows of a block of samples are gathered and multiplied by their table's projection while they lie in the cache.
// The gradient of a projection is one task's, which goes through all samples; those of inner rows are summed by the
// task that owns the row. Sums have one order, whatever the threads.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

#include "common/lookups.h"
#include "common/owned.h"
#include "common/parallel.h"
#include "common/pool.h"
#include "common/widened.h"
#include "simd/kernels.h"

namespace embpress {
namespace {

constexpr const char* kOp = "mlet_lookup";
constexpr int64_t kBlock = 128;            // samples of one table that are multiplied at a time
constexpr double kWorthThreads = 1 << 18;  // multiplications

struct Shape {
  IdLookups lookups;
  int64_t k, dim, held;

  Shape(const Tensor& table, const Tensor& projections, const Tensor& ids, const Tensor& row_offsets,
        const Tensor& rows, bool checked)
      : lookups(read_id_lookups(ids, row_offsets, rows, kOp, checked)) {
    STD_TORCH_CHECK(table.dim() == 2 && projections.dim() == 3 && projections.size(0) == lookups.tables &&
                        projections.size(1) == table.size(1) && projections.scalar_type() == table.scalar_type(),
                    "mlet_lookup: projections must be (T, k, D) of the table's type");
    k = table.size(1);
    dim = projections.size(2);
    held = table.size(0);
    for (int64_t t = 0; t < lookups.tables; ++t)
      STD_TORCH_CHECK(lookups.row_offsets[t] >= 0 && lookups.row_offsets[t] <= held - lookups.rows[t],
                      "mlet_lookup: table ", t, " has rows beyond the ", held, " there are");
  }

  double operations() const { return static_cast<double>(lookups.count) * k * dim; }
  int64_t blocks() const { return (lookups.samples + kBlock - 1) / kBlock; }

  // f(table, first sample, samples) for each block of samples of each table.
  template <class F>
  void for_each_block(F f) const {
    for_each_task(blocks() * lookups.tables, operations() > kWorthThreads, [&](int64_t task) {
      const int64_t t = task % lookups.tables, begin = task / lookups.tables * kBlock;
      f(t, begin, std::min(kBlock, lookups.samples - begin));
    });
  }

  int64_t row(int64_t sample, int64_t t) const {
    const int64_t i = sample * lookups.tables + t;
    const int64_t id = lookups.wide ? static_cast<const int64_t*>(lookups.ids)[i]
                                    : static_cast<const int32_t*>(lookups.ids)[i];
    return id + lookups.row_offsets[t];
  }
};

int64_t padded(int64_t width, int64_t lanes) { return (width + lanes - 1) / lanes * lanes; }

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

template <class T>
Tensor looked_up(const Shape& s, const Tensor& table, const Tensor& projections) {
  const int64_t tables = s.lookups.tables;
  Tensor out = torch::stable::new_empty(table, {s.lookups.samples, tables, s.dim});
  T* to = out.mutable_data_ptr<T>();
  const T* from = table.const_data_ptr<T>();
  const Kernels<T>& kernels = best<T>(s.dim);
  const int64_t wide = padded(s.dim, kernels.lanes);
  std::vector<T> room;
  const T* right = laid_out(projections.const_data_ptr<T>(), tables, s.k, s.dim, kernels.lanes, false, room);
  s.for_each_block([&](int64_t t, int64_t begin, int64_t count) {
    Scratch& scratch = Scratch::mine();
    scratch.reserve(Scratch::rounded<T>(kBlock * s.k) + Scratch::rounded<T>(kBlock * wide));
    T *inner = scratch.take<T>(kBlock * s.k), *made = scratch.take<T>(kBlock * wide);
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(inner + i * s.k, from + s.row(begin + i, t) * s.k, s.k * sizeof(T));
    multiply(kernels, count, s.dim, s.k, inner, s.k, right + t * s.k * wide, to + (begin * tables + t) * s.dim,
             tables * s.dim, made);
  });
  return out;
}

// Rows of the inner table that the lookups need, in float32 and numbered as the lookups are: `(count, k)`.
template <class N>
Tensor widened_rows(const Shape& s, const Tensor& table) {
  Tensor made = torch::stable::new_empty(table, {std::max<int64_t>(1, s.lookups.count), s.k}, ScalarType::Float);
  float* to = made.mutable_data_ptr<float>();
  const N* from = static_cast<const N*>(table.const_data_ptr());
  for (int64_t i = 0; i < s.lookups.count; ++i) {
    const N* row = from + s.row(i / s.lookups.tables, i % s.lookups.tables) * s.k;
    for (int64_t c = 0; c < s.k; ++c) *to++ = static_cast<float>(row[c]);
  }
  return made;
}

// Narrow tables are large: only the rows that are looked up are widened.
Tensor narrow_lookup(const Shape& s, const Tensor& table, const Tensor& projections) {
  const ScalarType type = table.scalar_type();
  const Tensor whole = in_one_piece(table);
  const Tensor rows = type == ScalarType::Half ? widened_rows<torch::headeronly::Half>(s, whole)
                                               : widened_rows<torch::headeronly::BFloat16>(s, whole);
  std::vector<int64_t> number(s.lookups.count), none(s.lookups.tables, 0);
  for (int64_t i = 0; i < s.lookups.count; ++i) number[i] = i;
  Shape own = s;
  own.lookups.ids = number.data();
  own.lookups.wide = true;
  own.lookups.row_offsets = none.data();
  const Tensor right = in_one_piece(torch::stable::to(projections, ScalarType::Float));
  return torch::stable::to(looked_up<float>(own, rows, right), type);
}

Tensor look_up(const Shape& s, const Tensor& table, const Tensor& projections) {
  switch (table.scalar_type()) {
    case ScalarType::Float:
      return looked_up<float>(s, in_one_piece(table), in_one_piece(projections));
    case ScalarType::Double:
      return looked_up<double>(s, in_one_piece(table), in_one_piece(projections));
    case ScalarType::Half:
    case ScalarType::BFloat16:
      return narrow_lookup(s, table, projections);
    default:
      STD_TORCH_CHECK(false, "mlet_lookup: the table must be float16, bfloat16, float32 or float64");
  }
}

Tensor mlet_lookup(Tensor table, Tensor projections, Tensor ids, Tensor row_offsets, Tensor rows) {
  return look_up(Shape(table, projections, ids, row_offsets, rows, true), table, projections);
}

// The backward gathers the inner rows again: nothing is kept.
std::tuple<Tensor, Tensor> mlet_lookup_train(Tensor table, Tensor projections, Tensor ids, Tensor row_offsets,
                                             Tensor rows) {
  return {mlet_lookup(table, projections, ids, row_offsets, rows), torch::stable::new_empty(table, {0})};
}

template <class T>
std::tuple<Tensor, Tensor> gradients(const Shape& s, const Tensor& grad, const Tensor& table,
                                     const Tensor& projections) {
  const int64_t tables = s.lookups.tables, samples = s.lookups.samples, size = s.held * s.k;
  const T *flow = grad.const_data_ptr<T>(), *from = table.const_data_ptr<T>();
  Tensor table_grad = pooled_empty<T>(table), projection_grad = torch::stable::new_empty(projections, projections.sizes());
  T *sum = table_grad.mutable_data_ptr<T>(), *projected = projection_grad.mutable_data_ptr<T>();

  // of the inner rows: (samples, tables, k)
  const Kernels<T>& inner_kernels = best<T>(s.k);
  const int64_t inner_wide = padded(s.k, inner_kernels.lanes);
  std::vector<T> transposed;
  const T* right = laid_out(projections.const_data_ptr<T>(), tables, s.k, s.dim, inner_kernels.lanes, true, transposed);
  Tensor inner_grad = pooled_empty<T>(table, {s.lookups.count, s.k});
  T* inner = inner_grad.mutable_data_ptr<T>();
  s.for_each_block([&](int64_t t, int64_t begin, int64_t count) {
    Scratch& scratch = Scratch::mine();
    scratch.reserve(Scratch::rounded<T>(kBlock * inner_wide));
    multiply(inner_kernels, count, s.k, s.dim, flow + (begin * tables + t) * s.dim, tables * s.dim,
             right + t * s.dim * inner_wide, inner + (begin * tables + t) * s.k, tables * s.k,
             scratch.take<T>(kBlock * inner_wide));
  });

  const bool worth_it = s.operations() > kWorthThreads;
  zero(sum, size);
  const int64_t tasks = worth_it ? torch::stable::get_num_threads() : 1;
  const Owned each = shared_out(s.held, s.k * sizeof(T), tasks);
  for_each_task(tasks, worth_it, [&](int64_t task) {
    Owned owned = each;
    owned.task = static_cast<uint32_t>(task);
    for (int64_t i = 0; i < samples; ++i)
      for (int64_t t = 0; t < tables; ++t) {
        const int64_t row = s.row(i, t);
        if (owned.has(row)) inner_kernels.add_scaled(s.k, 1, inner + (i * tables + t) * s.k, sum + row * s.k);
      }
  });

  // of the projections: rows of each are shared out, every one a sum over all samples in their order
  const Kernels<T>& kernels = best<T>(s.dim);
  const int64_t wide = padded(s.dim, kernels.lanes);
  const int64_t shares = std::max<int64_t>(1, std::min<int64_t>(s.k, (2 * tasks + tables - 1) / tables));
  for_each_task(tables * shares, worth_it, [&](int64_t task) {
    const int64_t t = task / shares, share = task % shares;
    const int64_t first = s.k * share / shares, count = s.k * (share + 1) / shares - first;
    Scratch& scratch = Scratch::mine();
    scratch.reserve(Scratch::rounded<T>(kBlock * count) + Scratch::rounded<T>(kBlock * wide) +
                    Scratch::rounded<T>(count * wide));
    T *left = scratch.take<T>(kBlock * count), *rows = scratch.take<T>(kBlock * wide), *c = scratch.take<T>(count * wide);
    std::fill(c, c + count * wide, T{});
    if (wide > s.dim) std::fill(rows, rows + kBlock * wide, T{});
    for (int64_t begin = 0; begin < samples; begin += kBlock) {
      const int64_t size = std::min(kBlock, samples - begin);
      for (int64_t i = 0; i < size; ++i) {
        std::memcpy(left + i * count, from + s.row(begin + i, t) * s.k + first, count * sizeof(T));
        std::memcpy(rows + i * wide, flow + ((begin + i) * tables + t) * s.dim, s.dim * sizeof(T));
      }
      kernels.gemm(count, wide, size, left, 1, count, rows, wide, c, wide, true);
    }
    for (int64_t i = 0; i < count; ++i)
      std::memcpy(projected + (t * s.k + first + i) * s.dim, c + i * wide, s.dim * sizeof(T));
  });
  return {table_grad, projection_grad};
}

std::tuple<Tensor, Tensor> mlet_lookup_backward(Tensor grad, Tensor, Tensor table, Tensor projections, Tensor ids,
                                                Tensor row_offsets, Tensor rows) {
  const Shape s(table, projections, ids, row_offsets, rows, false);
  STD_TORCH_CHECK(grad.numel() == s.lookups.count * s.dim, "mlet_lookup: the gradient must be (N, T, D), got ",
                  grad.numel(), " elements");
  const ScalarType type = table.scalar_type();
  if (type == ScalarType::Float)
    return gradients<float>(s, in_one_piece(grad), in_one_piece(table), in_one_piece(projections));
  if (type == ScalarType::Double)
    return gradients<double>(s, in_one_piece(grad), in_one_piece(table), in_one_piece(projections));
  const auto wide = [](const Tensor& t) { return in_one_piece(torch::stable::to(t, ScalarType::Float)); };
  const auto [of_table, of_projections] = gradients<float>(s, wide(grad), wide(table), wide(projections));
  return {torch::stable::to(of_table, type), torch::stable::to(of_projections, type)};
}

}  // namespace
}  // namespace embpress

STABLE_TORCH_LIBRARY_IMPL(embpress, CPU, m) {
  m.impl("mlet_lookup", TORCH_BOX(&embpress::mlet_lookup));
  m.impl("mlet_lookup_train", TORCH_BOX(&embpress::mlet_lookup_train));
  m.impl("mlet_lookup_backward", TORCH_BOX(&embpress::mlet_lookup_backward));
}
